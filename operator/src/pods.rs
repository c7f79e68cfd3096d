//! What the gateways say of themselves, asked of each pod's admin port; and the two annotations that the operator
//! writes on pods: one makes the kubelet bring a changed configuration at once, one says who goes first on scale-in.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{net::TcpStream, time};
use wsgateway_crds::report::Report;

use crate::{build::names::ADMIN_PORT, watch::PodView};

/// How long a pod may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The largest answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// How many pods of one `WsGateway` are asked at once.
const ASKED_AT_ONCE: usize = 16;

/// What a pod said, or why it could not be asked.
pub type Said = Result<Report, String>;

/// How old may be what a pod said that is not ready: it is about to say something else.
const UNREADY_AGE_MAX: Duration = Duration::from_secs(2);

/// What the pods said last.
#[derive(Debug, Default)]
pub struct Reports(Mutex<HashMap<Box<str>, Kept>>);

/// What a pod said, and when.
#[derive(Debug, Clone)]
struct Kept {
    at: Instant,
    /// Whether it was ready then.
    is_ready: bool,
    said: Said,
}

impl Reports {
    /// What each pod says that has an address and runs, by UID; not older than this. Of one that is not ready it says why,
    /// such as that it has no keys; that it says nothing yet is no news.
    pub async fn of(&self, pods: &[Arc<PodView>], age_max: Duration) -> BTreeMap<String, Said> {
        let addressed = pods.iter().filter_map(|pod| {
            let uid = pod.metadata.uid.clone();
            Some((uid, address(pod)?, pod.is_ready))
        });
        let addressed: Vec<(Box<str>, SocketAddr, bool)> = addressed.collect();
        let asked = addressed
            .into_iter()
            .map(|(uid, address, is_ready)| async move {
                let said = self.one(&uid, address, is_ready, age_max).await;
                (is_ready || said.is_ok()).then(|| (uid.into(), said))
            });
        stream::iter(asked)
            .buffer_unordered(ASKED_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    /// What one says, or said not long ago.
    async fn one(&self, uid: &str, address: SocketAddr, is_ready: bool, age_max: Duration) -> Said {
        let age_max = if is_ready {
            age_max
        } else {
            age_max.min(UNREADY_AGE_MAX)
        };
        if let Some(kept) = self.lock().get(uid)
            && kept.is_ready == is_ready
            && kept.at.elapsed() < age_max
        {
            return kept.said.clone();
        }
        let said = ask(address).await;
        let kept = Kept {
            at: Instant::now(),
            is_ready,
            said: said.clone(),
        };
        self.lock().insert(uid.into(), kept);
        said
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what pods said that are gone, where there is more than so many could have said.
    pub fn trim(&self, most: usize, lives: impl Fn(&str) -> bool) {
        let mut all = self.lock();
        if all.len() > most {
            all.retain(|uid, _| lives(uid));
        }
    }
}

/// Where a pod can be asked. One that has not begun, or has ended, cannot.
fn address(pod: &PodView) -> Option<SocketAddr> {
    let ip: IpAddr = pod.ip.as_deref()?.parse().ok()?;
    let runs = pod.is_ready || (pod.is_running && pod.waiting.is_none());
    let serves = runs && !pod.is_terminating() && !pod.is_finished;
    serves.then(|| SocketAddr::new(ip, ADMIN_PORT))
}

async fn ask(address: SocketAddr) -> Said {
    match time::timeout(ANSWER_TIMEOUT, try_ask(address)).await {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!(
            "{address} did not answer within {} s",
            ANSWER_TIMEOUT.as_secs()
        )),
    }
}

async fn try_ask(address: SocketAddr) -> Result<Report, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/status")
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(format!("it answered {status}").into());
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => Err(match ended {
            Ok(()) => "it hung up".into(),
            Err(error) => error.into(),
        }),
    }
}

/// Annotates pods of a namespace.
#[derive(Debug, Clone)]
pub struct Annotator(Api<Pod>);

impl Annotator {
    /// In a namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }

