//! What the cluster is asked for. It is little: a list for each kind, whichever number of `WsGateways` there is.

use futures_util::{StreamExt, stream};
use k8s_openapi::api::{
    core::v1::{Pod, Secret},
    events::v1::Event,
};
use kube::{
    Api, Resource,
    api::{DynamicObject, ListParams},
    core::NamespaceResourceScope,
};
use wsgateway_operator::kinds::Kind;

use super::{
    StatusError,
    observed::{Child, Observed, PodSeen, SecretSeen, SecretState},
    view,
};
use crate::cluster::{ASKED_AT_ONCE, Answer, Cluster};

/// Where to look.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In all namespaces.
    Everywhere,
    /// In this one.
    Namespace(String),
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// The `WsGateways`.
    pub(super) gateways: Vec<Observed>,
    /// What could not be looked at, and what the API server says of it.
    pub(super) not_permitted: Vec<String>,
}

/// Looks at a `WsGateway`, or at all that are there.
pub(super) async fn observe(
    cluster: &Cluster,
    place: &Place,
    name: Option<&str>,
) -> Result<Seen, StatusError> {
    let gateways = gateways(cluster, place, name).await?;
    let mut look = Look {
        cluster,
        place,
        labels: labels(name),
        not_permitted: Vec::new(),
    };
    let mut seen: Vec<Observed> = gateways.into_iter().map(observed).collect();
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| kind.is_child() && *kind != Kind::Secret);
    for kind in kinds {
        for object in look.list_kind(kind).await? {
            if let Some(gateway) = owner(&mut seen, &object) {
                gateway.children.push(Child { kind, object });
            }
        }
    }
    for object in look.list_kind(Kind::ReplicaSet).await? {
        if let Some(gateway) = labelled(&mut seen, &object.metadata) {
            gateway.replica_sets.push(object);
        }
    }
    let mut pods = look.list::<Pod>("pods").await?;
    pods.sort_by(view::by_name);
    let asked = stream::iter(pods).map(|pod| ask_pod(cluster, pod));
    let pods: Vec<_> = asked.buffered(ASKED_AT_ONCE).collect().await;
    for pod in pods {
        if let Some(gateway) = labelled(&mut seen, &pod.pod.metadata) {
            gateway.pods.push(pod);
        }
    }
    look.events(&mut seen, name).await?;
    for gateway in &mut seen {
        gateway.secrets = secrets(cluster, gateway).await?;
    }
    Ok(Seen {
        gateways: seen,
        not_permitted: look.not_permitted,
    })
}

fn labels(name: Option<&str>) -> String {
    let labels = "app.kubernetes.io/name=wsgateway";
    name.map_or_else(
        || labels.to_owned(),
        |name| format!("{labels},app.kubernetes.io/instance={name}"),
    )
}

async fn gateways(
    cluster: &Cluster,
    place: &Place,
    name: Option<&str>,
) -> Result<Vec<DynamicObject>, StatusError> {
    let api = place.dynamic(cluster, Kind::WsGateway);
    let list = name.map_or_else(ListParams::default, |name| {
        ListParams::default().fields(&format!("metadata.name={name}"))
    });
    let found = match cluster.ask("list wsgateways", api.list(&list)).await? {
        Answer::Is(found) => found.items,
        Answer::Absent => return Err(StatusError::NoCrd),
        Answer::Forbidden(message) => return Err(StatusError::Forbidden(message)),
    };
    if !found.is_empty() {
        return Ok(found);
    }
    let place = match place {
        Place::Everywhere => "the cluster".to_owned(),
        Place::Namespace(namespace) => format!("namespace {namespace}"),
    };
    Err(StatusError::None(name.map_or_else(
        || format!("{place} has no WsGateways"),
        |name| format!("{place} has no WsGateway {name}"),
    )))
}

fn observed(gateway: DynamicObject) -> Observed {
    let status = gateway.data.get("status").cloned().unwrap_or_default();
    Observed {
        status: serde_json::from_value(status).unwrap_or_default(),
        gateway,
        children: Vec::new(),
        replica_sets: Vec::new(),
        pods: Vec::new(),
        secrets: Vec::new(),
        events: Vec::new(),
    }
}

/// The `WsGateway` that controls an object.
fn owner<'a>(seen: &'a mut [Observed], object: &DynamicObject) -> Option<&'a mut Observed> {
    let references = object
        .metadata
        .owner_references
        .as_deref()
        .unwrap_or_default();
    let uid = &references
        .iter()
        .find(|reference| reference.controller == Some(true))?
        .uid;
    seen.iter_mut()
        .find(|gateway| gateway.gateway.metadata.uid.as_ref() == Some(uid))
}

/// The `WsGateway` whose label an object has.
fn labelled<'a>(
    seen: &'a mut [Observed],
    metadata: &kube::core::ObjectMeta,
) -> Option<&'a mut Observed> {
    let name = metadata
        .labels
        .as_ref()?
        .get("app.kubernetes.io/instance")?;
    let namespace = metadata.namespace.as_deref()?;
    seen.iter_mut()
        .find(|gateway| gateway.name() == name && gateway.namespace() == namespace)
}

