//! Whatever stands in a field, the answer is a Gateway or reasons, each in one line: never a panic, never silence.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use wsgateway_model::{Referenced, check};

/// One of everything, so that every field has a place.
fn whole() -> Value {
    json!({
        "apiVersion": "wsgateway.io/v1alpha1",
        "kind": "WsGateway",
        "metadata": {"name": "hostile"},
        "spec": {
            "replicas": 1,
            "nats": {"servers": ["nats://a:4222"], "jetStream": {"domain": "d"}},
            "websocket": {"pingPeriod": "1s", "maxMessageSize": "1Ki", "allowedOrigins": ["*"]},
            "limits": {"bytesPerPod": "1Gi", "outbox": {"bytesPerConnection": "1Mi"}},
            "routes": [{
                "name": "a",
                "path": "/a/{x}",
                "maxMessageSize": 5,
                "fromClient": {"type": "Publish", "publish": {"subject": "a.{path.x}"}},
                "toClient": [
                    {"name": "b", "type": "Core", "core": {"subjects": ["a.>"]}},
                    {"name": "c", "type": "Queue", "queue": {
                        "stream": "S", "durable": "d", "filterSubjects": ["a.*"], "ackWait": "5s",
                        "deadLetter": {"subject": "dead"},
                    }},
                ],
            }],
            "exposure": {
                "hosts": ["a.example.com"],
                "tls": {"type": "SelfSigned", "selfSigned": {"duration": "100h", "renewBefore": "1h"}},
                "bodySize": "1m",
                "status": {"path": "/status", "allow": ["::1"]},
            },
            "rollout": {"drain": {"retryAfter": {"min": "1s"}}},
        },
    })
}

/// The JSON pointers of a value and all below it.
fn pointers(at: &str, value: &Value, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                pointers(&format!("{at}/{name}"), value, found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(&format!("{at}/{index}"), value, found);
            }
        }
        _ => {}
    }
}

#[test]
fn no_value_of_a_field_is_met_with_a_panic_or_with_silence() {
    let hostile = [
        Value::Null,
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("\n; } $a {path.x} \" ' \u{0} 💥"),
        json!("x".repeat(5_000)),
        json!("99999h99999h99999h99999h"),
        json!("999999999999999Gi"),
        json!([[]]),
        json!({"a": {}}),
    ];
    let whole = whole();
    assert!(check(&whole, &Referenced::default()).is_ok());
    let mut places = Vec::new();
    pointers("", &whole, &mut places);
    for place in &places {
        for value in &hostile {
            let mut gateway = whole.clone();
            let Some(field) = gateway.pointer_mut(place) else {
                panic!("{place}")
            };
            *field = value.clone();
            let Err(reasons) = check(&gateway, &Referenced::default()) else {
                continue;
            };
            assert!(reasons.iter().next().is_some(), "{place}: {value}");
            for reason in reasons.iter() {
                let line = reason.to_string();
                assert!(
                    !line.contains(['\n', '\0']) && line.len() < 1_000,
                    "{place}: {line}"
                );
                assert_ne!(reason.reason, "Unreadable", "{place}: {line}");
            }
        }
    }
}
