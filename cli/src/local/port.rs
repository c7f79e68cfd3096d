//! Which ports are free. Checked by binding, before anything is started.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

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

/// The first free port of 127.0.0.1 from `from` on that is not among `taken`, below [`EPHEMERAL_FIRST`].
pub fn free(from: u16, taken: &[u16]) -> Result<u16, PortError> {
    (from..EPHEMERAL_FIRST)
        .filter(|port| !taken.contains(port))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or(PortError::NoneLeft { from })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_flag_and_passed_over() {
        let first = free(20_000, &[]).unwrap();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let error = check(held.local_addr().unwrap(), "--https-port").unwrap_err();
        assert_eq!(error.reason(), "PortTaken");
        let text = error.to_string();
        assert!(
            text.contains(&first.to_string()) && text.contains("--https-port"),
            "{text}"
        );
        let second = free(first, &[]).unwrap();
        assert!(second > first);
        assert!(free(first, &[second]).unwrap() > second);
        drop(held);
        assert!(check((Ipv4Addr::LOCALHOST, first).into(), "--https-port").unwrap());
    }

    #[test]
    fn no_port_of_outgoing_connections_is_chosen() {
        assert_eq!(
            free(EPHEMERAL_FIRST, &[]).unwrap_err().reason(),
            "NoPortLeft"
        );
    }
}
