//! What a `WsGateway` names and does not hold: who stands in front of it, and the certificates that clients see.
//!
//! Classes come from the watches, Secrets are read one by one: in cluster mode they are neither listed nor watched.

mod front;
mod tls;

use kube::{Api, Client, api::DynamicObject};

pub use self::{
    front::{Fronted, front},
    tls::{Tls, tls},
};
use crate::{kinds::Kind, watch::Key};

/// Why something that is named could not be read. What is missing is no error: a condition names it.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} {name}", .kind.name())]
pub struct DereferenceError {
    kind: Kind,
    name: String,
    source: Box<kube::Error>,
}

/// What reading one object came to.
#[derive(Debug)]
enum Read {
    Found(Box<DynamicObject>),
    Absent,
    /// The operator may not; the API server's sentence.
    Forbidden(String),
}

async fn read(client: &Client, kind: Kind, key: &Key) -> Result<Read, DereferenceError> {
    let api: Api<DynamicObject> = if kind.is_cluster_scoped() {
        Api::all_with(client.clone(), &kind.resource())
    } else {
        Api::namespaced_with(client.clone(), &key.namespace, &kind.resource())
    };
    match api.get_opt(&key.name).await {
        Ok(Some(object)) => Ok(Read::Found(Box::new(object))),
        Ok(None) => Ok(Read::Absent),
        // Where the kind itself is not there, the answer is not about the object, and no `None`.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Read::Absent),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Read::Forbidden(status.message)),
        Err(source) => Err(DereferenceError {
            kind,
            name: key.name.to_string(),
            source: Box::new(source),
        }),
    }
}
