//! From what the Secrets of a `WsGateway` hold to what they shall hold: pure. The plan itself, also for the change of
//! an authority, is [`wsgateway_certificate::plan`]; here is how it lies in objects.
//!
//! | object | keys |
//! |---|---|
//! | Secret `<name>-ca` | `tls.crt`, `tls.key`: the authority that signs; `next.crt`, `next.key`: the one that will; `previous.crt`: the one that did |
//! | Secret `<name>-tls` | `tls.crt`, `tls.key`: what clients see; `ca.crt`: what they must trust |
//! | `ConfigMap` `<name>-ca` | `ca.crt`: what they must trust |
//!
//! What clients must trust follows from the first alone. The `ConfigMap` is never read: whoever may write it could
//! otherwise have clients trust others.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use k8s_openapi::ByteString;
use wsgateway_certificate::{
    Chain, Change, Facts, Fault, Kept, KeptPair, Lifetime, MakeError, Pem, Wanted,
};
use wsgateway_model::{Gateway, gateway::Tls};
use wsgateway_nginx_ingress::value::HostName;

use crate::build::Issued;

/// A Secret's data.
pub type Data = BTreeMap<String, ByteString>;

/// The keys of a Secret of type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// What clients must trust.
const TRUST: &str = "ca.crt";
const NEXT: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS: &str = "previous.crt";

/// What was found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Existing<'a> {
    /// The data of Secret `<name>-ca`, where there is one.
    pub authority: Option<&'a Data>,
    /// The data of Secret `<name>-tls`, where there is one.
    pub leaf: Option<&'a Data>,
}

/// What there shall be.
#[derive(Debug)]
pub struct Plan {
    /// The contents; those that were found where nothing was due.
    pub issued: Issued,
    /// What was due; empty where nothing was.
    pub changes: Vec<Change>,
    /// The certificate's end.
    pub not_after: SystemTime,
    /// When something will be due.
    pub due: SystemTime,
}

/// What is due for a gateway with a self-signed certificate; none for any other.
///
/// # Errors
/// [`MakeError`] where a certificate cannot be made.
pub fn plan(
    gateway: &Gateway,
    existing: Existing<'_>,
    now: SystemTime,
) -> Option<Result<Plan, MakeError>> {
    let &Tls::SelfSigned {
        duration,
        renew_before,
    } = &gateway.tls
    else {
        return None;
    };
    let (name, namespace) = (gateway.name.as_str(), gateway.namespace.as_str());
    let wanted = Wanted {
        authority: &format!("{name}.{namespace}"),
        names: names(gateway),
        lifetime: Lifetime {
            life: duration.get(),
            renew_before: renew_before.get(),
        },
    };
    Some(planned(existing, &wanted, now))
}

/// For whom the certificate is: the hosts, and the Service where there is none, or where the gateways show it
/// themselves, and so to clients inside the cluster too.
fn names(gateway: &Gateway) -> BTreeSet<String> {
    let hosts = gateway.exposure.hosts.iter().map(HostName::as_str);
    let mut names: BTreeSet<String> = hosts.map(ToOwned::to_owned).collect();
    if names.is_empty() || gateway.ends_tls() {
        let service = format!("{}.{}.svc", gateway.name, gateway.namespace);
        names.extend([
            format!("{service}.cluster.local"),
            service,
            "localhost".to_owned(),
        ]);
    }
    names
}

fn planned(
    existing: Existing<'_>,
    wanted: &Wanted<'_>,
    now: SystemTime,
) -> Result<Plan, MakeError> {
    let Existing { authority, leaf } = existing;
    let kept = Kept {
        current: authority.map(|data| kept_pair(data, CERTIFICATE, KEY)),
        next: authority
            .filter(|data| data.contains_key(NEXT))
            .map(|data| kept_pair(data, NEXT, NEXT_KEY)),
        previous: authority
            .filter(|data| data.contains_key(PREVIOUS))
            .map(|data| pem(data, PREVIOUS)),
        leaf: leaf.map(|data| kept_pair(data, CERTIFICATE, KEY)),
    };
    let plan = wsgateway_certificate::plan(kept, wanted, now)?;
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let pair = [
        (CERTIFICATE, bytes(&plan.current.certificate)),
        (KEY, bytes(&plan.current.key)),
    ];
    let next = plan.next.iter().flat_map(|next| {
        [
            (NEXT, bytes(&next.certificate)),
            (NEXT_KEY, bytes(&next.key)),
        ]
    });
    let previous = plan.previous.iter().map(|text| (PREVIOUS, bytes(text)));
    let leaf = [
        (CERTIFICATE, bytes(&plan.leaf.certificate)),
        (KEY, bytes(&plan.leaf.key)),
        (TRUST, bytes(&plan.trust)),
    ];
    Ok(Plan {
        issued: Issued {
            authority: data(pair.into_iter().chain(next).chain(previous)),
            leaf: data(leaf),
            trust: plan.trust,
        },
        changes: plan.changes,
        not_after: plan.not_after,
        due: plan.due,
    })
}

