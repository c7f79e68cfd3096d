//! The words that may reach a proxy's configuration: first on the path, so that everything after it
//! can write without checking. A constructor is the only way in, and it refuses whatever nginx
//! could read as syntax; `Display` writes the form that `nginx.conf` takes, quoted where a value
//! may hold spaces.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a value is refused. The value itself is in the message, escaped and cut to 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a DNS name, or an IP address.
    #[error("{value:?} is not a host name: {why}")]
    HostName {
        /// What was given.
        value: Excerpt,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Not a path that nginx can match whole.
    #[error("{value:?} is not a path: {why}")]
    Path {
        /// What was given.
        value: Excerpt,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Not an absolute file path that nginx reads as itself.
    #[error("{value:?} is not a usable file path: {why}")]
    File {
        /// What was given.
        value: Excerpt,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Not a duration that a proxy can wait.
    #[error("{value:?} is not a usable duration: {why}")]
    Duration {
        /// What was given.
        value: Excerpt,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Not a size in bytes.
    #[error("{value:?} is not a usable size: {why}")]
    Size {
        /// What was given.
        value: Excerpt,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Not an address block.
    #[error("{value:?} is not an address block: {why}")]
    Cidr {
        /// What was given.
        value: Excerpt,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Not an address with a port.
    #[error("{value:?} is not an address with a port: {why}")]
    Address {
        /// What was given.
        value: Excerpt,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Not the name of a Kubernetes object.
    #[error("{value:?} is not a Kubernetes name: {why}")]
    ObjectName {
        /// What was given.
        value: Excerpt,
        /// The rule that it breaks.
        why: &'static str,
    },
}

impl ValueError {
    /// A stable word for status, events and metric labels.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::HostName { .. } => "InvalidHostName",
            Self::Path { .. } => "InvalidPath",
            Self::File { .. } => "InvalidFilePath",
            Self::Duration { .. } => "InvalidDuration",
            Self::Size { .. } => "InvalidSize",
            Self::Cidr { .. } => "InvalidCidr",
            Self::Address { .. } => "InvalidAddress",
            Self::ObjectName { .. } => "InvalidObjectName",
        }
    }
}

/// The beginning of a refused value, short enough for a status message.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(String);

/// Longer values are cut in messages: a status condition holds 32 KiB, a log line should hold less.
const EXCERPT_CHARS_MAX: usize = 80;

impl Excerpt {
    fn of(value: &str) -> Self {
        Self(value.chars().take(EXCERPT_CHARS_MAX).collect())
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Gives a string newtype its `FromStr`, `TryFrom<String>` and `Into<String>`, by which serde reads
/// and writes it.
macro_rules! spelled {
    ($($type:ty),+) => {$(
        impl FromStr for $type {
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

spelled!(
    HostName,
    LocationPath,
    FilePath,
    NginxDuration,
    Cidr,
    UpstreamAddress,
    ListenAddress,
    ObjectName
);

/// A host that clients ask for: a lower-case DNS name, whose first label may be `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// RFC 1035, section 2.3.4: the longest name and the longest label.
const HOST_NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

impl HostName {
    /// Takes `ws.example.com` and `*.example.com`; neither Ingress nor Gateway API take an IP
    /// address.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        let refuse = |why| {
            Err(ValueError::HostName {
                value: Excerpt::of(value),
                why,
            })
        };
        if value.len() > HOST_NAME_BYTES_MAX {
            return refuse("it is longer than 253 bytes");
        }
        if value.parse::<IpAddr>().is_ok() {
            return refuse("it is an IP address");
        }
        let name = value.strip_prefix("*.").unwrap_or(value);
        if !name.split('.').all(is_label) {
            return refuse(
                "each label must be 1 to 63 of a-z, 0-9 and -, with no - at either end; \
                 only the first label may be *",
            );
        }
        Ok(Self(value.to_owned()))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn spelling(&self) -> String {
        self.0.clone()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The path of a route: literal segments and `{param}` segments, matched whole. A trailing slash is
/// equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LocationPath(Vec<Segment>);

/// One segment of a [`LocationPath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// Matched as it stands.
    Literal(String),
    /// `{name}`: any one segment.
    Param(String),
}

/// Long enough for any route that a person writes; nginx itself has no limit below its header
/// buffers.
const PATH_BYTES_MAX: usize = 1024;

impl LocationPath {
    /// Takes `/`, `/ws-notifications`, `/ws-notifications/` and `/rooms/{room}`.
    ///
    /// A literal holds the unreserved characters of RFC 3986 and `@ : + , = ! & * ( )`. What needs
    /// a percent escape is refused: nginx matches the decoded path, so an escaped one would match
    /// nothing.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        let refuse = |why| {
            Err(ValueError::Path {
                value: Excerpt::of(value),
                why,
            })
        };
        if value.len() > PATH_BYTES_MAX {
            return refuse("it is longer than 1024 bytes");
        }
        let Some(rest) = value.strip_prefix('/') else {
            return refuse("it must begin with /");
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return if value == "/" {
                Ok(Self(Vec::new()))
            } else {
                refuse("a segment is empty")
            };
        }
        let mut segments = Vec::new();
        for text in rest.split('/') {
            match segment(text) {
                Ok(segment) => segments.push(segment),
                Err(why) => return refuse(why),
            }
        }
        Ok(Self(segments))
    }

    /// The segments, none for `/`.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether every segment is a literal, so that the path matches one text (and that with a
    /// slash).
    pub fn is_literal(&self) -> bool {
        self.0
            .iter()
            .all(|segment| matches!(segment, Segment::Literal(_)))
    }

    /// The literal segments before the first parameter, `/` when there are none: what a target
    /// without parameters can match as a prefix.
    pub fn literal_prefix(&self) -> String {
        let literals = self.0.iter().map_while(|segment| match segment {
            Segment::Literal(text) => Some(text.as_str()),
            Segment::Param(_) => None,
        });
        let prefix = joined(literals);
        if prefix.is_empty() {
            "/".to_owned()
        } else {
            prefix
        }
    }

    /// Whether a request could match both paths.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|pair| match pair {
                (Segment::Literal(a), Segment::Literal(b)) => a == b,
                _ => true,
            })
    }

    /// Whether they overlap and neither is the more literal one, so that only their order could
    /// decide.
    pub fn is_ambiguous_with(&self, other: &Self) -> bool {
        let params = |path: &Self| {
            path.0
                .iter()
                .map(|segment| matches!(segment, Segment::Param(_)))
                .collect::<Vec<_>>()
        };
        self.overlaps(other) && params(self) == params(other)
    }

    /// The path as a route spells it, without a trailing slash.
    pub fn spelling(&self) -> String {
        if self.0.is_empty() {
            return "/".to_owned();
        }
        let mut text = String::new();
        for segment in &self.0 {
            text.push('/');
            match segment {
                Segment::Literal(literal) => text.push_str(literal),
                Segment::Param(name) => {
                    text.push('{');
                    text.push_str(name);
                    text.push('}');
                }
            }
        }
        text
    }

    /// The anchored regular expression (PCRE) of a path with parameters, its literals escaped.
    pub(crate) fn regex(&self) -> String {
        let mut text = String::from("^");
        for segment in &self.0 {
            text.push('/');
            match segment {
                Segment::Literal(literal) => {
                    for c in literal.chars() {
                        if !c.is_ascii_alphanumeric() && !"-_~@:,=!&".contains(c) {
                            text.push('\\');
                        }
                        text.push(c);
                    }
                }
                Segment::Param(_) => text.push_str("[^/]+"),
            }
        }
        text.push_str("/?$");
        text
    }
}

/// Writes the path as a route spells it. `conf` renders locations from the segments.
impl fmt::Display for LocationPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelling())
    }
}

fn joined<'a>(segments: impl Iterator<Item = &'a str>) -> String {
    segments.fold(String::new(), |path, segment| path + "/" + segment)
}

fn segment(text: &str) -> Result<Segment, &'static str> {
    if let Some(name) = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
    {
        let mut bytes = name.bytes();
        let named = bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        return if named {
            Ok(Segment::Param(name.to_owned()))
        } else {
            Err("a parameter is named by letters, digits and _, and does not begin with a digit")
        };
    }
    match text {
        "" => Err("a segment is empty"),
        "." | ".." => Err("nginx resolves . and .. before it matches"),
        _ if text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~@:+,=!&*()".contains(&b)) =>
        {
            Ok(Segment::Literal(text.to_owned()))
        }
        _ => Err("a segment is {param}, or letters, digits and any of -._~@:+,=!&*()"),
    }
}

