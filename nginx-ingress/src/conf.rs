//! The `nginx.conf` of a whole nginx, for `wsgw local` and for anyone who runs nginx without a
//! controller. Third on the path.
//!
//! It runs in the foreground, as root or as any user, and writes no file outside
//! [`Standalone::directory`] and the logs. A reload (SIGHUP) with other workers closes no socket:
//! see [`Standalone::worker_shutdown_timeout`]. Start nginx with `-e stderr`, or it opens the error
//! log that it was built with before it reads this.

mod capacity;
mod listeners;
mod server;
mod writer;

use serde::{Deserialize, Serialize};

pub use capacity::Capacity;
pub use listeners::{Https, ListenerSettings, Listeners, ListenersError};

use crate::dialect::NotExpressed;
use crate::exposure::{Affinity, Exposure, UpstreamMode};
use crate::value::{FilePath, NginxDuration, NginxSize, UpstreamAddress};
use writer::Writer;

/// A whole nginx in front of the workers of one `WsGateway`.
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
    /// A directory of its own for the pid file and what nginx spools. It must exist; nginx makes
    /// what is below. There is no `user` directive: started as root, nginx's workers run as the
    /// account that it was built with (`nobody`), which must be able to enter the directory (mode
    /// 0711 is enough); started as anyone else, all of it runs as that user.
    pub directory: FilePath,
    /// Where errors go.
    #[serde(default)]
    pub error_log: ErrorLog,
    /// A file for a line per finished request; absent means none. A socket's line comes when it
    /// closes. Queries are left out of it, since they may carry tokens.
    #[serde(default)]
    pub access_log: Option<FilePath>,
    /// After a reload, how long the old nginx workers may keep their sockets. Absent, the default,
    /// means until the clients go: a reload then costs nobody a connection, only the memory of an
    /// old process. A stop by SIGTERM is at once in either case.
    #[serde(default)]
    pub worker_shutdown_timeout: Option<NginxDuration>,
}

/// Where nginx writes its errors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorLog {
    /// The standard error of the process that started it.
    #[default]
    Stderr,
    /// A file that it appends to.
    File(FilePath),
}

impl Standalone {
    /// The pid file that nginx writes, inside `directory`.
    pub fn pid_file(&self) -> FilePath {
        self.directory.join("nginx.pid")
    }

    /// What nginx without a controller cannot do.
    pub fn not_expressed(&self) -> Vec<NotExpressed> {
        let mut report = Vec::new();
        if self.exposure.affinity == Affinity::Cookie {
            report.push(NotExpressed::new(
                "exposure.affinity",
                "nginx sets affinity cookies only since 1.29.6; ip_hash stands in",
            ));
        }
        if self.exposure.upstream == UpstreamMode::ServiceIp {
            report.push(NotExpressed::new(
                "exposure.upstream",
                "without a cluster there is no Service address; nginx connects to each worker",
            ));
        }
        report
    }
}

/// Writes the configuration. Equal input gives equal text, so that an unchanged file needs no
/// reload.
pub fn render(standalone: &Standalone) -> String {
    let mut conf = Writer::default();
    process(&mut conf, standalone);
    conf.block("events", |conf| {
        conf.line(format_args!(
            "worker_connections {}",
            standalone.capacity.worker_connections
        ));
    });
    conf.block("http", |conf| {
        http(conf, standalone);
        server::upgrade_map(conf);
        if !standalone.workers.is_empty() {
            server::upstream(conf, standalone);
        }
        conf.block("server", |conf| server::server(conf, standalone));
    });
    conf.into_text()
}

/// A client may take so long for the head of its request: the gateway's `handshakeTimeout`.
const CLIENT_HEADER_TIMEOUT: NginxDuration = NginxDuration::from_secs(10);

/// Spares each TLS socket 0.3 KB of 30 KB, and one without TLS nothing; nginx's default is 512.
const CONNECTION_POOL_BYTES: u32 = 256;

