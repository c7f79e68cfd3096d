//! What the cluster is asked for. Nothing is written.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
};
use serde_json::{Value, json};
use wsgateway_crds::{config::Config, v1alpha1::WsGateway};
use wsgateway_model::Gateway;
use wsgateway_operator::{
    build::{names, possible},
    conflict::conflict,
    kinds::Kind,
    rollout::boot_in_force,
};

use super::{
    PlanError,
    before::{Before, Child, PodAtWork},
    front,
};
use crate::{
    cluster::{ASKED_AT_ONCE, Answer, Cluster, ClusterError},
    defaults::Defaults,
};

/// The series of open connections, up to a route's name.
const CONNECTIONS: &str = "wsgateway_connections{route=\"";

/// The `WsGateway` as it is now.
pub(super) async fn gateway(
    cluster: &Cluster,
    name: &str,
) -> Result<Option<DynamicObject>, PlanError> {
    let api = objects(cluster, Kind::WsGateway);
    // A 404 of one object may be one of the kind, which a list tells apart.
    let list = ListParams::default().fields(&format!("metadata.name={name}"));
    match cluster.ask("list wsgateways", api.list(&list)).await? {
        Answer::Is(found) => Ok(found.items.into_iter().next()),
        Answer::Absent => Err(PlanError::NoCrd),
        Answer::Forbidden(_) => match cluster.ask("get a wsgateway", api.get(name)).await? {
            Answer::Is(found) => Ok(Some(found)),
            Answer::Absent => Ok(None),
            Answer::Forbidden(message) => Err(PlanError::Forbidden(message)),
        },
    }
}

/// What the operator has put in for a `WsGateway` that is there: where its spec names no NATS server, those that its
/// gateways connect to.
pub(super) async fn defaults(
    cluster: &Cluster,
    live: &DynamicObject,
) -> Result<Defaults, ClusterError> {
    let named = live.data.pointer("/spec/nats/servers");
    if named
        .and_then(Value::as_array)
        .is_some_and(|named| !named.is_empty())
    {
        return Ok(Defaults::default());
    }
    let name = live.name_any();
    let Answer::Is(deployment) = child(cluster, Kind::Deployment, &name).await? else {
        return Ok(Defaults::default());
    };
    let boot = serde_json::from_value(json!(deployment))
        .ok()
        .and_then(|deployment| Some(names::boot(&name, boot_in_force(&deployment)?)));
    let Some(boot) = boot else {
        return Ok(Defaults::default());
    };
    let Answer::Is(boot) = child(cluster, Kind::ConfigMap, &boot).await? else {
        return Ok(Defaults::default());
    };
    Ok(Defaults {
        nats_servers: servers_of(&boot).unwrap_or_default(),
    })
}

/// The servers in a boot configuration.
fn servers_of(boot: &DynamicObject) -> Option<Vec<String>> {
    let text = boot.data.pointer("/data/boot.yaml")?.as_str()?;
    let config: Config = serde_saphyr::from_str(text).ok()?;
    Some(config.boot.nats.servers)
}

/// What is there of a `WsGateway`. `after` is as it is once the file is applied.
pub(super) async fn before(
    cluster: &Cluster,
    after: &WsGateway,
    gateway: &Gateway,
    live: Option<DynamicObject>,
    defaults: Defaults,
) -> Result<Before, PlanError> {
    let name = gateway.name.as_str();
    let (front, front_note) = front::front(cluster, gateway, live.as_ref()).await?;
    let uid = live.as_ref().and_then(|live| live.metadata.uid.clone());
    let children = children(cluster, name, uid.as_deref()).await?;
    let (pods, terminating) = pods(cluster, name).await?;
    Ok(Before {
        conflict: host_conflict(cluster, after, live.as_ref()).await?,
        gateway: live,
        children,
        pods,
        terminating,
        front,
        front_note,
        served: served(cluster).await?,
        defaults,
    })
}

fn objects(cluster: &Cluster, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &kind.resource())
}

async fn children(
    cluster: &Cluster,
    name: &str,
    uid: Option<&str>,
) -> Result<BTreeMap<(Kind, String), Child>, ClusterError> {
    let labels = names::selector_text(name);
    let list = ListParams::default().labels(&labels);
    let maps = objects(cluster, Kind::ConfigMap);
    let maps = cluster.ask("list configmaps", maps.list(&list)).await?;
    let boots = match maps {
        Answer::Is(maps) => maps.items,
        Answer::Absent | Answer::Forbidden(_) => Vec::new(),
    };
    let boots = boots
        .into_iter()
        .map(|map| ((Kind::ConfigMap, map.name_any()), Answer::Is(map)));
    let asked = stream::iter(possible(name)).map(async |(kind, name)| {
        let answer = child(cluster, kind, &name).await?;
        Ok::<_, ClusterError>(((kind, name), answer))
    });
    let found: Vec<_> = asked.buffered(ASKED_AT_ONCE).try_collect().await?;
    let children = boots.chain(found).filter_map(|(key, answer)| {
        let child = match answer {
            Answer::Is(object) if is_controlled(&object, uid) => {
                Child::Ours(Box::new(json!(object)))
            }
            Answer::Is(_) => Child::Theirs,
            Answer::Absent => return None,
            Answer::Forbidden(_) => Child::Hidden,
        };
        Some((key, child))
    });
    Ok(children.collect())
}