/// An absolute path of a file or directory that nginx opens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath(String);

/// Linux's `PATH_MAX`.
const FILE_PATH_BYTES_MAX: usize = 4096;

impl FilePath {
    /// Takes an absolute path without control characters and without `$`, which nginx would read as
    /// a variable. Spaces, quotes and backslashes are well: [`fmt::Display`] quotes them.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        let refuse = |why| {
            Err(ValueError::File {
                value: Excerpt::of(value),
                why,
            })
        };
        if !value.starts_with('/') {
            return refuse("it must be absolute");
        }
        if value.len() > FILE_PATH_BYTES_MAX {
            return refuse("it is longer than 4096 bytes");
        }
        if value.contains('$') {
            return refuse(
                "nginx reads $ as the beginning of a variable, and has no escape for it",
            );
        }
        if value.chars().any(char::is_control) {
            return refuse("it holds a control character");
        }
        Ok(Self(value.to_owned()))
    }

    /// Takes an operating system's path, which must be UTF-8 too.
    pub fn from_path(path: &std::path::Path) -> Result<Self, ValueError> {
        let text = path.to_str().ok_or_else(|| ValueError::File {
            value: Excerpt::of(&path.to_string_lossy()),
            why: "it is not UTF-8",
        })?;
        Self::new(text)
    }

    /// A file inside this directory, named by the program.
    pub(crate) fn join(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0.trim_end_matches('/')))
    }

    /// The bare path.
    pub fn as_path(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }

    fn spelling(&self) -> String {
        self.0.clone()
    }
}

