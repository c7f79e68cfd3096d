//! Which ports are free. Checked by binding, before anything is started.

use std::{
    env,
    fs::{DirBuilder, File},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
};

use nix::unistd::geteuid;

/// Ports from here on are taken by outgoing connections (`ip_local_port_range`), so that a port which is free now
/// may be taken a moment later.
pub const EPHEMERAL_FIRST: u16 = 32_768;

/// Why a port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody listens there.
    #[error("port {port} of {ip} is taken: end what listens there, or choose another with {flag}")]
    Taken {
        /// The port.
        port: u16,
        /// The address.
        ip: IpAddr,
        /// What chooses another.
        flag: &'static str,
    },
    /// Both listeners were given one port.
    #[error("--https-port and --http-port are both {0}: each needs a port of its own")]
    Same(u16),
    /// The system refuses it for another reason, such as a port below 1024.
    #[error("cannot listen on {address}: {source}; choose another with {flag}")]
    Refused {
        /// What was asked for.
        address: SocketAddr,
        /// What chooses another.
        flag: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// All are taken.
    #[error("no port from {from} to {EPHEMERAL_FIRST} is free on 127.0.0.1")]
    NoneLeft {
        /// The first that was tried.
        from: u16,
    },
}

impl PortError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "PortTaken",
            Self::Same(_) => "PortTwice",
            Self::Refused { .. } => "PortRefused",
            Self::NoneLeft { .. } => "NoPortLeft",
        }
    }
}

/// Whether `address` can be listened on. An address that this machine does not have (`::1` where IPv6 is off) is
/// `Ok(false)`.
pub fn check(address: SocketAddr, flag: &'static str) -> Result<bool, PortError> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::AddrInUse => Err(PortError::Taken {
                port: address.port(),
                ip: address.ip(),
                flag,
            }),
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported => Ok(false),
            _ => Err(PortError::Refused {
                address,
                flag,
                source: error,
            }),
        },
    }
}

/// A port of 127.0.0.1 that no other `wsgw` of this user takes, whether or not something listens on it yet.
#[derive(Debug)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Locked, and let go of by the kernel however this process ends. None where there is no folder for it: then
    /// two runs that begin in one moment may collide, and the second says so.
    _lease: Option<File>,
}

impl Port {
    /// The port on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// The first free port of 127.0.0.1 from `from` on, below [`EPHEMERAL_FIRST`].
pub fn free(from: u16) -> Result<Port, PortError> {
    let folder = env::temp_dir().join(format!("wsgateway-ports-{}", geteuid()));
    let is_there = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .is_ok();
    for number in from..EPHEMERAL_FIRST {
        let lease = is_there
            .then(|| File::create(folder.join(number.to_string())).ok())
            .flatten();
        let is_leased = lease.as_ref().is_some_and(|file| file.try_lock().is_err());
        if !is_leased && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
            return Ok(Port {
                number,
                _lease: lease,
            });
        }
    }
    Err(PortError::NoneLeft { from })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_flag_and_passed_over() {
        let first = free(17_000).unwrap();
        let held = TcpListener::bind(first.address()).unwrap();
        let error = check(first.address(), "--https-port").unwrap_err();
        assert_eq!(error.reason(), "PortTaken");
        let (text, number) = (error.to_string(), first.number);
        assert!(
            text.contains(&number.to_string()) && text.contains("--https-port"),
            "{text}"
        );
        assert!(free(number).unwrap().number > number);
        drop(held);
        assert!(check(first.address(), "--https-port").unwrap());
        // Nobody listens, but it is ours until we let go of it.
        assert!(free(number).unwrap().number > number);
        drop(first);
        assert_eq!(free(number).unwrap().number, number);
    }

    #[test]
    fn no_port_of_outgoing_connections_is_chosen() {
        assert_eq!(free(EPHEMERAL_FIRST).unwrap_err().reason(), "NoPortLeft");
    }
}
