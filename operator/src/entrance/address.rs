//! Where a way in is tried: at what the controller wrote into a status, or where who runs the operator says.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use tokio::net;

/// A host to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A name that is resolved, such as a cloud's load balancers have.
    Name(String),
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// Who named it.
    pub source: Source,
}

/// Who named an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A status. Whoever may write it must not make the operator talk to itself or to its node.
    Status,
    /// `--probe-via`.
    Operator,
}

/// `ADDRESS[:PORT]`, such as `10.0.0.7`, `[fd00::7]:8443` or `ingress.infra.svc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// The host.
    pub host: Host,
    /// The port; the usual one of HTTP or HTTPS where there is none.
    pub port: Option<u16>,
}

/// Why a text is no [`Via`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an address or a name, with :PORT or without; IPv6 with a port in brackets")]
pub struct ViaError;

/// Why there is nothing to connect to.
#[derive(Debug)]
pub enum ResolveError {
    /// The address is of the operator's own machine, or of no machine.
    Local(IpAddr),
    /// The name has no address.
    Unknown(io::Error),
}

impl Address {
    /// One that a status names by address or name.
    pub fn of_status(text: &str, port: u16) -> Self {
        Self {
            host: Host::new(text),
            port,
            source: Source::Status,
        }
    }

    /// The socket's address.
    ///
    /// # Errors
    /// Where there is none, or none but such as no status may make the operator connect to.
    pub async fn resolve(&self) -> Result<SocketAddr, ResolveError> {
        let found: Vec<SocketAddr> = match &self.host {
            Host::Ip(ip) => vec![SocketAddr::new(*ip, self.port)],
            Host::Name(name) => {
                let found = net::lookup_host((name.as_str(), self.port)).await;
                found.map_err(ResolveError::Unknown)?.collect()
            }
        };
        let may = |address: &&SocketAddr| {
            self.source == Source::Operator || !is_of_this_machine(address.ip())
        };
        if let Some(address) = found.iter().find(may) {
            return Ok(*address);
        }
        Err(found.first().map_or_else(
            || ResolveError::Unknown(io::ErrorKind::NotFound.into()),
            |address| ResolveError::Local(address.ip()),
        ))
    }
}

/// Whether an address means the operator's own machine or network interface, a group, or nobody.
fn is_of_this_machine(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let is_nobody = ip.octets().first() == Some(&0) || ip.is_broadcast();
            ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || is_nobody
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_multicast()
                || ip.is_unspecified()
        }
    }
}

impl Host {
    fn new(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Name(text.to_owned()), Self::Ip)
    }
}

impl Via {
    /// With the port that is usual where none is named.
    pub fn address(&self, port: u16) -> Address {
        Address {
            host: self.host.clone(),
            port: self.port.unwrap_or(port),
            source: Source::Operator,
        }
    }
}

impl FromStr for Via {
    type Err = ViaError;

    fn from_str(text: &str) -> Result<Self, ViaError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self {
                host: Host::Ip(address.ip()),
                port: Some(address.port()),
            });
        }
        if let Ok(ip) = text.trim_matches(['[', ']']).parse() {
            return Ok(Self {
                host: Host::Ip(ip),
                port: None,
            });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| ViaError)?)),
            None => (text, None),
        };
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_of_name) || port == Some(0) {
            return Err(ViaError);
        }
        Ok(Self {
            host: Host::Name(name.to_owned()),
            port,
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_status_cannot_make_the_operator_talk_to_its_own_machine() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "localhost",
        ] {
            let mut address = Address::of_status(text, 443);
            let refused = address.resolve().await;
            assert!(matches!(refused, Err(ResolveError::Local(_))), "{text}");
            address.source = Source::Operator;
            assert!(address.resolve().await.is_ok(), "{text}");
        }
        for text in ["192.0.2.1", "10.0.0.1", "2001:db8::1"] {
            let address = Address::of_status(text, 443).resolve().await.unwrap();
            assert_eq!(address, SocketAddr::new(text.parse().unwrap(), 443));
        }
    }

    #[test]
    fn a_way_is_an_address_or_a_name_with_a_port_or_without() {
        let check = |text: &str, expected: Option<(&str, Option<u16>)>| {
            let via = text.parse::<Via>().ok();
            let via = via.map(|via| (via.host.to_string(), via.port));
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(via, expected, "{text}");
        };
        check("10.0.0.7", Some(("10.0.0.7", None)));
        check("10.0.0.7:8443", Some(("10.0.0.7", Some(8443))));
        check("fd00::7", Some(("[fd00::7]", None)));
        check("[fd00::7]", Some(("[fd00::7]", None)));
        check("[fd00::7]:443", Some(("[fd00::7]", Some(443))));
        check("ingress.infra.svc", Some(("ingress.infra.svc", None)));
        check(
            "ingress.infra.svc:80",
            Some(("ingress.infra.svc", Some(80))),
        );
        for text in [
            "",
            ":443",
            "a:b",
            "a:0",
            "a:70000",
            "a b",
            "https://a",
            "a/b",
        ] {
            check(text, None);
        }
    }
}