/// Writes the path in double quotes, where nginx knows `\"` and `\\` and no other syntax but `$`.
impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = self.0.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "\"{escaped}\"")
    }
}

/// How long a proxy waits, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NginxDuration {
    millis: u64,
}

impl NginxDuration {
    /// A year: longer waits are a slip of the pen, and a year is far from the overflow of nginx's
    /// timers.
    pub const MILLIS_MAX: u64 = 365 * 24 * 3600 * 1000;

    /// Reads the text form of GEP-2257, such as `90s`, `1m30s` and `500ms`.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        let refuse = |why| ValueError::Duration {
            value: Excerpt::of(value),
            why,
        };
        let millis = gep2257_millis(value).ok_or_else(|| {
            refuse("it must be one to four numbers of up to five digits, each with h, m, s or ms")
        })?;
        Self::of_millis(millis).map_err(refuse)
    }

    /// Takes a duration of 1 ms to 365 days. A part of a millisecond counts as a whole one.
    pub fn from_duration(value: Duration) -> Result<Self, ValueError> {
        let millis = u64::try_from(value.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Self::of_millis(millis).map_err(|why| ValueError::Duration {
            value: Excerpt::of(&format!("{value:?}")),
            why,
        })
    }

    /// The proxy's own constants.
    pub(crate) const fn from_secs(secs: u32) -> Self {
        Self {
            millis: secs as u64 * 1000,
        }
    }

    fn of_millis(millis: u64) -> Result<Self, &'static str> {
        match millis {
            0 => Err("nginx would give up at once"),
            1..=Self::MILLIS_MAX => Ok(Self { millis }),
            _ => Err("it is longer than 365 days"),
        }
    }

    /// The duration in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.millis
    }

    /// The whole seconds that are at least this long, for targets that know no smaller unit.
    pub const fn as_secs_rounded_up(self) -> u64 {
        self.millis.div_ceil(1000)
    }

    /// Whether it is a whole number of seconds.
    pub const fn is_whole_secs(self) -> bool {
        self.millis.is_multiple_of(1000)
    }

    fn spelling(self) -> String {
        self.to_string()
    }
}

/// Writes `90s`, and `1500ms` where seconds are too coarse: forms that nginx and GEP-2257 share.
impl fmt::Display for NginxDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_whole_secs() {
            write!(f, "{}s", self.millis / 1000)
        } else {
            write!(f, "{}ms", self.millis)
        }
    }
}

fn gep2257_millis(value: &str) -> Option<u64> {
    let mut rest = value;
    let mut millis = 0_u64;
    for parts in 0..=4 {
        if rest.is_empty() {
            return (parts > 0).then_some(millis);
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, tail) = tail.split_at_checked(letters)?;
        let unit_millis = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return None,
        };
        if !(1..=5).contains(&number.len()) {
            return None;
        }
        millis += number.parse::<u64>().ok()? * unit_millis;
        rest = tail;
    }
    None
}

/// A size in bytes. 0 means no limit where a directive gives it that meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "SizeSpelling", into = "String")]
pub struct NginxSize {
    bytes: u64,
}

