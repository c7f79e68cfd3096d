use std::sync::Arc;

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use super::*;
use crate::{DAY, LEAF};

const YEAR: Duration = Duration::from_secs(365 * DAY.as_secs());

fn begin() -> SystemTime {
    SystemTime::UNIX_EPOCH + 20_000 * DAY
}

/// What stands in the cluster between two looks.
#[derive(Debug, Clone, Default, PartialEq)]
struct Stored {
    current: Option<Pair>,
    next: Option<Pair>,
    previous: Option<String>,
    leaf: Option<Pair>,
    trust: String,
}

/// A `WsGateway` with its stored objects.
struct Gateway {
    stored: Stored,
    names: Vec<&'static str>,
    lifetime: Lifetime,
}

fn pem(bytes: &str) -> Pem<'_> {
    Pem {
        name: "stored",
        bytes: bytes.as_bytes(),
    }
}

fn kept_pair(pair: &Pair) -> KeptPair<'_> {
    KeptPair {
        certificate: pem(&pair.certificate),
        key: pem(&pair.key),
    }
}

impl Gateway {
    fn new() -> Self {
        Self {
            stored: Stored::default(),
            names: vec!["ws.example.com", "*.example.org"],
            lifetime: LEAF,
        }
    }

    /// One look, stored; and a second one, which must find nothing to do. Clients must accept the result.
    fn look(&mut self, now: SystemTime) -> Plan {
        let planned = self.plan(now);
        self.stored = stored(&planned);
        let again = self.plan(now);
        assert_eq!(again.changes, []);
        assert_eq!(stored(&again), self.stored);
        assert_eq!(
            (again.due, again.not_after),
            (planned.due, planned.not_after)
        );
        assert!(planned.due > now, "{:?}", planned.changes);
        verify(&planned.leaf, &planned.trust, "ws.example.com", now).unwrap();
        verify(&planned.leaf, &planned.trust, "a.example.org", now).unwrap();
        planned
    }

    fn plan(&self, now: SystemTime) -> Plan {
        let kept = Kept {
            current: self.stored.current.as_ref().map(kept_pair),
            next: self.stored.next.as_ref().map(kept_pair),
            previous: self.stored.previous.as_deref().map(pem),
            leaf: self.stored.leaf.as_ref().map(kept_pair),
        };
        let wanted = Wanted {
            authority: "ws.default",
            names: self.names.iter().map(|&name| name.to_owned()).collect(),
            lifetime: self.lifetime,
        };
        plan(kept, &wanted, now).unwrap()
    }
}

fn stored(plan: &Plan) -> Stored {
    Stored {
        current: Some(plan.current.clone()),
        next: plan.next.clone(),
        previous: plan.previous.clone(),
        leaf: Some(plan.leaf.clone()),
        trust: plan.trust.clone(),
    }
}

/// As a client does it that trusts nothing else.
fn verify(leaf: &Pair, trust: &str, host: &str, now: SystemTime) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(trust.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let der = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = UnixTime::since_unix_epoch(now);
    verifier.verify_server_cert(&der, &[], &host, &[], now)?;
    Ok(())
}

fn end_of_authority(gateway: &Gateway) -> SystemTime {
    let current = gateway.stored.current.as_ref().unwrap();
    Chain::read(pem(&current.certificate)).unwrap().not_after
}

#[test]
fn it_is_issued_once_and_renewed_at_two_thirds() {
    let mut gateway = Gateway::new();
    let first = gateway.look(begin());
    assert_eq!(first.changes, [Change::Issued]);
    assert_eq!(first.not_after, begin() + 90 * DAY);
    assert_eq!(first.due, begin() + 60 * DAY);
    assert_eq!(end_of_authority(&gateway), begin() + 10 * YEAR);
    let (before, behind) = (begin() - CLOCK_SKEW, begin() - 2 * CLOCK_SKEW);
    verify(&first.leaf, &first.trust, "ws.example.com", before).unwrap();
    verify(&first.leaf, &first.trust, "ws.example.com", behind).unwrap_err();
    verify(&first.leaf, &first.trust, "example.com", begin()).unwrap_err();

    let kept = gateway.look(first.due - Duration::from_secs(1));
    assert_eq!(kept.changes, []);
    assert_eq!(kept.leaf, first.leaf);
    let renewed = gateway.look(first.due);
    assert_eq!(renewed.changes, [Change::Renewed]);
    assert_eq!(renewed.not_after, first.due + 90 * DAY);
    assert_eq!(renewed.trust, first.trust);
    let late = gateway.look(renewed.not_after + YEAR);
    assert_eq!(late.changes, [Change::Renewed]);
}

