//! Loads a WebSocket server that is fed from NATS, and says what that cost the server.
//!
//! One thread with epoll and a few hundred bytes for each client, so that it takes little of the
//! machine that it shares with what it measures. In the order in which the data flows:
//!
//! - [`options`]: what was typed
//! - [`frame`], [`deflate`], [`mark`]: bytes from the wire into frames, and the timestamps in their
//!   payloads
//! - [`client`], [`tally`]: one connection, from its handshake on, and what all have seen
//! - [`swarm`]: all of them, and their sockets
//! - [`single`], [`stalled`]: connections by themselves, whose times are measured or which do not read
//! - [`publisher`]: messages into NATS
//! - [`process`], [`machine`], [`meter`]: what the kernel says about the server and everything else
//! - [`scenario`]: a function for each mode, which drives the above
//! - [`measurement`]: what comes out, a line of JSON

pub mod options;

pub mod deflate;
pub mod frame;
pub mod mark;

pub mod client;
pub mod swarm;
pub mod tally;

pub mod single;
pub mod stalled;

pub mod publisher;

pub mod machine;
pub mod meter;
pub mod process;

pub mod scenario;

pub mod measurement;