impl NginxSize {
    /// 1 TiB: what is larger means no limit, and no limit is 0.
    pub const BYTES_MAX: u64 = 1 << 40;

    /// Takes a number of bytes of up to 1 TiB.
    pub fn from_bytes(bytes: u64) -> Result<Self, ValueError> {
        if bytes > Self::BYTES_MAX {
            let value = Excerpt::of(&bytes.to_string());
            return Err(ValueError::Size {
                value,
                why: "it is more than 1 TiB",
            });
        }
        Ok(Self { bytes })
    }

    /// Reads `0`, `131072`, `128k`, `50m`, `1g` in either case, and `128Ki`, `50Mi`, `1Gi`. All units
    /// are powers of 1024, as in nginx.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        let refuse = |why| ValueError::Size {
            value: Excerpt::of(value),
            why,
        };
        let digits = value.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = value.split_at(digits);
        let unit_bytes: u64 = match unit {
            "" => 1,
            "k" | "K" | "Ki" => 1 << 10,
            "m" | "M" | "Mi" => 1 << 20,
            "g" | "G" | "Gi" => 1 << 30,
            _ => return Err(refuse("its unit is none of k, m, g, Ki, Mi, Gi")),
        };
        if number.is_empty() {
            return Err(refuse("it must begin with a number"));
        }
        let bytes = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(unit_bytes));
        let bytes = bytes.filter(|bytes| *bytes <= Self::BYTES_MAX);
        let bytes = bytes.ok_or_else(|| refuse("it is more than 1 TiB"))?;
        Ok(Self { bytes })
    }

    /// The proxy's own constants.
    pub(crate) const fn from_kib(kib: u32) -> Self {
        Self {
            bytes: kib as u64 * 1024,
        }
    }

    /// The size in bytes.
    pub const fn as_bytes(self) -> u64 {
        self.bytes
    }
}

/// Writes the largest of `m` and `k` that is exact. Not `g`: some directives and dialects do not
/// take it.
impl fmt::Display for NginxSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes {
            0 => f.write_str("0"),
            bytes if bytes.is_multiple_of(1 << 20) => write!(f, "{}m", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => write!(f, "{}k", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

impl FromStr for NginxSize {
    type Err = ValueError;

    fn from_str(value: &str) -> Result<Self, ValueError> {
        Self::new(value)
    }
}

/// YAML gives a bare size as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum SizeSpelling {
    Bytes(u64),
    Text(String),
}

impl TryFrom<SizeSpelling> for NginxSize {
    type Error = ValueError;

    fn try_from(value: SizeSpelling) -> Result<Self, ValueError> {
        match value {
            SizeSpelling::Bytes(bytes) => Self::from_bytes(bytes),
            SizeSpelling::Text(text) => Self::new(&text),
        }
    }
}

impl From<NginxSize> for String {
    fn from(value: NginxSize) -> Self {
        value.to_string()
    }
}

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
        let refuse = |why| ValueError::Cidr {
            value: Excerpt::of(value),
            why,
        };
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
        let refuse = |why| ValueError::Address {
            value: Excerpt::of(value),
            why,
        };
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
        let address = value
            .parse::<SocketAddr>()
            .map_err(|_| ValueError::Address {
                value: Excerpt::of(value),
                why: "it must be an IP address, a colon and a port; IPv6 in brackets",
            })?;
        Self::try_from(address)
    }

    /// The address.
    pub const fn as_socket_addr(self) -> SocketAddr {
        self.0
    }

    fn spelling(self) -> String {
        self.to_string()
    }
}

impl TryFrom<SocketAddr> for ListenAddress {
    type Error = ValueError;

    fn try_from(address: SocketAddr) -> Result<Self, ValueError> {
        let refuse = |why| ValueError::Address {
            value: Excerpt::of(&address.to_string()),
            why,
        };
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

/// The name of a Service, Secret, Gateway or route: a DNS-1123 subdomain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

impl ObjectName {
    /// Takes `notifications` and `notifications-tls`.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        if value.len() > HOST_NAME_BYTES_MAX || !value.split('.').all(is_label) {
            return Err(ValueError::ObjectName {
                value: Excerpt::of(value),
                why: "it must be a DNS-1123 subdomain",
            });
        }
        Ok(Self(value.to_owned()))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn spelling(&self) -> String {
        self.0.clone()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
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
