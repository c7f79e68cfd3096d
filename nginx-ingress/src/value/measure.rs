//! Durations and sizes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Expected, ValueError, spelled};

spelled!(NginxDuration);

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
        let refuse = |why| ValueError::new(Expected::Duration, value, why);
        let millis = gep2257_millis(value).ok_or_else(|| {
            refuse("it must be one to four numbers of up to five digits, each with h, m, s or ms")
        })?;
        Self::of_millis(millis).map_err(refuse)
    }

    /// Takes a duration of 1 ms to 365 days. A part of a millisecond counts as a whole one.
    pub fn from_duration(value: Duration) -> Result<Self, ValueError> {
        let millis = u64::try_from(value.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Self::of_millis(millis)
            .map_err(|why| ValueError::new(Expected::Duration, &format!("{value:?}"), why))
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
            return Err(ValueError::new(
                Expected::Size,
                &bytes.to_string(),
                "it is more than 1 TiB",
            ));
        }
        Ok(Self { bytes })
    }

    /// Reads `0`, `131072`, `128k`, `50m`, `1g` in either case, and `128Ki`, `50Mi`, `1Gi`. All
    /// units are powers of 1024, as in nginx.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        let refuse = |why| ValueError::new(Expected::Size, value, why);
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
