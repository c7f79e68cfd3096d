//! The form that the API server wants a schema in, and the schemas of the texts with a grammar.

use std::fmt;

use schemars::{Schema, SchemaGenerator, json_schema, transform::Transform};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::value::{Duration, PathTemplate, Role, Size, SizeError, Subject, Template};

/// A host name, whose first label may be `*`.
pub(super) const HOST: &str =
    r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A NATS server. No user or password: those are in a Secret.
pub(super) const SERVER: &str = r"^(nats|tls)://[^\s/@]+$";
/// An origin, or one of the two words.
pub(super) const ORIGIN: &str = r"^(\*|SameHost|[A-Za-z0-9]+://(\*\.)?[^\s/*@]+)$";
/// An address block.
pub(super) const NETWORK: &str = "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$";
/// A size whose `k`, `m` and `g` are nginx's: powers of 1,024.
pub(super) const PROXY_SIZE: &str = "^[0-9]{1,12}(k|m|g|Ki|Mi|Gi)?$";
/// The name of a route or source.
pub(super) const NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// The name of a stream or consumer.
pub(super) const STREAM: &str = r"^[^\s.*>/\\]+$";
/// A DNS-1123 subdomain.
pub(super) const OBJECT_NAME: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// The key of a Secret or `ConfigMap`.
pub(super) const OBJECT_KEY: &str = "^[-._a-zA-Z0-9]+$";

/// An image: registry, repository, and tag or digest.
pub(super) const IMAGE: &str = r"^[a-zA-Z0-9][-a-zA-Z0-9._/:@]*$";
/// A controller or a class of load balancers.
pub(super) const CONTROLLER: &str = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[-A-Za-z0-9._/]+)?$";
/// An address of Prometheus.
pub(super) const PROMETHEUS: &str = r"^https?://[^\s@]+$";
/// The name of a cookie, as RFC 6265 has it.
pub(super) const COOKIE: &str = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
/// An address of HTTP without a user.
pub(super) const ADDRESS: &str = r"^https?://[^\s@?#]+$";
/// A text without white space.
pub(super) const WORD: &str = r"^[^\s]+$";
/// A scope, as RFC 6749 has it.
pub(super) const SCOPE: &str = r"^[!#-\[\]-~]+$";
/// A number of connections.
pub(super) const COUNT: &str = "^[1-9][0-9]{0,8}$";

/// What a text must be that a pattern of the CRD asks for, in words: `must be …`. The API server shows the pattern
/// alone.
pub fn pattern_meaning(pattern: &str) -> Option<&'static str> {
    let meaning = match pattern {
        HOST => {
            "must be a host name of a-z, 0-9, - and dots, without scheme and port; the first label may be *"
        }
        SERVER => {
            "must be nats://host:port or tls://host:port; user and password are in spec.nats.credentials"
        }
        ORIGIN => {
            "must be *, SameHost, or scheme and host such as https://app.example.com or https://*.example.com"
        }
        NETWORK => "must be an address block such as 10.0.0.0/8 or ::1/128",
        PROXY_SIZE => {
            "must be a number of bytes, or one with k, m or g (powers of 1,024) such as 128k"
        }
        NAME => "must be of a-z, 0-9 and -, with no - at either end",
        STREAM => "must be without spaces, dots, slashes, * and >",
        OBJECT_NAME => "must be the name of an object: a-z, 0-9, - and dots",
        IMAGE => "must be an image such as registry.example.com/wsgateway:1.2.3",
        CONTROLLER => "must be a domain and a path, such as nginx.org/ingress-controller",
        PROMETHEUS => {
            "must be http://host:port or https://host:port with no user, and may have a path"
        }
        COOKIE => "must be the name of a cookie: letters, digits and !#$%&'*+.^_`|~-",
        ADDRESS => {
            "must be http:// or https:// with host and path, without user, query and fragment"
        }
        WORD => "must be without white space",
        SCOPE => "must be a scope: no white space, quotes and backslashes",
        Role::PATTERN => "must be realm:NAME or client:CLIENT:NAME",
        COUNT => "must be a whole number from 1 to 999999999, as a text",
        OBJECT_KEY => "must be a key: letters, digits, -, _ and dots",
        _ => return None,
    };
    Some(meaning)
}

/// A size as it is written: a number of bytes, or a text such as `64Ki`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SizeText {
    /// `65536`
    Bytes(i64),
    /// `64Ki`
    Text(String),
}

impl SizeText {
    /// The size that it means.
    pub fn parse(&self) -> Result<Size, SizeError> {
        self.to_string().parse()
    }
}

impl From<&str> for SizeText {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl schemars::JsonSchema for SizeText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SizeText".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Size::json_schema(generator)
    }
}

/// A duration. The limit on its length keeps the rules that compare it cheap.
pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": Duration::PATTERN, "maxLength": 32})
}

/// A size whose `k`, `m` and `g` are nginx's: powers of 1,024.
pub(super) fn proxy_size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "pattern": PROXY_SIZE,
        "minimum": 0,
        "maxLength": 20,
    })
}

/// The path of a route.
pub(super) fn path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": PathTemplate::PATTERN, "maxLength": 256})
}

/// A subject some of whose tokens may come from the request.
pub(super) fn template(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": Template::PATTERN, "maxLength": 256})
}

