//! Sizes in bytes as users write them: `65536`, `64Ki`, `1M`.

use std::{borrow::Cow, fmt, str::FromStr};

/// A number of bytes, written as an integer or as one with a suffix: `k`, `M`, `G` (powers of
/// 1,000) or `Ki`, `Mi`, `Gi` (powers of 1,024). No sign, fraction, exponent or milli.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// The pattern that the API server checks of a size given as a string.
    pub const PATTERN: &'static str = "^[0-9]{1,15}(k|M|G|Ki|Mi|Gi)?$";

    /// A size of so many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a size in bytes: write a whole number, or one with k, M, G, Ki, Mi or Gi, such as 64Ki"
)]
pub struct SizeError(String);

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let error = || SizeError(text.chars().take(40).collect());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, suffix) = text.split_at(digits);
        let unit: u64 = match suffix {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err(error()),
        };
        if !(1..=15).contains(&digits) {
            return Err(error());
        }
        let number: u64 = number.parse().map_err(|_| error())?;
        number.checked_mul(unit).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for Size {
    /// The largest power of 1,024 that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        for (suffix, shift) in [("Gi", 30), ("Mi", 20), ("Ki", 10)] {
            if bytes > 0 && bytes.is_multiple_of(1 << shift) {
                return write!(f, "{}{suffix}", bytes >> shift);
            }
        }
        write!(f, "{bytes}")
    }
}

impl serde::Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum IntOrString<'a> {
            Int(u64),
            String(Cow<'a, str>),
        }
        match IntOrString::deserialize(deserializer)? {
            IntOrString::Int(bytes) => Ok(Self(bytes)),
            IntOrString::String(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl schemars::JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": Self::PATTERN,
            "minimum": 0,
            "maxLength": 20,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_and_written() {
        for (text, bytes, written) in [
            ("65536", 65_536, "64Ki"),
            ("64Ki", 65_536, "64Ki"),
            ("1M", 1_000_000, "1000000"),
            ("1Mi", 1_048_576, "1Mi"),
            ("0", 0, "0"),
            ("128k", 128_000, "125Ki"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(
                (size.bytes(), size.to_string().as_str()),
                (bytes, written),
                "{text}"
            );
        }
        assert_eq!(serde_json::from_str::<Size>("5").unwrap().bytes(), 5);
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in [
            "",
            "100m",
            "1.5Mi",
            "-1",
            "1e3",
            "1 Ki",
            "Ki",
            "1234567890123456",
            "999999999999999Gi",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
    }
}
