use k8s_openapi::jiff::ToSpan;
use serde_json::{Value, json};
use wsgateway_crds::report::{
    CertificateRejected, FetchFailure, NatsReport, ProviderReport, Rejected, TlsReport,
};

use super::*;
use crate::{
    rollout::{Replicas, Template},
    watch::Key,
};

/// Everything is well, for three gateways.
struct Well {
    deployment: Deployment,
    pods: Vec<Arc<PodView>>,
    reports: BTreeMap<String, Result<Report, String>>,
}

fn well() -> Well {
    let names = ["a", "b", "c"];
    Well {
        deployment: deployment(3, 3),
        pods: names.map(|name| pod(name, &json!({}))).into(),
        reports: names
            .map(|name| (name.to_owned(), Ok(report("l1", 100))))
            .into(),
    }
}

fn deployment(ready: i32, updated: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"generation": 1},
        "spec": {"replicas": 3, "selector": {}, "template": {}},
        "status": {"observedGeneration": 1, "replicas": 3, "readyReplicas": ready, "availableReplicas": ready,
            "updatedReplicas": updated},
    }))
    .unwrap()
}

fn pod(name: &str, status: &Value) -> Arc<PodView> {
    let mut pod = json!({
        "metadata": {"namespace": "shop", "name": name, "uid": name},
        "spec": {"nodeName": "n"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    if !status.as_object().unwrap().is_empty() {
        pod["status"] = status.clone();
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn report(live: &str, connections: u64) -> Report {
    Report {
        version: "1".to_owned(),
        boot_hash: "b1".to_owned(),
        live_hash: live.to_owned(),
        rejected: None,
        connections,
        draining: false,
        nats: NatsReport {
            connected: true,
            reason: String::new(),
            message: String::new(),
        },
        tls: None,
        auth: Vec::new(),
    }
}

fn wanted() -> Wanted {
    let yes = || Verdict::yes("Well", "it is well");
    Wanted {
        replicas: 3,
        max_unavailable: 1,
        paused: false,
        selector: "a=b".to_owned(),
        url: Some("wss://a.example.com/ws".to_owned()),
        live_hash: "l1".to_owned(),
        paced: Some(Paced {
            template: Template::Current,
            behind: Vec::new(),
            replicas: Replicas::Wanted,
        }),
        tls: yes(),
        not_after: None,
        auth: Issuers::default(),
        exposure: Verdict::unknown("Probing", "it is being tried"),
        retired: Verdict::no("Maintained", ""),
        monitoring: yes(),
        dialect: Some("nginx.org"),
        not_expressed: Vec::new(),
    }
}

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn status_of(well: &Well, change: impl FnOnce(&mut Found<'_>)) -> WsGatewayStatus {
    let mut found = Found {
        generation: 7,
        refused: None,
        wanted: Some(wanted()),
        deployment: Some(&well.deployment),
        pods: &well.pods,
        reports: &well.reports,
        conflicts: Vec::new(),
        failures: Vec::new(),
        has_written: false,
    };
    change(&mut found);
    status(&found, &WsGatewayStatus::default(), now())
}

fn condition_of<'a>(status: &'a WsGatewayStatus, type_: &str) -> &'a Condition {
    let mut conditions = status.conditions.iter();
    conditions
        .find(|condition| condition.type_ == type_)
        .unwrap()
}

/// Checks conditions, each as `Type=Status/Reason`.
fn check(status: &WsGatewayStatus, expected: &[&str]) {
    for expected in expected {
        let (type_, _) = expected.split_once('=').unwrap();
        let Condition {
            status: holds,
            reason,
            message,
            ..
        } = condition_of(status, type_);
        assert_eq!(format!("{type_}={holds}/{reason}"), *expected, "{message}");
    }
}

fn fault(reason: &'static str) -> Fault {
    Fault {
        reason,
        message: "why".to_owned(),
    }
}

#[test]
fn all_conditions_are_there_from_the_first_visit() {
    let status = status_of(&well(), |_| {});
    let types: Vec<_> = status
        .conditions
        .iter()
        .map(|condition| &*condition.type_)
        .collect();
    assert_eq!(types, ORDER);
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(7))
    );
    check(
        &status,
        &[
            "Ready=True/Ready",
            "Accepted=True/Valid",
            "GatewayAvailable=True/AllReady",
            "ConfigPropagated=True/AllPods",
            "NatsConnected=True/Connected",
            "AuthReady=True/NotConfigured",
            "OwnershipConflict=False/NoConflict",
            "Reconciling=False/Settled",
            "Stalled=False/Progressing",
        ],
    );
    assert_eq!(status.connections, Some(300));
    assert_eq!(status.revision.unwrap().pods, Some(3));
}

#[test]
fn ready_says_what_keeps_it_from_being_true() {
    let refused = status_of(&well(), |found| {
        found.refused = Some(fault("HostConflict"));
        found.wanted = None;
    });
    check(
        &refused,
        &[
            "Ready=False/HostConflict",
            "Accepted=False/HostConflict",
            "TLSReady=Unknown/NotAccepted",
            "Stalled=True/HostConflict",
            "GatewayAvailable=True/AllReady",
        ],
    );
    let conflict = status_of(&well(), |found| {
        found.conflicts.push("it is theirs".to_owned());
    });
    check(
        &conflict,
        &[
            "Ready=False/OwnershipConflict",
            "OwnershipConflict=True/OwnershipConflict",
        ],
    );
    let failed = status_of(&well(), |found| found.failures.push(fault("AccessDenied")));
    check(
        &failed,
        &["Ready=False/AccessDenied", "Accepted=True/Valid"],
    );
    let tls = status_of(&well(), |found| {
        found.wanted.as_mut().unwrap().tls = Verdict::no("SecretNotFound", "none");
    });
    check(
        &tls,
        &[
            "Ready=False/SecretNotFound",
            "TLSReady=False/SecretNotFound",
        ],
    );
    let monitoring = status_of(&well(), |found| {
        found.wanted.as_mut().unwrap().monitoring = Verdict::no("CRDNotInstalled", "none");
    });
    check(
        &monitoring,
        &["Ready=True/Ready", "MonitoringReady=False/CRDNotInstalled"],
    );
}

#[test]
fn a_refused_pod_is_told_with_the_words_of_who_refused_it() {
    let mut well = well();
    for (ready, expected) in [
        (3, "GatewayAvailable=True/AllReady"),
        (0, "GatewayAvailable=False/PodsRefused"),
    ] {
        well.deployment = deployment(ready, 0);
        let status = well.deployment.status.as_mut().unwrap();
        status.conditions = serde_json::from_value(json!([
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "hostNetwork=true"},
        ]))
        .unwrap();
        let status = status_of(&well, |_| {});
        check(&status, &[expected]);
        let message = &condition_of(&status, "GatewayAvailable").message;
        assert!(
            message.ends_with("a pod is refused: hostNetwork=true"),
            "{message}"
        );
    }
}

#[test]
fn a_gateway_is_available_while_no_more_are_missing_than_may_be() {
    let mut well = well();
    for (ready, expected) in [
        (2, "GatewayAvailable=True/EnoughReady"),
        (1, "GatewayAvailable=False/NotEnoughReady"),
        (0, "GatewayAvailable=False/NotEnoughReady"),
    ] {
        well.deployment = deployment(ready, 3);
        check(
            &status_of(&well, |_| {}),
            &[expected, "Reconciling=True/RollingOut"],
        );
    }
    let waiting = json!({"containerStatuses": [{"state": {"waiting":
        {"reason": "ImagePullBackOff", "message": "no such image"}}}]});
    well.pods[1] = pod("b", &waiting);
    let status = status_of(&well, |_| {});
    check(
        &status,
        &[
            "GatewayAvailable=False/PodsFailing",
            "Ready=False/PodsFailing",
        ],
    );
    assert_eq!(
        condition_of(&status, "Ready").message,
        "0 of 3 gateways are ready; pod b waits: ImagePullBackOff: no such image"
    );
    let zero = status_of(&well, |found| found.wanted.as_mut().unwrap().replicas = 0);
    check(&zero, &["GatewayAvailable=True/ScaledToZero"]);
}

#[test]
fn a_configuration_has_spread_when_every_pod_says_so() {
    let mut well = well();
    well.reports.insert("b".to_owned(), Ok(report("l0", 1)));
    check(
        &status_of(&well, |_| {}),
        &[
            "ConfigPropagated=False/Propagating",
            "Reconciling=True/Propagating",
        ],
    );
    well.reports
        .insert("b".to_owned(), Err("refused".to_owned()));
    check(
        &status_of(&well, |_| {}),
        &["ConfigPropagated=Unknown/PodsSilent"],
    );
    let mut rejecting = report("l0", 1);
    rejecting.rejected = Some(Rejected {
        hash: "l1".to_owned(),
        reason: "Contradictory".to_owned(),
        message: "a is b".to_owned(),
    });
    well.reports.insert("b".to_owned(), Ok(rejecting));
    check(
        &status_of(&well, |_| {}),
        &["ConfigPropagated=False/ConfigRejected"],
    );
}

#[test]
fn nats_is_connected_when_every_gateway_says_so() {
    let mut well = well();
    let mut cut_off = report("l1", 1);
    cut_off.nats.connected = false;
    cut_off.nats.reason = "Unauthorized".to_owned();
    well.reports.insert("b".to_owned(), Ok(cut_off));
    check(
        &status_of(&well, |_| {}),
        &["NatsConnected=False/Unauthorized", "Ready=True/Ready"],
    );
    well.reports.clear();
    check(
        &status_of(&well, |_| {}),
        &["NatsConnected=Unknown/NoReport"],
    );
}

/// What a gateway says of an issuer with so many keys.
fn provider(name: &str, keys: u64) -> ProviderReport {
    ProviderReport {
        name: name.to_owned(),
        keys,
        loaded: Some(1_767_323_045),
        stale: false,
        failure: None,
    }
}

#[test]
fn keys_are_ready_when_every_gateway_has_them() {
    let failed = |mut provider: ProviderReport| {
        provider.failure = Some(FetchFailure {
            reason: "Unreachable".to_owned(),
            message: "cannot connect to sso:443".to_owned(),
        });
        provider
    };
    let stale = |provider: ProviderReport| ProviderReport {
        stale: true,
        ..failed(provider)
    };
    let status = |of_b: Vec<ProviderReport>, of_others: Vec<ProviderReport>, guard_all_routes| {
        let mut well = well();
        for (pod, said) in &mut well.reports {
            let report = said.as_mut().unwrap();
            report.auth = if pod == "b" {
                of_b.clone()
            } else {
                of_others.clone()
            };
        }
        status_of(&well, |found| {
            found.wanted.as_mut().unwrap().auth = Issuers {
                names: vec!["sso".to_owned()],
                guard_all_routes,
            };
        })
    };
    let good = || vec![provider("sso", 2)];
    for (of_b, expected, message) in [
        (
            good(),
            "AuthReady=True/KeysLoaded",
            "keys are loaded and not old: 2 of sso",
        ),
        (
            vec![failed(provider("sso", 2))],
            "AuthReady=True/KeysLoaded",
            "keys are loaded and not old: 2 of sso; pod b could not fetch them (Unreachable): cannot connect to sso:443",
        ),
        (
            vec![stale(provider("sso", 2))],
            "AuthReady=False/KeysStale",
            "provider sso: 1 of 3 gateways are with old keys, had last at 2026-01-02T03:04:05Z; pod b could not fetch \
             them (Unreachable): cannot connect to sso:443",
        ),
        (
            vec![failed(provider("sso", 0))],
            "AuthReady=False/KeysUnavailable",
            "provider sso: 1 of 3 gateways are without keys; pod b could not fetch them (Unreachable): cannot connect \
             to sso:443",
        ),
        // One that is no longer configured.
        (
            vec![provider("sso", 1), failed(provider("old", 0))],
            "AuthReady=True/KeysLoaded",
            "keys are loaded and not old: 1 of sso",
        ),
    ] {
        let status = status(of_b, good(), true);
        check(&status, &[expected, "Ready=True/Ready"]);
        assert_eq!(condition_of(&status, "AuthReady").message, message);
    }
    let nothing = || vec![failed(provider("sso", 0))];
    let nobody = status(nothing(), nothing(), true);
    check(&nobody, &["AuthReady=False/NoKeys", "Ready=False/NoKeys"]);
    let some = status(nothing(), nothing(), false);
    check(
        &some,
        &["AuthReady=False/KeysUnavailable", "Ready=True/Ready"],
    );
    let silent = status(Vec::new(), Vec::new(), true);
    check(&silent, &["AuthReady=Unknown/NoReport", "Ready=True/Ready"]);
}

#[test]
fn a_certificate_that_a_gateway_rejects_is_told() {
    let mut well = well();
    let report = well.reports.get_mut("b").unwrap().as_mut().unwrap();
    report.tls = Some(TlsReport {
        not_after: 0,
        rejected: Some(CertificateRejected {
            reason: "KeyMismatch".to_owned(),
            message: "a is not the key of b".to_owned(),
        }),
    });
    let status = status_of(&well, |_| {});
    check(&status, &["TLSReady=False/CertificateRejected"]);
    assert_eq!(
        condition_of(&status, "TLSReady").message,
        "pod b goes on with the certificate before, since a is not the key of b"
    );
}

#[test]
fn a_transition_keeps_its_time_and_connections_are_written_when_they_moved() {
    let well = well();
    let before = status_of(&well, |_| {});
    let mut again = Found {
        generation: 8,
        refused: None,
        wanted: Some(wanted()),
        deployment: Some(&well.deployment),
        pods: &well.pods,
        reports: &well.reports,
        conflicts: Vec::new(),
        failures: vec![fault("AccessDenied")],
        has_written: false,
    };
    let later = now() + 1.hour();
    let after = status(&again, &before, later);
    assert_eq!(
        condition_of(&after, "Accepted").last_transition_time.0,
        now()
    );
    assert_eq!(condition_of(&after, "Ready").last_transition_time.0, later);
    again.failures.clear();
    again.generation = 7;
    assert_eq!(status(&again, &before, later), before, "nothing happened");
    for (a, expected) in [(129_u32, 300), (131, 331), (0, 300 - 100)] {
        let mut moved = self::well();
        moved
            .reports
            .insert("a".to_owned(), Ok(report("l1", a.into())));
        let after = status_of(&moved, |_| {});
        assert_eq!(
            after.connections,
            Some(200 + i64::from(a)),
            "there is nothing to keep"
        );
        let again = Found {
            generation: 7,
            refused: None,
            wanted: Some(wanted()),
            deployment: Some(&moved.deployment),
            pods: &moved.pods,
            reports: &moved.reports,
            conflicts: Vec::new(),
            failures: Vec::new(),
            has_written: false,
        };
        assert_eq!(status(&again, &before, later).connections, Some(expected));
    }
}

#[test]
fn what_was_just_written_is_not_settled() {
    let status = status_of(&well(), |found| found.has_written = true);
    check(&status, &["Reconciling=True/Applying", "Ready=True/Ready"]);
}

#[test]
fn scaling_in_and_pausing_are_told() {
    let scaling = status_of(&well(), |found| {
        found.wanted.as_mut().unwrap().paced = Some(Paced {
            template: Template::Current,
            behind: Vec::new(),
            replicas: Replicas::OneLess(2),
        });
    });
    check(&scaling, &["Reconciling=True/ScalingIn"]);
    let paused = status_of(&well(), |found| found.wanted.as_mut().unwrap().paced = None);
    check(&paused, &["Reconciling=False/Paused", "Ready=True/Ready"]);
}

#[test]
fn who_waits_for_an_upgrade_is_told_for_whom() {
    for (behind, expected) in [
        (&[][..], "once all of these gateways are ready"),
        (&["a"], "at the last look it was that of shop/a"),
        (
            &["a", "b"],
            "at the last look it was that of shop/a, shop/b",
        ),
    ] {
        let waiting = status_of(&well(), |found| {
            found.wanted.as_mut().unwrap().paced = Some(Paced {
                template: Template::Waits,
                behind: behind.iter().map(|name| Key::new("shop", name)).collect(),
                replicas: Replicas::Wanted,
            });
        });
        check(
            &waiting,
            &["Reconciling=False/UpgradeWaits", "Ready=True/Ready"],
        );
        let reconciling = |condition: &&Condition| condition.type_ == "Reconciling";
        let condition = waiting.conditions.iter().find(reconciling).unwrap();
        assert!(condition.message.contains(expected), "{condition:?}");
    }
}

#[test]
fn users_hear_what_got_worse_and_that_it_is_well() {
    let well = well();
    let nothing = WsGatewayStatus::default();
    let ready = status_of(&well, |_| {});
    let told = |before: &WsGatewayStatus, after: &WsGatewayStatus| -> Vec<(bool, String)> {
        let notices = notices(before, after).into_iter();
        notices
            .map(|notice| (notice.is_warning, notice.reason))
            .collect()
    };
    assert_eq!(told(&nothing, &ready), [(false, "Ready".to_owned())]);
    assert_eq!(told(&ready, &ready), []);
    let conflict = status_of(&well, |found| found.conflicts.push("theirs".to_owned()));
    assert_eq!(
        told(&ready, &conflict),
        [(true, "OwnershipConflict".to_owned())]
    );
    assert_eq!(told(&conflict, &conflict), []);
    assert_eq!(told(&conflict, &ready), [(false, "Ready".to_owned())]);
}
