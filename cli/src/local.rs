//! `wsgw local`: a `WsGateway` as processes of this machine.
pub mod backoff;
pub mod certificate;
pub mod child;
pub mod console;
mod http;
pub mod leftover;
pub mod metrics;
pub mod port;
pub mod programs;
pub mod signals;
pub mod state;
pub mod stub_status;
pub mod watch;