/// A request takes some 8 KB of its pool, in blocks of this size, and a socket keeps them: 13.6 KB in all
/// instead of 15.1 KB with blocks of nginx's default, 4k. From 512 bytes to 1.5k it makes no difference.
const REQUEST_POOL: NginxSize = NginxSize::from_kib(1);

/// The head of the handshake stays in memory for the socket's life: in this buffer, or beside it in one
/// of [`HEAD_MAX`] where it is longer. With a token of 1.1 KB a socket weighs 15.0 KB instead of 19.6 KB
/// with nginx's default of 1k; without one it weighs 1.0 KB more than with that. 4k would cost everyone
/// 2.0 KB again.
const HEAD_BUFFER: NginxSize = NginxSize::from_kib(2);

/// The longest line of a head: what the gateway takes of a whole head (`HEAD_BYTES_MAX` there). With
/// nginx's default of 8k a long token would be refused here. It costs memory only where it is needed.
const HEAD_MAX: NginxSize = NginxSize::from_kib(16);

/// How many such lines one head may have; nginx's default.
const LARGE_HEAD_BUFFERS: u32 = 4;

/// The longest host name takes 253 bytes and a few of nginx's own. nginx's default, one cache line,
/// is an error for names from some 45 bytes on.
const HOST_NAME_BUCKET_BYTES: u32 = 512;

/// nginx makes the directories of these modules when it starts, at a place that an ordinary user
/// cannot write unless told otherwise.
const SPOOLING_MODULES: [&str; 5] = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];

fn process(conf: &mut Writer, standalone: &Standalone) {
    let Capacity {
        worker_processes,
        worker_connections: _,
        worker_rlimit_nofile,
    } = standalone.capacity;
    conf.comment("Written by wsgateway, and written anew on every change.");
    conf.line("daemon off");
    conf.line(format_args!("pid {}", standalone.pid_file()));
    match &standalone.error_log {
        ErrorLog::Stderr => conf.line("error_log stderr warn"),
        ErrorLog::File(path) => conf.line(format_args!("error_log {path} warn")),
    }
    conf.line(format_args!("worker_processes {worker_processes}"));
    conf.line(format_args!("worker_rlimit_nofile {worker_rlimit_nofile}"));
    match standalone.worker_shutdown_timeout {
        Some(timeout) => conf.line(format_args!("worker_shutdown_timeout {timeout}")),
        None => conf.comment("No worker_shutdown_timeout: a reload closes nobody's socket."),
    }
}

fn http(conf: &mut Writer, standalone: &Standalone) {
    conf.line("server_tokens off");
    conf.line("default_type text/plain");
    conf.line(format_args!(
        "server_names_hash_bucket_size {HOST_NAME_BUCKET_BYTES}"
    ));
    for module in SPOOLING_MODULES {
        let path = standalone.directory.join(&format!("{module}_temp"));
        conf.line(format_args!("{module}_temp_path {path}"));
    }
    match &standalone.access_log {
        Some(path) => {
            conf.comment("Without the query, which may carry a token.");
            conf.line(
                "log_format wsgateway '$remote_addr [$time_iso8601] $request_method $uri $status \
                 bytes=$bytes_sent seconds=$request_time worker=$upstream_addr'",
            );
            conf.line(format_args!("access_log {path} wsgateway"));
        }
        None => conf.line("access_log off"),
    }
    conf.comment("Sized for many sockets that are idle most of the time.");
    conf.line(format_args!("connection_pool_size {CONNECTION_POOL_BYTES}"));
    conf.line(format_args!("request_pool_size {REQUEST_POOL}"));
    conf.line(format_args!("client_header_buffer_size {HEAD_BUFFER}"));
    conf.line(format_args!(
        "large_client_header_buffers {LARGE_HEAD_BUFFERS} {HEAD_MAX}"
    ));
    conf.line(format_args!(
        "client_header_timeout {CLIENT_HEADER_TIMEOUT}"
    ));
    conf.line("keepalive_timeout 30s");
}
