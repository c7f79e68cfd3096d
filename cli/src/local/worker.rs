//! A worker: a gateway on loopback ports of its own, with a configuration file of its own.

use std::{net::Ipv4Addr, num::NonZeroUsize, path::Path, time::Duration};

use nix::sys::signal::Signal;
use wsgateway_crds::{config, value};

use super::{
    child::{Child, Program, Ready},
    port::{self, Port, PortError},
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
    /// Where it is.
    pub place: Place,
    /// Its process.
    pub child: Child,
}

/// Where a worker listens, and with how many threads: as long as it is one of us, over all its restarts.
#[derive(Debug)]
pub struct Place {
    /// nginx connects there.
    pub clients: Port,
    /// Readiness and metrics.
    pub admin: Port,
    /// Its threads.
    pub shards: u16,
}

impl Place {
    /// As its configuration says it.
    pub fn listen(&self) -> config::Listen {
        let (clients, admin) = (self.clients.address(), self.admin.address());
        config::Listen {
            clients,
            admin,
            shards: Some(self.shards),
            // The nginx in front of the workers ends it.
            tls: None,
        }
    }
}

/// The name of a worker in front of its lines.
pub fn name(number: u32) -> String {
    format!("worker-{number}")
}

/// Its file in the state folder.
pub fn file(number: u32) -> String {
    format!("workers/{}.yaml", name(number))
}

/// A free place for one of so many workers.
pub fn place(number: u32, replicas: u32) -> Result<Place, PortError> {
    let number = u16::try_from(number).unwrap_or(0);
    let at = |from: u16| port::free(from.saturating_add(number));
    Ok(Place {
        clients: at(CLIENTS_FROM)?,
        admin: at(ADMIN_FROM)?,
        shards: shards(replicas),
    })
}

/// Threads of each worker, so that all workers together fill the machine once.
fn shards(replicas: u32) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = cores / usize::try_from(replicas.max(1)).unwrap_or(usize::MAX);
    u16::try_from(share.clamp(1, 8)).unwrap_or(1)
}

/// The live part as a worker on this machine gets it: it leaves at once, since nginx is told before it is stopped, and
/// it reads the addresses of clients where our nginx writes them, whatever stands in front of it in a cluster.
pub fn live(live: &config::Live) -> config::Live {
    let mut live = live.clone();
    live.drain.propagation = value::Duration::from_secs(0);
    live.client_address = config::ClientAddress::XForwardedFor {
        trusted_proxies: trusted_proxies(&live.client_address),
    };
    live
}

/// Workers listen on 127.0.0.1, so that is where our nginx comes from. Proxies in front of it, where the manifest trusts
/// such, write the same header.
fn trusted_proxies(manifest: &config::ClientAddress) -> Vec<value::Network> {
    let own = value::Network::host(Ipv4Addr::LOCALHOST.into());
    let others = match manifest {
        config::ClientAddress::XForwardedFor { trusted_proxies } => trusted_proxies.as_slice(),
        config::ClientAddress::Connection | config::ClientAddress::ProxyProtocol { .. } => &[],
    };
    [&[own], others].concat()
}

/// The process of a worker whose configuration is in `file`.
pub fn program(
    gateway: &Path,
    number: u32,
    place: &Place,
    file: &Path,
    live: &config::Live,
) -> Program {
    Program {
        name: name(number),
        path: gateway.to_owned(),
        args: vec!["--config".into(), file.into()],
        ready: Ready::Ok(place.admin.address(), "/readyz".to_owned()),
        stop_signal: Signal::SIGTERM,
        stop_patience: live.drain.period.get() + live.websocket.write_wait.get() + STOP_MARGIN,
        unshown: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::gateway;

    #[test]
    fn a_worker_leaves_at_once_believes_our_nginx_and_otherwise_does_as_the_manifest_says() {
        let check = |exposure: &str, trusted: &[&str]| {
            let wanted = gateway(&format!(
                "{{exposure: {exposure}, routes: [{{name: a, path: /a}}]}}"
            ));
            let mut local = live(&wanted.live);
            assert_eq!(local.drain.propagation, value::Duration::from_secs(0));
            let trusted_proxies = trusted.iter().map(|text| text.parse().unwrap()).collect();
            let expected = config::ClientAddress::XForwardedFor { trusted_proxies };
            assert_eq!(local.client_address, expected);
            local.drain.propagation = wanted.live.drain.propagation;
            local.client_address = wanted.live.client_address.clone();
            assert_eq!(local, wanted.live);
        };
        check("{}", &["127.0.0.1"]);
        check(
            "{clientAddress: {type: XForwardedFor, trustedProxies: [10.0.0.0/8]}}",
            &["127.0.0.1", "10.0.0.0/8"],
        );
        check(
            "{type: LoadBalancer, tls: {type: None}, clientAddress: {type: ProxyProtocol, trustedProxies: [10.0.0.0/8]}}",
            &["127.0.0.1"],
        );
    }

    #[test]
    fn workers_do_not_share_ports() {
        let (first, second) = (place(1, 3).unwrap(), place(1, 3).unwrap());
        let mut numbers =
            [&first.clients, &first.admin, &second.clients, &second.admin].map(|p| p.number);
        numbers.sort_unstable();
        assert!(
            numbers.windows(2).all(|pair| pair[0] < pair[1]),
            "{numbers:?}"
        );
        assert!(numbers[3] < port::EPHEMERAL_FIRST);
    }
}
