//! `wsgw`: what a person runs.
//!
//! - [`args`]: the command line.
//! - [`publish`]: `wsgw pub`, one message to NATS.
//! - [`lint`]: `wsgw lint`, what is wrong in a manifest.
//! - [`local`]: `wsgw local`, a whole `WsGateway` on this machine.

pub mod publish;

pub mod local;
