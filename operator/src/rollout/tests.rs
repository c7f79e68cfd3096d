use serde_json::json;

use super::*;

/// A Deployment as the operator renders it.
fn rendered(image: &str, revision: &str, replicas: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "chat"},
        "spec": {"replicas": replicas, "selector": {}, "template": {
            "metadata": {"labels": {"wsgateway.io/boot": revision}},
            "spec": {"containers": [{"name": "gateway", "image": image}]},
        }},
    }))
    .unwrap()
}

fn wanted(generation: i64, replicas: i32, upgrade: Upgrade) -> Wanted<'static> {
    Wanted {
        generation,
        image: None,
        replicas,
        upgrade,
    }
}

/// The Deployment once all its pods are there and available.
fn settled(mut deployment: Deployment) -> Deployment {
    let replicas = wanted_replicas(&deployment);
    deployment.metadata.generation = Some(1);
    deployment.status = serde_json::from_value(json!({
        "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas,
        "readyReplicas": replicas,
    }))
    .unwrap();
    deployment
}

fn running(deployment: &Deployment) -> Running<'_> {
    Running {
        deployment: Some(deployment),
        terminating: 0,
        alive: 0,
        has_boot: true,
    }
}

fn first() -> Deployment {
    let mut desired = rendered("gateway:1", "r1", 3);
    let nothing = Running {
        deployment: None,
        terminating: 0,
        alive: 0,
        has_boot: false,
    };
    let paced = pace(
        &mut desired,
        &wanted(1, 3, Upgrade::Automatic),
        &nothing,
        || panic!("there is nothing to upgrade"),
    );
    assert_eq!(paced.template, Template::FromSpec);
    settled(desired)
}

#[test]
fn a_template_changes_by_the_spec_at_once_and_by_an_operator_in_turn() {
    use Template::*;
    use Upgrade::*;
    let same = ("gateway:1", "r1");
    let image = ("gateway:2", "r1");
    let template = ("gateway:2", "r2");
    for (change, generation, upgrade, turn, expected) in [
        (same, 1, Automatic, true, Current),
        // Live fields and replicas change the generation, and no template.
        (same, 2, Automatic, true, Current),
        // A newer operator: another image, another template.
        (image, 1, Automatic, true, Upgraded),
        (image, 1, Automatic, false, Waits),
        (image, 1, OnSpecChange, true, Held),
        (template, 1, Automatic, true, Upgraded),
        (template, 1, Automatic, false, Waits),
        (template, 1, OnSpecChange, true, Held),
        // The spec changes a live field under a newer operator: the image waits on.
        (image, 2, OnSpecChange, true, Held),
        // The spec changes the template: the newer operator's comes along.
        (template, 2, OnSpecChange, true, FromSpec),
        (template, 2, Automatic, false, FromSpec),
    ] {
        let before = first();
        let mut desired = rendered(change.0, change.1, 3);
        let paced = pace(
            &mut desired,
            &wanted(generation, 3, upgrade),
            &running(&before),
            || turn,
        );
        let case = format!("{change:?} at {generation}, {upgrade:?}");
        assert_eq!(paced.template, expected, "{case}");
        let kept = expected.is_old() || expected == Current;
        let in_force = if kept { "gateway:1" } else { change.0 };
        assert_eq!(image_of(&desired), Some(in_force), "{case}");
        // What was settled is settled: asked again, nothing changes.
        let after = settled(desired.clone());
        let mut again = rendered(change.0, change.1, 3);
        let paced = pace(
            &mut again,
            &wanted(generation, 3, upgrade),
            &running(&after),
            || false,
        );
        assert_eq!(
            paced.template,
            if expected.is_old() { expected } else { Current }
        );
        assert_eq!(again, desired, "{case}");
    }
}

#[test]
fn what_an_operator_held_back_stays_back_when_a_live_field_changes_later() {
    // The newer operator's inputs differ, since it renders otherwise; it notes them while it holds back.
    let before = first();
    let mut held = rendered("gateway:2", "r2", 3);
    pace(
        &mut held,
        &wanted(1, 3, Upgrade::OnSpecChange),
        &running(&before),
        || true,
    );
    let held = settled(held);
    let mut desired = rendered("gateway:2", "r2", 3);
    let paced = pace(
        &mut desired,
        &wanted(2, 3, Upgrade::OnSpecChange),
        &running(&held),
        || true,
    );
    assert_eq!(paced.template, Template::Held);
    assert_eq!(image_of(&desired), Some("gateway:1"));
}

#[test]
fn an_upgrade_waits_for_gateways_that_are_not_ready_and_holds_its_turn_until_they_are() {
    let mut before = first();
    before.status.as_mut().unwrap().available_replicas = Some(2);
    let mut desired = rendered("gateway:2", "r1", 3);
    let asked = wanted(1, 3, Upgrade::Automatic);
    let paced = pace(&mut desired, &asked, &running(&before), || true);
    assert_eq!(paced.template, Template::Waits);

    let before = first();
    let mut desired = rendered("gateway:2", "r1", 3);
    pace(&mut desired, &asked, &running(&before), || true);
    assert!(
        is_upgrading(&desired),
        "nothing of it has been observed yet"
    );
    assert!(!is_upgrading(&settled(desired)));
    assert!(!is_upgrading(&first()));
}

