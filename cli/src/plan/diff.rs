//! How an object that lives differs from the one that is wanted, field by field. Of what lives only those fields count
//! that are wanted, or that the operator set before: the API server adds defaults, and others add what is theirs.

use std::fmt;

use serde_json::{Map, Value};

/// The longest value that is shown.
const SHOWN_CHARS_MAX: usize = 72;

/// The prefix of the operator's own notes on its objects.
const OWN_PREFIX: &str = "wsgateway.io/";

/// A field that changes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    /// Its path.
    pub(super) path: String,
    /// What it is; none where it is not set.
    pub(super) old: Option<Value>,
    /// What it becomes; none where it goes.
    pub(super) new: Option<Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, old, new } = self;
        match (old, new) {
            (Some(old), Some(new)) => write!(f, "{path}: {} → {}", Shown(old), Shown(new)),
            (None, Some(new)) => write!(f, "{path}: set to {}", Shown(new)),
            (Some(old), None) => write!(f, "{path}: no longer set, was {}", Shown(old)),
            (None, None) => f.write_str(path),
        }
    }
}

/// A value in a line.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        match text.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => write!(f, "{}…", text.get(..end).unwrap_or_default()),
            None => f.write_str(&text),
        }
    }
}

/// Which fields of what lives go when they are no longer wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owned<'a> {
    /// All.
    All,
    /// None.
    Nothing,
    /// Those that managed fields name.
    Fields(&'a Map<String, Value>),
}

impl<'a> Owned<'a> {
    /// Of managed fields, in the form of the API (`FieldsV1`).
    pub(super) fn of(fields: Option<&'a Value>) -> Self {
        match fields.and_then(Value::as_object) {
            Some(fields) => Self::Fields(fields),
            None => Self::Nothing,
        }
    }

    /// What of a field's value is owned; none where the field is not.
    fn field(self, name: &str) -> Option<Self> {
        match self {
            Self::All => Some(Self::All),
            Self::Nothing => None,
            Self::Fields(fields) => fields.get(&format!("f:{name}")).map(Self::below),
        }
    }

    /// The same of an item of a list.
    fn item(self, item: &Value) -> Option<Self> {
        match self {
            Self::All => Some(Self::All),
            Self::Nothing => None,
            Self::Fields(fields) => fields.iter().find_map(|(key, below)| {
                let keys: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
                let mut keys = keys.as_object()?.iter();
                keys.all(|(name, value)| item.get(name).is_none_or(|is| is == value))
                    .then(|| Self::below(below))
            }),
        }
    }

    /// A leaf is owned with all that it holds.
    fn below(value: &'a Value) -> Self {
        match value.as_object() {
            Some(fields) if !fields.is_empty() => Self::Fields(fields),
            _ => Self::All,
        }
    }
}

/// What changes when `new` is applied over `old`.
pub(super) fn changes(old: &Value, new: &Value, owned: Owned<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", Some(old), new, owned, &mut changes);
    changes
}

/// What changes of an object: what says which object it is, and the operator's own notes, aside.
pub(super) fn of_object(live: &Value, wanted: &Value, owned: Owned<'_>) -> Vec<Change> {
    let strip = |object: &Value| {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind" | "status"));
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|name, _| matches!(name.as_str(), "labels" | "annotations"));
        }
        for pointer in [
            "/metadata/annotations",
            "/spec/template/metadata/labels",
            "/spec/template/metadata/annotations",
        ] {
            if let Some(notes) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
                notes.retain(|name, _| !name.starts_with(OWN_PREFIX));
            }
        }
        object
    };
    changes(&strip(live), &strip(wanted), owned)
}

