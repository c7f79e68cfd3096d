//! What `wsgw local` tells Prometheus, on one page: nginx's connections, how its children fare, and what each worker
//! says of itself.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes, body::Incoming, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::{
    exposition::Exposition,
    http,
    stub_status::{NginxMetrics, StubStatus},
};

/// Prometheus and a person with curl: more at once is a mistake.
const CONNECTIONS_MAX: usize = 32;

/// How long accepting rests when there is no descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Names the child of a metric.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChildLabel {
    child: String,
}

/// How often each child ended without being told to.
#[derive(Debug, Clone, Default)]
pub struct Restarts(Family<ChildLabel, Counter>);

impl Restarts {
    /// Shows 0 for a child that has not ended yet.
    pub fn expect(&self, child: &str) {
        self.of(child);
    }

    /// Counts one.
    pub fn count(&self, child: &str) {
        self.of(child).inc();
    }

    /// How many there were.
    pub fn counted(&self, child: &str) -> u64 {
        self.of(child).get()
    }

    fn of(&self, child: &str) -> Counter {
        self.0.get_or_create_owned(&ChildLabel {
            child: child.to_owned(),
        })
    }
}

/// Where nginx's status page is.
#[derive(Debug, Clone)]
pub struct StatusPage {
    /// nginx's plain listener.
    pub address: SocketAddr,
    /// `exposure.status.path`.
    pub path: String,
}

/// Whom the endpoint asks.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// nginx, once it is there.
    pub nginx: Option<StatusPage>,
    /// The workers' admin addresses by name.
    pub workers: Vec<(String, SocketAddr)>,
}

/// The endpoint.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    nginx: Arc<NginxMetrics>,
    targets: watch::Receiver<Targets>,
}

impl Metrics {
    /// Registers what it shows. `targets` follow the manifest.
    pub fn new(restarts: &Restarts, targets: watch::Receiver<Targets>) -> Self {
        let mut registry = Registry::default();
        let nginx = Arc::new(NginxMetrics::default());
        registry.register_collector(Box::new(Arc::clone(&nginx)));
        registry.register(
            "wsgw_child_restarts",
            "How often a child of wsgw local ended by itself and was started again",
            restarts.0.clone(),
        );
        Self {
            registry,
            nginx,
            targets,
        }
    }

    /// Serves `/metrics` until it is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let metrics = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                    let Ok((stream, _)) = accepted else {
                        // Out of descriptors, most likely: they come back with time alone.
                        tokio::time::sleep(ACCEPT_RETRY).await;
                        continue;
                    };
                    let metrics = Arc::clone(&metrics);
                    connections.spawn(async move {
                        let service = hyper::service::service_fn(move |request| {
                            let metrics = Arc::clone(&metrics);
                            async move { Ok::<_, Infallible>(metrics.answer(&request).await) }
                        });
                        let _ = hyper::server::conn::http1::Builder::new()
                            .timer(TokioTimer::new())
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != "/metrics" {
            return plain(StatusCode::NOT_FOUND, "only /metrics is here\n");
        }
        if *request.method() != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        let targets = self.targets.borrow().clone();
        self.nginx.set(match &targets.nginx {
            Some(page) => scrape(page).await,
            None => None,
        });
        let mut own = String::new();
        if encode(&mut own, &self.registry).is_err() {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode\n");
        }
        let mut all = Exposition::default();
        all.add(&own, None);
        for (name, admin) in &targets.workers {
            if let Ok((StatusCode::OK, text)) = http::get(*admin, "/metrics").await {
                all.add(&text, Some(name));
            }
        }
        let text = all.to_string();
        let mut response = Response::new(Full::from(text));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static(
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            ),
        );
        response
    }
}

async fn scrape(page: &StatusPage) -> Option<StubStatus> {
    let (status, text) = http::get(page.address, &page.path).await.ok()?;
    StubStatus::parse(&text).filter(|_| status == StatusCode::OK)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
