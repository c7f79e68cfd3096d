//! What was last seen to be right of each child, so that a second pass sends nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::{ResourceExt, api::DynamicObject};
use serde_json::Value;
use wsgateway_crds::report::hash;

use crate::{kinds::Kind, watch::Key};

/// A version of a child that was seen to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) uid: String,
    pub(super) version: String,
    /// The hash of what was wanted.
    pub(super) hash: String,
    /// The hash of what the API server made of what was applied, where it was applied by this operator.
    pub(super) made: Option<String>,
}

impl Note {
    /// Of an object that is as it should be.
    pub(super) fn of(live: &DynamicObject, hash: String, made: Option<String>) -> Self {
        Self {
            uid: live.uid().unwrap_or_default(),
            version: live.resource_version().unwrap_or_default(),
            hash,
            made,
        }
    }
}

/// The notes of all children.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<HashMap<(Kind, Key), Note>>);

impl Notes {
    /// Whether this version was right, for what is wanted now.
    pub(super) fn is_right(
        &self,
        kind: Kind,
        child: &Key,
        (uid, version, hash): (&str, &str, &str),
    ) -> bool {
        let notes = self.lock();
        let note = notes.get(&(kind, child.clone()));
        note.is_some_and(|note| note.uid == uid && note.version == version && note.hash == hash)
    }

    /// The hash of what the API server made of what was applied last.
    pub(super) fn made(&self, kind: Kind, child: &Key) -> Option<String> {
        let notes = self.lock();
        notes.get(&(kind, child.clone()))?.made.clone()
    }

    pub(super) fn set(&self, kind: Kind, child: Key, note: Note) {
        self.lock().insert((kind, child), note);
    }

    pub(super) fn remove(&self, kind: Kind, child: &Key) {
        self.lock().remove(&(kind, child.clone()));
    }

    /// Forgets the children of a `WsGateway`, whose names begin with its own.
    pub(super) fn forget(&self, gateway: &Key) {
        let prefix = format!("{}-", gateway.name);
        self.lock().retain(|(_, child), _| {
            child.namespace != gateway.namespace
                || (child.name != gateway.name && !child.name.starts_with(&prefix))
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Kind, Key), Note>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what an object says apart from all that it could say otherwise: its status, and who wrote what and when, aside.
pub(super) fn content_hash(live: &DynamicObject) -> String {
    let mut value = serde_json::to_value(live).unwrap_or(Value::Null);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.remove("resourceVersion");
    }
    hash(&value.to_string())
}
