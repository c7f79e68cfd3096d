//! Alerts on the gateways' own series: a rule for each thing that somebody must do something about, with what to do.

mod edge;

use serde_json::{Value, json};
use wsgateway_model::Gateway;

use super::{Object, Site, monitor, names};
use crate::kinds::Kind;

/// An alert. `$of` in its expression stands for the labels of the gateway's series.
struct Alert {
    name: &'static str,
    expression: &'static str,
    /// How long it must hold, as Prometheus writes it.
    lasting: &'static str,
    severity: &'static str,
    summary: &'static str,
    /// What it means, and what to do.
    description: &'static str,
}

const CRITICAL: &str = "critical";
const WARNING: &str = "warning";

/// With no gateway wanted, that none answers is no news.
const DOWN: Alert = Alert {
    name: "WsGatewayDown",
    expression: "sum(up{$of}) == 0 or absent(up{$of})",
    lasting: "2m",
    severity: CRITICAL,
    summary: "No gateway answers Prometheus",
    description: "Nobody can connect, or Prometheus has lost its targets. See `kubectl describe wsgateway` for the \
                  condition that is not met, then the pods' events and logs.",
};

const ALERTS: [Alert; 11] = [
    Alert {
        name: "WsGatewayPodDown",
        expression: "up{$of} == 0",
        lasting: "5m",
        severity: WARNING,
        summary: "A gateway does not answer Prometheus",
        description: "Gateway {{ $labels.pod }} has not answered for 5 minutes. See its events and the log of its \
                      container `gateway`.",
    },
    Alert {
        name: "WsGatewayNatsDisconnected",
        expression: "wsgateway_nats_connected{$of} == 0",
        lasting: "1m",
        severity: CRITICAL,
        summary: "A gateway has no connection to NATS",
        description: "Clients of gateway {{ $labels.pod }} stay connected but get no messages, and new ones are \
                      refused where their route needs NATS. The condition NatsConnected of the WsGateway says why; \
                      look whether NATS runs, and whether its address, certificate and credentials are still right.",
    },
    Alert {
        name: "WsGatewayNearlyFull",
        expression: "sum(wsgateway_connections{$of}) / sum(wsgateway_connections_max{$of}) > 0.8",
        lasting: "5m",
        severity: WARNING,
        summary: "The gateways are nearly full",
        description: "{{ $value | humanizePercentage }} of the connections that the gateways admit are open. Raise \
                      spec.replicas, spec.scaling.maxReplicas or spec.limits.connectionsPerPod.",
    },
    Alert {
        name: "WsGatewayFull",
        expression: "sum by (pod) (rate(wsgateway_handshakes_refused_total{$of,reason=\"TooManyConnections\"}[5m])) > 0",
        lasting: "5m",
        severity: WARNING,
        summary: "A gateway refuses clients because it is full",
        description: "Gateway {{ $labels.pod }} answers 503 to {{ $value | humanize }} clients a second; a proxy may \
                      find another one for them. Raise spec.replicas or spec.limits.connectionsPerPod; where one \
                      gateway alone is full, look whether many clients share an address (spec.exposure.affinity).",
    },
    Alert {
        name: "WsGatewayHandshakesRefused",
        expression: "sum(rate(wsgateway_handshakes_refused_total{$of,reason!=\"TooManyConnections\"}[10m])) > 0.1 \
                     and sum(rate(wsgateway_handshakes_refused_total{$of,reason!=\"TooManyConnections\"}[10m])) \
                     > 0.1 * sum(rate(wsgateway_connections_opened_total{$of}[10m]))",
        lasting: "10m",
        severity: WARNING,
        summary: "Many handshakes are refused",
        description: "{{ $value | humanize }} handshakes a second are refused, more than one for ten that succeed. \
                      Label `reason` of wsgateway_handshakes_refused_total says why: a foreign Origin, an unknown \
                      path, a client that speaks no WebSocket.",
    },
    Alert {
        name: "WsGatewaySlowClients",
        expression: "sum(increase(wsgateway_connections_closed_total{$of,reason=~\"SlowConsumer|WriteTimeout\"}[10m])) > 10 \
                     and sum(increase(wsgateway_connections_closed_total{$of,reason=~\"SlowConsumer|WriteTimeout\"}[10m])) \
                     > 0.05 * sum(wsgateway_connections{$of})",
        lasting: "5m",
        severity: WARNING,
        summary: "Many clients are closed because they do not keep up",
        description: "{{ $value | humanize }} clients were closed within 10 minutes since messages waited too long or \
                      too many of them did. Look at the rate of messages per client, at the network in between, and \
                      at spec.limits.outbox and spec.websocket.writeWait.",
    },
    Alert {
        name: "WsGatewayOutOfMemory",
        expression: "sum by (pod) (increase(wsgateway_connections_closed_total{$of,reason=\"OutOfMemory\"}[10m])) > 0",
        lasting: "0s",
        severity: WARNING,
        summary: "A gateway closes clients to stay within its memory",
        description: "What waits for clients of gateway {{ $labels.pod }} exceeds spec.limits.bytesPerPod. Raise it, \
                      or have fewer connections for each gateway.",
    },
    Alert {
        name: "WsGatewayMessagesLost",
        expression: "sum by (pod, reason) (increase(wsgateway_nats_dropped_total{$of}[10m])) > 0",
        lasting: "0s",
        severity: WARNING,
        summary: "Messages from NATS are lost in a gateway",
        description: "Gateway {{ $labels.pod }} lost {{ $value | humanize }} messages within 10 minutes \
                      ({{ $labels.reason }}): it could not keep up with NATS, or NATS went away. Look at its CPU, and \
                      raise spec.replicas where it has none left.",
    },
    Alert {
        name: "WsGatewayConfigRejected",
        // The series begins with the first rejection, which `increase` would not see.
        expression: "(sum by (pod) (wsgateway_config_reloads_total{$of,result=\"rejected\"}) \
                     - (sum by (pod) (wsgateway_config_reloads_total{$of,result=\"rejected\"} offset 15m) \
                     or 0 * sum by (pod) (wsgateway_connections_max{$of}))) > 0",
        lasting: "0s",
        severity: WARNING,
        summary: "A gateway has rejected its configuration",
        description: "Gateway {{ $labels.pod }} goes on with the configuration before. The condition ConfigPropagated \
                      of the WsGateway says what is wrong.",
    },
    Alert {
        name: "WsGatewayQueueUnavailable",
        expression: "max by (stream, consumer, state) \
                     (wsgateway_queue_state{$of,state=~\"Unavailable|Conflict\"}) == 1",
        lasting: "5m",
        severity: CRITICAL,
        summary: "A work queue hands out no messages",
        description: "Consumer {{ $labels.consumer }} of stream {{ $labels.stream }} is {{ $labels.state }}. \
                      Unavailable: the stream does not exist or JetStream does not answer. Conflict: the consumer \
                      exists with other settings; the gateways never change it.",
    },
    Alert {
        name: "WsGatewayDeadLettersLost",
        expression: "sum by (stream, consumer) \
                     (increase(wsgateway_queue_dead_letters_total{$of,outcome=\"failed\"}[15m])) > 0",
        lasting: "0s",
        severity: CRITICAL,
        summary: "Messages could not be put aside as dead letters",
        description: "Consumer {{ $labels.consumer }} of stream {{ $labels.stream }} gave up messages that could not \
                      be published to their dead-letter subject. Look whether a stream takes that subject.",
    },
];