    /// Names the live configuration that a pod should run: any change of a pod makes its kubelet look at its volumes
    /// at once, and not within a minute.
    pub async fn live(&self, pod: &PodView, hash: &str) -> Result<(), kube::Error> {
        self.set(pod, "wsgateway.io/live", hash).await
    }

    /// Makes a pod the next that its `ReplicaSet` ends.
    pub async fn deletion_cost(&self, pod: &PodView, cost: i32) -> Result<(), kube::Error> {
        let name = "controller.kubernetes.io/pod-deletion-cost";
        self.set(pod, name, &cost.to_string()).await
    }

    async fn set(&self, pod: &PodView, name: &str, value: &str) -> Result<(), kube::Error> {
        let metadata = json!({"uid": pod.metadata.uid, "annotations": {name: value}});
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let params = PatchParams::default();
        match self
            .0
            .patch_metadata(&pod.metadata.name, &params, &patch)
            .await
        {
            Ok(_) => Ok(()),
            // It has gone meanwhile, or another one has its name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Who goes first on scale-in: the pod with the fewest connections, and the cost that puts it before the others.
/// None where a pod does not serve yet, since the `ReplicaSet` ends such a one first by itself.
pub fn first_to_go<'a>(
    pods: &'a [Arc<PodView>],
    reports: &BTreeMap<String, Said>,
) -> Option<(&'a PodView, i32)> {
    let alive = || {
        let alive = pods
            .iter()
            .filter(|pod| !pod.is_terminating() && !pod.is_finished);
        alive.map(|pod| &**pod)
    };
    if alive().any(|pod| !pod.is_ready) {
        return None;
    }
    let connections = |pod: &&PodView| match reports.get(&*pod.metadata.uid) {
        Some(Ok(report)) => report.connections,
        // Who cannot be asked may have many.
        _ => u64::MAX,
    };
    let first = alive().min_by_key(connections)?;
    let least = alive().map(PodView::deletion_cost).min()?;
    let is_first = first.deletion_cost() == least
        && alive().filter(|pod| pod.deletion_cost() == least).count() == 1;
    let cost = if is_first {
        least
    } else {
        least.saturating_sub(1)
    };
    Some((first, cost))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wsgateway_crds::report::NatsReport;

    use super::*;

    fn pod(name: &str, ready: &str, cost: i32) -> Arc<PodView> {
        let pod = json!({
            "metadata": {"namespace": "shop", "name": name, "uid": name,
                "annotations": {"controller.kubernetes.io/pod-deletion-cost": cost.to_string()}},
            "status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn said(connections: u64) -> Report {
        Report {
            version: String::new(),
            boot_hash: String::new(),
            live_hash: String::new(),
            rejected: None,
            connections,
            draining: false,
            nats: NatsReport {
                connected: true,
                reason: String::new(),
                message: String::new(),
            },
            tls: None,
            auth: Vec::new(),
        }
    }

    #[test]
    fn the_pod_with_the_fewest_connections_goes_first() {
        let check = |pods: &[(&str, &str, i32, Option<u64>)], expected: Option<(&str, i32)>| {
            let reports = pods
                .iter()
                .filter_map(|(name, _, _, connections)| {
                    Some(((*name).to_owned(), Ok(said((*connections)?))))
                })
                .collect();
            let pods: Vec<_> = pods
                .iter()
                .map(|(name, ready, cost, _)| pod(name, ready, *cost))
                .collect();
            let first = first_to_go(&pods, &reports);
            assert_eq!(
                first.map(|(pod, cost)| (&*pod.metadata.name, cost)),
                expected
            );
        };
        check(&[], None);
        check(
            &[("a", "True", 0, Some(5)), ("b", "True", 0, Some(2))],
            Some(("b", -1)),
        );
        check(
            &[("a", "True", 0, Some(5)), ("b", "True", 0, None)],
            Some(("a", -1)),
        );
        check(
            &[("a", "True", -1, Some(5)), ("b", "True", 0, Some(2))],
            Some(("b", -2)),
        );
        check(
            &[("a", "True", -1, Some(1)), ("b", "True", 0, Some(2))],
            Some(("a", -1)),
        );
        check(&[("a", "False", 0, None), ("b", "True", 0, Some(2))], None);
    }
}
