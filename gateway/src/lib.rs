//! The data plane: NATS message → subject → subscribers → encoded frame → socket.
//!
//! # Layout
//!
//! The modules stand in the order in which a message passes them.
//!
//! - [`nats`], the only NATS IO, with [`interest`] (which subjects this process needs) and [`queue`] (who
//!   gets which message of a work queue), both free of IO;
//! - [`publication`], [`frame`] and [`deflate`]: one message, encoded and compressed once;
//! - [`exchange`]: what the NATS side and the shards say to each other;
//! - [`shard`]: one thread's connections: accepting, rounds of fan-out, the sweeper; with [`hub`]
//!   (subject → subscribers), [`upgrade`] (the request before it is a WebSocket; [`probe`]: the
//!   operator's, which becomes no connection), [`admission`] (whether there is room for it), [`auth`] (whose it is),
//!   [`logout`] (whose is over), [`page`] (where connections come from), [`session`] (protocol state), [`rate`] (how much
//!   a client may send) and [`outbox`] (what is still to be sent), all free of IO;
//! - [`socket`], the only socket IO, over a [`stream`] with or without TLS, whose certificate is in [`tls`];
//! - around them [`server`], [`config`], [`watch`], [`revision`], [`admin`], [`drain`], [`metrics`],
//!   [`telemetry`] and [`clock`].

pub mod nats;

pub mod interest;
pub mod queue;

pub mod publication;

pub mod deflate;
pub mod frame;

pub mod exchange;

pub mod shard;

pub mod admission;
pub mod auth;
pub mod hub;
pub mod logout;
pub mod outbox;
pub mod page;
pub mod probe;
pub mod rate;
pub mod session;
pub mod upgrade;

pub mod socket;
pub mod stream;
pub mod tls;

pub mod admin;
pub mod clock;
pub mod config;
pub mod drain;
pub mod metrics;
pub mod revision;
pub mod server;
pub mod telemetry;
pub mod watch;
