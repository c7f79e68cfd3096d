//! Waiting for objects by watching them.

use std::{collections::BTreeMap, fmt::Debug, pin::pin, time::Duration};

use futures_util::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use wsgateway_crds::v1alpha1::WsGateway;

/// What can be awaited: any typed object.
pub trait Watched:
    Resource<DynamicType: Default> + Clone + DeserializeOwned + Serialize + Debug + Send + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType: Default>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug
        + Send
        + 'static
{
}

/// Awaits that an object is there and `condition` is true of it, and returns it. Panics with `what` and the object
/// as it was seen last when it is not `within` that time.
pub async fn wait_for<K: Watched>(
    api: &Api<K>,
    name: &str,
    what: &str,
    within: Duration,
    condition: impl Fn(&K) -> bool,
) -> K {
    let mut last = None;
    let watch = async {
        let mut objects = pin!(watcher::watch_object(api.clone(), name).default_backoff());
        // A watch that breaks, as when the API server is restarted, begins again by itself.
        while let Some(seen) = objects.next().await {
            match seen {
                Ok(object) => last = object,
                Err(_) => continue,
            }
            if let Some(object) = last.as_ref().filter(|object| condition(object)) {
                return object.clone();
            }
        }
        unreachable!("a watch has no end")
    };
    let found = timeout(within, watch).await;
    found.unwrap_or_else(|_| {
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        let last = last.as_ref().map_or("it is not there".to_owned(), shown);
        panic!("after {within:?} still not of {kind} {name}: {what}\n{last}")
    })
}

/// Awaits that an object is not there.
pub async fn wait_gone<K: Watched>(api: &Api<K>, name: &str, within: Duration) {
    let mut last = None;
    let watch = async {
        let mut objects = pin!(watcher::watch_object(api.clone(), name).default_backoff());
        while let Some(seen) = objects.next().await {
            match seen {
                Ok(None) => return,
                Ok(object) => last = object,
                Err(_) => {}
            }
        }
    };
    if timeout(within, watch).await.is_err() {
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        let last = last.as_ref().map_or("it was never seen".to_owned(), shown);
        panic!("after {within:?} {kind} {name} is still there\n{last}")
    }
}

/// Awaits that `condition` is true of all objects that `config` selects, and returns them in the order of their names.
pub async fn wait_for_all<K: Watched>(
    api: &Api<K>,
    config: watcher::Config,
    what: &str,
    within: Duration,
    condition: impl Fn(&[K]) -> bool,
) -> Vec<K> {
    let mut last = Vec::new();
    let watch = async {
        let mut events = pin!(watcher(api.clone(), config).default_backoff());
        let mut objects = BTreeMap::new();
        let mut listed = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => {
                    objects.clear();
                    listed = false;
                }
                Ok(watcher::Event::InitDone) => listed = true,
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                    objects.insert((object.namespace(), object.name_any()), object);
                }
                Ok(watcher::Event::Delete(object)) => {
                    objects.remove(&(object.namespace(), object.name_any()));
                }
                Err(_) => {}
            }
            last = objects.values().cloned().collect();
            if listed && condition(&last) {
                return;
            }
        }
    };
    if timeout(within, watch).await.is_err() {
        let last: Vec<String> = last.iter().map(shown).collect();
        panic!(
            "after {within:?} still not: {what}\n{} are there\n{}",
            last.len(),
            last.join("\n")
        )
    }
    last
}

/// An object as a person reads it: without the fields that say only who wrote which.
pub fn shown<K: Resource + Clone + Serialize>(object: &K) -> String {
    let mut object = object.clone();
    object.meta_mut().managed_fields = None;
    serde_saphyr::to_string(&object).unwrap_or_else(|error| error.to_string())
}

/// Whether a condition is so, of the newest spec: `Type=Status/Reason` or `Type=Status`.
pub fn says(gateway: &WsGateway, condition: &str) -> bool {
    let (type_, rest) = condition.split_once('=').unwrap();
    let (status, reason) = rest
        .split_once('/')
        .map_or((rest, None), |(status, reason)| (status, Some(reason)));
    let conditions = gateway.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| {
        condition.type_ == type_
            && condition.status == status
            && reason.is_none_or(|reason| condition.reason == reason)
            && condition.observed_generation == gateway.metadata.generation
    })
}
