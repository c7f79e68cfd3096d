//! What is kept of an object's metadata: a fraction of it, since there are a dozen objects for each
//! `WsGateway`. `managedFields`, by far the largest part, is never even parsed.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::Key;

/// The prefix of labels and annotations that are ours.
pub const PREFIX: &str = "wsgateway.io/";

/// The label that names the `WsGateway` that an object was made for.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// Labels and annotations of others that are read.
const FOREIGN: [&str; 5] = [
    INSTANCE_LABEL,
    "controller.kubernetes.io/pod-deletion-cost",
    "deployment.kubernetes.io/revision",
    "ingressclass.kubernetes.io/is-default-class",
    "pod-template-hash",
];

/// What is kept of an object's metadata.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Empty for a cluster-scoped object.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
    /// Tells the object from others that had its name.
    pub uid: Box<str>,
    /// Changes with every write.
    pub resource_version: Box<str>,
    /// Changes with every write of the spec, for the kinds that count it.
    pub generation: Option<i64>,
    /// The labels that are read: those of ours, the instance, and the hash of a pod's template.
    pub labels: Pairs,
    /// The annotations that are read.
    pub annotations: Pairs,
    /// Who made the object and answers for it.
    #[serde(rename = "ownerReferences")]
    pub controller: Controller,
    /// Whether it has been deleted and waits for its finalizers or its grace period.
    #[serde(rename = "deletionTimestamp")]
    pub is_deleting: Presence,
    /// When it was made.
    #[serde(rename = "creationTimestamp")]
    pub created: Option<Time>,
}

impl Meta {
    /// Namespace and name.
    pub fn key(&self) -> Key {
        Key::new(&self.namespace, &self.name)
    }

    /// The `WsGateway` that this object belongs to: its controller or, where it has none or another one, the
    /// one that it is labelled with.
    pub fn gateway(&self) -> Option<Key> {
        let name = self
            .controller
            .gateway()
            .map(|owner| &*owner.name)
            .or_else(|| self.labels.get(INSTANCE_LABEL))?;
        Some(Key::new(&self.namespace, name))
    }

    /// Whether the `WsGateway` of this UID controls the object.
    pub fn is_controlled_by(&self, gateway_uid: &str) -> bool {
        self.controller
            .gateway()
            .is_some_and(|owner| &*owner.uid == gateway_uid)
    }
}

/// An owner of whose kind and UID something is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its kind, such as `ReplicaSet`.
    pub kind: Box<str>,
    /// Its name, in the same namespace.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
    is_gateway: bool,
}

impl Owner {
    /// Of one owner reference.
    pub fn new(reference: OwnerReference) -> Self {
        Self {
            is_gateway: is_gateway(&reference),
            kind: reference.kind.into(),
            name: reference.name.into(),
            uid: reference.uid.into(),
        }
    }
}

/// Whether a reference names a `WsGateway`, whatever its version.
fn is_gateway(reference: &OwnerReference) -> bool {
    let group = reference
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group);
    group == "wsgateway.io" && reference.kind == "WsGateway"
}

/// The owner that controls an object, if one does. Boxed, since most pairs of labels are larger than the
/// pointer that an absent one costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Controller(pub Option<Box<Owner>>);

impl Controller {
    /// Of an object's owner references.
    pub fn of(references: Vec<OwnerReference>) -> Self {
        let controls = |reference: &OwnerReference| reference.controller == Some(true);
        let owner = references.into_iter().find(controls);
        Self(owner.map(|reference| Box::new(Owner::new(reference))))
    }

    /// The controller, where it is a `WsGateway`.
    pub fn gateway(&self) -> Option<&Owner> {
        self.0.as_deref().filter(|owner| owner.is_gateway)
    }
}

impl<'de> Deserialize<'de> for Controller {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<Vec<OwnerReference>>::deserialize(deserializer)
            .map(|references| Self::of(references.unwrap_or_default()))
    }
}

/// Whether a field is there, whatever it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Presence(pub bool);

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<IgnoredAny>::deserialize(deserializer).map(|found| Self(found.is_some()))
    }
}

/// The few labels or annotations of an object that are read. A tree of them would cost half a kilobyte for
/// each object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs(Box<[(Box<str>, Box<str>)]>);

impl Pairs {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// All that were kept.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_unit<E>(self) -> Result<Pairs, E> {
        Ok(Pairs::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name.starts_with(PREFIX) || FOREIGN.contains(&name.as_str()) {
                pairs.push((name.into(), map.next_value::<String>()?.into()));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Pairs(pairs.into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meta(value: serde_json::Value) -> Meta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn little_is_kept() {
        let meta = meta(json!({
            "namespace": "shop", "name": "chat", "uid": "u1", "resourceVersion": "7",
            "labels": {"app.kubernetes.io/instance": "chat", "team": "a", "wsgateway.io/boot": "b1"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "managedFields": [{"fieldsV1": {"f:metadata": {}}}],
            "deletionTimestamp": "2026-01-02T03:04:05Z",
        }));
        assert_eq!(meta.key(), Key::new("shop", "chat"));
        assert_eq!(
            meta.labels.iter().collect::<Vec<_>>(),
            [
                ("app.kubernetes.io/instance", "chat"),
                ("wsgateway.io/boot", "b1")
            ]
        );
        assert_eq!(meta.annotations, Pairs::default());
        assert!(meta.is_deleting.0);
    }

    #[test]
    fn an_object_belongs_to_its_controller_and_else_to_its_instance() {
        let owner = |kind: &str, version: &str, controller: bool| {
            json!({"apiVersion": version, "kind": kind, "name": "owner", "uid": "u",
                   "controller": controller})
        };
        let labels = json!({"app.kubernetes.io/instance": "instance"});
        for (owners, labels, expected) in [
            (
                json!([owner("WsGateway", "wsgateway.io/v1", true)]),
                json!({}),
                Some("owner"),
            ),
            (
                json!([owner("WsGateway", "wsgateway.io/v1", false)]),
                json!({}),
                None,
            ),
            (
                json!([owner("WsGateway", "other.io/v1", true)]),
                json!(null),
                None,
            ),
            (
                json!([owner("ReplicaSet", "apps/v1", true)]),
                labels.clone(),
                Some("instance"),
            ),
            (
                json!([owner("WsGateway", "wsgateway.io/v1", true)]),
                labels,
                Some("owner"),
            ),
            (json!(null), json!({}), None),
        ] {
            let meta = meta(json!({
                "namespace": "shop", "name": "x", "ownerReferences": owners, "labels": labels,
            }));
            let expected = expected.map(|name| Key::new("shop", name));
            assert_eq!(meta.gateway(), expected, "{owners}");
        }
    }
}
