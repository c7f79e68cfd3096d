//! The `http` block's working parts: the upgrade map, the workers, and the one server with its
//! locations.

use super::writer::Writer;
use super::{Https, Standalone};
use crate::exposure::{Affinity, Buffering, PROXY_CONNECT_TIMEOUT, StatusPage};
use crate::value::{LocationPath, NginxDuration, NginxSize};

/// The upstream's name, which appears in nginx's error log.
const UPSTREAM: &str = "wsgateway";

/// All attempts of one handshake together.
const NEXT_UPSTREAM_TIMEOUT: NginxDuration = NginxDuration::from_secs(10);

const _: () = assert!(
    NEXT_UPSTREAM_TIMEOUT.as_millis() >= 3 * PROXY_CONNECT_TIMEOUT.as_millis(),
    "a handshake must survive two workers that have vanished"
);

/// Each socket keeps a buffer of this size for either direction: it makes 14.0 KB of the 18.1 KB that a
/// socket weighs with nginx's defaults, 4k here (docs/nginx.md). The head of the worker's answer must fit,
/// some 300 bytes for a 101; after it, frames move through the buffers. Longer frames than the buffer
/// pay: at 3,000 bytes a delivery costs nginx 13 µs instead of 8 µs with 4k, and an echo of 10 MiB takes
/// 60 ms instead of 36 ms. Shorter ones cost the same from 1k to 8k.
///
/// `proxy_buffers` and `proxy_busy_buffers_size` are nginx's own: an upgraded connection has none of
/// them.
const PROXY_BUFFER: NginxSize = NginxSize::from_kib(1);

/// nginx keeps a buffer of this size with every TLS connection, for the head of the answer alone;
/// frames are written past it. Measured with nginx 1.22, TLS 1.3 and 2,000 sockets: 30.1 KB each
/// instead of 39.2 KB with its default of 16k (13.6 KB without TLS).
const TLS_BUFFER: NginxSize = NginxSize::from_kib(1);

/// Clients that come back all at once wait here instead of being refused. The kernel cuts it to
/// `somaxconn`.
const BACKLOG: u32 = 4096;

pub(super) fn upgrade_map(conf: &mut Writer) {
    conf.block("map $http_upgrade $connection_upgrade", |conf| {
        conf.line("default upgrade");
        conf.line("'' close");
    });
}

pub(super) fn upstream(conf: &mut Writer, standalone: &Standalone) {
    conf.block(format_args!("upstream {UPSTREAM}"), |conf| {
        match standalone.exposure.affinity {
            Affinity::ClientIp | Affinity::Cookie => conf.line("ip_hash"),
            Affinity::None => {
                conf.comment("In shared memory, so that nginx's processes count together.");
                conf.line("zone workers 256k");
                conf.line("least_conn");
            }
        }
        conf.comment("A socket that timed out says nothing about its worker: none is ejected.");
        for worker in &standalone.workers {
            conf.line(format_args!("server {worker} max_fails=0"));
        }
    });
}

