//! The only writer of children: server-side apply under one field manager, with an adoption guard.
//!
//! Ours is an object whose controller is the `WsGateway`, by UID. It is read, and then applied with force and the
//! UID that was read, so that an object which took its name meanwhile is not touched. One that does not exist is
//! applied without force. Anything else of that name is [`ApplyError::NotOurs`].
//!
//! A second pass sends nothing: for each child the version that was last seen to be right is remembered, and a watch
//! says when there is another one.

mod covers;

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
    core::Status,
};
use serde_json::{Value, json};
use wsgateway_crds::report::hash;

use crate::{
    build::Object,
    kinds::Kind,
    metrics::{ApplyResult, Metrics},
    watch::{Controller, Key, Lookup, MetaObject},
};
use covers::covers;

/// Under whose name fields are owned.
pub const FIELD_MANAGER: &str = "wsgateway-operator";

/// The hash of what was applied last.
pub const APPLIED: &str = "wsgateway.io/applied";

/// What applying came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did not exist.
    Created,
    /// It was otherwise.
    Configured,
    /// It was as it should be.
    Unchanged,
}

/// Why an object could not be applied or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Somebody else's object has the name.
    #[error("{} {name} exists and is not of this WsGateway; it is {owner}", .kind.name())]
    NotOurs {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Whose it is, in words.
        owner: String,
    },
    /// The operator may not.
    #[error("the operator may not write {} {name}: {message}", .kind.name())]
    Forbidden {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// The API server's sentence.
        message: String,
    },
    /// The API server refuses it as it is: trying again changes nothing.
    #[error("the API server refuses {} {name}: {message}", .kind.name())]
    Refused {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// The API server's sentence.
        message: String,
    },
    /// The API server serves no such kind now.
    #[error("{} is not installed", .kind.name())]
    NotServed {
        /// The kind.
        kind: Kind,
    },
    /// It is being deleted, and its name is free once that is done.
    #[error("{} {name} is being deleted", .kind.name())]
    Deleting {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The request failed.
    #[error("cannot write {} {name}", .kind.name())]
    Request {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

impl ApplyError {
    /// A stable word for status, events and metric labels.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotOurs { .. } => "OwnershipConflict",
            Self::Forbidden { .. } => "AccessDenied",
            Self::Refused { .. } => "ObjectRefused",
            Self::NotServed { .. } => "KindNotServed",
            Self::Deleting { .. } => "ObjectDeleting",
            Self::Request { .. } => "RequestFailed",
        }
    }

    /// The kind that it is about.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NotOurs { kind, .. }
            | Self::Forbidden { kind, .. }
            | Self::Refused { kind, .. }
            | Self::NotServed { kind }
            | Self::Deleting { kind, .. }
            | Self::Request { kind, .. } => *kind,
        }
    }

    fn of(kind: Kind, name: &str, error: kube::Error) -> Self {
        let name = name.to_owned();
        match &error {
            kube::Error::Api(status) => match (status.code, is_about_the_kind(status)) {
                (403, _) => Self::Forbidden {
                    kind,
                    name,
                    message: status.message.clone(),
                },
                (400 | 422, _) => Self::Refused {
                    kind,
                    name,
                    message: status.message.clone(),
                },
                (404, true) => Self::NotServed { kind },
                _ => Self::Request {
                    kind,
                    name,
                    source: Box::new(error),
                },
            },
            _ => Self::Request {
                kind,
                name,
                source: Box::new(error),
            },
        }
    }
}

/// A 404 of an object names it; a 404 of its kind does not.
fn is_about_the_kind(status: &Status) -> bool {
    status
        .details
        .as_ref()
        .is_none_or(|details| details.name.is_empty())
}

/// Writes children.
pub struct Children {
    client: Client,
    metrics: Metrics,
    /// What was seen to be right.
    notes: Mutex<HashMap<(Kind, Key), Note>>,
}

impl fmt::Debug for Children {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Children").finish_non_exhaustive()
    }
}

struct Note {
    uid: String,
    version: String,
    hash: String,
    /// The hash of what the API server made of what was applied, where it was applied by this operator.
    made: Option<String>,
}

/// What a watch knows of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: the kind is not watched there. It has to be asked for.
    Unknown,
    /// There is none with the operator's labels.
    Absent,
    /// There is one.
    As {
        /// Its UID.
        uid: String,
        /// Its version.
        version: String,
        /// The UID of the `WsGateway` that controls it.
        controller: Option<String>,
    },
}