#[test]
fn what_the_user_changes_is_issued_anew_by_the_same_authority() {
    let mut gateway = Gateway::new();
    let now = begin();
    let first = gateway.look(now);
    gateway.names.push("third.example.com");
    let named = gateway.look(now + DAY);
    assert_eq!(named.changes, [Change::NamesChanged]);
    gateway.lifetime.life = 30 * DAY;
    gateway.lifetime.renew_before = 10 * DAY;
    let shorter = gateway.look(now + 2 * DAY);
    assert_eq!(shorter.changes, [Change::DurationChanged]);
    assert_eq!(shorter.not_after, now + 32 * DAY);
    gateway.lifetime.renew_before = 20 * DAY;
    let earlier = gateway.look(now + 3 * DAY);
    assert_eq!((earlier.changes, earlier.due), (vec![], now + 12 * DAY));
    assert_eq!(gateway.stored.trust, first.trust);
}

#[test]
fn what_somebody_damages_or_edits_is_replaced() {
    let now = begin() + DAY;
    let other = {
        let mut other = Gateway::new();
        other.look(begin());
        other.stored
    };
    let (foreign, foreign_leaf) = (other.current.unwrap(), other.leaf.unwrap());
    let replaced = &[Change::AuthorityReplaced][..];
    let damage = |pair: &mut Option<Pair>, certificate: Option<&str>, key: Option<&str>| {
        let pair = pair.as_mut().unwrap();
        pair.certificate = certificate.unwrap_or(&pair.certificate).to_owned();
        pair.key = key.unwrap_or(&pair.key).to_owned();
    };
    let check = |what: &str, expected: &[Change], change: &dyn Fn(&mut Stored)| {
        let mut gateway = Gateway::new();
        let before = gateway.look(begin());
        change(&mut gateway.stored);
        let after = gateway.look(now);
        assert_eq!(after.changes, expected, "{what}");
        let is_trust_kept = !expected.contains(&Change::AuthorityReplaced);
        assert_eq!(before.trust == after.trust, is_trust_kept, "{what}");
        assert_ne!(before.leaf, after.leaf, "{what}");
    };
    check("no leaf", &[Change::Issued], &|stored| stored.leaf = None);
    check("garbage", &[Change::Repaired], &|stored| {
        damage(&mut stored.leaf, Some("garbage"), None);
    });
    check("no key", &[Change::Repaired], &|stored| {
        damage(&mut stored.leaf, None, Some(""));
    });
    check("another key", &[Change::Repaired], &|stored| {
        damage(&mut stored.leaf, None, Some(&foreign_leaf.key));
    });
    check("a foreign leaf", &[Change::Repaired], &|stored| {
        stored.leaf = Some(foreign_leaf.clone());
    });
    check("the authority as leaf", &[Change::Repaired], &|stored| {
        stored.leaf = stored.current.clone();
    });
    check("a chain", &[Change::Repaired], &|stored| {
        let chain = stored.leaf.as_ref().unwrap().certificate.repeat(2);
        damage(&mut stored.leaf, Some(&chain), None);
    });
    check("no authority", replaced, &|stored| stored.current = None);
    check("garbage as authority", replaced, &|stored| {
        damage(&mut stored.current, Some("garbage"), None);
    });
    check("another key of the authority", replaced, &|stored| {
        damage(&mut stored.current, None, Some(&foreign.key));
    });
    check("a leaf as authority", replaced, &|stored| {
        stored.current = stored.leaf.clone();
    });
    check(
        "nothing but the leaf's names",
        &[Change::Issued],
        &|stored| {
            *stored = Stored {
                current: stored.current.clone(),
                ..Stored::default()
            };
        },
    );
}

#[test]
fn an_authority_is_followed_by_one_that_clients_trust_already() {
    let mut gateway = Gateway::new();
    gateway.look(begin());
    let end = end_of_authority(&gateway);
    let before = gateway.look(end - 181 * DAY);
    assert_eq!(
        (before.changes, before.due),
        (vec![Change::Renewed], end - 180 * DAY)
    );

    let announced = gateway.look(end - 180 * DAY);
    assert_eq!(announced.changes, [Change::AuthorityAnnounced]);
    assert_eq!(announced.leaf, before.leaf);
    assert_eq!(announced.trust.matches("BEGIN").count(), 2);
    assert!(announced.trust.starts_with(&before.trust));
    gateway.look(end - 121 * DAY);
    let just_before = gateway.look(end - 90 * DAY - Duration::from_secs(1));
    verify(
        &just_before.leaf,
        &before.trust,
        "ws.example.com",
        begin() + 3_559 * DAY,
    )
    .unwrap();

    let rotated = gateway.look(end - 90 * DAY);
    assert_eq!(rotated.changes, [Change::AuthorityRotated]);
    assert_eq!(end_of_authority(&gateway), end - 180 * DAY + 10 * YEAR);
    let now = end - 90 * DAY;
    verify(&rotated.leaf, &announced.trust, "ws.example.com", now).unwrap();
    verify(&just_before.leaf, &rotated.trust, "ws.example.com", now).unwrap();
    verify(&rotated.leaf, &before.trust, "ws.example.com", now).unwrap_err();

    gateway.look(end - 30 * DAY);
    let retired = gateway.look(end);
    assert_eq!(retired.changes, [Change::AuthorityRetired]);
    assert_eq!(retired.trust.matches("BEGIN").count(), 1);
    verify(&retired.leaf, &announced.trust, "ws.example.com", end).unwrap();
}

