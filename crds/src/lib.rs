//! The types that cross a boundary: what users write, and what the gateway reads.
//!
//! # Layout
//!
//! - [`value`]: the words that both are made of: durations, sizes, subjects, paths, origins.
//! - [`v1alpha1`]: the `WsGateway` resource, as the API server keeps it.
//! - [`config`]: the gateway's own configuration file. The operator and `wsgw local` write it, the
//!   gateway reads it, and nothing in it can be wrong in form once it has been read.
//! - [`report`]: what a gateway says of itself, and by what a configuration is told from another.
//!
//! There is no IO here, no runtime and no Kubernetes client.

pub mod value;

pub mod v1alpha1;

pub mod config;

pub mod report;
