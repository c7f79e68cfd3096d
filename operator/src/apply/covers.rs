//! Whether an object that lives holds all that is asked for. The API server adds defaults, and others add what is
//! theirs, so it may hold more.

use serde_json::{Map, Value};

/// Whether `live` holds `wanted`, all the way down.
pub(super) fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| live.get(name).is_some_and(|live| covers(live, wanted))),
        (Value::Array(live), Value::Array(wanted)) => lists(live, wanted),
        (live, wanted) => live == wanted,
    }
}

/// A list whose items have an identity may hold others in between, as server-side apply merges it. Any other list is
/// one value.
fn lists(live: &[Value], wanted: &[Value]) -> bool {
    let Some(identity) = identity(wanted) else {
        return live.len() == wanted.len()
            && live
                .iter()
                .zip(wanted)
                .all(|(live, wanted)| covers(live, wanted));
    };
    wanted.iter().all(|wanted| {
        let same = |live: &&Value| live.get(identity) == wanted.get(identity);
        live.iter()
            .find(same)
            .is_some_and(|live| covers(live, wanted))
    })
}

/// The field that tells items apart: a UID in owner references, a name in most other lists.
fn identity(items: &[Value]) -> Option<&'static str> {
    let all_have = |field: &str| {
        !items.is_empty()
            && items.iter().all(|item| {
                item.as_object()
                    .is_some_and(|item: &Map<_, _>| item.contains_key(field))
            })
    };
    ["uid", "name"].into_iter().find(|field| all_have(field))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_add_does_no_harm_and_what_they_change_is_seen() {
        let wanted = json!({
            "metadata": {"labels": {"a": "1"}, "ownerReferences": [{"uid": "u", "name": "w"}]},
            "spec": {
                "ports": [{"name": "ws", "port": 8000}],
                "args": ["--config", "x"],
                "containers": [{"name": "gateway", "image": "i"}],
            },
        });
        let live = json!({
            "metadata": {
                "labels": {"a": "1", "theirs": "2"}, "resourceVersion": "7",
                "ownerReferences": [{"uid": "other", "name": "w"}, {"uid": "u", "name": "w", "controller": true}],
            },
            "spec": {
                "type": "ClusterIP",
                "ports": [{"name": "ws", "port": 8000, "protocol": "TCP"}],
                "args": ["--config", "x"],
                "containers": [{"name": "sidecar"}, {"name": "gateway", "image": "i", "tty": false}],
            },
            "status": {},
        });
        assert!(covers(&live, &wanted));
        assert!(covers(&wanted, &wanted));
        for (pointer, value) in [
            ("/metadata/labels/a", json!("2")),
            ("/metadata/ownerReferences", json!([])),
            ("/spec/ports/0/port", json!(1)),
            ("/spec/args", json!(["--config", "x", "y"])),
            ("/spec/args", json!(["x", "--config"])),
            ("/spec/containers/1/image", json!("j")),
            ("/spec/containers", json!([{"name": "sidecar"}])),
            ("/spec", json!(null)),
        ] {
            let mut drifted = live.clone();
            *drifted.pointer_mut(pointer).unwrap() = value;
            assert!(!covers(&drifted, &wanted), "{pointer}");
        }
    }
}