impl Place {
    fn dynamic(&self, cluster: &Cluster, kind: Kind) -> Api<DynamicObject> {
        let client = cluster.client.clone();
        match self {
            Self::Everywhere => Api::all_with(client, &kind.resource()),
            Self::Namespace(namespace) => Api::namespaced_with(client, namespace, &kind.resource()),
        }
    }

    fn typed<K>(&self, cluster: &Cluster) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let client = cluster.client.clone();
        match self {
            Self::Everywhere => Api::all(client),
            Self::Namespace(namespace) => Api::namespaced(client, namespace),
        }
    }
}

/// What is looked at, and what was not permitted so far.
struct Look<'a> {
    cluster: &'a Cluster,
    place: &'a Place,
    labels: String,
    not_permitted: Vec<String>,
}

impl Look<'_> {
    async fn list_kind(&mut self, kind: Kind) -> Result<Vec<DynamicObject>, StatusError> {
        let api = self.place.dynamic(self.cluster, kind);
        let list = ListParams::default().labels(&self.labels);
        let action = format!("list {}", kind.plural());
        let answer = self.cluster.ask(&action, api.list(&list)).await?;
        Ok(self
            .permitted(answer)
            .map(|list| list.items)
            .unwrap_or_default())
    }

    async fn list<K>(&mut self, plural: &str) -> Result<Vec<K>, StatusError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + k8s_openapi::serde::de::DeserializeOwned,
    {
        let api: Api<K> = self.place.typed(self.cluster);
        let list = ListParams::default().labels(&self.labels);
        let action = format!("list {plural}");
        let answer = self.cluster.ask(&action, api.list(&list)).await?;
        Ok(self
            .permitted(answer)
            .map(|list| list.items)
            .unwrap_or_default())
    }

    async fn events(
        &mut self,
        seen: &mut [Observed],
        name: Option<&str>,
    ) -> Result<(), StatusError> {
        let api: Api<Event> = self.place.typed(self.cluster);
        let mut fields = "regarding.kind=WsGateway".to_owned();
        if let Some(name) = name {
            fields = format!("{fields},regarding.name={name}");
        }
        let list = ListParams::default().fields(&fields);
        let answer = self.cluster.ask("list events", api.list(&list)).await?;
        let mut events = self
            .permitted(answer)
            .map(|list| list.items)
            .unwrap_or_default();
        events.sort_by_key(view::last_time);
        for event in events {
            let uid = event
                .regarding
                .as_ref()
                .and_then(|object| object.uid.as_ref());
            let gateway = seen
                .iter_mut()
                .find(|gateway| uid.is_some() && gateway.gateway.metadata.uid.as_ref() == uid);
            if let Some(gateway) = gateway {
                gateway.events.push(event);
            }
        }
        Ok(())
    }

    fn permitted<T>(&mut self, answer: Answer<T>) -> Option<T> {
        match answer {
            Answer::Is(found) => Some(found),
            Answer::Absent => None,
            Answer::Forbidden(message) => {
                self.not_permitted.push(message);
                None
            }
        }
    }
}

async fn ask_pod(cluster: &Cluster, pod: Pod) -> PodSeen {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let report = if phase == Some("Running") {
        let namespace = pod.metadata.namespace.clone();
        let cluster = Cluster {
            client: cluster.client.clone(),
            namespace: namespace.unwrap_or_else(|| cluster.namespace.clone()),
        };
        Some(
            cluster
                .report(pod.metadata.name.as_deref().unwrap_or_default())
                .await,
        )
    } else {
        None
    };
    PodSeen { pod, report }
}

/// Secrets are neither listed nor is what they hold asked for: of each the metadata, by name.
async fn secrets(cluster: &Cluster, gateway: &Observed) -> Result<Vec<SecretSeen>, StatusError> {
    let name = gateway.name();
    let tls = gateway
        .spec_text("/exposure/tls/type")
        .unwrap_or("SelfSigned");
    let named = match tls {
        "SelfSigned" => vec![
            (format!("{name}-ca"), "the authority and its key"),
            (format!("{name}-tls"), "the certificate that clients see"),
        ],
        "CertManager" => vec![(format!("{name}-tls"), "the certificate from cert-manager")],
        "Secret" => {
            let of_user = gateway.spec_text("/exposure/tls/secret/name");
            of_user
                .map(|name| (name.to_owned(), "your certificate"))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    };
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), gateway.namespace());
    let mut seen = Vec::new();
    for (name, purpose) in named {
        let action = format!("get the metadata of Secret {name}");
        let state = match cluster.ask(&action, api.get_metadata(&name)).await? {
            Answer::Is(_) => SecretState::There,
            Answer::Absent => SecretState::Missing,
            Answer::Forbidden(_) => SecretState::NotPermitted,
        };
        seen.push(SecretSeen {
            name,
            purpose,
            state,
        });
    }
    Ok(seen)
}
