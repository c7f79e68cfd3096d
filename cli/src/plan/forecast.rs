//! What would happen: the objects that the operator's own code makes of the file, held against those that are there.

use serde_json::{Value, json};
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_model::{Gateway, gateway::Entrance, validate};
use wsgateway_operator::{
    build::{Desired, Front, Site, build, names},
    kinds::Kind,
    rollout::{self, Running, Template, Wanted, boot_in_force, image_of, is_complete},
};

use super::{
    before::Before,
    diff::{Change, Owned, changes},
    effects::{Effects, effects},
    objects::{ObjectChange, What, objects},
};

/// The image of this version, as the operator of this version has it.
const IMAGE: &str = concat!("ghcr.io/wsgateway/wsgateway:", env!("CARGO_PKG_VERSION"));

/// What would happen to one `WsGateway` and what is made for it.
#[derive(Debug)]
pub(super) struct Forecast {
    /// Namespace and name.
    pub(super) whose: (String, String),
    /// What changes of its spec; none where it is made.
    pub(super) spec: Option<Vec<Change>>,
    /// What is written, in the order in which it is.
    pub(super) objects: Vec<ObjectChange>,
    /// What a user should know beside.
    pub(super) notes: Vec<String>,
    /// What clients feel; none where nothing runs yet, or nothing changes.
    pub(super) effects: Option<Effects>,
}

impl Forecast {
    /// Whether applying the file would change anything.
    pub(super) fn has_changes(&self) -> bool {
        self.spec.as_ref().is_none_or(|changes| !changes.is_empty())
            || self
                .objects
                .iter()
                .any(|object| !matches!(object.what, What::Hidden))
    }
}

/// What would happen. `after` is the `WsGateway` as it is once the file is applied, and `gateway` what it means.
pub(super) fn forecast(after: &WsGateway, gateway: &Gateway, before: &Before) -> Forecast {
    let live: Option<WsGateway> = before
        .gateway
        .as_ref()
        .and_then(|live| serde_json::from_value(json!(live)).ok());
    let spec = before.gateway.as_ref().map(|_| match &live {
        Some(live) => changes(&json!(live.spec), &json!(after.spec), Owned::All),
        None => vec![Change {
            path: "spec".to_owned(),
            old: None,
            new: None,
        }],
    });
    let mut forecast = Forecast {
        whose: (gateway.namespace.to_string(), gateway.name.to_string()),
        spec,
        objects: Vec::new(),
        notes: Vec::new(),
        effects: None,
    };
    forecast.notes.extend(before.front_note.clone());
    if let Some(conflict) = &before.conflict {
        let note = format!(
            "{conflict}: the operator would refuse it (HostConflict), and make nothing of it"
        );
        forecast.notes.push(note);
        return forecast;
    }
    if gateway.paused {
        let note = "spec.paused is true: the operator changes no object until it is false";
        forecast.notes.push(note.to_owned());
        return forecast;
    }
    let was = live
        .as_ref()
        .and_then(|live| validate(live, &before.defaults.referenced()).ok());
    let site = site(gateway, was.as_ref(), before, &mut forecast.notes);
    let mut desired = build(gateway, &site);
    let generation = before
        .gateway
        .as_ref()
        .and_then(|live| live.metadata.generation);
    let is_changed = forecast
        .spec
        .as_ref()
        .is_none_or(|changes| !changes.is_empty());
    let generation = generation.unwrap_or_default() + i64::from(is_changed);
    let template = settle(&mut desired, gateway, generation, before);
    forecast.note_template(template, gateway);
    forecast.note_version(live.as_ref(), was.as_ref(), &site, before);
    forecast.note_what_cannot_be(&desired, live.as_ref());
    forecast.objects = objects(gateway, was.as_ref(), &desired, before);
    forecast.effects = effects(&forecast.objects, gateway, &desired, template, before);
    forecast
}

/// What the objects are made from beside the spec.
fn site(
    gateway: &Gateway,
    was: Option<&Gateway>,
    before: &Before,
    notes: &mut Vec<String>,
) -> Site {
    let deployment = before.deployment(gateway.name.as_str());
    let running = deployment.as_ref().and_then(image_of);
    let is_operators = was.is_some_and(|was| was.image.is_none());
    let image = running.filter(|_| is_operators).unwrap_or(IMAGE).to_owned();
    if gateway.image.is_none() && image == IMAGE && running != Some(IMAGE) {
        notes.push(format!(
            "the operator's own image is not known from here: taken to be {IMAGE}"
        ));
    }
    let operator_namespace = before
        .ours(Kind::NetworkPolicy, gateway.name.as_str())
        .and_then(|policy| operator_namespace(policy, was));
    if gateway.network_policy.is_some() && operator_namespace.is_none() {
        notes.push(
            "the operator's namespace is not known from here: the NetworkPolicy lets it in as well"
                .to_owned(),
        );
    }
    Site {
        image,
        operator_namespace,
        owner: None,
        served: before.served.iter().copied().collect(),
        front: before.front.clone(),
        issued: None,
    }
}