fn compare(path: &str, old: Option<&Value>, new: &Value, owned: Owned<'_>, to: &mut Vec<Change>) {
    match (old, new) {
        (Some(Value::Object(old)), Value::Object(new)) => fields(path, old, new, owned, to),
        (Some(Value::Array(old)), Value::Array(new)) => items(path, old, new, owned, to),
        (Some(old), new) if is_same(old, new) => {}
        // An empty object asks for nothing.
        (None, Value::Object(new)) if new.is_empty() => {}
        (old, new) => to.push(Change {
            path: path.to_owned(),
            old: old.cloned(),
            new: Some(new.clone()),
        }),
    }
}

/// Numbers are the same whatever their form.
fn is_same(old: &Value, new: &Value) -> bool {
    old == new || old.as_f64().is_some_and(|old| new.as_f64() == Some(old))
}

fn fields(
    path: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    owned: Owned<'_>,
    to: &mut Vec<Change>,
) {
    for (name, value) in new {
        let below = owned.field(name).unwrap_or(Owned::Nothing);
        compare(&join(path, name), old.get(name), value, below, to);
    }
    for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        if let Some(owned) = owned.field(name) {
            gone(&join(path, name), value, owned, to);
        }
    }
}

/// What goes of a value that is no longer wanted.
fn gone(path: &str, old: &Value, owned: Owned<'_>, to: &mut Vec<Change>) {
    match (old, owned) {
        (Value::Object(old), Owned::Fields(_)) => fields(path, old, &Map::new(), owned, to),
        (Value::Array(old), Owned::Fields(_)) => items(path, old, &[], owned, to),
        (old, _) => to.push(Change {
            path: path.to_owned(),
            old: Some(old.clone()),
            new: None,
        }),
    }
}

/// A list whose items have an identity is compared item by item, as server-side apply merges it. Of any other one the
/// items are, while their number is the same.
fn items(path: &str, old: &[Value], new: &[Value], owned: Owned<'_>, to: &mut Vec<Change>) {
    if let Some(identity) = identity(if new.is_empty() { old } else { new }) {
        let find = |items: &'_ [Value], item: &Value| {
            items
                .iter()
                .find(|other| other.get(identity) == item.get(identity))
                .cloned()
        };
        for item in new {
            let below = owned.item(item).unwrap_or(Owned::Nothing);
            compare(
                &named(path, identity, item),
                find(old, item).as_ref(),
                item,
                below,
                to,
            );
        }
        for item in old.iter().filter(|item| find(new, item).is_none()) {
            if let Some(owned) = owned.item(item) {
                gone(&named(path, identity, item), item, owned, to);
            }
        }
        return;
    }
    if old.len() == new.len() {
        for (index, (old, new)) in old.iter().zip(new).enumerate() {
            // Managed fields name the items of a list by keys that are no place in it.
            let below = match owned {
                Owned::All => Owned::All,
                Owned::Nothing | Owned::Fields(_) => owned.item(new).unwrap_or(Owned::Nothing),
            };
            compare(&format!("{path}[{index}]"), Some(old), new, below, to);
        }
        return;
    }
    to.push(Change {
        path: path.to_owned(),
        old: Some(old.to_vec().into()),
        new: Some(new.to_vec().into()),
    });
}

/// The field that tells items apart.
fn identity(items: &[Value]) -> Option<&'static str> {
    let all_have =
        |field: &&str| !items.is_empty() && items.iter().all(|item| item.get(field).is_some());
    ["name"].into_iter().find(all_have)
}

fn named(path: &str, identity: &str, item: &Value) -> String {
    let name = item
        .get(identity)
        .and_then(Value::as_str)
        .unwrap_or_default();
    format!("{path}[{name}]")
}

