//! Which pages may open a WebSocket: patterns over the `Origin` header.

use std::{fmt, str::FromStr};

/// One allowed origin.
///
/// - `*`: every origin, and requests without one.
/// - `SameHost`: an origin whose host and port are those of the request's `Host` header.
/// - `https://app.example.com`, `https://*.example.com:8443`: scheme, host and port; a leading `*.`
///   stands for one or more labels.
///
/// A request without an `Origin` header does not come from a page and is let through.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OriginPattern {
    /// Every origin.
    Any,
    /// The origin's host is the request's host.
    SameHost,
    /// A scheme (`https`), a host, whether labels may stand before it, and a port where one is named.
    Exact {
        /// The scheme in lower case.
        scheme: String,
        /// The host in lower case, without the leading `*.`.
        host: String,
        /// Whether a leading `*.` stood before the host.
        subdomains: bool,
        /// The port, where it is not the scheme's own.
        port: Option<u16>,
    },
}

impl OriginPattern {
    /// Whether a request with this `Origin` header (absent where there is none) and this `Host`
    /// header may be upgraded.
    #[must_use]
    pub fn allows(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        match self {
            Self::Any => true,
            Self::SameHost => {
                let Some((scheme, authority)) = origin.split_once("://") else {
                    return false;
                };
                let default = default_port(scheme);
                host.is_some_and(|host| {
                    let (left, right) = (split_port(authority), split_port(host));
                    left.0.eq_ignore_ascii_case(right.0)
                        && left.1.or(default) == right.1.or(default)
                })
            }
            Self::Exact {
                scheme,
                host,
                subdomains,
                port,
            } => {
                let Some((got_scheme, authority)) = origin.split_once("://") else {
                    return false;
                };
                let (got_host, got_port) = split_port(authority);
                let got_host = got_host.to_ascii_lowercase();
                let host_matches = if *subdomains {
                    got_host.strip_suffix(host.as_str()).is_some_and(|rest| {
                        rest.len() > 1 && rest.ends_with('.') && !rest.starts_with('.')
                    })
                } else {
                    got_host == *host
                };
                let default = default_port(scheme);
                got_scheme.eq_ignore_ascii_case(scheme)
                    && host_matches
                    && got_port.or(default) == port.or(default)
            }
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

/// Splits `host:port`; an IPv6 address keeps its brackets. A port that is no number stays in the host
/// and so matches nothing.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

/// Why a text is no origin pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an origin: write *, SameHost, or scheme and host such as https://app.example.com or https://*.example.com"
)]
pub struct OriginPatternError(String);

impl FromStr for OriginPattern {
    type Err = OriginPatternError;

    fn from_str(text: &str) -> Result<Self, OriginPatternError> {
        let error = || OriginPatternError(text.chars().take(80).collect());
        match text {
            "*" => return Ok(Self::Any),
            "SameHost" => return Ok(Self::SameHost),
            _ => {}
        }
        let (scheme, authority) = text.split_once("://").ok_or_else(error)?;
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
        let (host, port) = split_port(authority);
        let (host, subdomains) = match host.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (host, false),
        };
        let is_host = !host.is_empty()
            && host.len() <= 253
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.[]:".contains(&b));
        if !is_scheme || !is_host || (host.contains(':') && !host.starts_with('[')) {
            return Err(error());
        }
        Ok(Self::Exact {
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_ascii_lowercase(),
            subdomains,
            port,
        })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::SameHost => f.write_str("SameHost"),
            Self::Exact {
                scheme,
                host,
                subdomains,
                port,
            } => {
                write!(
                    f,
                    "{scheme}://{}{host}",
                    if *subdomains { "*." } else { "" }
                )?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

super::serde_as_string!(OriginPattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_by_its_pattern_alone() {
        for (pattern, origin, host, allowed) in [
            ("*", Some("https://evil.example"), None, true),
            (
                "SameHost",
                Some("https://a.example"),
                Some("a.example"),
                true,
            ),
            (
                "SameHost",
                Some("https://a.example"),
                Some("a.example:443"),
                true,
            ),
            (
                "SameHost",
                Some("https://a.example:8443"),
                Some("a.example:8443"),
                true,
            ),
            (
                "SameHost",
                Some("https://b.example"),
                Some("a.example"),
                false,
            ),
            ("SameHost", Some("null"), Some("a.example"), false),
            ("https://a.example", Some("https://A.example"), None, true),
            (
                "https://a.example",
                Some("https://a.example:443"),
                None,
                true,
            ),
            ("https://a.example", Some("http://a.example"), None, false),
            (
                "https://a.example",
                Some("https://a.example:444"),
                None,
                false,
            ),
            (
                "https://a.example",
                Some("https://a.example.evil"),
                None,
                false,
            ),
            (
                "https://*.example.com",
                Some("https://x.example.com"),
                None,
                true,
            ),
            (
                "https://*.example.com",
                Some("https://x.y.example.com"),
                None,
                true,
            ),
            (
                "https://*.example.com",
                Some("https://example.com"),
                None,
                false,
            ),
            (
                "https://*.example.com",
                Some("https://evilexample.com"),
                None,
                false,
            ),
            ("https://a.example", None, None, true),
            (
                "https://a.example",
                Some("https://a.example:x"),
                None,
                false,
            ),
        ] {
            let pattern: OriginPattern = pattern.parse().unwrap();
            assert_eq!(
                pattern.allows(origin, host),
                allowed,
                "{pattern} {origin:?} {host:?}"
            );
            assert_eq!(
                pattern.to_string().parse::<OriginPattern>().unwrap(),
                pattern
            );
        }
    }

    #[test]
    fn what_is_not_an_origin_is_refused() {
        for text in [
            "",
            "example.com",
            "https://",
            "https://a/b",
            "https://a b",
            "://a",
            "https://*",
        ] {
            assert!(text.parse::<OriginPattern>().is_err(), "{text:?}");
        }
    }
}
