//! Certificates near their end: one that the operator makes is renewed, and nobody's socket closes for it; one that a user
//! gives is told of, with what is wrong.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Event, Secret},
        networking::v1::Ingress,
    },
};
use kube::{Api, runtime::watcher};
use serde_json::json;
use wsgateway_e2e::{
    certificate::{Authority, Leaf},
    cluster::{wait_for, wait_for_all},
    directory::Directory,
    program::Program,
    wait::SOON,
};

use crate::stage::{Stage, in_both_modes};

in_both_modes!(
    a_certificate_is_renewed_in_time_and_nothing_else_is_written,
    what_is_wrong_with_a_users_certificate_is_said,
);

/// How long before the end of the certificate's life it is renewed: this much of it is used. The shortest life is 1 h.
const USED: Duration = Duration::from_secs(15);

/// A Secret of a user is not watched where the whole cluster is; it is looked at every 15 s where it is of no use.
const NOTICED: Duration = Duration::from_secs(40);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn a_certificate_is_renewed_in_time_and_nothing_else_is_written(stage: Stage) {
    let spec = format!(
        "{{replicas: 1, exposure: {{tls: {{selfSigned: {{duration: 1h, renewBefore: {}s}}}}}}}}",
        60 * 60 - USED.as_secs()
    );
    stage.apply("renewed", &spec);
    stage.until("renewed", "Ready=True").await;
    let secrets: Api<Secret> = stage.namespace.api();
    let ingresses: Api<Ingress> = stage.namespace.api();
    let deployments: Api<Deployment> = stage.namespace.api();
    let first = secrets.get("renewed-tls").await.unwrap();
    let (ingress, deployment) = (
        ingresses.get("renewed").await.unwrap(),
        deployments.get("renewed").await.unwrap(),
    );
    let (old_authority, begin) = (secrets.get("renewed-ca").await.unwrap(), Instant::now());
    assert_trusted(&stage, &first).await;

    let is_new = |secret: &Secret| secret.data != first.data;
    let what = "the certificate is renewed";
    let second = wait_for(&secrets, "renewed-tls", what, USED + SOON, is_new).await;
    println!(
        "{:?}: renewed {:?} after it was ready",
        stage.mode,
        begin.elapsed()
    );
    assert_trusted(&stage, &second).await;
    let authority = secrets.get("renewed-ca").await.unwrap();
    assert_eq!(
        authority.metadata.resource_version,
        old_authority.metadata.resource_version
    );
    let events: Api<Event> = stage.namespace.api();
    wait_for_all(
        &events,
        watcher::Config::default(),
        "it is told",
        SOON,
        |events| {
            events
                .iter()
                .any(|event| event.reason.as_deref() == Some("CertificateRenewed"))
        },
    )
    .await;
    // A written Ingress would make the proxy reload, and a Deployment its pods roll.
    let now = ingresses.get("renewed").await.unwrap();
    assert_eq!(
        now.metadata.resource_version,
        ingress.metadata.resource_version
    );
    let now = deployments.get("renewed").await.unwrap();
    assert_eq!(now.metadata.generation, deployment.metadata.generation);
    let gateway = stage.until("renewed", "Ready=True").await;
    let end = gateway
        .status
        .unwrap()
        .exposure
        .unwrap()
        .certificate_not_after;
    println!("{:?}: it ends at {}", stage.mode, end.unwrap());
}

/// Whoever trusts what the `ConfigMap` holds accepts the certificate for the host.
async fn assert_trusted(stage: &Stage, secret: &Secret) {
    let maps: Api<ConfigMap> = stage.namespace.api();
    let map = maps.get("renewed-ca").await.unwrap();
    let folder = Directory::make();
    let trusted = folder.write("ca.crt", &map.data.unwrap()["ca.crt"]);
    let data = secret.data.as_ref().unwrap();
    let leaf = folder.path().join("tls.crt");
    fs::write(&leaf, &data["tls.crt"].0).unwrap();
    let output = Command::new(Program::Openssl.expect())
        .args(["verify", "-x509_strict", "-purpose", "sslserver"])
        .args(["-verify_hostname", "renewed.example.com", "-CAfile"])
        .args([&trusted, &leaf])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn what_is_wrong_with_a_users_certificate_is_said(stage: Stage) {
    let authority = Authority::make();
    let now = SystemTime::now();
    let host = "given.example.com";
    let sign =
        |host: &str, days: u32| authority.sign_for(&[host], now - 400 * DAY, now + days * DAY);
    let right = sign(host, 90);
    let mismatched = Leaf {
        key: sign(host, 90).key,
        ..right.clone()
    };
    let expired = authority.sign_for(&[host], now - 400 * DAY, now - DAY);
    let early = authority.sign_for(&[host], now + DAY, now + 90 * DAY);
    stage.apply(
        "given",
        "{replicas: 1, exposure: {tls: {type: Secret, secret: {name: mine}}}}",
    );
    stage.until("given", "TLSReady=False/SecretNotFound").await;
    for (leaf, said) in [
        (expired, "TLSReady=False/CertificateExpired"),
        (early, "TLSReady=False/CertificateNotYetValid"),
        (
            sign("other.example.com", 90),
            "TLSReady=False/HostNotCovered",
        ),
        (mismatched, "TLSReady=False/KeyMismatch"),
        (right, "TLSReady=True/Valid"),
    ] {
        give(&stage, &leaf);
        let begin = Instant::now();
        if said != "TLSReady=True/Valid" {
            look(&stage, said);
        }
        stage.until_within("given", said, NOTICED).await;
        println!("{:?}: {said} after {:?}", stage.mode, begin.elapsed());
    }
    stage.until("given", "Ready=True").await;
    // Nobody has renewed it: one more reason to look, but clients can connect.
    give(&stage, &sign(host, 5));
    look(&stage, "ExpiresSoon");
    stage
        .until_within("given", "TLSReady=True/ExpiresSoon", NOTICED)
        .await;
    stage.until("given", "Ready=True").await;
}

/// Has the operator look at once, so that the test need not wait for it each time.
fn look(stage: &Stage, why: &str) {
    let annotation = format!("test/look={}", why.replace(['=', '/'], "-"));
    let arguments = ["annotate", "--overwrite", "wsgw/given", &annotation];
    stage.namespace.kubectl(&arguments);
}

/// Writes the user's Secret.
fn give(stage: &Stage, leaf: &Leaf) {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "mine"},
        "data": {"tls.crt": bytes(&leaf.certificate), "tls.key": bytes(&leaf.key)},
    });
    stage.namespace.apply(&secret.to_string());
}