/// One server answers whatever Host it is asked for: a local gateway is also reached as localhost
/// and by address, and the workers check origins themselves.
pub(super) fn server(conf: &mut Writer, standalone: &Standalone) {
    let exposure = &standalone.exposure;
    listen(conf, standalone);
    if exposure.hosts.is_empty() {
        conf.line("server_name _");
    } else {
        let names: Vec<_> = exposure.hosts.iter().map(ToString::to_string).collect();
        conf.line(format_args!("server_name {}", names.join(" ")));
    }
    if let Some(https) = standalone.listeners.https() {
        tls(conf, https);
    }
    proxy(conf, standalone);
    for path in &exposure.paths {
        for location in locations(path) {
            conf.block(location, |conf| route(conf, standalone));
        }
    }
    if let Some(status) = &exposure.status {
        for location in locations(&status.path) {
            conf.block(location, |conf| status_page(conf, status));
        }
    }
    conf.block("location /", |conf| {
        conf.comment("Answered here: what scanners ask for costs no worker a connection.");
        conf.line(r#"return 404 "no WebSocket route here\n""#);
    });
}

/// With `reuseport` each process has a queue of its own, else one of them would take most clients.
/// A single process goes without, since the option also lets a second nginx of the same user bind
/// the port in silence.
fn listen(conf: &mut Writer, standalone: &Standalone) {
    let reuseport = match standalone.capacity.worker_processes.get() {
        1 => "",
        _ => " reuseport",
    };
    for address in standalone.listeners.http() {
        conf.line(format_args!(
            "listen {address} default_server backlog={BACKLOG}{reuseport}"
        ));
    }
    for address in standalone
        .listeners
        .https()
        .into_iter()
        .flat_map(|https| &https.listen)
    {
        conf.line(format_args!(
            "listen {address} ssl default_server backlog={BACKLOG}{reuseport}"
        ));
    }
}

fn tls(conf: &mut Writer, https: &Https) {
    conf.line(format_args!("ssl_certificate {}", https.certificate));
    conf.line(format_args!("ssl_certificate_key {}", https.key));
    conf.line("ssl_protocols TLSv1.2 TLSv1.3");
    conf.comment("Of TLS 1.2 only what has forward secrecy and authenticates what it encrypts.");
    conf.line("ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20");
    conf.line("ssl_prefer_server_ciphers off");
    conf.comment("Clients that come back after a reload resume; some 4,000 sessions take 1m.");
    conf.line("ssl_session_cache shared:tls_sessions:10m");
    conf.line("ssl_session_timeout 1h");
    conf.line("ssl_session_tickets off");
    conf.line(format_args!("ssl_buffer_size {TLS_BUFFER}"));
}

fn proxy(conf: &mut Writer, standalone: &Standalone) {
    let exposure = &standalone.exposure;
    conf.line(format_args!("client_max_body_size {}", exposure.body_size));
    conf.line(format_args!(
        "client_body_buffer_size {}",
        exposure.client_body_buffer_size
    ));
    conf.line("proxy_http_version 1.1");
    conf.line("proxy_set_header Upgrade $http_upgrade");
    conf.line("proxy_set_header Connection $connection_upgrade");
    conf.comment("With its port, which a worker needs to compare origins.");
    conf.line("proxy_set_header Host $http_host");
    conf.line("proxy_set_header X-Real-IP $remote_addr");
    conf.line("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for");
    conf.line("proxy_set_header X-Forwarded-Proto $scheme");
    conf.line(format_args!(
        "proxy_connect_timeout {PROXY_CONNECT_TIMEOUT}"
    ));
    conf.comment("Longer than pongWait, or nginx ends a quiet connection first (1006).");
    conf.line(format_args!(
        "proxy_read_timeout {}",
        exposure.proxy_read_timeout
    ));
    conf.line(format_args!(
        "proxy_send_timeout {}",
        exposure.proxy_send_timeout
    ));
    conf.comment("A draining or full worker refuses or says 503: the next one is tried.");
    conf.line("proxy_next_upstream error timeout http_503");
    conf.line(format_args!(
        "proxy_next_upstream_timeout {NEXT_UPSTREAM_TIMEOUT}"
    ));
    conf.line(match exposure.proxy_buffering {
        Buffering::Disabled => "proxy_buffering off",
        Buffering::Enabled => "proxy_buffering on",
    });
    conf.line(format_args!("proxy_buffer_size {PROXY_BUFFER}"));
}

fn route(conf: &mut Writer, standalone: &Standalone) {
    if standalone.workers.is_empty() {
        conf.line(r#"return 503 "no worker\n""#);
    } else {
        conf.line(format_args!("proxy_pass http://{UPSTREAM}"));
    }
}

fn status_page(conf: &mut Writer, status: &StatusPage) {
    conf.line("stub_status");
    conf.line("access_log off");
    for block in &status.allow {
        conf.line(format_args!("allow {block}"));
    }
    conf.line("deny all");
}

/// The heads of the blocks that match the path and nothing else: with and without a trailing slash
/// for a literal path, one regular expression for a path with parameters.
fn locations(path: &LocationPath) -> Vec<String> {
    let spelling = path.spelling();
    if !path.is_literal() {
        return vec![format!("location ~ \"{}\"", path.regex())];
    }
    match spelling.as_str() {
        "/" => vec!["location = /".to_owned()],
        _ => vec![
            format!("location = \"{spelling}\""),
            format!("location = \"{spelling}/\""),
        ],
    }
}
