//! What stands between a program and the API server, and answers some requests otherwise: a permission that is missing
//! for one kind alone, a version that is too old, a connection that has lost its other end, a write that fails.
//!
//! It speaks plain HTTP to the program, and as that program to the API server: a token is passed on. Who shows a
//! certificate cannot go through it.

use std::{
    convert::Infallible,
    fmt, io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, client::Body, config::AuthInfo};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::sleep};

use super::{ControlPlane, Identity, held};
use crate::port::Port;

type Rule = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;
type AnyBody = UnsyncBoxBody<Bytes, io::Error>;

/// What a program asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// As roles write it: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// The resource as paths and roles write it, such as `services`; empty where none is asked for, as in discovery.
    pub resource: String,
    /// The namespace, unless it is asked for in all.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: Option<String>,
    /// Such as `status`.
    pub subresource: Option<String>,
}

impl Asked {
    /// Whether something is to be changed.
    pub fn is_write(&self) -> bool {
        matches!(self.verb, "create" | "update" | "patch" | "delete")
    }

    fn of(request: &Request<Incoming>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let is_watch = query
            .split('&')
            .any(|pair| pair == "watch=true" || pair == "watch=1");
        Self::parse(request.method(), request.uri().path(), is_watch)
    }

    fn parse(method: &Method, path: &str, is_watch: bool) -> Self {
        let mut parts = path.trim_matches('/').split('/');
        // `/api/v1/…` or `/apis/GROUP/VERSION/…`
        let skipped = if parts.next() == Some("apis") { 2 } else { 1 };
        let parts: Vec<&str> = parts.skip(skipped).collect();
        let (namespace, rest) = match parts.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let text = |index: usize| rest.get(index).map(|&text: &&str| text.to_owned());
        let name = text(1);
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ if is_watch => "watch",
            _ if name.is_some() => "get",
            _ => "list",
        };
        Self {
            verb,
            resource: text(0).unwrap_or_default(),
            namespace: namespace.map(str::to_owned),
            name,
            subresource: text(2),
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What the API server says.
    Real,
    /// What it says, so much later.
    Late(Duration),
    /// A failure with this code. A watch that runs ends, so that it has to be begun anew.
    Failure(u16),
    /// Nothing, and the connection stays open. A watch that runs says nothing from then on, also under later rules.
    Silence,
}

impl Answer {
    /// This one where that is so, else the API server's.
    #[must_use]
    pub fn only_if(self, is_so: bool) -> Self {
        if is_so { self } else { Self::Real }
    }
}

/// A proxy that runs until this is dropped.
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    client: Client,
    rule: watch::Sender<Rule>,
    log: Mutex<Vec<(Instant, Asked)>>,
}

