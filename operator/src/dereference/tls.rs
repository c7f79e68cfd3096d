//! The certificate that clients see: one that is made here, one of cert-manager, or one of the user.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::{ByteString, jiff::Timestamp};
use kube::{Client, ResourceExt, api::DynamicObject};
use serde_json::Value;
use wsgateway_model::{Gateway, gateway};

use super::{DereferenceError, Read, read};
use crate::{
    apply::Owner,
    build::{Issued, names},
    certificate::{self, Data, Existing},
    kinds::Kind,
    status::{Notice, Verdict},
    watch::{Key, Referent},
};

/// How soon a Secret is looked for again that somebody else must write: in cluster mode no watch tells of it.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// What is known of the certificate.
#[derive(Debug)]
pub struct Tls {
    /// The contents of the Secrets, where they are made here.
    pub issued: Option<Issued>,
    /// What clients should be shown, DER, where it may be read.
    pub leaf: Option<Arc<[u8]>>,
    /// Whether clients get a certificate.
    pub verdict: Verdict,
    /// When it ends.
    pub not_after: Option<SystemTime>,
    /// When to look again, though nothing changed.
    pub again: Option<Duration>,
    /// What was done to it, once that is applied.
    pub notices: Vec<Notice>,
    /// What was asked after: a change of it is a change for this `WsGateway`.
    pub referents: BTreeSet<Referent>,
}

impl Tls {
    fn new(verdict: Verdict) -> Self {
        Self {
            issued: None,
            leaf: None,
            verdict,
            not_after: None,
            again: None,
            notices: Vec::new(),
            referents: BTreeSet::new(),
        }
    }
}

/// Reads what there is, and settles what there shall be.
pub async fn tls(
    client: &Client,
    gateway: &Gateway,
    owner: &Owner,
    now: SystemTime,
) -> Result<Tls, DereferenceError> {
    match &gateway.tls {
        gateway::Tls::None => Ok(Tls::new(Verdict::yes(
            "NotAsked",
            "spec.exposure.tls.type is None: clients connect without TLS",
        ))),
        gateway::Tls::SelfSigned { .. } => self_signed(client, gateway, owner, now).await,
        gateway::Tls::CertManager { .. } => {
            let key = owner.key.sibling(&names::tls(gateway.name.as_str()));
            let mut tls = given(client, gateway, &key, now).await?;
            if tls.verdict.reason == "SecretNotFound" {
                tls.verdict = not_issued(client, owner).await?;
            }
            Ok(tls)
        }
        gateway::Tls::Secret { name, .. } => {
            let key = owner.key.sibling(name.as_str());
            given(client, gateway, &key, now).await
        }
    }
}

async fn self_signed(
    client: &Client,
    gateway: &Gateway,
    owner: &Owner,
    now: SystemTime,
) -> Result<Tls, DereferenceError> {
    let name = gateway.name.as_str();
    let keys = [names::authority(name), names::tls(name)].map(|name| owner.key.sibling(&name));
    let mut found = [None, None];
    for (place, key) in found.iter_mut().zip(&keys) {
        *place = match read(client, Kind::Secret, key).await? {
            Read::Found(secret) if is_of(&secret, owner) => Some(data(&secret)),
            // Somebody else's is not looked at: applying says so.
            Read::Found(_) | Read::Absent => None,
            Read::Forbidden(message) => {
                let mut tls = Tls::new(no_access(&owner.key, &message));
                // Nothing tells of a permission that comes.
                tls.again = Some(LOOK_AGAIN);
                return Ok(tls);
            }
        };
    }
    let [authority, leaf] = &found;
    let existing = Existing {
        authority: authority.as_ref(),
        leaf: leaf.as_ref(),
    };
    let plan = match certificate::plan(gateway, existing, now) {
        Some(Ok(plan)) => plan,
        Some(Err(error)) => {
            return Ok(Tls::new(Verdict::no(
                "CertificateNotMade",
                error.to_string(),
            )));
        }
        None => {
            return Ok(Tls::new(Verdict::unknown(
                "NotAsked",
                "no certificate is asked for",
            )));
        }
    };
    let notices = plan.changes.iter().map(|change| Notice {
        is_warning: change.is_warning(),
        reason: change.reason().to_owned(),
        message: change.sentence().to_owned(),
    });
    let until = date(plan.not_after);
    let leaf = certificate::presented(&plan.issued.leaf);
    Ok(Tls {
        issued: Some(plan.issued),
        leaf: leaf.map(Into::into),
        not_after: Some(plan.not_after),
        again: plan.due.duration_since(now).ok(),
        notices: notices.collect(),
        ..Tls::new(Verdict::yes(
            "Issued",
            format!("a certificate of its own authority, until {until}"),
        ))
    })
}