/// A name with dots or slashes, as an annotation has, is quoted.
fn join(path: &str, name: &str) -> String {
    let is_plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match (path, is_plain) {
        ("", _) => name.to_owned(),
        (path, true) => format!("{path}.{name}"),
        (path, false) => format!("{path}[{name:?}]"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(old: &Value, new: &Value, fields: Option<&Value>, expected: &[&str]) {
        let changes = of_object(old, new, Owned::of(fields));
        let lines: Vec<_> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_others_add_is_no_change() {
        let live = json!({
            "metadata": {"labels": {"a": "1", "theirs": "2"}, "annotations": {"wsgateway.io/applied": "x"}},
            "spec": {
                "type": "ClusterIP",
                "ports": [{"name": "ws", "port": 8000, "protocol": "TCP"}],
                "containers": [{"name": "sidecar"}, {"name": "gateway", "image": "i", "tty": false}],
                "spread": [{"maxSkew": 1, "nodeTaintsPolicy": "Ignore"}],
                "weight": 1.0,
            },
            "status": {"replicas": 1},
        });
        let wanted = json!({
            "apiVersion": "v1",
            "metadata": {"name": "n", "labels": {"a": "1"}, "annotations": {"wsgateway.io/applied": "y"}},
            "spec": {
                "ports": [{"name": "ws", "port": 8000}],
                "containers": [{"name": "gateway", "image": "i"}],
                "spread": [{"maxSkew": 1}],
                "securityContext": {},
                "weight": 1,
            },
        });
        check(&live, &wanted, None, &[]);
    }

    #[test]
    fn each_field_that_is_wanted_otherwise_is_named() {
        let live = json!({"metadata": {"annotations": {"nginx.org/lb": "a"}}, "spec": {
            "replicas": 3, "args": ["x"], "containers": [{"name": "gateway", "image": "i"}], "hosts": [{"host": "a"}],
        }});
        let wanted = json!({"metadata": {"annotations": {"nginx.org/lb": "b"}, "labels": {"l": "1"}}, "spec": {
            "replicas": 2, "args": ["x", "y"], "containers": [{"name": "gateway", "image": "j"}, {"name": "s"}],
            "hosts": [{"host": "b"}],
        }});
        check(
            &live,
            &wanted,
            None,
            &[
                "metadata.annotations[\"nginx.org/lb\"]: \"a\" → \"b\"",
                "metadata.labels: set to {\"l\":\"1\"}",
                "spec.args: [\"x\"] → [\"x\",\"y\"]",
                "spec.containers[gateway].image: \"i\" → \"j\"",
                "spec.containers[s]: set to {\"name\":\"s\"}",
                "spec.hosts[0].host: \"a\" → \"b\"",
                "spec.replicas: 3 → 2",
            ],
        );
    }

    #[test]
    fn what_the_operator_set_and_no_longer_wants_goes() {
        let live = json!({"spec": {
            "nodeSelector": {"disk": "ssd", "theirs": "1"},
            "ports": [{"name": "ws", "port": 8000, "protocol": "TCP"}, {"name": "old", "port": 1, "protocol": "TCP"}],
            "rules": [{"host": "a"}],
            "clusterIP": "10.0.0.1",
        }});
        let wanted = json!({"spec": {"ports": [{"name": "ws", "port": 8000}], "rules": [{}]}});
        let fields = json!({"f:spec": {
            "f:nodeSelector": {"f:disk": {}},
            "f:ports": {
                "k:{\"port\":8000,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}},
                "k:{\"port\":1,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}},
            },
            "f:rules": {},
        }});
        check(
            &live,
            &wanted,
            Some(&fields),
            &[
                "spec.ports[old].name: no longer set, was \"old\"",
                "spec.ports[old].port: no longer set, was 1",
                "spec.rules[0].host: no longer set, was \"a\"",
                "spec.nodeSelector.disk: no longer set, was \"ssd\"",
            ],
        );
        check(&live, &wanted, None, &[]);
    }

    #[test]
    fn a_long_value_is_cut() {
        let change = Change {
            path: "data".to_owned(),
            old: None,
            new: Some(json!("ä".repeat(100))),
        };
        assert_eq!(
            change.to_string(),
            format!("data: set to \"{}…", "ä".repeat(71))
        );
    }
}
