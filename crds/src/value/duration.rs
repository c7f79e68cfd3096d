//! Durations as GEP-2257 writes them: `30s`, `1m30s`, `500ms`.

use std::{fmt, str::FromStr, time};

/// A length of time, written as one to four numbers with the units `h`, `m`, `s`, `ms`.
///
/// At most 99,999 of each unit. Compared by length: `60s` equals `1m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(time::Duration);

impl Duration {
    /// The pattern that the API server checks, from GEP-2257.
    pub const PATTERN: &'static str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

    /// A duration of whole milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(time::Duration::from_millis(millis))
    }

    /// A duration of whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(time::Duration::from_secs(secs))
    }

    /// The same as the standard library's type.
    #[must_use]
    pub const fn get(self) -> time::Duration {
        self.0
    }
}

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a duration: write one to four numbers with units, such as 30s, 1m30s or 500ms"
)]
pub struct DurationError(String);

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let error = || DurationError(text.chars().take(40).collect());
        let mut rest = text;
        let mut total_ms = 0_u64;
        let mut parts = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            if !(1..=5).contains(&digits) || parts == 4 {
                return Err(error());
            }
            let (unit_ms, tail) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
                .into_iter()
                .find_map(|(unit, ms)| Some((ms, tail.strip_prefix(unit)?)))
                .ok_or_else(error)?;
            total_ms += number.parse::<u64>().map_err(|_| error())? * unit_ms;
            rest = tail;
            parts += 1;
        }
        if parts == 0 {
            Err(error())
        } else {
            Ok(Self::from_millis(total_ms))
        }
    }
}

impl fmt::Display for Duration {
    /// The shortest exact form in one unit where there is one, else seconds and milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match (ms / 1_000, ms % 1_000) {
            (0, ms) if ms > 0 => write!(f, "{ms}ms"),
            (s, 0) if s > 0 && s % 3_600 == 0 => write!(f, "{}h", s / 3_600),
            (s, 0) if s > 99_999 => write!(f, "{}m{}s", s / 60, s % 60),
            (s, 0) => write!(f, "{s}s"),
            (s, ms) => write!(f, "{s}s{ms}ms"),
        }
    }
}

super::serde_as_string!(Duration);

impl schemars::JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": Self::PATTERN, "maxLength": 32})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_and_written() {
        for (text, ms, written) in [
            ("30s", 30_000, "30s"),
            ("1m30s", 90_000, "90s"),
            ("500ms", 500, "500ms"),
            ("1h", 3_600_000, "1h"),
            ("2160h", 7_776_000_000, "2160h"),
            ("1s500ms", 1_500, "1s500ms"),
            ("0s", 0, "0s"),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration, Duration::from_millis(ms), "{text}");
            assert_eq!(duration.to_string(), written, "{text}");
            assert_eq!(
                duration.to_string().parse::<Duration>().unwrap(),
                duration,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "30",
            "s",
            "1.5s",
            "-1s",
            "1d",
            "1s1s1s1s1s",
            "123456s",
            " 1s",
            "1 s",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text:?}");
        }
    }
}
