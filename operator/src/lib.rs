//! The controller: a `WsGateway` → validated model → desired objects → apply → status.
//!
//! # Layout
//!
//! What every such program has:
//!
//! - [`args`], [`telemetry`], [`metrics`], [`admin`];
//! - [`leader`]: which of several operators works;
//! - [`client`]: what they work with, which ends with their lease;
//! - [`run`]: how all of it hangs together.
//!
//! What comes in:
//!
//! - [`kinds`]: what is read and written, and which optional kinds are served now;
//! - [`rbac`]: what may be done with them;
//! - [`watch`]: what is known of the cluster, a task for each kind;
//! - [`queue`]: which `WsGateway` is reconciled when.
//!
//! What is done, in the order of [`reconcile`], which reads as the whole:
//!
//! - [`conflict`]: whether an older `WsGateway` has the host and path, pure;
//! - [`dereference`]: who stands in front, and the certificate that clients see;
//! - [`certificate`]: what a self-signed certificate needs, and whether another one is of use, pure;
//! - [`mod@build`]: the objects that a validated gateway asks for, pure;
//! - [`pods`]: what the gateways say of themselves;
//! - [`rollout`]: when pods are replaced and how many there are, pure;
//! - [`apply`]: the only writer of children;
//! - [`entrance`]: whether clients can come in;
//! - [`status`]: what users are told, pure.

pub mod args;
pub mod telemetry;

pub mod metrics;

pub mod admin;

pub mod leader;

pub mod client;

pub mod run;

pub mod kinds;

pub mod rbac;

pub mod watch;

pub mod queue;

pub mod reconcile;

pub mod conflict;

pub mod dereference;

pub mod certificate;

pub mod build;

pub mod pods;

pub mod rollout;

pub mod apply;

pub mod entrance;

pub mod status;