/// A key that is not there holds nothing, which is as good as damaged.
fn pem<'a>(data: &'a Data, key: &'a str) -> Pem<'a> {
    Pem {
        name: key,
        bytes: data.get(key).map_or(&[], |bytes| bytes.0.as_slice()),
    }
}

fn kept_pair<'a>(data: &'a Data, certificate: &'a str, key: &'a str) -> KeptPair<'a> {
    KeptPair {
        certificate: pem(data, certificate),
        key: pem(data, key),
    }
}

fn data<'a>(entries: impl IntoIterator<Item = (&'a str, ByteString)>) -> Data {
    let entries = entries.into_iter();
    entries
        .map(|(key, bytes)| (key.to_owned(), bytes))
        .collect()
}

/// The certificate that a proxy presents which has a Secret of this content, DER; none where there is no such.
pub fn presented(data: &Data) -> Option<Vec<u8>> {
    let bytes = data.get(CERTIFICATE)?.0.as_slice();
    let chain = Chain::read(Pem {
        name: CERTIFICATE,
        bytes,
    });
    Some(chain.ok()?.der().to_vec())
}

/// What the certificate in a Secret says that somebody else writes, the user or cert-manager, once it is sure that
/// clients of the gateway's hosts accept it.
///
/// # Errors
/// [`Fault`], whose sentence names the Secret and the key.
pub fn inspect(
    secret: &str,
    data: &Data,
    hosts: &[HostName],
    now: SystemTime,
) -> Result<Facts, Fault> {
    let of_secret = |key: &str| format!("{key} of Secret {secret}");
    let (certificate, key) = (of_secret(CERTIFICATE), of_secret(KEY));
    let bytes = |key: &str, name: &str| {
        let bytes = data.get(key).map(|bytes| bytes.0.as_slice());
        bytes.ok_or_else(|| Fault::NotFound {
            name: name.to_owned(),
        })
    };
    wsgateway_certificate::inspect(
        Pem {
            name: &certificate,
            bytes: bytes(CERTIFICATE, &certificate)?,
        },
        Pem {
            name: &key,
            bytes: bytes(KEY, &key)?,
        },
        hosts.iter().map(HostName::as_str),
        now,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wsgateway_certificate::DAY;
    use wsgateway_model::{Referenced, check};

    use super::*;

    fn gateway(exposure: &Value) -> Gateway {
        let spec = json!({
            "nats": {"servers": ["nats://nats:4222"]},
            "exposure": exposure,
            "routes": [{"name": "a", "path": "/a", "fromClient": {"type": "Echo"}}],
        });
        let manifest = json!({
            "apiVersion": "wsgateway.io/v1alpha1",
            "kind": "WsGateway",
            "metadata": {"name": "ws", "namespace": "shop"},
            "spec": spec,
        });
        check(&manifest, &Referenced::mounted()).unwrap()
    }

    fn begin() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn look(gateway: &Gateway, issued: Option<&Issued>, now: SystemTime) -> Plan {
        let existing = Existing {
            authority: issued.map(|issued| &issued.authority),
            leaf: issued.map(|issued| &issued.leaf),
        };
        let plan = plan(gateway, existing, now).unwrap().unwrap();
        let again = Existing {
            authority: Some(&plan.issued.authority),
            leaf: Some(&plan.issued.leaf),
        };
        let again = super::plan(gateway, again, now).unwrap().unwrap();
        assert_eq!((again.changes, &again.issued), (vec![], &plan.issued));
        plan
    }

    fn keys(data: &Data) -> Vec<&str> {
        data.keys().map(String::as_str).collect()
    }

    #[test]
    fn each_stage_of_an_authority_stands_in_its_secret() {
        let gateway = gateway(&json!({"hosts": ["ws.example.com"]}));
        let first = look(&gateway, None, begin());
        assert_eq!(first.changes, [Change::Issued]);
        assert_eq!(keys(&first.issued.authority), ["tls.crt", "tls.key"]);
        assert_eq!(keys(&first.issued.leaf), ["ca.crt", "tls.crt", "tls.key"]);
        assert_eq!(first.issued.leaf["ca.crt"].0, first.issued.trust.as_bytes());
        let end = begin() + 3_650 * DAY;
        let announced = look(&gateway, Some(&first.issued), end - 180 * DAY);
        assert!(announced.changes.contains(&Change::AuthorityAnnounced));
        assert_eq!(
            keys(&announced.issued.authority),
            ["next.crt", "next.key", "tls.crt", "tls.key"]
        );
        let rotated = look(&gateway, Some(&announced.issued), end - 90 * DAY);
        assert_eq!(rotated.changes, [Change::AuthorityRotated]);
        let authority = &rotated.issued.authority;
        assert_eq!(keys(authority), ["previous.crt", "tls.crt", "tls.key"]);
        assert_eq!(
            authority["previous.crt"],
            announced.issued.authority["tls.crt"]
        );
        assert_eq!(authority["tls.key"], announced.issued.authority["next.key"]);
        let retired = look(&gateway, Some(&rotated.issued), end);
        assert!(retired.changes.contains(&Change::AuthorityRetired));
        assert_eq!(keys(&retired.issued.authority), ["tls.crt", "tls.key"]);
    }

    #[test]
    fn a_secret_that_lacks_a_key_is_repaired() {
        let gateway = gateway(&json!({}));
        let first = look(&gateway, None, begin());
        let mut edited = first.issued.clone();
        edited.leaf.remove("tls.key");
        let repaired = look(&gateway, Some(&edited), begin());
        assert_eq!(repaired.changes, [Change::Repaired]);
        edited.authority.clear();
        let replaced = look(&gateway, Some(&edited), begin());
        assert_eq!(replaced.changes, [Change::AuthorityReplaced]);
    }

    #[test]
    fn it_is_for_the_hosts_or_else_for_the_service() {
        let hosts = json!({"hosts": ["ws.example.com", "*.example.org"]});
        let table = [
            (hosts, vec!["*.example.org", "ws.example.com"]),
            (
                json!({}),
                vec!["localhost", "ws.shop.svc", "ws.shop.svc.cluster.local"],
            ),
        ];
        for (exposure, expected) in table {
            let gateway = gateway(&exposure);
            let plan = look(&gateway, None, begin());
            let hosts = &gateway.exposure.hosts;
            let facts = inspect("ws-tls", &plan.issued.leaf, hosts, begin()).unwrap();
            assert_eq!(Vec::from_iter(facts.names), expected);
            assert_eq!(facts.not_after, plan.not_after);
        }
        let none = gateway(&json!({"tls": {"type": "None"}}));
        assert!(plan(&none, Existing::default(), begin()).is_none());
    }

    #[test]
    fn a_fault_names_the_secret_and_its_key() {
        let first = look(&gateway(&json!({})), None, begin());
        let host = HostName::new("ws.example.com").unwrap();
        let mut data = first.issued.leaf;
        let mut check = |remove: Option<&str>, expected: &str| {
            if let Some(key) = remove {
                data.remove(key);
            }
            let hosts = std::slice::from_ref(&host);
            let fault = inspect("mine", &data, hosts, begin()).unwrap_err();
            assert_eq!(format!("{}: {fault}", fault.reason()), expected);
        };
        check(
            None,
            "HostNotCovered: the certificate in tls.crt of Secret mine is not for host ws.example.com; \
             it is for localhost, ws.shop.svc, ws.shop.svc.cluster.local",
        );
        check(
            Some("tls.key"),
            "SecretKeyNotFound: tls.key of Secret mine does not exist",
        );
    }
}
