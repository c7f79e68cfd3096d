//! JSON in which no object has a member twice.
//!
//! RFC 7519 section 4 lets a reader take the last of two claims of one name. Another reader may take the first, so
//! that two programs see two tokens in one: they are refused here.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why a text is no JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is no JSON, is nested too deeply, or is something else than an object.
    #[error("no JSON object")]
    Form,
    /// An object in it has a member twice.
    #[error("a member stands twice")]
    Doubled,
}

/// What the parser is told to say of a member that stands twice.
const DOUBLED: &str = "a member stands twice";

/// Reads an object.
///
/// # Errors
/// When it is none, or a member stands twice at any depth.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, JsonError> {
    match serde_json::from_slice::<Strict>(text) {
        Ok(Strict(Value::Object(object))) => Ok(object),
        Err(error) if error.to_string().starts_with(DOUBLED) => Err(JsonError::Doubled),
        Ok(_) | Err(_) => Err(JsonError::Form),
    }
}

/// A value without doubled members. `serde_json` limits its depth to 128.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if map.insert(name, value).is_some() {
                return Err(de::Error::custom(DOUBLED));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_twice_is_refused_at_any_depth() {
        for (text, expected) in [
            (r#"{"a": 1, "b": [null, true, -1, 1.5, "x"]}"#, None),
            (r#"{"a": {"b": 1}, "c": {"b": 1}}"#, None),
            (r#"{"a": 1, "a": 1}"#, Some(JsonError::Doubled)),
            // The same name in other words.
            (r#"{"sub": 1, "s\u0075b": 2}"#, Some(JsonError::Doubled)),
            (r#"{"a": [{"b": 1, "b": 2}]}"#, Some(JsonError::Doubled)),
            (r#"["a"]"#, Some(JsonError::Form)),
            (r#"{"a": 1} x"#, Some(JsonError::Form)),
            ("", Some(JsonError::Form)),
        ] {
            assert_eq!(object(text.as_bytes()).err(), expected, "{text}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(object(deep.as_bytes()).err(), Some(JsonError::Form));
        assert_eq!(object(b"{\"a\":\"\xff\"}").err(), Some(JsonError::Form));
    }
}
