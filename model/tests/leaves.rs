//! No field is silently ignored: each leaf of the CRD's spec, set to something else, gives another [`Gateway`].

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde_json::Value;
use wsgateway_model::{Documents, Gateway, check, documents};

/// What every row changes.
const BASE: &str = r#"
apiVersion: wsgateway.io/v1alpha1
kind: WsGateway
metadata: {name: leaves}
spec:
  nats:
    servers: ["nats://a:4222"]
    tls:
      caRef: {kind: ConfigMap, name: one, key: a}
      clientCertificateRef: {name: one}
    credentials: {type: Token, secretRef: {name: one, key: a}}
  routes:
    - name: live
      path: /live
      toClient:
        - {name: core, type: Core, core: {subjects: [a.b]}}
    - name: work
      path: /work
      fromClient: {type: Publish, publish: {subject: in.work}}
      toClient:
        - name: queue
          type: Queue
          queue: {stream: S, durable: d, filterSubjects: [jobs.a], deadLetter: {subject: dead.a}}
  exposure:
    hosts: [a.example.com]
    tls: {type: SelfSigned, selfSigned: {duration: 100h, renewBefore: 10h}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data: {a: -----BEGIN CERTIFICATE----- 1a, b: -----BEGIN CERTIFICATE----- 1b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: two}
data: {a: -----BEGIN CERTIFICATE----- 2a}
---
apiVersion: v1
kind: Secret
metadata: {name: one}
stringData: {a: SU -----BEGIN CERTIFICATE----- s1a, b: SU s1b, tls.crt: -----BEGIN CERTIFICATE----- 1, tls.key: -----BEGIN PRIVATE KEY----- 1}
---
apiVersion: v1
kind: Secret
metadata: {name: two}
stringData: {a: SU s2a, tls.crt: -----BEGIN CERTIFICATE----- 2, tls.key: -----BEGIN PRIVATE KEY----- 2}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: jwks}
data: {a: '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}', b: '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURs"}]}'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: jwks-two}
data: {a: '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURw"}]}'}
---
apiVersion: v1
kind: Secret
metadata: {name: jwks}
stringData: {a: '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUR0"}]}'}
---
apiVersion: v1
kind: Secret
metadata: {name: hmac}
stringData: {a: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, b: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb}
---
apiVersion: v1
kind: Secret
metadata: {name: hmac-two}
stringData: {a: cccccccccccccccccccccccccccccccccccccccccccccccccccc}
"#;

/// Changes to make: where, as a JSON pointer below `/spec`, and what, as YAML. `null` takes a field away.
type Changes = &'static [(&'static str, &'static str)];

