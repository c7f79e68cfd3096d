//! A worker: a gateway on loopback ports of its own, with a configuration file of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::Path,
    time::Duration,
};

use nix::sys::signal::Signal;
use wsgateway_crds::{config, value};

use super::{
    child::{Child, Program, Ready},
    port::{self, PortError},
};

/// Worker N is at these plus N, where they are free: numbers that a person can remember. Both are below the ports of
/// outgoing connections.
const CLIENTS_FROM: u16 = 18_000;
const ADMIN_FROM: u16 = 19_000;

const _: () = assert!(ADMIN_FROM < port::EPHEMERAL_FIRST && CLIENTS_FROM < ADMIN_FROM);

/// What a worker may take beyond its drain and its last writes, before it is killed.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// A worker that runs.
#[derive(Debug)]
pub struct Worker {
    /// From 1.
    pub number: u32,
    /// What it listens on, kept over restarts.
    pub listen: config::Listen,
    /// Its process.
    pub child: Child,
}

/// The name of a worker in front of its lines.
pub fn name(number: u32) -> String {
    format!("worker-{number}")
}

/// Its file in the state folder.
pub fn file(number: u32) -> String {
    format!("workers/{}.yaml", name(number))
}

/// Free ports for a worker. `taken` are those of workers that may not listen yet.
pub fn listen(number: u32, shards: u16, taken: &[u16]) -> Result<config::Listen, PortError> {
    let number = u16::try_from(number).unwrap_or(0);
    let at = |from: u16| {
        let port = port::free(from.saturating_add(number), taken)?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    let (clients, admin) = (at(CLIENTS_FROM)?, at(ADMIN_FROM)?);
    Ok(config::Listen {
        clients,
        admin,
        shards: Some(shards),
    })
}

/// Threads of each worker, so that all workers together fill the machine once.
pub fn shards(replicas: u32) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = cores / usize::try_from(replicas.max(1)).unwrap_or(usize::MAX);
    u16::try_from(share.clamp(1, 8)).unwrap_or(1)
}

/// The live part as a worker on this machine gets it: it leaves at once, since nginx is told before it is stopped.
pub fn live(live: &config::Live) -> config::Live {
    let mut live = live.clone();
    live.drain.propagation = value::Duration::from_secs(0);
    live
}

/// The process of a worker whose configuration is in `file`.
pub fn program(
    gateway: &Path,
    number: u32,
    listen: &config::Listen,
    file: &Path,
    live: &config::Live,
) -> Program {
    Program {
        name: name(number),
        path: gateway.to_owned(),
        args: vec!["--config".into(), file.into()],
        ready: Ready::Ok(listen.admin, "/readyz".to_owned()),
        stop_signal: Signal::SIGTERM,
        stop_patience: live.drain.period.get() + live.websocket.write_wait.get() + STOP_MARGIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::gateway;

    #[test]
    fn a_worker_leaves_at_once_and_otherwise_does_as_the_manifest_says() {
        let wanted = gateway("{routes: [{name: a, path: /a}]}");
        let mut local = live(&wanted.live);
        assert_eq!(local.drain.propagation, value::Duration::from_secs(0));
        local.drain.propagation = wanted.live.drain.propagation;
        assert_eq!(local, wanted.live);
    }

    #[test]
    fn workers_do_not_share_ports() {
        let first = listen(1, 1, &[]).unwrap();
        let taken = [first.clients.port(), first.admin.port()];
        let second = listen(1, 1, &taken).unwrap();
        for address in [second.clients, second.admin] {
            assert!(!taken.contains(&address.port()));
            assert!(address.port() < port::EPHEMERAL_FIRST);
        }
    }
}
