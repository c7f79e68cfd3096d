//! Starts real programs on free ports of this machine, and speaks to them as their users do.
//!
//! The tests in `tests/` start what they need, await each event with a deadline, and leave nothing
//! running. A test begins with [`needs!`], which counts it as skipped where a program is missing.
//!
//! - What a test stands on: [`wait`], [`program`], [`port`], [`directory`], [`volume`], [`process`],
//!   [`row`].
//! - The servers: [`nats`] with [`certificate`] and [`identity`], [`issuer`],
//!   [`keycloak`], [`page`], [`gateway`], [`local`].
//! - Kubernetes: [`cluster`], a real control plane, and [`operator`], which works on it; [`kubernetes`], a whole cluster
//!   with nodes.
//! - The clients: [`frame`] and [`socket`] byte by byte, [`wscat`], [`websocat`], [`chromium`], [`http`];
//!   [`swarm`], a thousand of them.
//! - What the kernel tells of a process: [`resources`].

// A harness fails as a test fails: it panics with a sentence, and returns plain values otherwise.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::indexing_slicing
)]

pub mod wait;

pub mod program;

pub mod port;

pub mod directory;

pub mod volume;

pub mod process;

pub mod row;

pub mod certificate;

pub mod identity;

pub mod issuer;

pub mod keycloak;

pub mod page;

pub mod nats;

pub mod gateway;

pub mod local;

pub mod cluster;

pub mod operator;

pub mod kubernetes;

pub mod frame;

pub mod socket;

pub mod secure;

pub mod wscat;

pub mod websocat;

pub mod chromium;

pub mod swarm;

pub mod http;

pub mod resources;
