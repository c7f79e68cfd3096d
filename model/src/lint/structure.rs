//! The structure of a `WsGateway` against the schema: what the API server checks before it asks the rules.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Map, Value};
use wsgateway_crds::value::Duration;

use super::{
    Violation,
    schema::SCHEMA,
    words::{described, excerpt, explained, listed, near, plural},
};

/// What the API server accepts in `metadata`; the schema leaves it to it.
const METADATA: [&str; 14] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

/// A violation, and whether the API server asks no rules because of it.
pub(super) struct Finding {
    pub(super) violation: Violation,
    pub(super) blocks_rules: bool,
}

/// Does what the API server does before it checks: drops `null` and sets defaults, all the way down. `status` is
/// dropped, since only the operator writes it.
pub(super) fn settle(schema: &JSONSchemaProps, gateway: &mut Value) {
    if let Value::Object(fields) = gateway {
        fields.remove("status");
    }
    set_defaults(schema, gateway);
}

fn set_defaults(schema: &JSONSchemaProps, value: &mut Value) {
    match value {
        // What is another resource's is kept as it came.
        Value::Object(_) if schema.x_kubernetes_preserve_unknown_fields == Some(true) => {}
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            for (name, property) in schema.properties.iter().flatten() {
                if let Some(default) = &property.default {
                    fields
                        .entry(name.clone())
                        .or_insert_with(|| default.0.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    set_defaults(property, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                for item in items {
                    set_defaults(schema, item);
                }
            }
        }
        _ => {}
    }
}

/// Holds a settled `WsGateway` against the schema.
pub(super) fn check(schema: &JSONSchemaProps, gateway: &Value) -> Vec<Finding> {
    let mut walk = Walk::default();
    walk.head(gateway);
    let known = ["apiVersion", "kind", "metadata"];
    walk.object(schema, gateway, &known);
    walk.findings
}

#[derive(Default)]
struct Walk {
    path: String,
    findings: Vec<Finding>,
}

impl Walk {
    /// What all Kubernetes objects begin with.
    fn head(&mut self, gateway: &Value) {
        for (field, expected) in [
            ("apiVersion", "wsgateway.io/v1alpha1"),
            ("kind", "WsGateway"),
        ] {
            let found = gateway
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default();
            if found != expected {
                self.at(field, |walk| walk.blocking(format!("must be {expected}")));
            }
        }
        let metadata = gateway.get("metadata");
        self.at("metadata", |walk| {
            for field in metadata
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .map(|(k, _)| k)
            {
                if !METADATA.contains(&field.as_str()) {
                    walk.at(field, |walk| walk.unknown(field, METADATA.into_iter()));
                }
            }
            if metadata
                .and_then(|m| m.get("name"))
                .and_then(Value::as_str)
                .is_none()
            {
                walk.at("name", |walk| walk.blocking("must be set".to_owned()));
            }
        });
    }

    fn value(&mut self, schema: &JSONSchemaProps, value: &Value) {
        if !self.has_type(schema, value) {
            return;
        }
        match value {
            Value::Object(_) => self.object(schema, value, &[]),
            Value::Array(items) => self.array(schema, items),
            Value::String(text) => self.text(schema, text),
            Value::Number(number) => self.number(schema, number.as_f64().unwrap_or_default()),
            _ => {}
        }
    }

    fn has_type(&mut self, schema: &JSONSchemaProps, value: &Value) -> bool {
        // The API server keeps integers of 64 bits with a sign.
        let is_integer = value.is_i64();
        let (expected, fits) = if schema.x_kubernetes_int_or_string == Some(true) {
            ("a whole number or a text", is_integer || value.is_string())
        } else {
            match schema.type_.as_deref() {
                Some("object") => ("a map of fields", value.is_object()),
                Some("array") => ("a list", value.is_array()),
                Some("integer") => ("a whole number", is_integer),
                Some("boolean") => ("true or false", value.is_boolean()),
                Some("string") => ("a text", value.is_string()),
                _ => return true,
            }
        };
        if !fits {
            let (expected, hint) = match (schema, value) {
                (
                    JSONSchemaProps {
                        enum_: Some(words), ..
                    },
                    _,
                ) => (format!("one of {}", listed(words)), String::new()),
                (
                    JSONSchemaProps {
                        pattern: Some(pattern),
                        ..
                    },
                    Value::Number(number),
                ) if pattern == Duration::PATTERN => (
                    expected.to_owned(),
                    format!("; write {number}s for seconds"),
                ),
                (_, Value::Number(_) | Value::Bool(_)) if expected == "a text" => (
                    expected.to_owned(),
                    "; a text that looks like that needs quotes".to_owned(),
                ),
                _ => (expected.to_owned(), String::new()),
            };
            self.blocking(format!(
                "must be {expected}, but is {}{hint}",
                described(value)
            ));
        }
        fits
    }

    /// A map whose keys are the user's.
    fn map(
        &mut self,
        schema: &JSONSchemaProps,
        each: &JSONSchemaProps,
        fields: &Map<String, Value>,
    ) {
        let most = usize::try_from(schema.max_properties.unwrap_or(i64::MAX)).unwrap_or(usize::MAX);
        if fields.len() > most {
            self.blocking(format!(
                "must have at most {most} entries, but has {}",
                fields.len()
            ));
        }
        for (name, field) in fields {
            self.at(name, |walk| walk.value(each, field));
        }
    }

    fn object(&mut self, schema: &JSONSchemaProps, value: &Value, also_known: &[&str]) {
        let nothing = BTreeMap::new();
        let properties = schema.properties.as_ref().unwrap_or(&nothing);
        let Value::Object(fields) = value else { return };
        if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
            return;
        }
        if let Some(JSONSchemaPropsOrBool::Schema(each)) = &schema.additional_properties {
            self.map(schema, each, fields);
            return;
        }
        for (name, field) in fields {
            self.at(name, |walk| match properties.get(name) {
                Some(property) => walk.value(property, field),
                None if also_known.contains(&name.as_str()) => {}
                None => walk.unknown(name, properties.keys().map(String::as_str)),
            });
        }
        for name in schema
            .required
            .iter()
            .flatten()
            .filter(|name| !fields.contains_key(*name))
        {
            self.at(name, |walk| walk.blocking("must be set".to_owned()));
        }
    }

    fn array(&mut self, schema: &JSONSchemaProps, items: &[Value]) {
        let count = items.len();
        if let Some(max) = schema.max_items.filter(|max| over(count, *max)) {
            return self.blocking(format!("must have at most {max} items, but has {count}"));
        }
        if let Some(min) = schema.min_items.filter(|min| over_or(*min, count)) {
            self.plain(format!("must have at least {min} {}", plural(min, "item")));
        }
        self.doubles(schema, items);
        if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                self.step(&format!("[{index}]"), |walk| walk.value(schema, item));
            }
        }
    }

    /// A list that is a set has no item twice, and one that is a map no key.
    fn doubles(&mut self, schema: &JSONSchemaProps, items: &[Value]) {
        let keys = schema
            .x_kubernetes_list_map_keys
            .as_deref()
            .unwrap_or_default();
        let key = match (schema.x_kubernetes_list_type.as_deref(), keys) {
            (Some("set"), _) => None,
            (Some("map"), [key]) => Some(key.as_str()),
            _ => return,
        };
        let named = |item: &Value| match key {
            Some(key) => item.get(key).and_then(Value::as_str).map(str::to_owned),
            None => item.as_str().map(str::to_owned),
        };
        for (index, item) in items.iter().enumerate() {
            let Some(name) = named(item) else { continue };
            if items
                .iter()
                .take(index)
                .any(|other| named(other).as_ref() == Some(&name))
            {
                self.step(&format!("[{index}]"), |walk| match key {
                    Some(key) => walk.at(key, |walk| {
                        walk.plain(format!("`{}` stands twice in the list", excerpt(&name)));
                    }),
                    None => walk.plain(format!("`{}` stands twice in the list", excerpt(&name))),
                });
            }
        }
    }

    fn text(&mut self, schema: &JSONSchemaProps, text: &str) {
        if let Some(allowed) = &schema.enum_
            && !allowed.iter().any(|value| value.0.as_str() == Some(text))
        {
            let hint = near(text, allowed.iter().filter_map(|value| value.0.as_str()));
            return self.plain(format!(
                "`{}` is none of {}{hint}",
                excerpt(text),
                listed(allowed)
            ));
        }
        let count = text.chars().count();
        if let Some(max) = schema.max_length.filter(|max| over(count, *max)) {
            return self.blocking(format!(
                "must have at most {max} characters, but has {count}"
            ));
        }
        if let Some(min) = schema.min_length.filter(|min| over_or(*min, count)) {
            return self.plain(format!(
                "must have at least {min} {}",
                plural(min, "character")
            ));
        }
        if let Some(pattern) = &schema.pattern
            && SCHEMA
                .patterns
                .get(pattern)
                .is_some_and(|regex| !regex.is_match(text))
        {
            self.plain(explained(pattern, text));
        }
    }

    fn number(&mut self, schema: &JSONSchemaProps, number: f64) {
        if let Some(min) = schema.minimum.filter(|min| number < *min) {
            self.plain(format!("must be at least {min}, but is {number}"));
        }
        if let Some(max) = schema.maximum.filter(|max| number > *max) {
            self.plain(format!("must be at most {max}, but is {number}"));
        }
    }

    fn unknown<'a>(&mut self, name: &str, known: impl Iterator<Item = &'a str>) {
        self.plain(format!("is no field of this resource{}", near(name, known)));
    }

    fn at(&mut self, field: &str, visit: impl FnOnce(&mut Self)) {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.step(&format!("{dot}{field}"), visit);
    }

    fn step(&mut self, step: &str, visit: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        visit(self);
        self.path.truncate(length);
    }

    fn plain(&mut self, message: String) {
        self.find(message, false);
    }

    /// What keeps the API server from asking the rules: a field that is missing, too long or of another type.
    fn blocking(&mut self, message: String) {
        self.find(message, true);
    }

    fn find(&mut self, message: String, blocks_rules: bool) {
        let violation = Violation {
            path: self.path.clone(),
            message,
        };
        self.findings.push(Finding {
            violation,
            blocks_rules,
        });
    }
}

fn over(count: usize, max: i64) -> bool {
    i64::try_from(count).is_ok_and(|count| count > max)
}

fn over_or(min: i64, count: usize) -> bool {
    i64::try_from(count).is_ok_and(|count| count < min)
}
