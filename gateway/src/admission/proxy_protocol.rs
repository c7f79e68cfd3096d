//! The header of the PROXY protocol, versions 1 and 2, free of IO:
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.
//!
//! It is a parser of our own since what we need of the format is small, and its bounds are ours: who reads it takes no
//! byte that is not the header's, so that what comes behind, TLS or HTTP, is still in the socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What version 1 begins with.
const V1: &[u8] = b"PROXY ";

/// What version 2 begins with: no request of HTTP and no TLS does.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, with its end.
const V1_BYTES_MAX: usize = 107;

/// Version 2's signature, version and command, family, and length.
const V2_FIXED_BYTES: usize = 16;

/// The longest header of version 2. What comes behind the addresses is passed over: names and certificates of the
/// client, hardly more than some hundred bytes.
pub const V2_BYTES_MAX: usize = 4 << 10;

/// What the bytes so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// All of them belong to a header that is not whole.
    Partial,
    /// The header is whole.
    Whole {
        /// How many of them it takes.
        bytes: usize,
        /// Whom the proxy heard. `None` where it speaks for itself, as it does to see whether we live, or does not say.
        source: Option<IpAddr>,
    },
}

/// What is wrong with a header, or with there being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// A proxy that should send one does not.
    #[error("the connection does not begin with a header of the PROXY protocol")]
    Missing,
    /// It is not as the protocol has it.
    #[error("the header of the PROXY protocol is malformed")]
    Malformed,
    /// Somebody sends one who is not believed.
    #[error(
        "a header of the PROXY protocol from an address that is not trusted, or where none is expected"
    )]
    Untrusted,
}

impl ProxyHeaderError {
    /// A stable name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "MissingProxyHeader",
            Self::Malformed => "MalformedProxyHeader",
            Self::Untrusted => "UntrustedProxyHeader",
        }
    }
}

/// Whether a head of HTTP is a header of the PROXY protocol instead.
pub fn begins(head: &[u8]) -> bool {
    head.starts_with(V1) || head.starts_with(V2)
}

/// Reads a header from the first bytes of a connection.
///
/// # Errors
/// At the first byte that no header could have there, or when it is too long.
pub fn parse(bytes: &[u8]) -> Result<Header, ProxyHeaderError> {
    let may_be = |signature: &[u8]| {
        let common = signature.len().min(bytes.len());
        signature.get(..common) == bytes.get(..common)
    };
    if may_be(V2) {
        parse_v2(bytes)
    } else if may_be(V1) {
        parse_v1(bytes)
    } else {
        Err(ProxyHeaderError::Missing)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Header, ProxyHeaderError> {
    let within = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < V1_BYTES_MAX {
            Ok(Header::Partial)
        } else {
            Err(ProxyHeaderError::Malformed)
        };
    };
    let line = within.get(V1.len()..end).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| ProxyHeaderError::Malformed)?;
    let source = source_v1(line).ok_or(ProxyHeaderError::Malformed)?;
    let bytes = end + 2;
    Ok(Header::Whole { bytes, source })
}

/// `TCP4 192.0.2.1 10.0.0.1 56324 443`, behind the signature. `None` where it is something else.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether nothing is wrong"
)]
fn source_v1(line: &str) -> Option<Option<IpAddr>> {
    let mut words = line.split(' ');
    let is_v4 = match words.next()? {
        // What follows means nothing.
        "UNKNOWN" => return Some(None),
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let mut address = || {
        let address: IpAddr = words.next()?.parse().ok()?;
        (address.is_ipv4() == is_v4).then_some(address)
    };
    let (source, _destination) = (address()?, address()?);
    let mut port = || words.next()?.parse::<u16>().ok();
    let _ports = (port()?, port()?);
    words.next().is_none().then_some(Some(source))
}

fn parse_v2(bytes: &[u8]) -> Result<Header, ProxyHeaderError> {
    let fixed = bytes.get(V2.len()..V2_FIXED_BYTES);
    let Some([version_and_command, family, high, low]) = fixed.and_then(<[u8]>::first_chunk) else {
        return Ok(Header::Partial);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let whole = V2_FIXED_BYTES + length;
    if whole > V2_BYTES_MAX {
        return Err(ProxyHeaderError::Malformed);
    }
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyHeaderError::Malformed),
    };
    let Some(rest) = bytes.get(V2_FIXED_BYTES..whole) else {
        return Ok(Header::Partial);
    };
    let source = match family {
        _ if is_local => None,
        // Not said, or a socket of the proxy's machine.
        0x00 | 0x31 => None,
        0x11 => Some(source_v4(rest).ok_or(ProxyHeaderError::Malformed)?),
        0x21 => Some(source_v6(rest).ok_or(ProxyHeaderError::Malformed)?),
        _ => return Err(ProxyHeaderError::Malformed),
    };
    Ok(Header::Whole {
        bytes: whole,
        source,
    })
}