#[test]
fn over_decades_a_client_that_reads_the_trust_once_a_leafs_lifetime_never_refuses() {
    let mut gateway = Gateway::new();
    let mut plan = gateway.look(begin());
    let mut now = begin();
    let mut trusts = vec![(now, plan.trust.clone())];
    let mut changes: Vec<Change> = Vec::new();
    while now < begin() + 32 * YEAR {
        now = plan.due;
        let last = plan;
        plan = gateway.look(now);
        assert!(plan.not_after <= end_of_authority(&gateway));
        changes.extend(
            plan.changes
                .iter()
                .filter(|change| **change != Change::Renewed),
        );
        trusts.push((now, plan.trust.clone()));
        // What was read just before the last lifetime began.
        let (_, oldest) = trusts
            .iter()
            .rfind(|(at, _)| *at + LEAF.life <= now)
            .unwrap_or(&trusts[0]);
        verify(&plan.leaf, oldest, "ws.example.com", now).unwrap();
        verify(&last.leaf, &plan.trust, "ws.example.com", now).unwrap();
    }
    let round = [
        Change::AuthorityAnnounced,
        Change::AuthorityRotated,
        Change::AuthorityRetired,
    ];
    assert_eq!(changes, round.repeat(3));
}

#[test]
fn who_comes_late_halves_what_is_left() {
    let from_end = |gateway: &Gateway, before| end_of_authority(gateway) - before;
    let mut gateway = Gateway::new();
    gateway.look(begin());
    let end = end_of_authority(&gateway);
    let announced = gateway.look(from_end(&gateway, 10 * DAY));
    assert_eq!(
        announced.changes,
        [Change::AuthorityAnnounced, Change::Renewed]
    );
    assert_eq!(announced.not_after, end);
    assert_eq!(announced.due, end - 5 * DAY);
    let rotated = gateway.look(end - 5 * DAY);
    assert_eq!(rotated.changes, [Change::AuthorityRotated]);
    assert_eq!(rotated.not_after, end + 85 * DAY);

    // The announcement was made, and then nobody came.
    let mut gateway = Gateway::new();
    gateway.look(begin());
    let announced = gateway.look(end - 180 * DAY);
    let rotated = gateway.look(end + YEAR);
    assert_eq!(rotated.changes, [Change::AuthorityRotated]);
    verify(
        &rotated.leaf,
        &announced.trust,
        "ws.example.com",
        end + YEAR,
    )
    .unwrap();

    // Nobody came at all.
    let mut gateway = Gateway::new();
    gateway.look(begin());
    let replaced = gateway.look(end);
    assert_eq!(replaced.changes, [Change::AuthorityReplaced]);
    assert_eq!(replaced.trust.matches("BEGIN").count(), 1);
}

#[test]
fn damage_in_the_midst_of_a_change_does_no_more_than_it_must() {
    let announced = || {
        let mut gateway = Gateway::new();
        gateway.look(begin());
        let end = end_of_authority(&gateway);
        gateway.look(end - 180 * DAY);
        (gateway, end)
    };
    // Without the one that signs, the announced one does.
    let (mut gateway, end) = announced();
    let trust = gateway.stored.trust.clone();
    gateway.stored.current.as_mut().unwrap().key = "lost".to_owned();
    let plan = gateway.look(end - 170 * DAY);
    assert_eq!(plan.changes, [Change::AuthorityRotated]);
    verify(&plan.leaf, &trust, "ws.example.com", end - 170 * DAY).unwrap();
    // Without the announced one, another is announced, and has half of what is left.
    let (mut gateway, end) = announced();
    gateway.stored.next.as_mut().unwrap().certificate = "lost".to_owned();
    let plan = gateway.look(end - 160 * DAY);
    assert_eq!(plan.changes[0], Change::AuthorityAnnounced);
    assert_eq!(plan.due, end - 120 * DAY);
    assert_eq!(gateway.look(plan.due).due, end - 80 * DAY);
    // A leaf of the longest life leaves the authority most of its own.
    let mut gateway = Gateway::new();
    gateway.lifetime = Lifetime {
        life: 825 * DAY,
        renew_before: 275 * DAY,
    };
    let first = gateway.look(begin());
    assert_eq!(
        (first.changes, first.due),
        (vec![Change::Issued], begin() + 550 * DAY)
    );
}

#[test]
fn no_key_shows_in_what_a_log_would_print() {
    let mut gateway = Gateway::new();
    let plan = gateway.look(begin());
    let pair = gateway.stored.current.as_ref().unwrap();
    for shown in [format!("{plan:?}"), format!("{:?}", kept_pair(pair))] {
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
