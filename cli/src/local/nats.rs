//! The nats-server of a manifest that names none.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use nix::sys::signal::Signal;
use wsgateway_crds::config;

use super::{
    child::{Program, Ready},
    state::{StateDir, StateError},
};

/// Where every NATS client looks first.
pub const PORT: u16 = 4222;

/// How long it may take to end: it writes what JetStream holds.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The server, on loopback alone, with JetStream in the state folder.
pub fn program(path: &Path, state: &StateDir, port: u16) -> Result<Program, StateError> {
    let store = state.dir("nats")?;
    let mut args: Vec<std::ffi::OsString> = [
        "--addr",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--name",
        "wsgw-local",
    ]
    .map(Into::into)
    .into();
    args.extend(["--jetstream".into(), "--store_dir".into(), store.into()]);
    Ok(Program {
        name: "nats".to_owned(),
        path: path.to_owned(),
        args,
        ready: Ready::NatsInfo((Ipv4Addr::LOCALHOST, port).into()),
        stop_signal: Signal::SIGTERM,
        stop_patience: STOP_PATIENCE,
        unshown: Some("[INF]"),
    })
}

/// How workers and publishers find it.
pub fn url(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

/// What workers are told of it.
pub fn connection(port: u16) -> config::Nats {
    config::Nats {
        servers: vec![url(port)],
        tls: None,
        credentials: None,
        jet_stream: config::JetStreamApi::default(),
    }
}