/// A leaf, what its surroundings must be, and another value of it.
type Row = (&'static str, Changes, Changes);

const SECRET: Changes = &[("/exposure/tls", "{type: Secret, secret: {name: one}}")];

const HTTP_ROUTE: Changes = &[
    ("/exposure/type", "HTTPRoute"),
    ("/exposure/httpRoute", "{parentRefs: [{name: one}]}"),
];

const LOAD_BALANCER: Changes = &[
    ("/exposure/type", "LoadBalancer"),
    ("/exposure/tls", "{type: None}"),
];

const PROXY_PROTOCOL: Changes = &[
    ("/exposure/type", "LoadBalancer"),
    ("/exposure/tls", "{type: None}"),
    (
        "/exposure/clientAddress",
        "{type: ProxyProtocol, trustedProxies: [10.0.0.0/8]}",
    ),
];

const CERT_MANAGER: Changes = &[(
    "/exposure/tls",
    "{type: CertManager, certManager: {issuerRef: {name: one}}}",
)];

const SCALING: Changes = &[(
    "/scaling",
    "{type: HPA, maxReplicas: 5, metrics: [{type: CPU, averageUtilization: 50}]}",
)];

const OIDC: Changes = &[(
    "/auth",
    "{providers: [{name: a, type: OIDC, oidc: {issuer: 'https://a', audiences: [a], caRef: {name: one, key: a}}}]}",
)];

const JWKS: Changes = &[(
    "/auth",
    "{providers: [{name: a, type: JWKS, jwks: {issuer: 'https://a', audiences: [a], url: 'https://a', caRef: {name: one, key: a}}}]}",
)];

const KEYS: Changes = &[(
    "/auth",
    "{providers: [{name: a, type: JWKS, jwks: {issuer: 'https://a', audiences: [a], keysRef: {name: jwks, key: a}}}]}",
)];

const HMAC: Changes = &[(
    "/auth",
    "{providers: [{name: a, type: HMAC, hmac: {issuer: 'https://a', audiences: [a], secretRef: {name: hmac, key: a}}}]}",
)];

const COOKIE: Changes = &[
    ("/websocket", "{allowedOrigins: [SameHost]}"),
    (
        "/auth",
        "{tokenSources: [{type: Cookie, cookie: {name: a}}], providers: [{name: a, type: OIDC, oidc: {issuer: 'https://a', audiences: [a]}}]}",
    ),
];

const ROWS: &[Row] = &[
    (
        "auth.tokenSources[].type",
        OIDC,
        &[("/auth/tokenSources", "[{type: Query}]")],
    ),
    (
        "auth.tokenSources[].cookie.name",
        COOKIE,
        &[("/auth/tokenSources", "[{type: Cookie, cookie: {name: b}}]")],
    ),
    (
        "auth.providers[].name",
        OIDC,
        &[("/auth/providers/0/name", "b")],
    ),
    (
        "auth.providers[].type",
        OIDC,
        &[(
            "/auth/providers",
            "[{name: a, type: JWKS, jwks: {issuer: 'https://a', audiences: [a], url: 'https://a'}}]",
        )],
    ),
    (
        "auth.providers[].oidc.issuer",
        OIDC,
        &[("/auth/providers/0/oidc/issuer", "https://b")],
    ),
    (
        "auth.providers[].jwks.issuer",
        JWKS,
        &[("/auth/providers/0/jwks/issuer", "https://b")],
    ),
    (
        "auth.providers[].hmac.issuer",
        HMAC,
        &[("/auth/providers/0/hmac/issuer", "https://b")],
    ),
    (
        "auth.providers[].oidc.audiences[]",
        OIDC,
        &[("/auth/providers/0/oidc/audiences", "[b]")],
    ),
    (
        "auth.providers[].jwks.audiences[]",
        JWKS,
        &[("/auth/providers/0/jwks/audiences", "[b]")],
    ),
    (
        "auth.providers[].hmac.audiences[]",
        HMAC,
        &[("/auth/providers/0/hmac/audiences", "[b]")],
    ),
    (
        "auth.providers[].oidc.authorizedParties[]",
        OIDC,
        &[("/auth/providers/0/oidc/authorizedParties", "[b]")],
    ),
    (
        "auth.providers[].jwks.authorizedParties[]",
        JWKS,
        &[("/auth/providers/0/jwks/authorizedParties", "[b]")],
    ),
    (
        "auth.providers[].hmac.authorizedParties[]",
        HMAC,
        &[("/auth/providers/0/hmac/authorizedParties", "[b]")],
    ),
    (
        "auth.providers[].oidc.leeway",
        OIDC,
        &[("/auth/providers/0/oidc/leeway", "10s")],
    ),
    (
        "auth.providers[].jwks.leeway",
        JWKS,
        &[("/auth/providers/0/jwks/leeway", "10s")],
    ),
    (
        "auth.providers[].hmac.leeway",
        HMAC,
        &[("/auth/providers/0/hmac/leeway", "10s")],
    ),
    (
        "auth.providers[].oidc.caRef.kind",
        OIDC,
        &[("/auth/providers/0/oidc/caRef/kind", "Secret")],
    ),
    (
        "auth.providers[].jwks.caRef.kind",
        JWKS,
        &[("/auth/providers/0/jwks/caRef/kind", "Secret")],
    ),
    (
        "auth.providers[].oidc.caRef.name",
        OIDC,
        &[("/auth/providers/0/oidc/caRef/name", "two")],
    ),
    (
        "auth.providers[].jwks.caRef.name",
        JWKS,
        &[("/auth/providers/0/jwks/caRef/name", "two")],
    ),
    (
        "auth.providers[].oidc.caRef.key",
        OIDC,
        &[("/auth/providers/0/oidc/caRef/key", "b")],
    ),
    (
        "auth.providers[].jwks.caRef.key",
        JWKS,
        &[("/auth/providers/0/jwks/caRef/key", "b")],
    ),
    (
        "auth.providers[].jwks.keysRef.kind",
        KEYS,
        &[("/auth/providers/0/jwks/keysRef/kind", "Secret")],
    ),
    (
        "auth.providers[].jwks.keysRef.name",
        KEYS,
        &[("/auth/providers/0/jwks/keysRef/name", "jwks-two")],
    ),
    (
        "auth.providers[].jwks.keysRef.key",
        KEYS,
        &[("/auth/providers/0/jwks/keysRef/key", "b")],
    ),
    (
        "auth.providers[].jwks.url",
        JWKS,
        &[("/auth/providers/0/jwks/url", "https://b")],
    ),
    (
        "auth.providers[].hmac.algorithm",
        HMAC,
        &[("/auth/providers/0/hmac/algorithm", "HS384")],
    ),
    (
        "auth.providers[].hmac.secretRef.name",
        HMAC,
        &[("/auth/providers/0/hmac/secretRef/name", "hmac-two")],
    ),
    (
        "auth.providers[].hmac.secretRef.key",
        HMAC,
        &[("/auth/providers/0/hmac/secretRef/key", "b")],
    ),
    (
        "auth.onExpiry.jitter",
        OIDC,
        &[("/auth/onExpiry", "{jitter: 1m}")],
    ),
    (
        "auth.onExpiry.warnBefore",
        OIDC,
        &[("/auth/onExpiry", "{warnBefore: 1m}")],
    ),
    (
        "auth.onExpiry.warning",
        &[OIDC[0], ("/auth/onExpiry", "{warnBefore: 1m}")],
        &[("/auth/onExpiry/warning", "soon")],
    ),
    (
        "auth.providers[].oidc.backchannelLogout",
        OIDC,
        &[("/auth/providers/0/oidc/backchannelLogout", "Enabled")],
    ),
    (
        "routes[].fromClient.publish.authorization.anyRole[]",
        OIDC,
        &[(
            "/routes/1/fromClient/publish/authorization",
            "{anyRole: ['realm:a']}",
        )],
    ),
    (
        "routes[].fromClient.publish.authorization.groups[]",
        OIDC,
        &[(
            "/routes/1/fromClient/publish/authorization",
            "{groups: [a]}",
        )],
    ),
    (
        "routes[].fromClient.publish.authorization.scopes[]",
        OIDC,
        &[(
            "/routes/1/fromClient/publish/authorization",
            "{scopes: [a]}",
        )],
    ),
    (
        "routes[].authorization.access",
        OIDC,
        &[("/routes/0/authorization", "{access: Anonymous}")],
    ),
    (
        "routes[].authorization.anyRole[]",
        OIDC,
        &[("/routes/0/authorization", "{anyRole: ['realm:a']}")],
    ),
    (
        "routes[].authorization.groups[]",
        OIDC,
        &[("/routes/0/authorization", "{groups: [a]}")],
    ),
    (
        "routes[].authorization.scopes[]",
        OIDC,
        &[("/routes/0/authorization", "{scopes: [a]}")],
    ),
    ("replicas", &[], &[("/replicas", "5")]),
    ("paused", &[], &[("/paused", "true")]),
    ("image", &[], &[("/image", "example.com/gateway:1")]),
    ("upgrade", &[], &[("/upgrade", "OnSpecChange")]),
    (
        "nats.servers[]",
        &[],
        &[("/nats/servers", "['nats://b:4222']")],
    ),
    (
        "nats.tls.caRef.kind",
        &[],
        &[("/nats/tls/caRef/kind", "Secret")],
    ),
    (
        "nats.tls.caRef.name",
        &[],
        &[("/nats/tls/caRef/name", "two")],
    ),
    ("nats.tls.caRef.key", &[], &[("/nats/tls/caRef/key", "b")]),
    (
        "nats.tls.clientCertificateRef.name",
        &[],
        &[("/nats/tls/clientCertificateRef/name", "two")],
    ),
    (
        "nats.credentials.type",
        &[],
        &[("/nats/credentials/type", "NKey")],
    ),
    (
        "nats.credentials.secretRef.name",
        &[],
        &[("/nats/credentials/secretRef/name", "two")],
    ),
    (
        "nats.credentials.secretRef.key",
        &[],
        &[("/nats/credentials/secretRef/key", "b")],
    ),
    (
        "nats.jetStream.domain",
        &[],
        &[("/nats/jetStream", "{domain: hub}")],
    ),
    (
        "nats.jetStream.apiPrefix",
        &[],
        &[("/nats/jetStream", "{apiPrefix: js.api}")],
    ),
    (
        "websocket.pingPeriod",
        &[],
        &[("/websocket", "{pingPeriod: 20s}")],
    ),
    (
        "websocket.pongWait",
        &[],
        &[("/websocket", "{pongWait: 61s}")],
    ),
    (
        "websocket.writeWait",
        &[],
        &[("/websocket", "{writeWait: 5s}")],
    ),
    (
        "websocket.handshakeTimeout",
        &[],
        &[("/websocket", "{handshakeTimeout: 5s}")],
    ),
    (
        "websocket.maxMessageSize",
        &[],
        &[("/websocket", "{maxMessageSize: 1Mi}")],
    ),
    (
        "websocket.compression.mode",
        &[],
        &[("/websocket", "{compression: {mode: Shared}}")],
    ),
    (
        "websocket.compression.minSize",
        &[],
        &[("/websocket", "{compression: {minSize: 1Ki}}")],
    ),
    (
        "websocket.allowedOrigins[]",
        &[],
        &[("/websocket", "{allowedOrigins: [SameHost]}")],
    ),
    (
        "limits.connectionsPerPod",
        &[],
        &[("/limits", "{connectionsPerPod: 5}")],
    ),
    (
        "limits.handshakesPerSecond",
        &[],
        &[("/limits", "{handshakesPerSecond: 5}")],
    ),
    (
        "limits.perAddress.connections",
        &[],
        &[("/limits", "{perAddress: {connections: 5}}")],
    ),
    (
        "limits.perAddress.handshakesPerSecond",
        &[],
        &[("/limits", "{perAddress: {handshakesPerSecond: 5}}")],
    ),
    (
        "limits.perUser.connections",
        OIDC,
        &[("/limits", "{perUser: {connections: 5}}")],
    ),
    (
        "limits.perConnection.messagesPerSecond",
        &[],
        &[("/limits", "{perConnection: {messagesPerSecond: 5}}")],
    ),
    (
        "limits.perConnection.bytesPerSecond",
        &[],
        &[("/limits", "{perConnection: {bytesPerSecond: 64Ki}}")],
    ),
    (
        "limits.perConnection.firstMessage",
        &[],
        &[("/limits", "{perConnection: {firstMessage: 5s}}")],
    ),
    (
        "limits.outbox.bytesPerConnection",
        &[],
        &[("/limits", "{outbox: {bytesPerConnection: 2Mi}}")],
    ),
    (
        "limits.outbox.messagesPerConnection",
        &[],
        &[("/limits", "{outbox: {messagesPerConnection: 5}}")],
    ),
    (
        "limits.bytesPerPod",
        &[],
        &[("/limits", "{bytesPerPod: 512Mi}")],
    ),
    ("routes[].name", &[], &[("/routes/0/name", "other")]),
    ("routes[].path", &[], &[("/routes/0/path", "/other")]),
    ("routes[].payload", &[], &[("/routes/0/payload", "Auto")]),
    (
        "routes[].maxMessageSize",
        &[],
        &[("/routes/0/maxMessageSize", "1Mi")],
    ),
    (
        "routes[].compression.mode",
        &[],
        &[("/routes/0/compression", "{mode: Shared}")],
    ),
    (
        "routes[].compression.minSize",
        &[("/routes/0/compression", "{mode: Shared}")],
        &[("/routes/0/compression/minSize", "1Ki")],
    ),
    (
        "routes[].fromClient.type",
        &[],
        &[("/routes/0/fromClient", "{type: Reject}")],
    ),
    (
        "routes[].fromClient.publish.subject",
        &[],
        &[("/routes/1/fromClient/publish/subject", "in.other")],
    ),
    (
        "routes[].toClient[].name",
        &[],
        &[("/routes/0/toClient/0/name", "other")],
    ),
    (
        "routes[].toClient[].type",
        &[],
        &[(
            "/routes/0/toClient/0",
            "{name: core, type: Queue, queue: {stream: T, durable: d}}",
        )],
    ),
    (
        "routes[].toClient[].core.subjects[]",
        &[],
        &[("/routes/0/toClient/0/core/subjects", "[a.>]")],
    ),
    (
        "routes[].toClient[].slowConsumer.policy",
        &[("/routes/0/toClient/0/slowConsumer", "{}")],
        &[("/routes/0/toClient/0/slowConsumer/policy", "DropOldest")],
    ),
    (
        "routes[].toClient[].queue.stream",
        &[],
        &[("/routes/1/toClient/0/queue/stream", "T")],
    ),
    (
        "routes[].toClient[].queue.durable",
        &[],
        &[("/routes/1/toClient/0/queue/durable", "e")],
    ),
    (
        "routes[].toClient[].queue.filterSubjects[]",
        &[],
        &[("/routes/1/toClient/0/queue/filterSubjects", "[jobs.>]")],
    ),
    (
        "routes[].toClient[].queue.ackWait",
        &[],
        &[("/routes/1/toClient/0/queue/ackWait", "5s")],
    ),
    (
        "routes[].toClient[].queue.maxDeliver",
        &[],
        &[("/routes/1/toClient/0/queue/maxDeliver", "2")],
    ),
    (
        "routes[].toClient[].queue.maxInFlightPerClient",
        &[],
        &[("/routes/1/toClient/0/queue/maxInFlightPerClient", "2")],
    ),
    (
        "routes[].toClient[].queue.deadLetter.subject",
        &[],
        &[("/routes/1/toClient/0/queue/deadLetter/subject", "dead.b")],
    ),
    (
        "exposure.type",
        &[("/exposure/tls", "{type: None}")],
        &[("/exposure/type", "None")],
    ),
    (
        "exposure.upstream",
        &[],
        &[("/exposure/upstream", "ServiceIP")],
    ),
    (
        "exposure.controller",
        &[],
        &[("/exposure/controller", "nginx.org/ingress-controller")],
    ),
    (
        "exposure.ingress.className",
        &[],
        &[("/exposure/ingress", "{className: other}")],
    ),
    (
        "exposure.ingress.annotations",
        &[],
        &[("/exposure/ingress", "{annotations: {a: b}}")],
    ),
    (
        "exposure.httpRoute.parentRefs[].name",
        HTTP_ROUTE,
        &[("/exposure/httpRoute/parentRefs/0/name", "two")],
    ),
    (
        "exposure.httpRoute.parentRefs[].sectionName",
        HTTP_ROUTE,
        &[("/exposure/httpRoute/parentRefs/0/sectionName", "wss")],
    ),
    (
        "exposure.loadBalancer.loadBalancerClass",
        LOAD_BALANCER,
        &[(
            "/exposure/loadBalancer",
            "{loadBalancerClass: example.com/a}",
        )],
    ),
    (
        "exposure.loadBalancer.annotations",
        LOAD_BALANCER,
        &[("/exposure/loadBalancer", "{annotations: {a: b}}")],
    ),
    (
        "exposure.tls.certManager.issuerRef.kind",
        CERT_MANAGER,
        &[("/exposure/tls/certManager/issuerRef/kind", "ClusterIssuer")],
    ),
    (
        "exposure.tls.certManager.issuerRef.name",
        CERT_MANAGER,
        &[("/exposure/tls/certManager/issuerRef/name", "two")],
    ),
    (
        "scaling.type",
        SCALING,
        &[
            ("/scaling/type", "KEDA"),
            ("/scaling/keda", "{prometheus: 'http://a:9090'}"),
        ],
    ),
    (
        "scaling.minReplicas",
        SCALING,
        &[("/scaling/minReplicas", "3")],
    ),
    (
        "scaling.maxReplicas",
        SCALING,
        &[("/scaling/maxReplicas", "7")],
    ),
    (
        "scaling.metrics[].type",
        SCALING,
        &[(
            "/scaling/metrics",
            "[{type: Connections, averageValue: '600'}]",
        )],
    ),
    (
        "scaling.metrics[].averageUtilization",
        SCALING,
        &[("/scaling/metrics/0/averageUtilization", "60")],
    ),
    (
        "scaling.metrics[].averageValue",
        &[(
            "/scaling",
            "{type: HPA, maxReplicas: 5, metrics: [{type: Connections, averageValue: '600'}]}",
        )],
        &[("/scaling/metrics/0/averageValue", "'700'")],
    ),
    (
        "scaling.keda.prometheus",
        &[(
            "/scaling",
            "{type: KEDA, maxReplicas: 5, metrics: [{type: CPU, averageUtilization: 50}], \
             keda: {prometheus: 'http://a:9090'}}",
        )],
        &[("/scaling/keda/prometheus", "'http://b:9090'")],
    ),
    (
        "monitoring.metrics",
        &[],
        &[("/monitoring", "{metrics: ServiceMonitor}")],
    ),
    (
        "monitoring.rules",
        &[],
        &[("/monitoring", "{rules: Disabled}")],
    ),
    (
        "monitoring.dashboard",
        &[],
        &[("/monitoring", "{dashboard: Enabled}")],
    ),
    (
        "monitoring.labels",
        &[],
        &[("/monitoring", "{labels: {a: b}}")],
    ),
    (
        "networkPolicy.mode",
        &[],
        &[("/networkPolicy", "{mode: Enabled}")],
    ),
    (
        "networkPolicy.clientNamespaces[]",
        &[("/networkPolicy", "{mode: Enabled}")],
        &[("/networkPolicy/clientNamespaces", "[a]")],
    ),
    (
        "networkPolicy.metricsNamespaces[]",
        &[("/networkPolicy", "{mode: Enabled}")],
        &[("/networkPolicy/metricsNamespaces", "[a]")],
    ),
    (
        "podDisruptionBudget.maxUnavailable",
        &[],
        &[("/podDisruptionBudget", "{maxUnavailable: 2}")],
    ),
    (
        "podTemplate.metadata.labels",
        &[],
        &[("/podTemplate", "{metadata: {labels: {a: b}}}")],
    ),
    (
        "podTemplate.metadata.annotations",
        &[],
        &[("/podTemplate", "{metadata: {annotations: {a: b}}}")],
    ),
    (
        "podTemplate.spec",
        &[],
        &[("/podTemplate", "{spec: {nodeSelector: {a: b}}}")],
    ),
    (
        "exposure.hosts[]",
        &[],
        &[("/exposure/hosts", "[b.example.com]")],
    ),
    (
        "exposure.tls.type",
        &[],
        &[("/exposure/tls", "{type: None}")],
    ),
    (
        "exposure.tls.selfSigned.duration",
        &[],
        &[("/exposure/tls/selfSigned/duration", "200h")],
    ),
    (
        "exposure.tls.selfSigned.renewBefore",
        &[],
        &[("/exposure/tls/selfSigned/renewBefore", "20h")],
    ),
    (
        "exposure.tls.secret.name",
        SECRET,
        &[("/exposure/tls/secret/name", "two")],
    ),
    (
        "exposure.proxyReadTimeout",
        &[],
        &[("/exposure/proxyReadTimeout", "2m")],
    ),
    (
        "exposure.proxySendTimeout",
        &[],
        &[("/exposure/proxySendTimeout", "2m")],
    ),
    (
        "exposure.proxyBuffering",
        &[],
        &[("/exposure/proxyBuffering", "Enabled")],
    ),
    ("exposure.bodySize", &[], &[("/exposure/bodySize", "10m")]),
    (
        "exposure.clientBodyBufferSize",
        &[],
        &[("/exposure/clientBodyBufferSize", "1m")],
    ),
    ("exposure.affinity", &[], &[("/exposure/affinity", "None")]),
    (
        "exposure.clientAddress.type",
        PROXY_PROTOCOL,
        &[(
            "/exposure/clientAddress",
            "{type: XForwardedFor, trustedProxies: [10.0.0.0/8]}",
        )],
    ),
    (
        "exposure.clientAddress.trustedProxies[]",
        PROXY_PROTOCOL,
        &[(
            "/exposure/clientAddress",
            "{type: ProxyProtocol, trustedProxies: ['fd00::/8']}",
        )],
    ),
    (
        "exposure.status.path",
        &[],
        &[("/exposure/status", "{path: /counts}")],
    ),
    (
        "exposure.status.allow[]",
        &[],
        &[("/exposure/status", "{allow: [10.0.0.0/8]}")],
    ),
    (
        "rollout.propagation",
        &[],
        &[("/rollout", "{propagation: 7s}")],
    ),
    (
        "rollout.drain.period",
        &[],
        &[("/rollout", "{drain: {period: 7s}}")],
    ),
    (
        "rollout.drain.maxPerSecond",
        &[],
        &[("/rollout", "{drain: {maxPerSecond: 7}}")],
    ),
    (
        "rollout.drain.retryAfter.min",
        &[],
        &[("/rollout", "{drain: {retryAfter: {min: 2s}}}")],
    ),
    (
        "rollout.drain.retryAfter.max",
        &[],
        &[("/rollout", "{drain: {retryAfter: {max: 20s}}}")],
    ),
];

#[test]
fn each_leaf_of_the_spec_changes_the_gateway() {
    let base = documents(BASE).unwrap();
    for (leaf, surroundings, change) in ROWS {
        let before = changed(&base.gateways[0].value, surroundings);
        let after = changed(&before, change);
        assert_ne!(
            read(&base, &before, leaf),
            read(&base, &after, leaf),
            "{leaf} does nothing"
        );
    }
}

#[test]
fn the_table_has_each_leaf_of_the_spec() {
    let version = wsgateway_crds::v1alpha1::crd().spec.versions.remove(0);
    let root = version.schema.unwrap().open_api_v3_schema.unwrap();
    let mut leaves = BTreeSet::new();
    let spec = &root.properties.unwrap()["spec"];
    collect("", spec, &mut leaves);
    let rows: BTreeSet<_> = ROWS.iter().map(|(leaf, ..)| (*leaf).to_owned()).collect();
    let missing: Vec<_> = leaves.symmetric_difference(&rows).collect();
    assert!(
        missing.is_empty(),
        "the spec and the table differ in {missing:?}"
    );
}

fn read(base: &Documents, gateway: &Value, leaf: &str) -> Gateway {
    check(gateway, &base.referenced("default"))
        .unwrap_or_else(|reasons| panic!("{leaf}: {reasons}"))
}

fn changed(gateway: &Value, changes: Changes) -> Value {
    let mut gateway = gateway.clone();
    for (pointer, yaml) in changes {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = gateway.pointer_mut(&format!("/spec{parent}")).unwrap();
        let value: Value = serde_saphyr::from_str(yaml).unwrap();
        match parent {
            Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
            parent => parent[field] = value,
        }
    }
    gateway
}

/// Leaves, but for enums of a single word, which cannot be set to something else.
fn collect(path: &str, schema: &JSONSchemaProps, leaves: &mut BTreeSet<String>) {
    let dot = if path.is_empty() { "" } else { "." };
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        collect(&format!("{path}[]"), items, leaves);
    } else if let Some(properties) = &schema.properties {
        for (name, property) in properties {
            collect(&format!("{path}{dot}{name}"), property, leaves);
        }
    } else if schema.enum_.as_ref().is_none_or(|words| words.len() > 1) {
        leaves.insert(path.to_owned());
    }
}
