//! A dashboard of the gateways' own series, where Grafana's sidecar finds it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use wsgateway_crds::report::hash;
use wsgateway_model::Gateway;

use super::{Object, Site, monitor, names};
use crate::kinds::Kind;

/// The label by which Grafana's sidecar finds dashboards, and its value.
const GRAFANA_LABEL: (&str, &str) = ("grafana_dashboard", "1");

/// Panels stand three in a row; Grafana's grid has 24 columns.
const PANELS_IN_ROW: usize = 3;
const PANEL_WIDTH: usize = 24 / PANELS_IN_ROW;
const PANEL_HEIGHT: usize = 8;

/// A panel: its title, its unit in Grafana's words, and pairs of an expression and a legend. `$of` stands for the
/// labels of the gateway's series.
type Panel = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const PANELS: [Panel; 18] = [
    (
        "Connections",
        "short",
        &[
            ("sum by (pod) (wsgateway_connections{$of})", "{{pod}}"),
            ("sum(wsgateway_connections_max{$of})", "admitted"),
        ],
    ),
    (
        "Connections by route",
        "short",
        &[("sum by (route) (wsgateway_connections{$of})", "{{route}}")],
    ),
    (
        "Opened and closed",
        "ops",
        &[
            (
                "sum(rate(wsgateway_connections_opened_total{$of}[$__rate_interval]))",
                "opened",
            ),
            (
                "sum by (reason, code) (rate(wsgateway_connections_closed_total{$of}[$__rate_interval]))",
                "{{reason}} {{code}}",
            ),
        ],
    ),
    (
        "Refused handshakes",
        "ops",
        &[(
            "sum by (reason) (rate(wsgateway_handshakes_refused_total{$of}[$__rate_interval]))",
            "{{reason}}",
        )],
    ),
    (
        "Messages to clients",
        "ops",
        &[(
            "sum by (route) (rate(wsgateway_messages_sent_total{$of}[$__rate_interval]))",
            "{{route}}",
        )],
    ),
    (
        "Messages from clients",
        "ops",
        &[(
            "sum by (route) (rate(wsgateway_messages_received_total{$of}[$__rate_interval]))",
            "{{route}}",
        )],
    ),
    (
        "Bytes",
        "Bps",
        &[
            (
                "sum(rate(wsgateway_sent_bytes_total{$of}[$__rate_interval]))",
                "to clients",
            ),
            (
                "sum(rate(wsgateway_received_bytes_total{$of}[$__rate_interval]))",
                "from clients",
            ),
            (
                "sum(rate(wsgateway_nats_received_bytes_total{$of}[$__rate_interval]))",
                "from NATS",
            ),
        ],
    ),
    (
        "Rounds of fan-out",
        "s",
        &[
            (
                "histogram_quantile(0.5, sum by (le) (rate(wsgateway_round_seconds_bucket{$of}[$__rate_interval])))",
                "median",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(wsgateway_round_seconds_bucket{$of}[$__rate_interval])))",
                "99 %",
            ),
        ],
    ),
    (
        "Waiting for clients",
        "bytes",
        &[("sum by (pod) (wsgateway_buffered_bytes{$of})", "{{pod}}")],
    ),
    (
        "Messages not delivered",
        "ops",
        &[
            (
                "sum by (reason) (rate(wsgateway_messages_dropped_total{$of}[$__rate_interval]))",
                "for one client: {{reason}}",
            ),
            (
                "sum by (reason) (rate(wsgateway_nats_dropped_total{$of}[$__rate_interval]))",
                "for all: {{reason}}",
            ),
            (
                "sum by (reason) (rate(wsgateway_nats_publishes_refused_total{$of}[$__rate_interval]))",
                "from a client: {{reason}}",
            ),
        ],
    ),
    (
        "NATS",
        "short",
        &[
            ("sum(wsgateway_nats_connected{$of})", "connected"),
            ("sum(wsgateway_nats_subscriptions{$of})", "subscriptions"),
            (
                "sum(increase(wsgateway_nats_disconnects_total{$of}[$__rate_interval]))",
                "disconnects",
            ),
        ],
    ),
    (
        "Queues",
        "ops",
        &[
            (
                "sum by (consumer) (rate(wsgateway_queue_deliveries_total{$of}[$__rate_interval]))",
                "{{consumer}} delivered",
            ),
            (
                "sum by (consumer) (rate(wsgateway_queue_acks_total{$of}[$__rate_interval]))",
                "{{consumer}} acknowledged",
            ),
            (
                "sum by (consumer) (rate(wsgateway_queue_naks_total{$of}[$__rate_interval]))",
                "{{consumer}} given back",
            ),
            (
                "sum by (consumer, outcome) (rate(wsgateway_queue_dead_letters_total{$of}[$__rate_interval]))",
                "{{consumer}} dead, {{outcome}}",
            ),
        ],
    ),
    (
        "Held by queue clients",
        "short",
        &[
            (
                "sum by (consumer) (wsgateway_queue_in_flight{$of})",
                "{{consumer}} unacknowledged",
            ),
            (
                "sum by (consumer) (wsgateway_queue_clients{$of})",
                "{{consumer}} clients",
            ),
        ],
    ),
    (
        "Memory",
        "bytes",
        &[(
            "sum by (pod) (process_resident_memory_bytes{$of})",
            "{{pod}}",
        )],
    ),
    (
        "Configurations read",
        "short",
        &[(
            "sum by (result) (increase(wsgateway_config_reloads_total{$of}[$__rate_interval]))",
            "{{result}}",
        )],
    ),
    (
        "Age of issuers' keys",
        "s",
        &[(
            "time() - min by (provider) (wsgateway_auth_keys_loaded_timestamp_seconds{$of})",
            "{{provider}}, the oldest",
        )],
    ),
    (
        "Fetches of issuers' keys",
        "ops",
        &[(
            "sum by (provider, result) (rate(wsgateway_auth_key_fetches_total{$of}[$__rate_interval]))",
            "{{provider}} {{result}}",
        )],
    ),
    (
        "Until the gateways' certificate ends",
        "s",
        &[(
            "min by (pod) (wsgateway_tls_certificate_not_after_timestamp_seconds{$of}) - time()",
            "{{pod}}",
        )],
    ),
];

