//! `wsgw`: what a person runs.
//!
//! - [`args`]: the command line, and which function each subcommand is.
//! - [`manifest`]: a manifest's file, on its way to a validated gateway; [`defaults`]: what a cluster's operator puts in
//!   where it says nothing.
//! - [`lint`]: `wsgw lint`, what is wrong in a manifest.
//! - [`render`]: `wsgw render`, all objects that the operator makes of a manifest.
//! - [`simulate`]: `wsgw simulate`, what a token may do and why.
//! - [`server`], [`publish`], [`stream`]: `wsgw pub`, one message to NATS, and `wsgw stream`, a stream to try queues.
//! - [`cluster`]: the cluster that the kubeconfig names. [`plan`]: `wsgw plan`, what applying a manifest would do
//!   there. [`status`]: `wsgw status`, a `WsGateway` there with all that was made for it. [`top`]: `wsgw top`, what the
//!   pods there do at this moment.
//! - [`local`]: `wsgw local`, a whole `WsGateway` on this machine.

pub mod args;

pub mod defaults;
pub mod manifest;

pub mod lint;
pub mod publish;
pub mod render;
pub mod server;
pub mod simulate;
pub mod stream;

pub mod cluster;
pub mod plan;
pub mod status;
pub mod top;

pub mod local;
