//! The `WsGateways` that are looked at, and how each of their children is spoilt.

use serde_json::{Value, json};

use crate::objects::Named;

/// Three `WsGateways` that together ask for a child of every kind.
pub(super) const GATEWAYS: [(&str, &str); 3] = [
    (
        "chat",
        "{replicas: 2,
          scaling: {type: HPA, minReplicas: 2, maxReplicas: 4, metrics: [{type: CPU, averageUtilization: 70}]},
          networkPolicy: {mode: Enabled},
          monitoring: {metrics: PodMonitor, rules: Enabled, dashboard: Enabled}}",
    ),
    (
        "feed",
        "{replicas: 1,
          exposure: {tls: {type: CertManager, certManager: {issuerRef: {name: ours}}}},
          scaling: {type: KEDA, minReplicas: 1, maxReplicas: 4, metrics: [{type: CPU, averageUtilization: 70}],
                    keda: {prometheus: 'http://prometheus.test:9090'}},
          monitoring: {metrics: ServiceMonitor, rules: Disabled}}",
    ),
    (
        "room",
        "{replicas: 1, monitoring: {metrics: Disabled, rules: Disabled},
          exposure: {type: HTTPRoute, controller: gateway.nginx.org/nginx-gateway-controller,
                     tls: {type: Secret, secret: {name: room-tls}}, httpRoute: {parentRefs: [{name: public}]}}}",
    ),
];

/// A child, and the patch by which somebody spoils it; none where the API server allows that nobody.
pub(super) fn children(boot: &str) -> Vec<(Named<'_>, Option<Value>)> {
    let drift = |child, patch| (child, Some(patch));
    vec![
        drift(
            ("serviceaccounts", "chat"),
            json!({"automountServiceAccountToken": true}),
        ),
        (("configmaps", boot), None),
        drift(
            ("configmaps", "chat-live"),
            json!({"data": {"live.yaml": "{}"}}),
        ),
        drift(("configmaps", "chat-ca"), json!({"data": {"ca.crt": "x"}})),
        drift(("configmaps", "chat-dashboard"), json!({"data": null})),
        drift(
            ("services", "chat"),
            json!({"spec": {"ports": [{"name": "ws", "port": 8001, "targetPort": "ws"}]}}),
        ),
        drift(
            ("services", "feed-metrics"),
            json!({"spec": {"publishNotReadyAddresses": false}}),
        ),
        drift(
            ("ingresses", "chat"),
            json!({
                "metadata": {"annotations": {"nginx.org/websocket-services": null}},
                "spec": {"ingressClassName": "community"},
            }),
        ),
        drift(
            ("poddisruptionbudgets", "chat"),
            json!({"spec": {"maxUnavailable": 2}}),
        ),
        drift(
            ("horizontalpodautoscalers", "chat"),
            json!({"spec": {"maxReplicas": 9}}),
        ),
        drift(
            ("networkpolicies", "chat"),
            json!({"spec": {"ingress": null}}),
        ),
        drift(
            ("podmonitors", "chat"),
            json!({"spec": {"jobLabel": "other"}}),
        ),
        drift(
            ("servicemonitors", "feed"),
            json!({"spec": {"jobLabel": "other"}}),
        ),
        drift(("prometheusrules", "chat"), json!({"spec": {"groups": []}})),
        drift(
            ("certificates", "feed"),
            json!({"spec": {"secretName": "other"}}),
        ),
        drift(
            ("scaledobjects", "feed"),
            json!({"spec": {"maxReplicaCount": 99}}),
        ),
        drift(
            ("httproutes", "room"),
            json!({"spec": {"hostnames": ["other.example.com"]}}),
        ),
        drift(
            ("proxysettingspolicies", "room"),
            json!({"spec": {"timeout": {"read": "1s"}}}),
        ),
        drift(
            ("clientsettingspolicies", "room"),
            json!({"spec": {"body": {"maxSize": "1"}}}),
        ),
        drift(
            ("upstreamsettingspolicies", "room"),
            json!({"spec": {"loadBalancingMethod": "random"}}),
        ),
        drift(
            ("deployments", "chat"),
            json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 2}}}}),
        ),
        // Last, since another authority brings about another certificate.
        drift(
            ("secrets", "chat-tls"),
            json!({"data": {"tls.crt": "eA=="}}),
        ),
        drift(("secrets", "chat-ca"), json!({"data": {"tls.crt": "eA=="}})),
    ]
}