#[test]
fn what_an_upgrade_broke_another_operator_mends() {
    let mut broken = rendered("gateway:2", "r1", 3);
    let asked = wanted(1, 3, Upgrade::Automatic);
    pace(&mut broken, &asked, &running(&first()), || true);
    assert!(is_upgrading(&broken));
    // The operator before, and a third one.
    for (image, turn, expected) in [
        ("gateway:1", true, Template::Upgraded),
        ("gateway:3", true, Template::Upgraded),
        ("gateway:3", false, Template::Waits),
    ] {
        let mut desired = rendered(image, "r1", 3);
        let paced = pace(&mut desired, &asked, &running(&broken), || turn);
        assert_eq!(paced.template, expected);
        assert!(is_upgrading(&desired), "it has its turn until it is ready");
    }
}

#[test]
fn gateways_that_never_came_up_take_a_newer_template_and_no_turn() {
    let stuck = |ready: i32| {
        let mut stuck = first();
        let status = stuck.status.as_mut().unwrap();
        status.available_replicas = None;
        status.ready_replicas = Some(ready);
        let condition = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
        status.conditions = serde_json::from_value(condition).unwrap();
        stuck
    };
    for (ready, upgrade, expected) in [
        (0, Upgrade::Automatic, Template::Rescued),
        (1, Upgrade::Automatic, Template::Waits),
        (0, Upgrade::OnSpecChange, Template::Held),
    ] {
        let before = stuck(ready);
        let mut desired = rendered("gateway:2", "r1", 3);
        let no_turn = || panic!("no turn should be taken");
        let paced = pace(
            &mut desired,
            &wanted(1, 3, upgrade),
            &running(&before),
            no_turn,
        );
        assert_eq!(paced.template, expected);
        assert!(!is_upgrading(&desired));
    }
}

#[test]
fn a_template_without_its_boot_configuration_is_not_kept() {
    let before = first();
    let mut desired = rendered("gateway:2", "r2", 3);
    let mut running = running(&before);
    running.has_boot = false;
    let paced = pace(
        &mut desired,
        &wanted(1, 3, Upgrade::OnSpecChange),
        &running,
        || true,
    );
    assert_eq!(paced.template, Template::FromSpec);
}

#[test]
fn a_rollout_that_cannot_end_does_not_keep_what_is_not_wanted() {
    let timed_out =
        json!([{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "status": "False"}]);
    for (ready, conditions, expected) in [
        (3, json!([]), Replicas::Hold(3)),
        (3, timed_out, Replicas::OneLess(2)),
        (0, json!([]), Replicas::OneLess(2)),
    ] {
        let mut before = first();
        let status = before.status.as_mut().unwrap();
        status.updated_replicas = Some(1);
        status.ready_replicas = Some(ready);
        status.conditions = serde_json::from_value(conditions).unwrap();
        let mut running = running(&before);
        // The newest one, which is never ready, is one more.
        running.alive = 4;
        let mut desired = rendered("gateway:1", "r1", 1);
        let asked = wanted(1, 1, Upgrade::Automatic);
        let paced = pace(&mut desired, &asked, &running, || true);
        assert_eq!(paced.replicas, expected);
    }
}

#[test]
fn replicas_rise_at_once_and_fall_one_by_one() {
    use Replicas::*;
    for (now, wanted_now, terminating, alive, rolling, expected) in [
        (3, 3, 0, 3, false, Wanted),
        (3, 5, 1, 2, true, Wanted),
        (3, 1, 0, 3, false, OneLess(2)),
        (3, 1, 1, 3, false, Hold(3)),
        (3, 1, 0, 3, true, Hold(3)),
        // The pod that is one too many has not been heard to end.
        (2, 1, 0, 3, false, Hold(2)),
        (1, 0, 0, 1, false, OneLess(0)),
    ] {
        let mut before = first();
        before.spec.as_mut().unwrap().replicas = Some(now);
        let mut before = settled(before);
        if rolling {
            before.status.as_mut().unwrap().updated_replicas = Some(now - 1);
        }
        let mut desired = rendered("gateway:1", "r1", wanted_now);
        let mut running = running(&before);
        running.terminating = terminating;
        running.alive = alive;
        let paced = pace(
            &mut desired,
            &wanted(1, wanted_now, Upgrade::Automatic),
            &running,
            || true,
        );
        assert_eq!(paced.replicas, expected);
        let applied = desired.spec.unwrap().replicas;
        assert_eq!(applied, Some(expected.count(wanted_now)));
    }
}
