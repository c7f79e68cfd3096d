//! The controller: a `WsGateway` → validated model → desired objects → apply → status.
//!
//! # Layout
//!
//! - [`args`], [`telemetry`], [`metrics`], [`admin`]: what every such program has;
//! - [`leader`]: which of several operators works;
//! - [`kinds`]: what is read and written, and which optional kinds are served now;
//! - [`rbac`]: what may be done with them;
//! - [`watch`]: what is known of the cluster, a task for each kind;
//! - [`queue`]: which `WsGateway` is reconciled when;
//! - [`certificate`]: what a self-signed certificate needs, and whether another one is of use, pure;
//! - [`mod@build`]: the objects that a validated gateway asks for, pure;
//! - [`run`]: how they hang together.

pub mod args;
pub mod telemetry;

pub mod metrics;

pub mod admin;

pub mod leader;

pub mod kinds;

pub mod rbac;

pub mod watch;

pub mod queue;

pub mod certificate;

pub mod build;

pub mod conflict;

pub mod dereference;

pub mod rollout;

pub mod apply;

pub mod pods;

pub mod entrance;

pub mod status;

pub mod reconcile;

pub mod run;