impl Seen {
    /// Of a kind of which metadata is watched.
    pub fn of(found: Lookup<std::sync::Arc<MetaObject>>) -> Self {
        match found {
            Lookup::Unknown => Self::Unknown,
            Lookup::Absent => Self::Absent,
            Lookup::Found(object) => {
                let meta = &object.metadata;
                Self::As {
                    uid: meta.uid.to_string(),
                    version: meta.resource_version.to_string(),
                    controller: meta.controller.gateway().map(|owner| owner.uid.to_string()),
                }
            }
        }
    }

    /// Of a Deployment, which is watched whole.
    pub fn of_deployment(deployment: &Deployment) -> Self {
        let references = deployment.owner_references().to_vec();
        Self::As {
            uid: deployment.uid().unwrap_or_default(),
            version: deployment.resource_version().unwrap_or_default(),
            controller: Controller::of(references)
                .gateway()
                .map(|owner| owner.uid.to_string()),
        }
    }
}

/// Whose children they are.
#[derive(Debug, Clone)]
pub struct Owner {
    /// Namespace and name of the `WsGateway`.
    pub key: Key,
    /// Its UID.
    pub uid: String,
}

impl Children {
    /// With a client of the operator's own rights.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self {
            client,
            metrics,
            notes: Mutex::default(),
        }
    }

    /// Makes one child what it should be. `seen` is what its watch knows of it, for the kinds that are watched.
    pub async fn apply(
        &self,
        owner: &Owner,
        object: &Object,
        seen: &Seen,
    ) -> Result<Outcome, ApplyError> {
        let result = self.try_apply(owner, object, seen).await;
        let counted = match &result {
            Ok(Outcome::Created) => ApplyResult::Created,
            Ok(Outcome::Configured) => ApplyResult::Configured,
            Ok(Outcome::Unchanged) => ApplyResult::Unchanged,
            Err(ApplyError::NotOurs { .. }) => ApplyResult::Conflict,
            Err(_) => ApplyResult::Failed,
        };
        self.metrics.applied(object.kind, counted);
        result
    }

    async fn try_apply(
        &self,
        owner: &Owner,
        object: &Object,
        seen: &Seen,
    ) -> Result<Outcome, ApplyError> {
        let Object {
            kind,
            name,
            manifest,
        } = object;
        let wanted = hash(&manifest.to_string());
        if let Seen::As { uid, version, .. } = seen
            && self.is_noted(*kind, owner, name, (uid, version, &wanted))
        {
            return Ok(Outcome::Unchanged);
        }
        let api = self.api(*kind, owner);
        let live = api.get_opt(name).await;
        let live = live.map_err(|error| ApplyError::of(*kind, name, error))?;
        let Some(live) = live else {
            let params = PatchParams::apply(FIELD_MANAGER);
            let made = self.patch(&api, object, &params, None, &wanted).await?;
            let content = content_hash(&made);
            self.note(*kind, owner, name, &made, wanted, Some(content));
            return Ok(Outcome::Created);
        };
        guard(*kind, owner, &live)?;
        let is_applied = live.annotations().get(APPLIED) == Some(&wanted);
        let before = self.made(*kind, owner, name);
        // The API server may write what it was given in another way, such as 1000m of CPU.
        let is_as_made = || before.as_ref() == Some(&content_hash(&live));
        if is_applied && (covers(&value_of(&live), manifest) || is_as_made()) {
            self.note(*kind, owner, name, &live, wanted, before);
            return Ok(Outcome::Unchanged);
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let uid = live.uid();
        let made = match self
            .patch(&api, object, &params, uid.clone(), &wanted)
            .await
        {
            Err(ApplyError::Refused { .. }) if *kind == Kind::Service => {
                self.take_ports(&api, object, uid.as_deref()).await?;
                self.patch(&api, object, &params, uid, &wanted).await?
            }
            other => other?,
        };
        let is_same = made.resource_version() == live.resource_version();
        let content = content_hash(&made);
        self.note(*kind, owner, name, &made, wanted, Some(content));
        Ok(if is_same {
            Outcome::Unchanged
        } else {
            Outcome::Configured
        })
    }

    /// Makes the list of a Service's ports ours whole. Server-side apply leaves there the port that somebody changed the
    /// number of, since ports are told apart by it, and refuses another one of the same name beside it.
    async fn take_ports(
        &self,
        api: &Api<DynamicObject>,
        object: &Object,
        uid: Option<&str>,
    ) -> Result<(), ApplyError> {
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let ports = object.manifest.pointer("/spec/ports");
        let patch = Patch::Merge(json!({"metadata": {"uid": uid}, "spec": {"ports": ports}}));
        match api.patch(&object.name, &params, &patch).await {
            Ok(_) => Ok(()),
            Err(error) => Err(ApplyError::of(object.kind, &object.name, error)),
        }
    }

    async fn patch(
        &self,
        api: &Api<DynamicObject>,
        object: &Object,
        params: &PatchParams,
        uid: Option<String>,
        wanted: &str,
    ) -> Result<DynamicObject, ApplyError> {
        let mut manifest = object.manifest.clone();
        let metadata = manifest.get_mut("metadata").and_then(Value::as_object_mut);
        if let Some(metadata) = metadata {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert(APPLIED.to_owned(), wanted.into());
            }
            if let Some(uid) = uid {
                metadata.insert("uid".to_owned(), uid.into());
            }
        }
        tracing::info!(kind = object.kind.name(), name = object.name, "applies");
        api.patch(&object.name, params, &Patch::Apply(&manifest))
            .await
            .map_err(|error| ApplyError::of(object.kind, &object.name, error))
    }

    /// Deletes a child that is no longer asked for, where it is ours. Says whether there was one.
    pub async fn delete(
        &self,
        owner: &Owner,
        kind: Kind,
        name: &str,
        seen: &Seen,
    ) -> Result<bool, ApplyError> {
        let uid = match seen {
            Seen::As {
                uid, controller, ..
            } if controller.as_deref() == Some(&owner.uid) => uid.clone(),
            Seen::Absent | Seen::As { .. } => return Ok(false),
            Seen::Unknown => {
                let live = self.api(kind, owner).get_opt(name).await;
                match live.map_err(|error| ApplyError::of(kind, name, error))? {
                    Some(live) if guard(kind, owner, &live).is_ok() => {
                        live.uid().unwrap_or_default()
                    }
                    _ => return Ok(false),
                }
            }
        };
        self.notes().remove(&note_key(kind, owner, name));
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid),
            resource_version: None,
        });
        tracing::info!(kind = kind.name(), name, "deletes");
        match self.api(kind, owner).delete(name, &params).await {
            Ok(_) => {
                self.metrics.deleted(kind);
                Ok(true)
            }
            // Gone by itself, or another one has the name by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(ApplyError::of(kind, name, error)),
        }
    }

    /// Forgets what was right of a `WsGateway` that is gone.
    pub fn forget(&self, gateway: &Key) {
        let prefix = format!("{}-", gateway.name);
        self.notes().retain(|(_, child), _| {
            child.namespace != gateway.namespace
                || (child.name != gateway.name && !child.name.starts_with(&prefix))
        });
    }

    fn api(&self, kind: Kind, owner: &Owner) -> Api<DynamicObject> {
        let namespace = &owner.key.namespace;
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    fn is_noted(
        &self,
        kind: Kind,
        owner: &Owner,
        name: &str,
        (uid, version, hash): (&str, &str, &str),
    ) -> bool {
        self.notes()
            .get(&note_key(kind, owner, name))
            .is_some_and(|note| note.uid == uid && note.version == version && note.hash == hash)
    }

    fn made(&self, kind: Kind, owner: &Owner, name: &str) -> Option<String> {
        let notes = self.notes();
        notes.get(&note_key(kind, owner, name))?.made.clone()
    }

    fn note(
        &self,
        kind: Kind,
        owner: &Owner,
        name: &str,
        live: &DynamicObject,
        hash: String,
        made: Option<String>,
    ) {
        let note = Note {
            uid: live.uid().unwrap_or_default(),
            version: live.resource_version().unwrap_or_default(),
            hash,
            made,
        };
        self.notes().insert(note_key(kind, owner, name), note);
    }

    fn notes(&self) -> MutexGuard<'_, HashMap<(Kind, Key), Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note_key(kind: Kind, owner: &Owner, name: &str) -> (Kind, Key) {
    (kind, owner.key.sibling(name))
}

/// Ours, and there to stay.
fn guard(kind: Kind, owner: &Owner, live: &DynamicObject) -> Result<(), ApplyError> {
    let name = live.name_any();
    let controller = live
        .owner_references()
        .iter()
        .find(|reference| reference.controller == Some(true));
    if controller.is_none_or(|controller| controller.uid != owner.uid) {
        let owner = controller.map_or_else(|| "nobody's".to_owned(), owner_in_words);
        return Err(ApplyError::NotOurs { kind, name, owner });
    }
    if live.metadata.deletion_timestamp.is_some() {
        return Err(ApplyError::Deleting { kind, name });
    }
    Ok(())
}

fn owner_in_words(owner: &OwnerReference) -> String {
    format!(
        "controlled by {} {} ({})",
        owner.kind, owner.name, owner.uid
    )
}

/// Tells what an object says apart from all that it could say otherwise: its status, and who wrote what and when, aside.
fn content_hash(live: &DynamicObject) -> String {
    let mut value = value_of(live);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.remove("resourceVersion");
    }
    hash(&value.to_string())
}

fn value_of(live: &DynamicObject) -> Value {
    serde_json::to_value(live).unwrap_or(Value::Null)
}
