//! The paths of routes: literal segments and `{param}`, matched whole.

use std::{borrow::Cow, fmt, str::FromStr};

/// The longest path of a route, in bytes.
const PATH_BYTES_MAX: usize = 256;

/// The path of a route, such as `/ws-notifications` or `/rooms/{room}`.
///
/// It is matched whole, segment by segment; a trailing slash makes no difference. A parameter takes
/// exactly one segment that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathTemplate {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Segment {
    Literal(String),
    Param(String),
}

/// The parameters of a path that matched, percent-decoded when asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathMatch<'a> {
    params: Vec<(&'a str, &'a str)>,
}

impl<'a> PathMatch<'a> {
    /// The value of a parameter. `None` where there is none, or where it is no UTF-8 once decoded.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let (_, raw) = self.params.iter().find(|(param, _)| *param == name)?;
        percent_decode(raw)
    }
}

/// Decodes `%41`. `None` for a broken escape or what is no UTF-8.
fn percent_decode(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('%') {
        return Some(Cow::Borrowed(raw));
    }
    let mut bytes = raw.bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The value of a query's parameter, percent-decoded. `None` where it does not stand exactly once, or is
/// no UTF-8: which of two was meant cannot be known.
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut values = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(key)? == name).then_some(value)
    });
    let value = values.next()?;
    if values.next().is_some() {
        None
    } else {
        percent_decode(value)
    }
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not start with a slash, or is longer than 256 bytes.
    #[error("a path starts with / and has at most {PATH_BYTES_MAX} bytes")]
    Form,
    /// A segment is empty, or holds what a URL path may not.
    #[error("segment `{0}` must be letters, digits and -._~ or exactly one {{param}}")]
    Segment(String),
    /// Two parameters of one name.
    #[error("parameter `{0}` stands twice")]
    Doubled(String),
}

impl PathTemplate {
    /// The pattern that the API server checks. It lets `.` and `..` pass, and a parameter that stands twice.
    pub const PATTERN: &'static str = r"^(/|(/([-A-Za-z0-9._~]+|\{[A-Za-z_][A-Za-z0-9_]*\}))+/?)$";

    /// The parameters of a request's path (without query), where it is this route's.
    #[must_use]
    pub fn matches<'a>(&'a self, path: &'a str) -> Option<PathMatch<'a>> {
        let mut matched = PathMatch::default();
        let path = path.strip_prefix('/')?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut got = path.split('/').filter(|_| !path.is_empty());
        for segment in &self.segments {
            let text = got.next()?;
            match segment {
                Segment::Literal(literal) if literal == text => {}
                Segment::Param(name) if !text.is_empty() => {
                    matched.params.push((name.as_str(), text));
                }
                _ => return None,
            }
        }
        got.next().is_none().then_some(matched)
    }

    /// The names of its parameters.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Param(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// Whether some path is meant by both, so that two routes could not be told apart.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.segments.len() == other.segments.len()
            && self
                .segments
                .iter()
                .zip(&other.segments)
                .all(|pair| match pair {
                    (Segment::Literal(left), Segment::Literal(right)) => left == right,
                    _ => true,
                })
    }
}

impl FromStr for PathTemplate {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let rest = text.strip_prefix('/').ok_or(PathError::Form)?;
        if text.len() > PATH_BYTES_MAX {
            return Err(PathError::Form);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let mut template = Self {
            segments: Vec::new(),
        };
        for segment in rest.split('/').filter(|_| !rest.is_empty()) {
            let param = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
            let text = param.unwrap_or(segment);
            let extra: &[u8] = if param.is_some() { b"_" } else { b"-._~" };
            let allowed = |b: u8| b.is_ascii_alphanumeric() || extra.contains(&b);
            if text.is_empty() || !text.bytes().all(allowed) || text == "." || text == ".." {
                return Err(PathError::Segment(segment.to_owned()));
            }
            if param.is_some() && template.params().any(|name| name == text) {
                return Err(PathError::Doubled(text.to_owned()));
            }
            let text = text.to_owned();
            template.segments.push(match param {
                Some(_) => Segment::Param(text),
                None => Segment::Literal(text),
            });
        }
        Ok(template)
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("/");
        }
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Literal(literal) => write!(f, "/{literal}"),
            Segment::Param(name) => write!(f, "/{{{name}}}"),
        })
    }
}

super::serde_as_string!(PathTemplate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_matched_whole() {
        for (template, path, params) in [
            ("/ws", "/ws", Some(vec![])),
            ("/ws", "/ws/", Some(vec![])),
            ("/ws/", "/ws", Some(vec![])),
            ("/ws", "/ws/x", None),
            ("/ws", "/WS", None),
            ("/ws", "/ws//", None),
            ("/", "/", Some(vec![])),
            ("/", "/x", None),
            ("/rooms/{room}", "/rooms/7", Some(vec![("room", "7")])),
            ("/rooms/{room}", "/rooms/a%20b", Some(vec![("room", "a b")])),
            ("/rooms/{room}", "/rooms/", None),
            ("/rooms/{room}", "/rooms//", None),
            ("/{a}/{b}", "/1/2", Some(vec![("a", "1"), ("b", "2")])),
        ] {
            let template: PathTemplate = template.parse().unwrap();
            let matched = template.matches(path);
            assert_eq!(matched.is_some(), params.is_some(), "{template} {path}");
            for (name, value) in params.into_iter().flatten() {
                assert_eq!(matched.as_ref().unwrap().get(name).unwrap(), value);
            }
        }
    }

    #[test]
    fn what_is_not_a_path_is_refused() {
        for text in [
            "", "ws", "/a//b", "/a b", "/{}", "/{a}{b}", "/x{a}", "/{a}/{a}", "/a?b", "/a;", "/..",
            "/a/./b",
        ] {
            assert!(text.parse::<PathTemplate>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_query_has_values_that_stand_once() {
        for (query, value) in [
            ("a=1&b=2", Some("2")),
            ("b", Some("")),
            ("b=x%20y", Some("x y")),
            ("%62=x", Some("x")),
            ("b=1&b=2", None),
            ("b=%ff", None),
            ("", None),
        ] {
            assert_eq!(query_value(query, "b").as_deref(), value, "{query}");
        }
    }

    #[test]
    fn a_broken_escape_has_no_value() {
        let template: PathTemplate = "/{a}".parse().unwrap();
        for path in ["/%", "/%4", "/%zz", "/%ff"] {
            assert_eq!(template.matches(path).unwrap().get("a"), None, "{path}");
        }
    }
}
