//! `wsgw`: what a person runs.
//!
//! - [`args`]: the command line, and which function each subcommand is.
//! - [`manifest`]: a manifest's file, on its way to a validated gateway.
//! - [`lint`]: `wsgw lint`, what is wrong in a manifest.
//! - [`publish`]: `wsgw pub`, one message to NATS.
//! - [`local`]: `wsgw local`, a whole `WsGateway` on this machine.

pub mod args;

pub mod manifest;

pub mod lint;
pub mod publish;

pub mod local;
