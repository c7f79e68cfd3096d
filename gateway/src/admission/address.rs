//! Whose address is believed, and which addresses are one client's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hyper::{HeaderMap, header::HeaderName};
use wsgateway_crds::{config, value::Network};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Where the address of a client is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientAddress(config::ClientAddress);

impl From<&config::ClientAddress> for ClientAddress {
    fn from(address: &config::ClientAddress) -> Self {
        Self(address.clone())
    }
}

impl ClientAddress {
    /// Whether a connection from this address begins with a header of the PROXY protocol. Nobody else's may.
    pub fn expects_proxy_header(&self, peer: IpAddr) -> bool {
        matches!(self.0, config::ClientAddress::ProxyProtocol { .. }) && self.trusts(peer)
    }

    /// Whether whose request it will be is known before it comes: what it says matters of trusted proxies alone.
    pub fn is_known_before_request(&self, peer: IpAddr) -> bool {
        !matches!(self.0, config::ClientAddress::XForwardedFor { .. }) || !self.trusts(peer)
    }

    /// Whose request it is that came from `peer`.
    pub fn of_request(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        match self.0 {
            config::ClientAddress::XForwardedFor { .. } => self.forwarded_for(peer, headers),
            config::ClientAddress::Connection | config::ClientAddress::ProxyProtocol { .. } => peer,
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let trusted: &[Network] = self.0.trusted_proxies();
        trusted.iter().any(|network| network.contains(address))
    }

    /// Each proxy has added whom it heard, at the right end. So it is read from there, for as long as who has written an
    /// entry is believed: the first who is not wrote none of it, and all to its left may be its invention. An entry that
    /// is no address ends it too, since the proxy to its right vouches for nobody then.
    fn forwarded_for(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        for entry in entries {
            if !self.trusts(client) {
                return client;
            }
            match address(entry) {
                Some(address) => client = address,
                None => return client,
            }
        }
        client
    }
}

/// An entry: an address, which some proxies write with the client's port, and some in brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let bare = || {
        let inside = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        inside.unwrap_or(text).parse().ok()
    };
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address: IpAddr = bare().or_else(with_port)?;
    Some(address.to_canonical())
}

/// The addresses that are counted as one: an IPv4 address, or the /64 of an IPv6 address, which is the least that a
/// network is given and all of which one host may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Block {
    /// One address.
    V4(Ipv4Addr),
    /// A network's first 64 bits.
    V6(u64),
}

impl Block {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(trusted: &[&str]) -> ClientAddress {
        let trusted_proxies = trusted.iter().map(|t| t.parse().unwrap()).collect();
        ClientAddress(config::ClientAddress::XForwardedFor { trusted_proxies })
    }

    #[test]
    fn the_header_is_read_from_the_right_past_whom_is_trusted() {
        let check = |peer: &str, lines: &[&str], expected: &str| {
            let mut headers = HeaderMap::new();
            for line in lines {
                let value = hyper::header::HeaderValue::from_bytes(line.as_bytes()).unwrap();
                headers.append(X_FORWARDED_FOR, value);
            }
            let found =
                behind(&["10.0.0.0/8", "fd00::/8"]).of_request(peer.parse().unwrap(), &headers);
            assert_eq!(
                found,
                expected.parse::<IpAddr>().unwrap(),
                "{peer} {lines:?}"
            );
        };
        let proxy = "10.0.0.1";
        // Who is not trusted is believed nothing.
        check("192.0.2.9", &["1.1.1.1"], "192.0.2.9");
        check("192.0.2.9", &["10.0.0.2"], "192.0.2.9");
        // One proxy, and what a client may put in front.
        check(proxy, &["192.0.2.1"], "192.0.2.1");
        check(proxy, &["1.1.1.1, 192.0.2.1"], "192.0.2.1");
        check(proxy, &["10.0.0.7, 192.0.2.1"], "192.0.2.1");
        check(proxy, &["1.1.1.1", "192.0.2.1"], "192.0.2.1");
        check("::ffff:10.0.0.1", &["192.0.2.1"], "192.0.2.1");
        // More of them.
        check(proxy, &["192.0.2.1, 10.0.0.2, fd00::3"], "192.0.2.1");
        check(proxy, &["192.0.2.1", "10.0.0.2,fd00::3"], "192.0.2.1");
        check(proxy, &["9.9.9.9,192.0.2.1,10.0.0.2"], "192.0.2.1");
        // All of them are trusted: a client of the inside.
        check(proxy, &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
        check(proxy, &[], proxy);
        // What is no address ends it.
        for entry in [
            "",
            "unknown",
            "_hidden",
            "1.2.3",
            "1.2.3.4.5",
            "a:b",
            "\u{e9}",
            "-",
        ] {
            check(proxy, &[entry], proxy);
            check(proxy, &[&format!("192.0.2.1, {entry}")], proxy);
            check(
                proxy,
                &[&format!("192.0.2.1, {entry}, 10.0.0.2")],
                "10.0.0.2",
            );
        }
        check(proxy, &[&",".repeat(5_000)], proxy);
        // As some write it.
        for (written, expected) in [
            ("192.0.2.1:4711", "192.0.2.1"),
            ("  192.0.2.1\t", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            check(proxy, &[written], expected);
        }
    }

    #[test]
    fn whose_request_it_will_be_is_known_but_of_trusted_proxies() {
        let known = |address: ClientAddress, peer: &str| {
            address.is_known_before_request(peer.parse().unwrap())
        };
        assert!(known(ClientAddress::default(), "10.0.0.1"));
        assert!(known(behind(&["10.0.0.0/8"]), "192.0.2.1"));
        assert!(!known(behind(&["10.0.0.0/8"]), "10.0.0.1"));
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let proxy = config::ClientAddress::ProxyProtocol { trusted_proxies };
        assert!(known(ClientAddress(proxy), "10.0.0.1"));
    }

    #[test]
    fn without_the_header_s_type_the_header_means_nothing() {
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, "192.0.2.1".parse().unwrap());
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        for address in [
            config::ClientAddress::Connection,
            config::ClientAddress::ProxyProtocol { trusted_proxies },
        ] {
            assert_eq!(ClientAddress(address).of_request(peer, &headers), peer);
        }
    }

    #[test]
    fn an_ipv6_network_is_one_and_an_ipv4_address_is_one() {
        let block = |text: &str| Block::of(text.parse().unwrap());
        assert_eq!(block("2001:db8::1"), block("2001:db8:0:0:ffff::"));
        assert_ne!(block("2001:db8::1"), block("2001:db8:0:1::1"));
        assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
        assert_eq!(block("192.0.2.1"), block("::ffff:192.0.2.1"));
        assert_ne!(block("0.0.0.0"), block("::"));
    }
}
