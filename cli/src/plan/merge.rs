//! What an object is after `kubectl apply` of a file: the file over what lives, less what an earlier file said and
//! this one does not.

use kube::api::DynamicObject;
use serde_json::{Map, Value};

/// Where `kubectl apply` keeps the file that was applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The object after the file is applied. Lists are replaced whole.
pub(super) fn applied(live: &DynamicObject, file: &Value) -> Value {
    let object = serde_json::to_value(live).unwrap_or_default();
    let of = |value: &Value| value.get("spec").cloned().unwrap_or_default();
    let mut merged = file.clone();
    if let Some(merged) = merged.as_object_mut() {
        merged.insert(
            "spec".to_owned(),
            merge(&of(&object), &of(&before(live)), &of(file)),
        );
    }
    merged
}

/// What an earlier file said; nothing where there was none.
fn before(live: &DynamicObject) -> Value {
    let annotations = live.metadata.annotations.as_ref();
    let last = annotations.and_then(|annotations| annotations.get(LAST_APPLIED));
    if let Some(last) = last.and_then(|last| serde_json::from_str(last).ok()) {
        return last;
    }
    let entries = live.metadata.managed_fields.as_deref().unwrap_or_default();
    let applied = entries
        .iter()
        .filter(|entry| entry.operation.as_deref() == Some("Apply") && entry.subresource.is_none());
    let fields = applied.filter_map(|entry| entry.fields_v1.as_ref());
    fields.fold(Value::Null, |said, fields| union(said, shape(&fields.0)))
}

/// The objects of which managed fields speak, with nothing in their leaves: which fields there were is all that is
/// asked.
fn shape(fields: &Value) -> Value {
    let fields = fields.as_object().into_iter().flatten();
    let named = fields.filter_map(|(key, below)| Some((key.strip_prefix("f:")?, below)));
    let shapes: Map<_, _> = named
        .map(|(name, below)| (name.to_owned(), shape(below)))
        .collect();
    Value::Object(shapes)
}

fn union(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut one), Value::Object(other)) => {
            for (key, value) in other {
                let before = one.remove(&key).unwrap_or_default();
                one.insert(key, union(before, value));
            }
            Value::Object(one)
        }
        (Value::Null, other) => other,
        (one, _) => one,
    }
}

fn merge(live: &Value, before: &Value, file: &Value) -> Value {
    let (Some(live), Some(file)) = (live.as_object(), file.as_object()) else {
        return file.clone();
    };
    let none = Map::new();
    let before = before.as_object().unwrap_or(&none);
    let mut merged = live.clone();
    merged.retain(|key, _| file.contains_key(key) || !before.contains_key(key));
    for (key, value) in file {
        let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
        merged.insert(key.clone(), merge(&of(live), &of(before), value));
    }
    Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(metadata: &Value, expected: &Value) {
        let live = json!({
            "metadata": metadata,
            "spec": {"replicas": 7, "paused": true, "limits": {"connectionsPerPod": 5, "totalBytes": "1Mi"}, "routes": [1, 2]},
        });
        let file = json!({"kind": "WsGateway", "spec": {"limits": {"connectionsPerPod": 6}, "routes": [3]}});
        let live = serde_json::from_value(live).unwrap();
        assert_eq!(&applied(&live, &file)["spec"], expected);
    }

    #[test]
    fn what_others_wrote_stays_and_what_an_earlier_file_said_goes() {
        // As `kubectl scale` or an autoscaler leaves it.
        let stays = json!({
            "replicas": 7, "paused": true, "limits": {"connectionsPerPod": 6, "totalBytes": "1Mi"}, "routes": [3],
        });
        check(&json!({"name": "a"}), &stays);
        let goes = json!({"replicas": 7, "limits": {"connectionsPerPod": 6}, "routes": [3]});
        let last =
            json!({"spec": {"paused": true, "limits": {"totalBytes": "1Mi"}, "routes": [1]}});
        check(
            &json!({"annotations": {LAST_APPLIED: last.to_string()}}),
            &goes,
        );
        let fields = json!({"f:spec": {"f:paused": {}, "f:limits": {"f:totalBytes": {}}, "f:routes": {"k:{}": {}}}});
        let entry = |operation, subresource: Option<&str>, fields: &Value| json!({"manager": "m", "operation": operation, "subresource": subresource, "fieldsV1": fields});
        let scaled = json!({"f:spec": {"f:replicas": {}}});
        let entries = json!([
            entry("Apply", None, &fields),
            entry("Update", Some("scale"), &scaled),
        ]);
        check(&json!({"managedFields": entries}), &goes);
    }
}
