//! Address blocks: `10.0.0.0/8`, `fd00::/8`, `192.0.2.7`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address block: an address and the length of its prefix. A bare address is a block of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// Why a text is no address block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It is no address with a prefix.
    #[error("`{0}` is not an address block: write one such as 10.0.0.0/8 or fd00::/8")]
    Form(String),
    /// The address is within the block, and not its first one.
    #[error("`{0}` has bits set below its prefix: did you mean {1}?")]
    Inside(String, Network),
}

impl Network {
    /// The address alone.
    #[must_use]
    pub const fn host(address: IpAddr) -> Self {
        let prefix_bits = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Self {
            address,
            prefix_bits,
        }
    }

    /// Whether the block holds the address. An IPv4 address that is written as IPv6 (`::ffff:a.b.c.d`) is one of IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && masked(address, self.prefix_bits) == self.address
    }

    /// Whether it holds every address of its kind.
    pub const fn is_everyone(&self) -> bool {
        self.prefix_bits == 0
    }
}

fn masked(address: IpAddr, prefix_bits: u8) -> IpAddr {
    let bits = u32::from(prefix_bits);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let excerpt = || text.chars().take(80).collect();
        let form = || NetworkError::Form(excerpt());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let whole = Self::host(address);
        let prefix_bits = match prefix {
            None => whole.prefix_bits,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                let bits = digits.parse().ok();
                bits.filter(|bits| *bits <= whole.prefix_bits)
                    .ok_or_else(form)?
            }
            Some(_) => return Err(form()),
        };
        let block = Self {
            address: masked(address, prefix_bits),
            prefix_bits,
        };
        if block.address == address {
            Ok(block)
        } else {
            Err(NetworkError::Inside(excerpt(), block))
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

super::serde_as_string!(Network);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_and_written_and_holds_what_begins_as_it_does() {
        let check = |text: &str, written: &str, inside: &[&str], outside: &[&str]| {
            let block: Network = text.parse().unwrap();
            assert_eq!(block.to_string(), written);
            let holds = |address: &&str| block.contains(address.parse().unwrap());
            assert!(inside.iter().all(holds), "{text} {inside:?}");
            assert!(!outside.iter().any(holds), "{text} {outside:?}");
        };
        check(
            "10.0.0.0/8",
            "10.0.0.0/8",
            &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
            &["11.0.0.0", "9.255.255.255", "::10.0.0.1"],
        );
        check(
            "192.0.2.7",
            "192.0.2.7/32",
            &["192.0.2.7"],
            &["192.0.2.6", "192.0.2.8"],
        );
        check("0.0.0.0/0", "0.0.0.0/0", &["1.2.3.4"], &["::1"]);
        check(
            "FD00::/8",
            "fd00::/8",
            &["fdff::1"],
            &["fe00::1", "10.0.0.1"],
        );
        check("::1", "::1/128", &["::1"], &["::2", "127.0.0.1"]);
        check("::/0", "::/0", &["::1", "ffff::"], &["1.2.3.4"]);
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for (text, words) in [
            ("", "is not an address block"),
            ("10.0.0.0/", "is not an address block"),
            ("10.0.0.0/33", "is not an address block"),
            ("::/129", "is not an address block"),
            ("10.0.0.0/+8", "is not an address block"),
            ("10.0.0/8", "is not an address block"),
            ("fe80::1%eth0", "is not an address block"),
            ("10.1.2.3/8", "did you mean 10.0.0.0/8?"),
            ("fd00::1/8", "did you mean fd00::/8?"),
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
