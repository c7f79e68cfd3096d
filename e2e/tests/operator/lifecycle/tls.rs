//! The certificates that clients may get, one after the other.

use std::time::{Duration, Instant};

use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use serde_json::json;
use wsgateway_e2e::{certificate::Authority, cluster::Optional};

use super::{await_presence, is_there};
use crate::stage::{Stage, in_both_modes};

in_both_modes!(one_certificate_follows_another);

/// In cluster mode no watch tells of a Secret: it is looked for every quarter of a minute.
const SECRET_SEEN: Duration = Duration::from_secs(40);

const OWN: [(&str, &str); 3] = [
    ("secrets", "certs-ca"),
    ("secrets", "certs-tls"),
    ("configmaps", "certs-ca"),
];

async fn one_certificate_follows_another(stage: Stage) {
    stage
        .namespace
        .cluster()
        .install_optional(&[Optional::CertManager]);
    let apply = |tls: &str| {
        let spec = format!("{{replicas: 1, exposure: {{tls: {tls}}}}}");
        stage.apply("certs", &spec);
    };
    apply("{type: SelfSigned}");
    let gateway = stage.until("certs", "TLSReady=True/Issued").await;
    let exposure = gateway.status.unwrap().exposure.unwrap();
    assert!(exposure.certificate_not_after.is_some());
    for (plural, name) in OWN {
        assert!(is_there(&stage, plural, name).await, "{plural}/{name}");
    }

    apply("{type: Secret, secret: {name: mine}}");
    stage.until("certs", "TLSReady=False/SecretNotFound").await;
    stage.until("certs", "Ready=False/SecretNotFound").await;
    for (plural, name) in OWN {
        await_presence(&stage, plural, name, false).await;
    }
    let leaf = Authority::make().sign(&["certs.example.com"]);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "mine"},
        "stringData": {"tls.crt": leaf.certificate, "tls.key": leaf.key},
    });
    stage.namespace.apply(&secret.to_string());
    let begin = Instant::now();
    stage
        .until_within("certs", "TLSReady=True/Valid", SECRET_SEEN)
        .await;
    println!(
        "a Secret that was missing is found {:?} after it came, in {:?} mode",
        begin.elapsed(),
        stage.mode
    );
    stage.until("certs", "Ready=True").await;

    apply("{type: CertManager, certManager: {issuerRef: {name: ours}}}");
    stage
        .until("certs", "TLSReady=False/CertificateNotIssued")
        .await;
    assert!(is_there(&stage, "certificates", "certs").await);
    assert!(is_there(&stage, "secrets", "mine").await);

    apply("{type: None}");
    let gateway = stage.until("certs", "TLSReady=True/NotAsked").await;
    assert_eq!(
        gateway.status.unwrap().url.as_deref(),
        Some("ws://certs.example.com/ws")
    );
    await_presence(&stage, "certificates", "certs", false).await;
    let ingresses: Api<Ingress> = stage.namespace.api();
    assert!(
        ingresses
            .get("certs")
            .await
            .unwrap()
            .spec
            .unwrap()
            .tls
            .is_none()
    );

    apply("{type: SelfSigned}");
    stage.until("certs", "TLSReady=True/Issued").await;
    for (plural, name) in OWN {
        assert!(is_there(&stage, plural, name).await, "{plural}/{name}");
    }
}
