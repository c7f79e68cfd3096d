//! The client that the work is done with. It sends nothing once the lease has ended, whatever the rest of the program
//! believes, and no request of it waits for an answer for ever.
//!
//! A process may be stopped for longer than its lease at any point, also between the check of a step and its request.
//! What goes on then has missed that another operator works; so what counts is checked where a request is sent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{Method, Request, Response};
use kube::{Client, client::Body};
use tokio::time;

use crate::leader::Tenure;

/// How long the beginning of an answer may take. The API server's own limit is 60 s, of which most is for admission
/// webhooks; those have 10 s each unless somebody wrote otherwise.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a request was not sent, or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Withheld {
    #[error("the lease has ended, so nothing was written")]
    LeaseEnded,
    #[error("the API server has not answered in {} s", ANSWER_TIMEOUT.as_secs())]
    NoAnswer,
}

/// The same client within the limits of a lease. The lease itself needs one without.
pub fn fenced(client: Client, tenure: Arc<Tenure>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request| send(client.clone(), tenure.clone(), request));
    Client::new(service, namespace)
}

async fn send(
    client: Client,
    tenure: Arc<Tenure>,
    request: Request<Body>,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let is_write = !matches!(*request.method(), Method::GET | Method::HEAD);
    if is_write && !tenure.may_write(Instant::now()) {
        return Err(Withheld::LeaseEnded.into());
    }
    match time::timeout(ANSWER_TIMEOUT, client.send(request)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Withheld::NoAnswer.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api,
        api::{DeleteParams, PostParams},
    };

    use super::*;

    /// One that counts, and answers with an empty object or not at all.
    fn counting(count: &Arc<AtomicU32>, answers: bool) -> Client {
        let count = Arc::clone(count);
        let service = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                if !answers {
                    std::future::pending::<()>().await;
                }
                Ok::<_, kube::Error>(Response::new(Body::from(b"{}".to_vec())))
            }
        });
        Client::new(service, "shop")
    }

    #[tokio::test]
    async fn nothing_is_written_before_and_after_the_lease() {
        let count = Arc::default();
        let tenure = Arc::new(Tenure::leased());
        let client = fenced(counting(&count, true), tenure.clone());
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let map = ConfigMap::default();
        let params = PostParams::default();
        let sent = || count.swap(0, Ordering::Relaxed);
        let said = |error: kube::Error| crate::telemetry::chain(&error);
        let ended = "the lease has ended";
        assert!(said(maps.create(&params, &map).await.unwrap_err()).contains(ended));
        assert_eq!(sent(), 0);
        maps.get("a").await.unwrap();
        assert_eq!(sent(), 1);
        tenure.works_until(Instant::now() + Duration::from_secs(10));
        maps.create(&params, &map).await.unwrap();
        assert_eq!(sent(), 1);
        tenure.works_until(Instant::now());
        let refused = maps.delete("a", &DeleteParams::default()).await;
        assert!(said(refused.unwrap_err()).contains(ended));
        maps.get("a").await.unwrap();
        assert_eq!(sent(), 1);
    }

    #[tokio::test]
    async fn without_a_lease_everything_is_written() {
        let count = Arc::default();
        let client = fenced(counting(&count, true), Arc::default());
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let params = PostParams::default();
        maps.create(&params, &ConfigMap::default()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_not_answered_ends() {
        let count = Arc::default();
        let client = fenced(counting(&count, false), Arc::default());
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let begin = time::Instant::now();
        let error = maps.get("a").await.unwrap_err();
        assert!(
            crate::telemetry::chain(&error).contains("has not answered in 30 s"),
            "{error:?}"
        );
        assert_eq!(begin.elapsed().as_secs(), ANSWER_TIMEOUT.as_secs());
    }
}