impl Proxy {
    /// Begins, and passes everything on. To be called in a tokio runtime.
    pub fn start(cluster: &ControlPlane) -> Self {
        let mut config = cluster.config(&Identity::Admin);
        config.auth_info = AuthInfo::default();
        config.default_retry = false;
        let shared = Arc::new(Shared {
            client: Client::try_from(config).unwrap(),
            rule: watch::Sender::new(Arc::new(|_| Answer::Real)),
            log: Mutex::default(),
        });
        let port = Port::lease();
        let listener = std::net::TcpListener::bind(port.address()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let task = tokio::spawn(Arc::clone(&shared).serve(listener));
        Self { port, shared, task }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// From now on it answers so, also to whom watches already.
    pub fn set(&self, rule: impl Fn(&Asked) -> Answer + Send + Sync + 'static) {
        self.shared.rule.send_replace(Arc::new(rule));
    }

    /// From now on it passes everything on.
    pub fn clear(&self) {
        self.set(|_| Answer::Real);
    }

    /// When those requests came that `wanted` picks.
    pub fn times(&self, wanted: impl Fn(&Asked) -> bool) -> Vec<Instant> {
        let log = held(&self.shared.log);
        let wanted = log.iter().filter(|(_, asked)| wanted(asked));
        wanted.map(|(at, _)| *at).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.url())
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let shared = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(|request| shared.answer(request));
                // Who hangs up, and an API server that is away, end the connection.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<AnyBody>, kube::Error> {
        let asked = Asked::of(&request);
        held(&self.log).push((Instant::now(), asked.clone()));
        let mut rules = self.rule.subscribe();
        let answer = rules.borrow_and_update()(&asked);
        match answer {
            Answer::Real => {}
            Answer::Late(wait) => sleep(wait).await,
            Answer::Failure(code) => return Ok(failure(code, &asked)),
            Answer::Silence => std::future::pending::<()>().await,
        }
        let (mut parts, body) = request.into_parts();
        parts.headers.remove(header::HOST);
        let body = body.collect().await.map_err(kube::Error::HyperError)?;
        let body = Body::from(body.to_bytes());
        let response = self.client.send(Request::from_parts(parts, body)).await?;
        let is_watch = asked.verb == "watch";
        Ok(response.map(|body| {
            let body = body.map_err(io::Error::other);
            if is_watch {
                watched(body.boxed_unsync(), asked, rules)
            } else {
                body.boxed_unsync()
            }
        }))
    }
}

/// Goes on until a rule says otherwise.
fn watched(body: AnyBody, asked: Asked, rules: watch::Receiver<Rule>) -> AnyBody {
    let frames = stream::unfold((body, asked, rules), |(mut body, asked, mut rules)| async {
        loop {
            tokio::select! {
                frame = body.frame() => return Some((frame?, (body, asked, rules))),
                Ok(()) = rules.changed() => {
                    let answer = rules.borrow_and_update()(&asked);
                    match answer {
                        Answer::Real | Answer::Late(_) => {}
                        Answer::Failure(_) => return None,
                        Answer::Silence => std::future::pending().await,
                    }
                }
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// As the API server words it. That a version is too old, it tells a watch by an event.
fn failure(code: u16, asked: &Asked) -> Response<AnyBody> {
    let reason = match code {
        403 => "Forbidden",
        409 => "Conflict",
        410 => "Expired",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => "",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("a test says {code} to {} {}", asked.verb, asked.resource),
        "reason": reason, "code": code,
    });
    let (code, body) = if code == 410 && asked.verb == "watch" {
        (200, json!({"type": "ERROR", "object": status}))
    } else {
        (code, status)
    };
    let body = Full::new(Bytes::from(format!("{body}\n")));
    Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, "application/json")
        .body(
            body.map_err(|never: Infallible| match never {})
                .boxed_unsync(),
        )
        .unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_roles_are_written() {
        let check = |method: Method, path: &str, is_watch: bool, expected: &str| {
            let asked = Asked::parse(&method, path, is_watch);
            let parts = [&asked.namespace, &asked.name, &asked.subresource];
            let parts = parts.map(|part| part.as_deref().unwrap_or("-"));
            let said = format!("{} {:?} {}", asked.verb, asked.resource, parts.join(" "));
            assert_eq!(said, expected, "{path}");
        };
        let get = Method::GET;
        check(get.clone(), "/api/v1/pods", true, "watch \"pods\" - - -");
        check(
            get.clone(),
            "/apis/apps/v1/namespaces/shop/deployments",
            false,
            "list \"deployments\" shop - -",
        );
        check(
            get.clone(),
            "/api/v1/namespaces/shop/secrets/chat-tls",
            false,
            "get \"secrets\" shop chat-tls -",
        );
        check(
            Method::PATCH,
            "/apis/wsgateway.io/v1alpha1/namespaces/shop/wsgateways/chat/status",
            false,
            "patch \"wsgateways\" shop chat status",
        );
        check(get, "/apis/keda.sh/v1alpha1", false, "list \"\" - - -");
    }
}
