//! The admin port: liveness, readiness, metrics, and which configuration runs. It runs apart from the shards, so that no fan-out stalls
//! it, and it tells of a shard that stalls.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use wsgateway_crds::report::Report;

use crate::{
    auth::keyring::Keyrings, metrics, nats::NatsHandle, revision::Revisions, tls::Certificates,
    upgrade::Gate,
};

/// How long a shard may go without a sweep before the process counts as stuck. A sweep is due every
/// 0.1 s; a machine that is short of CPU may delay it by seconds.
const SHARD_STUCK_AFTER: Duration = Duration::from_secs(20);

/// How long a request to the admin port may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long accepting rests when there is no descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What the admin port tells.
#[derive(Debug)]
pub struct Admin {
    /// Every metric.
    pub registry: Registry,
    /// NATS.
    pub nats: NatsHandle,
    /// The keys of issuers.
    pub keyrings: Arc<Keyrings>,
    /// What clients are shown, with TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// The open connections.
    pub gate: Arc<Gate>,
    /// The configuration that runs.
    pub revisions: Arc<Revisions>,
    /// What the descriptors allow.
    pub connections_max: usize,
    /// The shards' last sweeps, in milliseconds since the epoch.
    pub heartbeats: Vec<Arc<AtomicU64>>,
    /// When the process began.
    pub epoch: Instant,
    /// Whether it has been able to serve every route once.
    pub has_started: AtomicBool,
}

impl Admin {
    /// Serves for as long as the process lives.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            let admin = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let response = admin.answer(&request);
                    async { Ok::<_, Infallible>(response) }
                });
                // A scraper that hangs up early is its own business.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/livez" => said(self.liveness()),
            "/readyz" => said(self.readiness()),
            "/metrics" => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                of_kind(kind, metrics::render(&self.registry))
            }
            "/status" => match serde_json::to_string(&self.report()) {
                Ok(report) => of_kind("application/json", report),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
            },
            _ => text(StatusCode::NOT_FOUND, "/livez /readyz /metrics /status\n"),
        }
    }

    /// The process lives while every shard sweeps.
    fn liveness(&self) -> Result<(), String> {
        let now = self.epoch.elapsed();
        for (shard, beat) in self.heartbeats.iter().enumerate() {
            let silent = now.saturating_sub(Duration::from_millis(beat.load(Ordering::Relaxed)));
            if silent > SHARD_STUCK_AFTER {
                return Err(format!(
                    "shard {shard} has not swept for {} s",
                    silent.as_secs()
                ));
            }
        }
        Ok(())
    }

    /// It is ready from its first connection to NATS, once its queues have been looked at and the keys of issuers have
    /// been had, until it drains,
    /// while it has descriptors left. A later loss of NATS does not change that: all pods at once would
    /// leave the Service.
    fn readiness(&self) -> Result<(), String> {
        if self.gate.is_draining() {
            return Err("draining".to_owned());
        }
        if !self.has_started.load(Ordering::Relaxed) {
            if !self.nats.has_connected() {
                return Err("NATS has not been reached yet".to_owned());
            }
            if self.nats.is_opening_queues() {
                return Err("queues are being opened".to_owned());
            }
            if !self.keyrings.are_loaded() {
                return Err("no issuer's keys are loaded yet".to_owned());
            }
            self.has_started.store(true, Ordering::Relaxed);
        }
        if self.gate.open() >= self.connections_max {
            return Err(format!(
                "all {} connections are taken",
                self.connections_max
            ));
        }
        Ok(())
    }

    fn report(&self) -> Report {
        let (live_hash, rejected) = self.revisions.live();
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_hash: self.revisions.boot_hash().to_owned(),
            live_hash,
            rejected,
            connections: self.gate.open() as u64,
            draining: self.gate.is_draining(),
            nats: self.nats.report(),
            tls: self
                .certificates
                .as_ref()
                .map(|certificates| certificates.report()),
            auth: self.keyrings.report(),
        }
    }
}

fn of_kind(kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn said(result: Result<(), String>) -> Response<Full<Bytes>> {
    match result {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n")),
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
