//! The words that may reach a proxy's configuration: first on the path, so that everything after
//! it can write without checking. A constructor is the only way in, and it refuses whatever nginx
//! could read as syntax; `Display` writes the form that `nginx.conf` takes, quoted where a value
//! may hold spaces.

mod address;
mod file;
mod measure;
mod name;
mod path;

use std::fmt;

pub use address::{Cidr, ListenAddress, UpstreamAddress};
pub use file::FilePath;
pub use measure::{NginxDuration, NginxSize};
pub use name::{HostName, ObjectName};
pub use path::{LocationPath, Segment};

/// Why a value is refused. The value itself is in the message, escaped and cut to 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}: {why}")]
pub struct ValueError {
    expected: Expected,
    value: String,
    why: &'static str,
}

/// Longer values are cut in messages: they end up in status conditions and log lines.
const EXCERPT_CHARS_MAX: usize = 80;

impl ValueError {
    fn new(expected: Expected, value: &str, why: &'static str) -> Self {
        let value = value.chars().take(EXCERPT_CHARS_MAX).collect();
        Self {
            expected,
            value,
            why,
        }
    }

    /// A stable word for status, events and metric labels.
    pub fn reason(&self) -> &'static str {
        match self.expected {
            Expected::HostName => "InvalidHostName",
            Expected::Path => "InvalidPath",
            Expected::FilePath => "InvalidFilePath",
            Expected::Duration => "InvalidDuration",
            Expected::Size => "InvalidSize",
            Expected::Cidr => "InvalidCidr",
            Expected::Address => "InvalidAddress",
            Expected::ObjectName => "InvalidObjectName",
        }
    }
}

/// What the refused value should have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    HostName,
    Path,
    FilePath,
    Duration,
    Size,
    Cidr,
    Address,
    ObjectName,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostName => "a host name",
            Self::Path => "a path",
            Self::FilePath => "a usable file path",
            Self::Duration => "a usable duration",
            Self::Size => "a usable size",
            Self::Cidr => "an address block",
            Self::Address => "an address with a port",
            Self::ObjectName => "a Kubernetes name",
        })
    }
}

/// Gives a string newtype its `FromStr`, `TryFrom<String>` and `Into<String>`, by which serde reads
/// and writes it.
macro_rules! spelled {
    ($($type:ty),+) => {$(
        impl std::str::FromStr for $type {
            type Err = ValueError;

            fn from_str(value: &str) -> Result<Self, ValueError> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $type {
            type Error = ValueError;

            fn try_from(value: String) -> Result<Self, ValueError> {
                Self::new(&value)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.spelling()
            }
        }
    )+};
}

use spelled;

#[cfg(test)]
mod tests {
    use std::str::FromStr;
    use std::time::Duration;

    use super::*;

    fn check<T: FromStr<Err = ValueError> + fmt::Display>(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            match text.parse::<T>() {
                Ok(value) => assert_eq!(value.to_string(), *expected, "{text:?}"),
                Err(error) => assert!(error.to_string().contains(expected), "{text:?}: {error}"),
            }
        }
    }

    #[test]
    fn durations_are_written_as_nginx_reads_them() {
        check::<NginxDuration>(&[
            ("90s", "90s"),
            ("1m30s", "90s"),
            ("1h", "3600s"),
            ("1s500ms", "1500ms"),
            ("8760h", "31536000s"),
            ("8760h1ms", "longer than 365 days"),
            ("0s", "give up at once"),
            ("90", "one to four numbers"),
            ("1d", "one to four numbers"),
        ]);
        let rounded = NginxDuration::from_duration(Duration::from_micros(1_500_001)).unwrap();
        assert_eq!(
            (rounded.to_string(), rounded.as_secs_rounded_up()),
            ("1501ms".into(), 2)
        );
    }

    #[test]
    fn sizes_are_written_in_their_largest_exact_unit_up_to_m() {
        check::<NginxSize>(&[
            ("0", "0"),
            ("0k", "0"),
            ("1023", "1023"),
            ("131072", "128k"),
            ("128Ki", "128k"),
            ("1G", "1024m"),
            ("1024Gi", "1048576m"),
            ("1025g", "more than 1 TiB"),
            ("99999999999999999999", "more than 1 TiB"),
            ("1.5k", "its unit"),
            ("m", "begin with a number"),
        ]);
    }

    #[test]
    fn blocks_hold_no_bits_below_their_prefix() {
        check::<Cidr>(&[
            ("127.0.0.0/8", "127.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("FD00::/8", "fd00::/8"),
            ("10.1.2.3/24", "bits set below"),
            ("10.0.0.0/33", "prefix is longer"),
        ]);
        let block = Cidr::new("172.16.0.0/12").unwrap();
        let holds = |address: &str| block.contains(address.parse().unwrap());
        assert!(holds("172.31.255.255") && !holds("172.32.0.0") && !holds("::ffff:172.16.0.1"));
    }

    #[test]
    fn addresses_have_a_port_that_can_be_connected_to() {
        check::<UpstreamAddress>(&[
            ("10.0.0.7:8000", "10.0.0.7:8000"),
            ("[::1]:8000", "[::1]:8000"),
            ("wsserver:8000", "wsserver:8000"),
            ("wsserver", "no port"),
            ("wsserver:0", "1 to 65535"),
            ("[fe80::1%2]:80", "zone"),
        ]);
    }

    #[test]
    fn a_path_becomes_an_anchored_expression_and_a_literal_prefix() {
        let check = |text: &str, regex: &str, prefix: &str| {
            let path = LocationPath::new(text).unwrap();
            assert_eq!(
                (path.regex().as_str(), path.literal_prefix().as_str()),
                (regex, prefix)
            );
        };
        check("/rooms/{room}", "^/rooms/[^/]+/?$", "/rooms");
        check("/v1.0/{a}/(b)*/", r"^/v1\.0/[^/]+/\(b\)\*/?$", "/v1.0");
        check("/{a}", "^/[^/]+/?$", "/");
        assert_eq!(LocationPath::new("/ws/"), LocationPath::new("/ws"));
    }

    #[test]
    fn a_refusal_shows_a_short_and_escaped_excerpt() {
        let error = HostName::new(&"\n\"".repeat(500)).unwrap_err();
        assert_eq!(error.reason(), "InvalidHostName");
        assert!(
            error.to_string().len() < 400 && !error.to_string().contains('\n'),
            "{error}"
        );
    }
}
