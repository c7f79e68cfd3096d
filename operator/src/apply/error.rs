//! Why a child could not be written.

use kube::core::Status;

use crate::kinds::Kind;

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

    pub(super) fn of(kind: Kind, name: &str, error: kube::Error) -> Self {
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
