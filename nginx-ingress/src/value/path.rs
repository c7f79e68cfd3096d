//! The paths of routes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Expected, ValueError, spelled};

spelled!(LocationPath);

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
        let refuse = |why| Err(ValueError::new(Expected::Path, value, why));
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
