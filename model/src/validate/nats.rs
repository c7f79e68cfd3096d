//! `spec.nats` and the Secrets that it names.

use wsgateway_crds::{
    config,
    v1alpha1::{self, CaRef, CaRefKind, CredentialsType, KeyRef, SecretRef},
};

use super::findings::Findings;
use crate::gateway::{Certificate, Content, Credentials, KeyOf, Nats, NatsTls, ReferenceKind};

pub(super) fn nats(spec: v1alpha1::Nats, findings: &mut Findings<'_>) -> Option<Nats> {
    let v1alpha1::Nats {
        servers,
        tls,
        credentials,
        jet_stream,
    } = spec;
    let v1alpha1::JetStreamApi { domain, api_prefix } = jet_stream;
    let servers = if servers.is_empty() {
        findings.nats_servers().to_vec()
    } else {
        servers
    };
    if servers.is_empty() && findings.is_mounted() {
        findings.refuse(
            "spec.nats.servers",
            "NoNatsServers",
            "must be set in a cluster where the operator has no default: no server is started there",
        );
    }
    for (index, server) in servers.iter().enumerate() {
        if let Err(message) = check_server(server) {
            findings.refuse(
                &format!("spec.nats.servers[{index}]"),
                "InvalidServer",
                message,
            );
        }
    }
    let tls = tls.map(|tls| nats_tls(tls, findings).ok_or(())).transpose();
    let credentials = credentials
        .map(|it| nats_credentials(it, findings).ok_or(()))
        .transpose();
    Some(Nats {
        servers,
        tls: tls.ok()?,
        credentials: credentials.ok()?,
        jet_stream: config::JetStreamApi { domain, api_prefix },
    })
}

/// `nats://host:port` or `tls://host:port`, without user and path: credentials are in a Secret.
///
/// # Errors
/// What it must be, as the end of a sentence that begins with its name.
pub fn check_server(server: &str) -> Result<(), &'static str> {
    const FORM: &str = "must be nats://host:port or tls://host:port";
    let (scheme, authority) = server.split_once("://").ok_or(FORM)?;
    if !matches!(scheme, "nats" | "tls") {
        return Err(FORM);
    }
    if authority.contains('@') {
        return Err("must not hold a user or password: name a Secret in spec.nats.credentials");
    }
    let (host, port) = match authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port),
        Some(_) => return Err(FORM),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_ip_v6 = host.contains(':');
    let named = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if !named && !is_ip_v6 {
        return Err(FORM);
    }
    match port.strip_prefix(':').map(str::parse::<u16>) {
        None if port.is_empty() => Ok(()),
        Some(Ok(port)) if port > 0 => Ok(()),
        _ => Err("must end with a port from 1 to 65535, or with none for 4222"),
    }
}

fn nats_tls(spec: v1alpha1::NatsTls, findings: &mut Findings<'_>) -> Option<NatsTls> {
    let v1alpha1::NatsTls {
        ca_ref,
        client_certificate_ref,
    } = spec;
    let ca = ca_ref.map(|ca_ref| authority("spec.nats.tls.caRef", &ca_ref, findings).ok_or(()));
    let ca = ca.transpose();
    let client_certificate = client_certificate_ref.map(|SecretRef { name }| {
        certificate("spec.nats.tls.clientCertificateRef", &name, findings).ok_or(())
    });
    let client_certificate = client_certificate.transpose();
    Some(NatsTls {
        ca: ca.ok()?,
        client_certificate: client_certificate.ok()?,
    })
}

/// The certificates of authorities.
pub(super) fn authority(
    path: &str,
    CaRef { kind, name, key }: &CaRef,
    findings: &mut Findings<'_>,
) -> Option<Content> {
    content(
        path,
        key_of(reference(*kind), name, key),
        CERTIFICATE,
        findings,
    )
}

/// What is referred to.
pub(super) fn reference(kind: CaRefKind) -> ReferenceKind {
    match kind {
        CaRefKind::Secret => ReferenceKind::Secret,
        CaRefKind::ConfigMap => ReferenceKind::ConfigMap,
    }
}

/// What a content is called, and words by which it is known. The form alone: whoever uses it reads the rest.
struct Form(&'static str, &'static str);

const CERTIFICATE: Form = Form("a PEM certificate", "-----BEGIN CERTIFICATE-----");
const PRIVATE_KEY: Form = Form("a PEM private key", "PRIVATE KEY-----");
const CREDS: Form = Form(
    "a .creds file with a user's JWT",
    "-----BEGIN NATS USER JWT-----",
);
const SEED: Form = Form("the nkey seed of a user, which begins with SU", "SU");

/// A Secret's key, where it holds what it should.
fn secret(
    path: &str,
    name: &str,
    key: &str,
    form: Form,
    findings: &mut Findings<'_>,
) -> Option<Content> {
    content(
        path,
        key_of(ReferenceKind::Secret, name, key),
        form,
        findings,
    )
}

/// The same of anything, whatever it holds.
fn any_secret(path: &str, name: &str, key: &str, findings: &mut Findings<'_>) -> Option<Content> {
    findings.content(path, key_of(ReferenceKind::Secret, name, key))
}

pub(super) fn key_of(kind: ReferenceKind, name: &str, key: &str) -> KeyOf {
    KeyOf {
        kind,
        name: name.to_owned(),
        key: key.to_owned(),
    }
}

fn content(
    path: &str,
    at: KeyOf,
    Form(called, words): Form,
    findings: &mut Findings<'_>,
) -> Option<Content> {
    let content = findings.content(path, at)?;
    if findings.is_mounted() || String::from_utf8_lossy(content.bytes.expose()).contains(words) {
        return Some(content);
    }
    let message = format!("{} is not {called}", content.at);
    findings.refuse(path, "UnexpectedContent", message);
    None
}

/// The two keys of a Secret of type `kubernetes.io/tls`.
pub(super) fn certificate(
    path: &str,
    name: &str,
    findings: &mut Findings<'_>,
) -> Option<Certificate> {
    // One sentence for a Secret that is missing, not one for each key.
    let chain = secret(path, name, "tls.crt", CERTIFICATE, findings)?;
    let key = secret(path, name, "tls.key", PRIVATE_KEY, findings)?;
    Some(Certificate { chain, key })
}

fn nats_credentials(
    spec: v1alpha1::Credentials,
    findings: &mut Findings<'_>,
) -> Option<Credentials> {
    let v1alpha1::Credentials {
        type_,
        secret_ref: KeyRef { name, key },
    } = spec;
    let path = "spec.nats.credentials.secretRef";
    let key = key.unwrap_or_default();
    match type_ {
        CredentialsType::Creds => {
            secret(path, &name, &key, CREDS, findings).map(Credentials::Creds)
        }
        CredentialsType::NKey => secret(path, &name, &key, SEED, findings).map(Credentials::NKey),
        CredentialsType::Token => any_secret(path, &name, &key, findings).map(Credentials::Token),
        CredentialsType::UserPassword => {
            let user = any_secret(path, &name, "username", findings)?;
            let password = any_secret(path, &name, "password", findings)?;
            Some(Credentials::UserPassword { user, password })
        }
    }
}
