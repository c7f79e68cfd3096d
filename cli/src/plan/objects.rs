//! The objects that the operator would write, each held against the one that is there.

use serde_json::{Value, json};
use wsgateway_crds::config::{Config, Live};
use wsgateway_model::{Gateway, gateway::Tls};
use wsgateway_operator::{
    apply::FIELD_MANAGER,
    build::{Desired, Object, names, possible},
    kinds::Kind,
    rollout::boot_in_force,
};

use super::{
    before::{Before, Child},
    diff::{Change, Owned, changes, of_object},
};

/// An object that changes.
#[derive(Debug)]
pub(super) struct ObjectChange {
    /// Its kind.
    pub(super) kind: Kind,
    /// Its name.
    pub(super) name: String,
    /// What becomes of it.
    pub(super) what: What,
}

/// What becomes of an object.
#[derive(Debug)]
pub(super) enum What {
    /// It is made, in place of another one of which it differs so, where there is one.
    Created(Option<(String, Vec<Change>)>),
    /// It changes so.
    Changed(Vec<Change>),
    /// Its contents are made anew, for this reason.
    Renewed(&'static str),
    /// It is deleted.
    Deleted,
    /// It is another's, and stays as it is.
    Conflict,
    /// Nobody here may read it.
    Hidden,
}

/// What is written, and what is deleted.
pub(super) fn objects(
    gateway: &Gateway,
    was: Option<&Gateway>,
    desired: &Desired,
    before: &Before,
) -> Vec<ObjectChange> {
    let name = gateway.name.as_str();
    let deployment = Object {
        kind: Kind::Deployment,
        name: name.to_owned(),
        manifest: json!(desired.deployment),
    };
    let wanted: Vec<_> = desired.objects.iter().chain([&deployment]).collect();
    let mut changed: Vec<_> = wanted
        .iter()
        .filter_map(|object| {
            let what = what(object, name, before)?;
            Some(ObjectChange {
                kind: object.kind,
                name: object.name.clone(),
                what,
            })
        })
        .collect();
    changed.extend(certificate(gateway, was, desired, before));
    let is_wanted = |kind: Kind, name: &str| {
        wanted
            .iter()
            .any(|object| (object.kind, object.name.as_str()) == (kind, name))
            || desired
                .kept
                .iter()
                .any(|(of, kept)| (*of, kept.as_str()) == (kind, name))
    };
    let possible = possible(name).into_iter();
    let gone = possible
        .filter(|(kind, name)| !is_wanted(*kind, name) && before.ours(*kind, name).is_some());
    changed.extend(gone.map(|(kind, name)| ObjectChange {
        kind,
        name,
        what: What::Deleted,
    }));
    changed
}

fn what(object: &Object, gateway: &str, before: &Before) -> Option<What> {
    let Object {
        kind,
        name,
        manifest,
    } = object;
    let live = match before.children.get(&(*kind, name.clone())) {
        None => return Some(What::Created(in_place_of(object, gateway, before))),
        Some(Child::Theirs) => return Some(What::Conflict),
        Some(Child::Hidden) => return Some(What::Hidden),
        Some(Child::Ours(live)) => live,
    };
    let changes = if *kind == Kind::ConfigMap {
        configuration(live, manifest)
    } else {
        of_object(live, manifest, Owned::of(owned(live)))
    };
    (!changes.is_empty()).then_some(What::Changed(changes))
}

/// The boot configuration that a new one takes the place of.
fn in_place_of(object: &Object, gateway: &str, before: &Before) -> Option<(String, Vec<Change>)> {
    let is_boot =
        object.kind == Kind::ConfigMap && object.name.starts_with(&names::boot(gateway, ""));
    let deployment = before.deployment(gateway).filter(|_| is_boot)?;
    let old = names::boot(gateway, boot_in_force(&deployment)?);
    let changes = configuration(before.ours(Kind::ConfigMap, &old)?, &object.manifest);
    Some((old, changes))
}

/// What changes of a `ConfigMap`, down to the fields of a configuration.
fn configuration(live: &Value, wanted: &Value) -> Vec<Change> {
    let parse = |object: &Value| {
        let mut object = object.clone();
        let files = object.get_mut("data").and_then(Value::as_object_mut);
        for (name, text) in files.into_iter().flatten() {
            if let Some(parsed) = text.as_str().and_then(|text| parsed(name, text)) {
                *text = parsed;
            }
        }
        object
    };
    let (live, wanted) = (parse(live), parse(wanted));
    let mut changes = changes(
        live.get("data").unwrap_or(&Value::Null),
        wanted.get("data").unwrap_or(&Value::Null),
        Owned::All,
    );
    let strip = |object: &Value| json!({ "metadata": object.get("metadata") });
    changes.extend(of_object(
        &strip(&live),
        &strip(&wanted),
        Owned::of(owned(&live)),
    ));
    changes
}

fn parsed(name: &str, text: &str) -> Option<Value> {
    match name {
        "live.yaml" => Live::read(text).ok().map(|(live, _)| json!(live)),
        "boot.yaml" => Config::read(text).ok().map(|(config, _)| json!(config)),
        _ => None,
    }
}

/// The fields of an object that the operator set.
fn owned(object: &Value) -> Option<&Value> {
    let mut entries = object
        .pointer("/metadata/managedFields")?
        .as_array()?
        .iter();
    let entry = entries.find(|entry| {
        entry.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER)
            && entry.get("operation").and_then(Value::as_str) == Some("Apply")
    });
    entry?.get("fieldsV1")
}

/// The objects of a certificate that the operator makes by itself: what they hold cannot be foreseen.
fn certificate(
    gateway: &Gateway,
    was: Option<&Gateway>,
    desired: &Desired,
    before: &Before,
) -> Vec<ObjectChange> {
    let Tls::SelfSigned { .. } = gateway.tls else {
        return Vec::new();
    };
    let name = gateway.name.as_str();
    let ours = [names::tls(name), names::authority(name)];
    let is_of_tls = |kind: Kind, name: &str| {
        matches!(kind, Kind::Secret | Kind::ConfigMap) && ours.iter().any(|ours| ours == name)
    };
    let kept = desired
        .kept
        .iter()
        .filter(|(kind, name)| is_of_tls(*kind, name));
    let changed = kept.filter_map(|(kind, name)| {
        let what = match before.children.get(&(*kind, name.clone())) {
            None => What::Created(None),
            Some(Child::Theirs) => What::Conflict,
            Some(Child::Hidden) => What::Hidden,
            Some(Child::Ours(_))
                if *kind == Kind::Secret && *name == names::tls(gateway.name.as_str()) =>
            {
                let was = was.filter(|was| matches!(was.tls, Tls::SelfSigned { .. }))?;
                if was.exposure.hosts != gateway.exposure.hosts {
                    What::Renewed("the hosts change")
                } else if was.tls != gateway.tls {
                    What::Renewed("how long it lasts changes")
                } else {
                    return None;
                }
            }
            Some(Child::Ours(_)) => return None,
        };
        Some(ObjectChange {
            kind: *kind,
            name: name.clone(),
            what,
        })
    });
    changed.collect()
}