/// A Secret that somebody else writes.
async fn given(
    client: &Client,
    gateway: &Gateway,
    key: &Key,
    now: SystemTime,
) -> Result<Tls, DereferenceError> {
    let name = &key.name;
    let mut tls = match read(client, Kind::Secret, key).await? {
        Read::Found(secret) => {
            let data = data(&secret);
            Tls {
                leaf: certificate::presented(&data).map(Into::into),
                ..of_secret(gateway, name, &data, now)
            }
        }
        Read::Absent => Tls::new(Verdict::no(
            "SecretNotFound",
            format!("there is no Secret {name} in namespace {}", key.namespace),
        )),
        Read::Forbidden(message) => Tls::new(no_access(key, &message)),
    };
    if tls.not_after.is_none() {
        tls.again = Some(LOOK_AGAIN);
    }
    tls.referents.insert((Kind::Secret, key.clone()));
    Ok(tls)
}

fn of_secret(gateway: &Gateway, name: &str, data: &Data, now: SystemTime) -> Tls {
    match certificate::inspect(name, data, &gateway.exposure.hosts, now) {
        Err(fault) => Tls::new(Verdict::no(fault.reason(), fault.to_string())),
        Ok(facts) => {
            let until = date(facts.not_after);
            let (reason, soon) = if facts.expires_soon(now) {
                ("ExpiresSoon", "; nobody has renewed it")
            } else {
                ("Valid", "")
            };
            let message = format!("the certificate of Secret {name} is valid until {until}{soon}");
            Tls {
                not_after: Some(facts.not_after),
                again: facts.warn_at().duration_since(now).ok(),
                ..Tls::new(Verdict::yes(reason, message))
            }
        }
    }
}

/// What cert-manager says of the Certificate.
async fn not_issued(client: &Client, owner: &Owner) -> Result<Verdict, DereferenceError> {
    let waits = |why: &str| {
        Verdict::no(
            "CertificateNotIssued",
            format!("cert-manager has issued no certificate yet{why}"),
        )
    };
    let Ok(Read::Found(certificate)) = read(client, Kind::Certificate, &owner.key).await else {
        return Ok(waits(""));
    };
    let conditions = certificate
        .data
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some("Ready"));
    let message = ready
        .and_then(|ready| ready.get("message"))
        .and_then(Value::as_str);
    Ok(message.map_or_else(|| waits(""), |message| waits(&format!(": {message}"))))
}

/// With the binding that would mend it.
fn no_access(key: &Key, message: &str) -> Verdict {
    let namespace = &key.namespace;
    Verdict::unknown(
        "SecretAccessDenied",
        format!(
            "the operator may not read or write Secrets in namespace {namespace}; allow it by a RoleBinding there \
             to ClusterRole wsgateway-operator-secrets: {message}"
        ),
    )
}

fn is_of(secret: &DynamicObject, owner: &Owner) -> bool {
    secret
        .owner_references()
        .iter()
        .any(|reference| reference.controller == Some(true) && reference.uid == owner.uid)
}

fn data(secret: &DynamicObject) -> Data {
    let data = secret.data.get("data").cloned().unwrap_or(Value::Null);
    let secret: Option<std::collections::BTreeMap<String, ByteString>> =
        serde_json::from_value(data).ok();
    secret.unwrap_or_default()
}

/// A day is exact enough for a sentence, and does not change it with every renewal's second.
fn date(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or_default();
    time.strftime("%Y-%m-%d").to_string()
}