pub(super) fn dashboard(gateway: &Gateway, site: &Site) -> Object {
    let name = names::dashboard(gateway.name.as_str());
    let file = format!("{}-{}.json", gateway.namespace, gateway.name);
    let mut metadata = names::monitoring_metadata(gateway, site, name);
    let (label, value) = GRAFANA_LABEL;
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(label.to_owned(), value.to_owned());
    let object = ConfigMap {
        metadata,
        data: Some(BTreeMap::from([(file, format!("{:#}\n", json(gateway)))])),
        ..ConfigMap::default()
    };
    names::typed(Kind::ConfigMap, &object.metadata, &object)
}

/// In the form that Grafana imports.
fn json(gateway: &Gateway) -> Value {
    let of = monitor::selector(gateway);
    let panels = PANELS.iter().enumerate();
    let panels: Vec<Value> = panels
        .map(|(index, panel)| panel_json(index, panel, &of))
        .collect();
    let full_name = format!("{}/{}", gateway.namespace, gateway.name);
    json!({
        "uid": format!("wsgateway-{}", hash(&full_name)),
        "title": format!("WsGateway {full_name}"),
        "tags": ["wsgateway"],
        "schemaVersion": 39,
        "editable": false,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        ]},
        "panels": panels,
    })
}

fn panel_json(index: usize, (title, unit, targets): &Panel, of: &str) -> Value {
    let datasource = json!({"type": "prometheus", "uid": "${datasource}"});
    let targets = targets.iter().zip('A'..);
    let targets: Vec<Value> = targets
        .map(|((expression, legend), letter)| {
            json!({
                "refId": letter,
                "datasource": datasource,
                "expr": expression.replace("$of", of),
                "legendFormat": legend,
            })
        })
        .collect();
    json!({
        "id": index + 1,
        "type": "timeseries",
        "title": title,
        "datasource": datasource,
        "gridPos": {
            "x": index % PANELS_IN_ROW * PANEL_WIDTH,
            "y": index / PANELS_IN_ROW * PANEL_HEIGHT,
            "w": PANEL_WIDTH,
            "h": PANEL_HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": targets,
    })
}
