//! Addresses: blocks to allow, where workers are, where nginx listens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Expected, HostName, ValueError, spelled};

spelled!(Cidr, UpstreamAddress, ListenAddress);

/// An address block for `allow`: an address and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    network: IpAddr,
    prefix_bits: u8,
}

impl Cidr {
    /// Takes `127.0.0.0/8`, `::1/128`, and a bare address for itself alone. An address with bits
    /// below its prefix is refused: nginx would warn and mask them, and who wrote it meant
    /// something else.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        let refuse = |why| ValueError::new(Expected::Cidr, value, why);
        let (address, prefix) = match value.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (value, None),
        };
        let network: IpAddr = address
            .parse()
            .map_err(|_| refuse("it has no IP address"))?;
        let bits_max = if network.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            None => bits_max,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|bits| *bits <= bits_max)
                .ok_or_else(|| refuse("its prefix is longer than its address"))?,
            Some(_) => return Err(refuse("its prefix is not a number")),
        };
        if masked(network, prefix_bits) != network {
            return Err(refuse("it has bits set below its prefix"));
        }
        Ok(Self {
            network,
            prefix_bits,
        })
    }

    /// Whether the block holds the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4()
            && masked(address, self.prefix_bits) == self.network
    }

    fn spelling(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_bits)
    }
}

fn masked(address: IpAddr, prefix_bits: u8) -> IpAddr {
    let bits = u32::from(prefix_bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(bits))
                .unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(bits))
                .unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

/// Where a worker listens: an address, or a name that nginx resolves once, when it reads its
/// configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpstreamAddress {
    host: UpstreamHost,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum UpstreamHost {
    Ip(IpAddr),
    Name(HostName),
}

impl UpstreamAddress {
    /// Takes `10.0.0.7:8000`, `[::1]:8000` and `wsserver:8000`.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        if let Ok(address) = value.parse::<SocketAddr>() {
            return Self::try_from(address);
        }
        let refuse = |why| ValueError::new(Expected::Address, value, why);
        let (name, port) = value
            .rsplit_once(':')
            .ok_or_else(|| refuse("it has no port"))?;
        let host = HostName::new(name).map_err(|_| refuse("it has neither address nor name"))?;
        if host.as_str().starts_with('*') {
            return Err(refuse("a wildcard cannot be connected to"));
        }
        let port = Some(port)
            .filter(|port| port.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|port| port.parse().ok())
            .filter(|port| *port != 0)
            .ok_or_else(|| refuse("its port is not 1 to 65535"))?;
        Ok(Self {
            host: UpstreamHost::Name(host),
            port,
        })
    }

    fn spelling(&self) -> String {
        self.to_string()
    }
}

impl TryFrom<SocketAddr> for UpstreamAddress {
    type Error = ValueError;

    fn try_from(address: SocketAddr) -> Result<Self, ValueError> {
        let ListenAddress(address) = ListenAddress::try_from(address)?;
        Ok(Self {
            host: UpstreamHost::Ip(address.ip()),
            port: address.port(),
        })
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            UpstreamHost::Ip(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
            UpstreamHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Where nginx listens: an IP address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenAddress(SocketAddr);

impl ListenAddress {
    /// Takes `0.0.0.0:8443` and `[::]:8443`.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        let address = value.parse::<SocketAddr>().map_err(|_| {
            ValueError::new(
                Expected::Address,
                value,
                "it must be an IP address, a colon and a port; IPv6 in brackets",
            )
        })?;
        Self::try_from(address)
    }

    fn spelling(self) -> String {
        self.to_string()
    }
}

impl TryFrom<SocketAddr> for ListenAddress {
    type Error = ValueError;

    fn try_from(address: SocketAddr) -> Result<Self, ValueError> {
        let refuse = |why| ValueError::new(Expected::Address, &address.to_string(), why);
        if address.port() == 0 {
            return Err(refuse("its port is not 1 to 65535"));
        }
        if matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0) {
            return Err(refuse("nginx takes no IPv6 zone"));
        }
        Ok(Self(SocketAddr::new(address.ip(), address.port())))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
