//! Objects of any kind, and how long the operator takes to put them right.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::time::timeout;
use wsgateway_e2e::wait::SOON;

/// Who changes what is not theirs.
const SOMEBODY: &str = "somebody";

/// An object's kind, as kubectl is told it, and its name.
pub(crate) type Named<'a> = (&'a str, &'a str);

/// Group, version and kind of every kind that a test looks at, by the plural.
const KINDS: [(&str, &str, &str, &str); 19] = [
    ("wsgateways", "wsgateway.io", "v1alpha1", "WsGateway"),
    ("serviceaccounts", "", "v1", "ServiceAccount"),
    ("configmaps", "", "v1", "ConfigMap"),
    ("secrets", "", "v1", "Secret"),
    ("services", "", "v1", "Service"),
    ("deployments", "apps", "v1", "Deployment"),
    ("ingresses", "networking.k8s.io", "v1", "Ingress"),
    (
        "poddisruptionbudgets",
        "policy",
        "v1",
        "PodDisruptionBudget",
    ),
    (
        "horizontalpodautoscalers",
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
    ),
    (
        "networkpolicies",
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
    ),
    ("httproutes", "gateway.networking.k8s.io", "v1", "HTTPRoute"),
    (
        "clientsettingspolicies",
        "gateway.nginx.org",
        "v1alpha1",
        "ClientSettingsPolicy",
    ),
    (
        "proxysettingspolicies",
        "gateway.nginx.org",
        "v1alpha1",
        "ProxySettingsPolicy",
    ),
    (
        "upstreamsettingspolicies",
        "gateway.nginx.org",
        "v1alpha1",
        "UpstreamSettingsPolicy",
    ),
    ("podmonitors", "monitoring.coreos.com", "v1", "PodMonitor"),
    (
        "servicemonitors",
        "monitoring.coreos.com",
        "v1",
        "ServiceMonitor",
    ),
    (
        "prometheusrules",
        "monitoring.coreos.com",
        "v1",
        "PrometheusRule",
    ),
    ("certificates", "cert-manager.io", "v1", "Certificate"),
    ("scaledobjects", "keda.sh", "v1alpha1", "ScaledObject"),
];

/// The objects of a kind, by its plural.
pub(crate) fn objects(client: &Client, namespace: &str, plural: &str) -> Api<DynamicObject> {
    let found = KINDS.iter().find(|(known, ..)| *known == plural);
    let (plural, group, version, kind) =
        found.unwrap_or_else(|| panic!("{plural} is not in the list"));
    let kind = GroupVersionKind::gvk(group, version, kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// All of an object.
pub(crate) fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap()
}

/// Awaits that an object is so, or that there is none.
pub(crate) async fn await_object(
    api: &Api<DynamicObject>,
    name: &str,
    what: &str,
    is_so: impl Fn(Option<&DynamicObject>) -> bool,
) {
    watch(api, name, what, None::<std::future::Ready<()>>, is_so).await;
}

/// Does something to an object, and tells how long after that it `is_so` again.
pub(crate) async fn after(
    api: &Api<DynamicObject>,
    name: &str,
    what: &str,
    act: impl Future<Output = ()>,
    is_so: impl Fn(Option<&DynamicObject>) -> bool,
) -> Duration {
    watch(api, name, what, Some(act), is_so).await
}

/// The watch runs before anything is done, so that no part of the time is missed. What is there before that does not
/// count.
async fn watch(
    api: &Api<DynamicObject>,
    name: &str,
    what: &str,
    act: Option<impl Future<Output = ()>>,
    is_so: impl Fn(Option<&DynamicObject>) -> bool,
) -> Duration {
    let mut last = None;
    // A watch is large: it belongs on the heap.
    let watch = Box::pin(async {
        let mut seen = pin!(watcher::watch_object(api.clone(), name).default_backoff());
        last = seen.next().await.unwrap().unwrap();
        let mut is_done = act.is_none() && is_so(last.as_ref());
        if let Some(act) = act {
            act.await;
        }
        let begin = Instant::now();
        while !is_done {
            // A watch that breaks begins again by itself.
            if let Ok(now) = seen.next().await.unwrap() {
                last = now;
                is_done = is_so(last.as_ref());
            }
        }
        begin.elapsed()
    });
    let taken = timeout(SOON, watch).await;
    taken.unwrap_or_else(|_| {
        let last = last.map(|object| {
            let mut object = value(&object);
            object["metadata"]["managedFields"] = json!(null);
            serde_saphyr::to_string(&object).unwrap()
        });
        panic!("{name}: still not: {what}\n{}", last.unwrap_or_default())
    })
}

/// A merge patch by somebody who is not the operator.
pub(crate) async fn meddle(api: &Api<DynamicObject>, name: &str, patch: &Value) -> DynamicObject {
    let params = PatchParams {
        field_manager: Some(SOMEBODY.to_owned()),
        ..PatchParams::default()
    };
    api.patch(name, &params, &Patch::Merge(patch))
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Deletes an object, as kubectl does.
pub(crate) async fn delete(api: &Api<DynamicObject>, name: &str) {
    let params = DeleteParams::background();
    api.delete(name, &params)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}
