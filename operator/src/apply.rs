//! The only writer of children: server-side apply under one field manager, with an adoption guard.
//!
//! Ours is an object whose controller is the `WsGateway`, by UID. It is read, and then applied with force and the
//! UID that was read, so that an object which took its name meanwhile is not touched. One that does not exist is
//! applied without force. Anything else of that name is [`ApplyError::NotOurs`].
//!
//! A second pass sends nothing: for each child the version that was last seen to be right is remembered, and a watch
//! says when there is another one.

mod covers;
mod error;
mod notes;

use std::{fmt, sync::Arc};

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};
use wsgateway_crds::report::hash;

pub use self::error::ApplyError;
use self::{
    covers::covers,
    notes::{Note, Notes, content_hash},
};
use crate::{
    build::Object,
    kinds::Kind,
    metrics::{ApplyResult, Metrics},
    watch::{Controller, Key, Lookup, MetaObject},
};

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

/// Writes children.
pub struct Children {
    client: Client,
    metrics: Metrics,
    notes: Notes,
}

impl fmt::Debug for Children {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Children").finish_non_exhaustive()
    }
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
    pub fn of(found: Lookup<Arc<MetaObject>>) -> Self {
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
            notes: Notes::default(),
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
        let child = owner.key.sibling(name);
        if let Seen::As { uid, version, .. } = seen
            && self.notes.is_right(*kind, &child, (uid, version, &wanted))
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
            self.notes
                .set(*kind, child, Note::of(&made, wanted, Some(content)));
            return Ok(Outcome::Created);
        };
        guard(*kind, owner, &live)?;
        let is_applied = live.annotations().get(APPLIED) == Some(&wanted);
        let before = self.notes.made(*kind, &child);
        // The API server may write what it was given in another way, such as 1000m of CPU.
        let is_as_made = || before.as_ref() == Some(&content_hash(&live));
        if is_applied && (covers(&value_of(&live), manifest) || is_as_made()) {
            self.notes
                .set(*kind, child, Note::of(&live, wanted, before));
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
        self.notes
            .set(*kind, child, Note::of(&made, wanted, Some(content)));
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
        self.notes.remove(kind, &owner.key.sibling(name));
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
        self.notes.forget(gateway);
    }

    fn api(&self, kind: Kind, owner: &Owner) -> Api<DynamicObject> {
        let namespace = &owner.key.namespace;
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }
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

fn value_of(live: &DynamicObject) -> Value {
    serde_json::to_value(live).unwrap_or(Value::Null)
}
