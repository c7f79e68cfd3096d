//! The admin port: liveness, readiness, metrics.

use std::{
    convert::Infallible,
    sync::Arc,
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
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{leader::Tenure, metrics, watch::Health};

/// How long a request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long accepting rests when there is no descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How many connections are served at once: a kubelet and a few scrapers need no more.
const CONNECTIONS_MAX: usize = 64;

/// What the admin port tells.
#[derive(Debug)]
pub struct Admin {
    /// Every metric.
    pub registry: Registry,
    /// The watches.
    pub health: Arc<Health>,
    /// The lease.
    pub tenure: Arc<Tenure>,
}

impl Admin {
    /// Serves for as long as the process lives.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            let admin = self.clone();
            tokio::spawn(async move {
                let _permit = permit;
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
            "/livez" => said(self.fault()),
            "/readyz" => said(self.health.not_ready()),
            "/metrics" => {
                let mut response = text(StatusCode::OK, &metrics::render(&self.registry));
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                response
            }
            _ => text(StatusCode::NOT_FOUND, "/livez /readyz /metrics\n"),
        }
    }

    /// What only a restart mends. An API server that is away is not among it.
    fn fault(&self) -> Option<String> {
        let now = Instant::now();
        self.health
            .stuck(now)
            .or_else(|| self.tenure.overstayed(now))
    }
}

fn said(fault: Option<String>) -> Response<Full<Bytes>> {
    match fault {
        None => text(StatusCode::OK, "ok\n"),
        Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n")),
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