pub(super) fn rules(gateway: &Gateway, site: &Site) -> Object {
    let down = (gateway.replicas > 0).then_some(&DOWN);
    let rules: Vec<Value> = down
        .into_iter()
        .chain(&ALERTS)
        .chain(edge::alerts(gateway))
        .map(|alert| rule(gateway, alert))
        .collect();
    let group = format!("wsgateway/{}/{}", gateway.namespace, gateway.name);
    let spec = json!({"groups": [{"name": group, "rules": rules}]});
    let metadata = names::monitoring_metadata(gateway, site, gateway.name.as_str());
    names::untyped(Kind::PrometheusRule, &metadata, &spec)
}

fn rule(gateway: &Gateway, alert: &Alert) -> Value {
    let Alert {
        name,
        expression,
        lasting,
        severity,
        summary,
        description,
    } = alert;
    json!({
        "alert": name,
        "expr": edge::with_warning(expression, gateway).replace("$of", &monitor::selector(gateway)),
        "for": lasting,
        "labels": {
            "severity": severity,
            // An expression without labels of its own, such as `absent`, must still say whom it is about.
            "namespace": gateway.namespace,
            "wsgateway": gateway.name,
        },
        "annotations": {
            "summary": format!("{summary} (WsGateway {}/{})", gateway.namespace, gateway.name),
            "description": description,
        },
    })
}