/// The namespace that a policy lets in to read metrics and the spec does not name.
fn operator_namespace(policy: &Value, was: Option<&Gateway>) -> Option<String> {
    let named = &was?.network_policy.as_ref()?.metrics;
    let peers = policy.pointer("/spec/ingress/1/from")?.as_array()?;
    let mut namespaces = peers.iter().filter_map(|peer| {
        peer.pointer("/namespaceSelector/matchLabels/kubernetes.io~1metadata.name")?
            .as_str()
    });
    namespaces
        .find(|namespace| !named.iter().any(|named| named.as_str() == *namespace))
        .map(str::to_owned)
}

/// Settles the pod template as the operator would, and the replicas as they are in the end.
fn settle(desired: &mut Desired, gateway: &Gateway, generation: i64, before: &Before) -> Template {
    let name = gateway.name.as_str();
    let deployment = before.deployment(name);
    let boot = deployment.as_ref().and_then(boot_in_force);
    let running = Running {
        deployment: deployment.as_ref(),
        terminating: before.terminating,
        alive: before.pods.len(),
        has_boot: boot.is_some_and(|hash| {
            before
                .ours(Kind::ConfigMap, &names::boot(name, hash))
                .is_some()
        }),
    };
    let replicas = i32::try_from(gateway.replicas).unwrap_or(i32::MAX);
    let wanted = Wanted {
        generation,
        image: gateway.image.as_deref(),
        replicas,
        upgrade: gateway.upgrade,
    };
    let paced = rollout::pace(&mut desired.deployment, &wanted, &running, || true);
    if let Some(spec) = &mut desired.deployment.spec {
        spec.replicas = Some(replicas);
    }
    if paced.template.is_old() {
        // The boot configuration of the newer template comes with it.
        desired.objects.retain(|object| {
            object.kind != Kind::ConfigMap || object.name != names::boot(name, &desired.boot_hash)
        });
    }
    paced.template
}

impl Forecast {
    fn note_template(&mut self, template: Template, gateway: &Gateway) {
        let note = match template {
            Template::Current | Template::FromSpec => return,
            Template::Held => format!(
                "a newer operator's pods are held back by spec.upgrade: {:?}",
                gateway.upgrade
            ),
            Template::Waits => {
                "a newer operator's pods wait until the gateways that run are ready".to_owned()
            }
            _ => "the pods change by the operator's version and not by this file, when it is their turn".to_owned(),
        };
        self.notes.push(note);
    }

    /// Whether this `wsgw` makes of the spec that is there what the operator has made of it.
    fn note_version(
        &mut self,
        live: Option<&WsGateway>,
        was: Option<&Gateway>,
        site: &Site,
        before: &Before,
    ) {
        let (Some(live), Some(was)) = (live, was) else {
            return;
        };
        let Some(deployment) = before.deployment(was.name.as_str()) else {
            return;
        };
        let seen = live
            .status
            .as_ref()
            .and_then(|status| status.observed_generation);
        if seen != live.metadata.generation {
            let note = "the operator has not yet carried out the spec that is there; what is left of that is below too";
            self.notes.push(note.to_owned());
            return;
        }
        let built = build(was, site);
        let template = |deployment: &k8s_openapi::api::apps::v1::Deployment| {
            json!(deployment.spec.as_ref().map(|spec| &spec.template))
        };
        let in_force = deployment.metadata.annotations.as_ref();
        let in_force = in_force.and_then(|notes| notes.get(rollout::POD_TEMPLATE));
        let in_force = in_force.and_then(|text| serde_json::from_str::<Value>(text).ok());
        if in_force.is_some_and(|in_force| in_force != template(&built.deployment)) {
            self.notes.push(format!(
                "wsgw {} makes other pods of the spec that is there than those that run: the operator is of another \
                 version, or its newer pods wait. What is below holds for an operator of this version",
                env!("CARGO_PKG_VERSION")
            ));
        }
        if !is_complete(&deployment) {
            self.notes.push(
                "a rollout is under way: the gateways that run are not all of one template"
                    .to_owned(),
            );
        }
    }

    /// What is left out. Of what the controller in front cannot say, what the status says already is no news.
    fn note_what_cannot_be(&mut self, desired: &Desired, live: Option<&WsGateway>) {
        let missing = desired.missing.iter().map(|kind| {
            format!(
                "the cluster does not serve {}: it is left out (KindNotServed)",
                kind.name()
            )
        });
        self.notes.extend(missing);
        let dialect = desired.dialect.unwrap_or("the controller in front");
        let status = live.and_then(|live| live.status.as_ref()?.exposure.as_ref());
        let known = status
            .map(|status| status.not_expressed.as_slice())
            .unwrap_or_default();
        let is_known = |field: &str, why: &str| {
            known
                .iter()
                .any(|known| known.field == field && known.why == why)
        };
        let cannot = desired
            .not_expressed
            .iter()
            .filter(|it| !is_known(it.field, &it.why));
        self.notes
            .extend(cannot.map(|it| format!("{dialect} cannot say {}: {}", it.field, it.why)));
    }
}

/// Whether a proxy stands in front, which reads what is written for it again.
pub(super) fn has_proxy(gateway: &Gateway, front: &Front) -> bool {
    matches!(
        gateway.entrance,
        Entrance::Ingress { .. } | Entrance::HttpRoute { .. }
    ) && *front != Front::Unknown
}
