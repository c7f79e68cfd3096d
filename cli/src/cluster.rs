//! The cluster that the kubeconfig names, as the subcommands reach it.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

use std::{error::Error, time::Duration};

use hyper::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use wsgateway_crds::report::Report;

/// How long the API server may take for an answer, and a pod behind it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The port at which a gateway's pod tells of itself.
const ADMIN_PORT: u16 = 9_000;

/// How many pods are asked at the same time.
pub(crate) const ASKED_AT_ONCE: usize = 16;

/// Which cluster, and where in it.
#[derive(Debug, Clone, clap::Args)]
pub struct ClusterArgs {
    /// The namespace. Default: the one of the context.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig, where it is not the current one.
    #[arg(long)]
    context: Option<String>,
}

/// Why a cluster does not say what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Neither a kubeconfig nor a pod's own account leads to one.
    #[error("no cluster to ask: {0}")]
    Config(String),
    /// It does not answer, or refuses.
    #[error("cannot {action}: {message}")]
    Request {
        /// What was wanted of it.
        action: String,
        /// What it said.
        message: String,
    },
}

impl ClusterError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) => "NoCluster",
            Self::Request { .. } => "RequestFailed",
        }
    }
}

/// What came of asking for what may be absent, or not be for everyone to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    /// It.
    Is(T),
    /// There is no such object, or no such kind.
    Absent,
    /// Who asks may not know. The API server's sentence.
    Forbidden(String),
}

/// A cluster, and the namespace that is meant in it.
#[derive(Clone)]
pub struct Cluster {
    /// The way to its API server.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl ClusterArgs {
    /// Finds the cluster. Nothing is asked of it yet.
    pub async fn find(self) -> Result<Cluster, ClusterError> {
        let Self { namespace, context } = self;
        let wrong = |error: &dyn Error| ClusterError::Config(chain(error));
        let config = match context {
            Some(context) => {
                let kubeconfig = Kubeconfig::read().map_err(|error| wrong(&error))?;
                let options = KubeConfigOptions {
                    context: Some(context),
                    ..KubeConfigOptions::default()
                };
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(|error| wrong(&error))?
            }
            None => Config::infer().await.map_err(|error| wrong(&error))?,
        };
        Cluster::of(config, namespace)
    }
}

impl Cluster {
    fn of(mut config: Config, namespace: Option<String>) -> Result<Self, ClusterError> {
        // A person waits. And a pod that does not answer is a 503 of the API server, which the client would retry.
        config.default_retry = false;
        // Other crates in the process may bring in a second provider; rustls then wants to be told.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(config);
        let client = client.map_err(|error| ClusterError::Config(chain(&error)))?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        Ok(Self { client, namespace })
    }

    /// The pods of the WsGateway of this name, or of all in the namespace.
    pub async fn gateway_pods(&self, name: Option<&str>) -> Result<Vec<Pod>, ClusterError> {
        let mut labels = "app.kubernetes.io/name=wsgateway".to_owned();
        if let Some(name) = name {
            labels = format!("{labels},app.kubernetes.io/instance={name}");
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = ListParams::default().labels(&labels);
        let listed = self.answer("list pods", api.list(&list)).await?;
        Ok(listed.items)
    }

    /// The page of a gateway's admin port, fetched through the API server: that works wherever kubectl does, and needs
    /// the permission to get pods/proxy.
    pub async fn admin_page(&self, pod: &str, page: &str) -> Result<String, ClusterError> {
        let namespace = &self.namespace;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{ADMIN_PORT}/proxy{page}");
        let action = format!("get {page} of pod {pod}");
        let request = Request::get(path).body(Vec::new());
        let request = request.map_err(|error| ClusterError::Request {
            action: action.clone(),
            message: error.to_string(),
        })?;
        self.answer(&action, self.client.request_text(request))
            .await
    }

    /// What a gateway says of itself on its admin port.
    pub(crate) async fn report(&self, pod: &str) -> Result<Report, String> {
        let page = self.admin_page(pod, "/status").await;
        let page = page.map_err(|error| error.to_string())?;
        serde_json::from_str(&page)
            .map_err(|error| format!("the /status of pod {pod} is no report: {error}"))
    }

    /// Asks for what may be absent, or not be for everyone to see. Neither is an error.
    pub(crate) async fn ask<T>(
        &self,
        action: &str,
        asked: impl Future<Output = kube::Result<T>>,
    ) -> Result<Answer<T>, ClusterError> {
        let asked = async {
            match asked.await {
                Ok(answer) => Ok(Answer::Is(answer)),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Answer::Absent),
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    Ok(Answer::Forbidden(status.message))
                }
                Err(error) => Err(error),
            }
        };
        self.answer(action, asked).await
    }

    async fn answer<T>(
        &self,
        action: &str,
        asked: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ClusterError> {
        let message = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(kube::Error::Api(status))) => status.message,
            Ok(Err(error)) => chain(&error),
            Err(_elapsed) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        Err(ClusterError::Request {
            action: action.to_owned(),
            message,
        })
    }
}

/// An error and what lies beneath it, in a line; what an error repeats of its source is said once.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut beneath = error.source();
    while let Some(source) = beneath {
        let text = source.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        beneath = source.source();
    }
    line
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{convert::Infallible, net::Ipv4Addr};

    use http_body_util::Full;
    use hyper::{Response, StatusCode, body::Bytes, body::Incoming};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::*;

    /// A cluster whose API server is this function from path and query to status and body.
    pub(crate) async fn cluster(
        answer: impl Fn(&str) -> (u16, String) + Clone + Send + 'static,
    ) -> Cluster {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answer.clone();
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (status, body) = answer(request.uri().path_and_query().unwrap().as_str());
                    let mut response = Response::new(Full::new(Bytes::from(body)));
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    async { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        let config = Config::new(format!("http://{address}").parse().unwrap());
        Cluster::of(config, Some("shop".to_owned())).unwrap()
    }

    #[tokio::test]
    async fn pods_are_chosen_by_label_and_asked_through_the_api_server() {
        let cluster = cluster(|path| match path {
            "/api/v1/namespaces/shop/pods?&labelSelector=app.kubernetes.io%2Fname%3Dwsgateway%2C\
             app.kubernetes.io%2Finstance%3Dnews" => (
                200,
                r#"{"items":[{"metadata":{"name":"news-1"}}],"metadata":{}}"#.to_owned(),
            ),
            "/api/v1/namespaces/shop/pods/news-1:9000/proxy/status" => (200, "{}".to_owned()),
            _ => (404, format!("no {path}")),
        })
        .await;
        let pods = cluster.gateway_pods(Some("news")).await.unwrap();
        assert_eq!(pods[0].metadata.name.as_deref(), Some("news-1"));
        assert_eq!(cluster.admin_page("news-1", "/status").await.unwrap(), "{}");
    }

    #[tokio::test]
    async fn what_the_api_server_refuses_is_said_in_its_words() {
        let refusal = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"news-1\" is forbidden","reason":"Forbidden","code":403}"#;
        let cluster = cluster(|_| (403, refusal.to_owned())).await;
        let error = cluster.admin_page("news-1", "/status").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"cannot get /status of pod news-1: pods "news-1" is forbidden"#
        );
    }
}