/// The same, many of them.
pub(super) fn templates(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 16,
        "items": {"type": "string", "pattern": Template::PATTERN, "maxLength": 256},
        "x-kubernetes-list-type": "set",
    })
}

/// Subjects with wildcards, and without values of the request.
pub(super) fn subject_patterns(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 16,
        "items": {"type": "string", "pattern": crate::value::Pattern::PATTERN, "maxLength": 256},
        "x-kubernetes-list-type": "set",
    })
}

/// A subject to publish to.
pub(super) fn subject(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": Subject::PATTERN, "maxLength": 256})
}

/// A set of texts, each of which is at most so long.
pub(super) fn texts(max_items: u32, max_length: u32, pattern: &str) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": max_items,
        "items": {"type": "string", "minLength": 1, "maxLength": max_length, "pattern": pattern},
        "x-kubernetes-list-type": "set",
    })
}

/// The name of a Secret or `ConfigMap`: a DNS-1123 subdomain.
pub(super) fn object_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "pattern": OBJECT_NAME,
    })
}

/// The key of a Secret or `ConfigMap`.
pub(super) fn object_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "pattern": OBJECT_KEY,
    })
}

/// An image.
pub(super) fn image(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 512, "pattern": IMAGE})
}

/// A controller or a class of load balancers.
pub(super) fn controller(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253, "pattern": CONTROLLER})
}

/// An address of Prometheus.
pub(super) fn prometheus(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 512, "pattern": PROMETHEUS})
}

/// A number of connections, as the autoscalers write it.
pub(super) fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 9, "pattern": COUNT})
}

/// Annotations. Their keys are checked once they are read: the API server asks no pattern of keys.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 4096},
    })
}

/// Labels, likewise.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 63},
    })
}

/// Names of namespaces.
pub(super) fn namespaces(_: &mut SchemaGenerator) -> Schema {
    texts(32, 63, NAME)
}

/// An object whose fields are those of another resource: they are read once the manifest is.
pub(super) fn foreign(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A rule between fields, in CEL: the API server and `wsgw lint` refuse with its sentence.
pub(super) struct Rule {
    expression: String,
    message: String,
    field: Option<&'static str>,
}

impl Rule {
    /// A rule over `self` and the sentence for who breaks it.
    pub(super) fn new(rule: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            expression: rule.into(),
            message: message.into(),
            field: None,
        }
    }

    /// The rule of a union: the member is there when `type` is its own, and not otherwise. It holds where `type`
    /// is none of the union's: then the enum says so, once.
    pub(super) fn member(types: &[&str], own: &str, member: &'static str) -> Self {
        let rule =
            format!("!(self.type in {types:?}) || (self.type == {own:?}) == has(self.{member})");
        let message = format!("{member} must be set when type is {own}, and not otherwise");
        Self::new(rule.replace('"', "'"), message).at(member)
    }

    /// The rule that one duration is shorter than another. It holds where one of them is no duration: then the
    /// pattern says so, once.
    pub(super) fn shorter(left: &'static str, right: &'static str, message: &'static str) -> Self {
        Self::durations(left, "<", right, message)
    }

    /// The same, but they may be equal.
    pub(super) fn no_longer(
        left: &'static str,
        right: &'static str,
        message: &'static str,
    ) -> Self {
        Self::durations(left, "<=", right, message)
    }

    fn durations(
        left: &'static str,
        relation: &str,
        right: &'static str,
        message: &'static str,
    ) -> Self {
        let pattern = Duration::PATTERN;
        let rule = format!(
            "!self.{left}.matches('{pattern}') || !self.{right}.matches('{pattern}') || \
             duration(self.{left}) {relation} duration(self.{right})"
        );
        Self::new(rule, message).at(left)
    }

    /// Names the field at fault, in the object that has the rule.
    pub(super) fn at(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }
}

impl Transform for Rule {
    fn transform(&mut self, schema: &mut Schema) {
        let mut rule = json!({"rule": self.expression, "message": self.message});
        if let (Some(rule), Some(field)) = (rule.as_object_mut(), self.field) {
            rule.insert("fieldPath".to_owned(), format!(".{field}").into());
        }
        let rules = schema
            .ensure_object()
            .entry("x-kubernetes-validations")
            .or_insert_with(|| json!([]));
        if let Value::Array(rules) = rules {
            rules.push(rule);
        }
    }
}

/// Brings a generated schema into the form that the API server keeps, throughout:
///
/// - `null` is no value of its own: the API server drops it and takes the default.
/// - The default of an object is `{}`, so that each field's default stands in one place. An object with rules of its
///   own keeps the whole: the API server asks the rules about the default before it fills in those of the fields,
///   and refuses the CRD where one fails.
/// - Formats of unsigned integers go, since the API server knows none, and titles, since nobody sees them.
pub(super) fn settle(schema: &mut Map<String, Value>) {
    schema.remove("nullable");
    schema.remove("title");
    if schema
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|f| f.starts_with("uint"))
    {
        schema.remove("format");
    }
    match schema.get("default") {
        Some(Value::Null) => _ = schema.remove("default"),
        Some(Value::Object(_)) if !schema.contains_key("x-kubernetes-validations") => {
            schema.insert("default".to_owned(), json!({}));
        }
        _ => {}
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties
            .values_mut()
            .filter_map(Value::as_object_mut)
            .for_each(settle);
    }
    if let Some(Value::Object(items)) = schema.get_mut("items") {
        settle(items);
    }
}
