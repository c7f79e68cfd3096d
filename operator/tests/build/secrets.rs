//! No value of a Secret that a user names reaches an object, a text that is printed, or a line of the configuration: they
//! are named, mounted, and read by the gateway alone.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;

/// What every value holds that must not show.
const MARK: &str = "hush7f3a";

/// Everything that may be secret at once; `CREDENTIALS` stands for one kind after the other.
const MANIFEST: &str = r#"
apiVersion: wsgateway.io/v1alpha1
kind: WsGateway
metadata: {name: notifications, namespace: shop}
spec:
  nats:
    servers: ["tls://nats.example.com:4222"]
    tls: {caRef: {kind: ConfigMap, name: ca}, clientCertificateRef: {name: pair}}
    credentials: CREDENTIALS
  auth:
    providers:
      - name: sso
        type: OIDC
        oidc: {issuer: "https://sso.example.com", audiences: [a], caRef: {name: ca}}
      - name: jobs
        type: HMAC
        hmac: {issuer: jobs, audiences: [a], algorithm: HS256, secretRef: {name: values, key: secret}}
  routes: [{name: a, path: /a}]
  exposure: {type: LoadBalancer, hosts: [a.example.com], tls: {type: Secret, secret: {name: pair}}}
  monitoring: {metrics: PodMonitor, rules: Enabled, dashboard: Enabled}
  networkPolicy: {mode: Enabled}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ca, namespace: shop}
data: {ca.crt: "-----BEGIN CERTIFICATE----- hush7f3a"}
---
apiVersion: v1
kind: Secret
metadata: {name: pair, namespace: shop}
stringData: {tls.crt: "-----BEGIN CERTIFICATE----- hush7f3a", tls.key: "-----BEGIN PRIVATE KEY----- hush7f3a"}
---
apiVersion: v1
kind: Secret
metadata: {name: values, namespace: shop}
stringData:
  creds: "-----BEGIN NATS USER JWT----- hush7f3a"
  seed: SUhush7f3a
  username: hush7f3a-user
  password: hush7f3a-password
  token: hush7f3a-token
  secret: hush7f3a-hush7f3a-hush7f3a-hush7f3a-hush7f3a
"#;

#[test]
fn no_value_of_a_secret_reaches_an_object_or_a_text() {
    for credentials in [
        "{type: Creds, secretRef: {name: values, key: creds}}",
        "{type: NKey, secretRef: {name: values, key: seed}}",
        "{type: UserPassword, secretRef: {name: values}}",
        "{type: Token, secretRef: {name: values, key: token}}",
    ] {
        let text = MANIFEST.replace("CREDENTIALS", credentials);
        let documents = wsgateway_model::documents(&text).unwrap();
        let gateway = &documents.gateways[0];
        let referenced = &documents.referenced("shop");
        // The values must have been seen, or that they do not show proves nothing.
        assert!(
            referenced.secrets["values"]
                .values()
                .all(|value| shows(value.expose()))
        );
        let gateway = wsgateway_model::check(&gateway.value, referenced)
            .unwrap_or_else(|reasons| panic!("{credentials}: {reasons}"));
        let optional = Kind::ALL.into_iter().filter(|kind| kind.is_optional());
        let desired = build(&gateway, &serving(optional, behind(Front::Service)));
        let texts = [
            shown(&gateway, &desired),
            format!("{gateway:?}"),
            format!("{desired:?}"),
        ];
        for text in &texts {
            assert!(!shows(text.as_bytes()), "{credentials}: {text}");
        }
        // They are named instead, and mounted for the gateway's group alone.
        let deployment = serde_json::to_string(&desired.deployment).unwrap();
        for named in [
            "\"name\":\"values\"",
            "\"name\":\"pair\"",
            "\"defaultMode\":288",
        ] {
            assert!(deployment.contains(named), "{credentials}: {deployment}");
        }
        let container = &desired
            .deployment
            .spec
            .as_ref()
            .unwrap()
            .template
            .spec
            .as_ref()
            .unwrap()
            .containers[0];
        assert!(container.env.is_none() && container.env_from.is_none());
    }
}

/// As it is, or in base64 whatever stands before it.
fn shows(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let inner = |padding: &str| {
        // The characters of base64 that depend on the mark alone.
        let encoded = STANDARD.encode(format!("{padding}{MARK}"));
        let from = (padding.len() * 8).div_ceil(6);
        encoded[from..encoded.len() - 4].to_owned()
    };
    text.contains(MARK)
        || ["", "x", "xx"]
            .iter()
            .any(|padding| text.contains(&inner(padding)))
}