/// Source, destination, and their ports.
fn source_v4(addresses: &[u8]) -> Option<IpAddr> {
    let addresses = addresses.first_chunk::<12>()?;
    let source = addresses.first_chunk::<4>()?;
    Some(Ipv4Addr::from(*source).into())
}

fn source_v6(addresses: &[u8]) -> Option<IpAddr> {
    let addresses = addresses.first_chunk::<36>()?;
    let source = addresses.first_chunk::<16>()?;
    Some(Ipv6Addr::from(*source).to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [V2, &[version_and_command, family], &length, rest].concat()
    }

    fn v6_addresses() -> Vec<u8> {
        let source: Ipv6Addr = "2001:db8::7".parse().unwrap();
        [&source.octets()[..], &[0; 16], &[0, 80, 1, 187]].concat()
    }

    /// Right headers, and whom they name.
    fn right() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0, 80, 1, 187];
        let with_tlv = [&v4[..], b"\x04\x00\x03abc"].concat();
        vec![
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n".to_vec(),
                Some("192.0.2.1"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 fd00::1 1 65535\r\n".to_vec(),
                Some("2001:db8::7"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (
                b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(),
                None,
            ),
            (v2(0x21, 0x11, &v4), Some("192.0.2.1")),
            (v2(0x21, 0x11, &with_tlv), Some("192.0.2.1")),
            (v2(0x21, 0x21, &v6_addresses()), Some("2001:db8::7")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &v4), None),
            (v2(0x21, 0x00, b"whatever"), None),
            (v2(0x21, 0x31, &[0; 216]), None),
        ]
    }

    #[test]
    fn a_header_is_read_however_it_is_cut_and_nothing_behind_it() {
        for (header, source) in right() {
            let source = source.map(|text| text.parse().unwrap());
            let whole = Header::Whole {
                bytes: header.len(),
                source,
            };
            assert_eq!(parse(&header), Ok(whole), "{header:?}");
            let behind = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(parse(&behind), Ok(whole), "{header:?}");
            for cut in 0..header.len() {
                assert_eq!(
                    parse(&header[..cut]),
                    Ok(Header::Partial),
                    "{header:?} {cut}"
                );
            }
            assert!(begins(&header));
        }
    }

    #[test]
    fn what_is_no_header_is_said_as_soon_as_it_shows() {
        use ProxyHeaderError::{Malformed, Missing};
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Missing),
            (b"G", Missing),
            (b"PROXX", Missing),
            (b"\x16\x03\x01", Missing),
            (b"\r\n\r\nGET", Missing),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324\r\n", Malformed),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 65536\r\n", Malformed),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n", Malformed),
            (b"PROXY TCP4 192.0.2.1  10.0.0.1 1 2\r\n", Malformed),
            (b"PROXY TCP4 2001:db8::7 fd00::1 1 2\r\n", Malformed),
            (b"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n", Malformed),
            (b"PROXY TCP5 192.0.2.1 10.0.0.1 1 2\r\n", Malformed),
            (b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n", Malformed),
            (b"PROXY TCP4 a b c d\r\n", Malformed),
            (b"PROXY \r\n", Malformed),
            (b"PROXY TCP4 \xff\r\n", Malformed),
            (&[&b"PROXY TCP4 "[..], &[b'1'; 96]].concat(), Malformed),
            (&v2(0x11, 0x11, &[0; 12]), Malformed),
            (&v2(0x22, 0x11, &[0; 12]), Malformed),
            (&v2(0x21, 0x11, &[0; 11]), Malformed),
            (&v2(0x21, 0x21, &[0; 35]), Malformed),
            (&v2(0x21, 0x12, &[0; 12]), Malformed),
            (&v2(0x21, 0x41, &[0; 12]), Malformed),
            // Said before it comes.
            (&[V2, &[0x21, 0x11, 0xff, 0xff]].concat(), Malformed),
        ] {
            assert_eq!(parse(bytes), Err(expected), "{bytes:?}");
        }
    }

    proptest! {
        /// Whatever comes, it is bounded, and what it takes was there.
        #[test]
        fn any_bytes_are_a_header_or_none(
            signature in prop::sample::select(vec![&b""[..], V1, V2, b"PROXY TCP4 ", b"PROXY UNKNOWN"]),
            bytes in prop::collection::vec(any::<u8>(), 0..5_000),
        ) {
            let bytes = [signature, &bytes].concat();
            match parse(&bytes) {
                Ok(Header::Partial) => prop_assert!(bytes.len() < V2_BYTES_MAX),
                Ok(Header::Whole { bytes: taken, .. }) => prop_assert!(taken <= bytes.len()),
                Err(_) => {}
            }
        }

        /// A header is the same whatever comes behind it.
        #[test]
        fn what_comes_behind_changes_nothing(at in 0_usize..11, behind in prop::collection::vec(any::<u8>(), 0..300)) {
            let (header, _) = right().swap_remove(at);
            let alone = parse(&header);
            prop_assert_eq!(parse(&[header, behind].concat()), alone);
        }
    }
}
