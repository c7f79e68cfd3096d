//! Alerts and dashboard ask for series that a gateway has.

use super::*;

/// Where the gateway registers its series and names their reasons.
const SOURCES: [&str; 10] = [
    include_str!("../../../gateway/src/admission.rs"),
    include_str!("../../../auth/src/token.rs"),
    include_str!("../../../gateway/src/auth/metrics.rs"),
    include_str!("../../../gateway/src/tls.rs"),
    include_str!("../../../gateway/src/metrics.rs"),
    include_str!("../../../gateway/src/nats/metrics.rs"),
    include_str!("../../../gateway/src/server.rs"),
    include_str!("../../../gateway/src/session.rs"),
    include_str!("../../../gateway/src/upgrade.rs"),
    include_str!("../../../gateway/src/nats/dead.rs"),
];

fn is_quoted(word: &str) -> bool {
    let quoted = format!("\"{word}\"");
    SOURCES.iter().any(|source| source.contains(&quoted))
}

#[test]
fn alerts_and_dashboard_name_series_and_reasons_of_the_gateway() {
    let of = |name: &str| {
        let text = fs::read_to_string(goldens().join(name)).unwrap();
        let optional = Kind::ALL.into_iter().filter(|kind| kind.is_optional());
        build(&gateway(&text), &serving(optional, behind(Front::Service))).objects
    };
    let objects = ["pod-monitor.yaml", "auth.yaml", "inside-tls.yaml"].map(of);
    let mut expressions = Vec::new();
    for object in objects.iter().flatten() {
        if object.kind == Kind::PrometheusRule {
            let rules = object.manifest["spec"]["groups"][0]["rules"]
                .as_array()
                .unwrap();
            expressions.extend(
                rules
                    .iter()
                    .map(|rule| rule["expr"].as_str().unwrap().to_owned()),
            );
        }
        if object.name == "notifications-dashboard" {
            let data = object.manifest["data"].as_object().unwrap();
            let file = data.values().next().unwrap().as_str().unwrap();
            let dashboard: serde_json::Value = serde_json::from_str(file).unwrap();
            let panels = dashboard["panels"].as_array().unwrap().iter();
            let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
            expressions.extend(targets.map(|target| target["expr"].as_str().unwrap().to_owned()));
        }
    }
    assert!(expressions.len() > 30, "{}", expressions.len());
    let mut series = BTreeSet::new();
    for expression in &expressions {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        series.extend(words.filter(|word| word.starts_with("wsgateway_")));
        for label in ["reason", "result", "state", "outcome"] {
            let matcher = format!("{label}=");
            let after = expression.split(&matcher).skip(1);
            let values = after.filter_map(|rest| rest.split('"').nth(1));
            for value in values.flat_map(|value| value.split('|')) {
                assert!(
                    is_quoted(value),
                    "{label} {value} is no word of the gateway"
                );
            }
        }
    }
    assert!(series.len() > 18, "{series:?}");
    for name in series {
        let prefixes = [
            "wsgateway_nats_",
            "wsgateway_queue_",
            "wsgateway_auth_",
            "wsgateway_tls_",
            "wsgateway_",
        ];
        let own = prefixes
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap();
        let suffixes = ["_total", "_bucket"];
        let own = suffixes
            .iter()
            .find_map(|suffix| own.strip_suffix(suffix))
            .unwrap_or(own);
        assert!(is_quoted(own), "{name} is no series of the gateway");
    }
}