/// Of a Secret the metadata alone.
async fn child(
    cluster: &Cluster,
    kind: Kind,
    name: &str,
) -> Result<Answer<DynamicObject>, ClusterError> {
    let api = objects(cluster, kind);
    let action = format!("get {} {name}", kind.name());
    if kind != Kind::Secret {
        return cluster.ask(&action, api.get(name)).await;
    }
    let answer = cluster.ask(&action, api.get_metadata(name)).await?;
    Ok(match answer {
        Answer::Is(found) => {
            let mut object = DynamicObject::new(name, &kind.resource());
            object.metadata = found.metadata;
            Answer::Is(object)
        }
        Answer::Absent => Answer::Absent,
        Answer::Forbidden(message) => Answer::Forbidden(message),
    })
}

fn is_controlled(object: &DynamicObject, uid: Option<&str>) -> bool {
    let mut owners = object.owner_references().iter();
    owners.any(|owner| owner.controller == Some(true) && Some(owner.uid.as_str()) == uid)
}

/// The pods that have not ended, and how many are about to.
async fn pods(cluster: &Cluster, name: &str) -> Result<(Vec<PodAtWork>, usize), ClusterError> {
    let pods = cluster.gateway_pods(Some(name)).await?;
    let (ending, alive): (Vec<_>, Vec<_>) = pods
        .into_iter()
        .filter(|pod| !matches!(phase(pod), "Succeeded" | "Failed"))
        .partition(|pod| pod.metadata.deletion_timestamp.is_some());
    let asked = stream::iter(alive).map(async |pod| PodAtWork {
        connections: connections(cluster, &pod).await,
    });
    Ok((asked.buffered(ASKED_AT_ONCE).collect().await, ending.len()))
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Open connections by route. One that does not run yet has none.
async fn connections(cluster: &Cluster, pod: &Pod) -> Result<BTreeMap<String, u64>, String> {
    if phase(pod) != "Running" {
        return Ok(BTreeMap::new());
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let page = cluster.admin_page(name, "/metrics").await;
    Ok(counted(&page.map_err(|error| error.to_string())?))
}

fn counted(page: &str) -> BTreeMap<String, u64> {
    let counts = page.lines().filter_map(|line| {
        let (route, rest) = line.strip_prefix(CONNECTIONS)?.split_once("\"}")?;
        Some((route.to_owned(), rest.trim().parse().ok()?))
    });
    counts.collect()
}

/// The optional kinds that the API server serves.
async fn served(cluster: &Cluster) -> Result<Vec<Kind>, ClusterError> {
    let mut groups = BTreeMap::<String, Vec<Kind>>::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_optional()) {
        let version = format!("{}/{}", kind.group(), kind.version());
        groups.entry(version).or_default().push(kind);
    }
    let mut served = Vec::new();
    for (version, kinds) in groups {
        let asked = cluster.client.list_api_group_resources(&version);
        if let Answer::Is(list) = cluster.ask("ask which kinds there are", asked).await? {
            let has = |kind: &Kind| list.resources.iter().any(|one| one.name == kind.plural());
            served.extend(kinds.into_iter().filter(has));
        }
    }
    Ok(served)
}

/// An older one with the same host and path, as far as who asks may see them.
async fn host_conflict(
    cluster: &Cluster,
    after: &WsGateway,
    live: Option<&DynamicObject>,
) -> Result<Option<String>, ClusterError> {
    let api: Api<DynamicObject> =
        Api::all_with(cluster.client.clone(), &Kind::WsGateway.resource());
    let list = ListParams::default();
    let Answer::Is(all) = cluster.ask("list wsgateways", api.list(&list)).await? else {
        return Ok(None);
    };
    let mut after = after.clone();
    after.metadata.creation_timestamp = live
        .and_then(|live| live.metadata.creation_timestamp.clone())
        .or_else(|| Some(Time(Timestamp::now())));
    let others: Vec<WsGateway> = all
        .items
        .into_iter()
        .filter(|other| {
            (&other.metadata.name, &other.metadata.namespace)
                != (&after.metadata.name, &after.metadata.namespace)
        })
        .filter_map(|other| serde_json::from_value(json!(other)).ok())
        .collect();
    Ok(conflict(&after, &others).map(|conflict| conflict.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_of_running_gateways_are_in_their_boot_configuration() {
        let boot = "boot:\n  listen: {clients: '0.0.0.0:8000', admin: '0.0.0.0:9000'}\n  \
            nats: {servers: ['nats://a:4222', 'tls://b:4222']}\n";
        let check = |boot: &str, expected: Option<Vec<String>>| {
            let map = json!({"metadata": {"name": "web-boot-1"}, "data": {"boot.yaml": boot}});
            assert_eq!(servers_of(&serde_json::from_value(map).unwrap()), expected);
        };
        let servers = ["nats://a:4222", "tls://b:4222"].map(str::to_owned);
        check(boot, Some(servers.to_vec()));
        check("boot: {}", None);
    }

    #[test]
    fn connections_are_read_by_route() {
        let page = "# TYPE wsgateway_connections gauge\nwsgateway_connections{route=\"a\"} 5\n\
            wsgateway_connections{route=\"b\"} 0\nwsgateway_connections_max 9\n";
        let expected = [("a".to_owned(), 5), ("b".to_owned(), 0)];
        assert_eq!(counted(page), BTreeMap::from(expected));
    }
}
