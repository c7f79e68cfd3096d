//! What is rendered: compared with goldens, and given to a real nginx.

// A test fails by panicking; clippy.toml exempts the tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

mod goldens;
mod nginx;
mod sockets;
