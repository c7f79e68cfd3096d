//! The gateways' pods: what each runs, and the user's template merged over it last.

use std::path::Path;

use k8s_openapi::{
    DeepMerge,
    api::core::v1::{
        Affinity, Capabilities, ConfigMapProjection, ConfigMapVolumeSource, Container,
        ContainerPort, HTTPGetAction, KeyToPath, PodAffinityTerm, PodAntiAffinity,
        PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource, SeccompProfile,
        SecretProjection, SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
        VolumeProjection, WeightedPodAffinityTerm,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use wsgateway_model::{
    Gateway,
    gateway::{CONTAINER, KeyOf, ReferenceKind, SecretFile},
};

use super::{
    Site,
    config_map::{
        AUTH_DIRECTORY, BOOT_DIRECTORY, BOOT_FILE, File, LIVE_DIRECTORY, LIVE_FILE, NATS_DIRECTORY,
        TLS_DIRECTORY,
    },
    deployment::grace,
    names, resources,
};

/// The user and group of distroless images that are nobody in particular.
const NOBODY: i64 = 65_532;

/// What NATS asks for, what clients are shown and what tokens are verified with can be read by the gateway's group alone.
const SECRET_MODE: i32 = 0o440;

const BOOT_VOLUME: &str = "wsgateway-boot";
const LIVE_VOLUME: &str = "wsgateway-live";
const NATS_VOLUME: &str = "wsgateway-nats";
const TLS_VOLUME: &str = "wsgateway-tls";
const AUTH_VOLUME: &str = "wsgateway-auth";

/// A container that does not come up within a minute is started anew.
const STARTUP_FAILURES: i32 = 60;

/// The files that the two parts of the configuration name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) nats: &'a [SecretFile],
    pub(super) tls: &'a [SecretFile],
    pub(super) auth: &'a [SecretFile],
}

impl<'a> Files<'a> {
    /// Each volume that there is, where it is mounted, and what is in it.
    fn volumes(self) -> impl Iterator<Item = (&'static str, &'static str, &'a [SecretFile])> {
        [
            (NATS_VOLUME, NATS_DIRECTORY, self.nats),
            (TLS_VOLUME, TLS_DIRECTORY, self.tls),
            (AUTH_VOLUME, AUTH_DIRECTORY, self.auth),
        ]
        .into_iter()
        .filter(|(_, _, files)| !files.is_empty())
    }
}

/// The template of the pods.
pub(super) fn template(
    gateway: &Gateway,
    site: &Site,
    boot: &File,
    files: Files<'_>,
) -> PodTemplateSpec {
    let name = gateway.name.as_str();
    let mut labels = names::labels(name);
    labels.insert(names::BOOT_LABEL.to_owned(), boot.hash.clone());
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(name.to_owned()),
            automount_service_account_token: Some(false),
            // Nothing reads them, and in a namespace of many Services they slow the start down.
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(grace(gateway)),
            security_context: Some(pod_security()),
            topology_spread_constraints: Some(vec![over_nodes(gateway)]),
            affinity: Some(over_zones(gateway)),
            containers: vec![container(gateway, site, files)],
            volumes: Some(volumes(name, boot, files)),
            ..PodSpec::default()
        }),
    };
    let mut template = merged(template, gateway.pod_template.clone());
    spread_own_pods(&mut template, gateway);
    template
}

/// A user's constraint without a labelSelector would count no pod; it is meant for the gateway's.
fn spread_own_pods(template: &mut PodTemplateSpec, gateway: &Gateway) {
    let spec = template.spec.as_mut();
    let constraints = spec.and_then(|spec| spec.topology_spread_constraints.as_mut());
    for constraint in constraints.into_iter().flatten() {
        if constraint.label_selector.is_none() {
            constraint.label_selector = Some(names::pods(gateway));
            let of_its_generation = || vec![OF_ITS_GENERATION.to_owned()];
            constraint
                .match_label_keys
                .get_or_insert_with(of_its_generation);
        }
    }
}

/// The user's template goes over the derived one by Kubernetes' own keys: containers and volumes by name, mounts by
/// path, spread constraints by topology key, labels and resources by theirs; other lists are replaced.
///
/// The model refuses a template that names what is derived. What stands by a key of the derived one regardless, such as
/// a volume of its name, would be half of each, so the derived one stays.
fn merged(derived: PodTemplateSpec, mut user: PodTemplateSpec) -> PodTemplateSpec {
    let of_user = gateway_container(&mut user)
        .and_then(|container| container.resources.clone())
        .unwrap_or_default();
    if let Some(spec) = &mut user.spec {
        let own = [
            BOOT_VOLUME,
            LIVE_VOLUME,
            NATS_VOLUME,
            TLS_VOLUME,
            AUTH_VOLUME,
        ];
        let is_own = |name: &str| own.contains(&name);
        spec.volumes
            .iter_mut()
            .for_each(|volumes| volumes.retain(|volume| !is_own(&volume.name)));
    }
    if let Some(container) = gateway_container(&mut user) {
        let directories = [
            BOOT_DIRECTORY,
            LIVE_DIRECTORY,
            NATS_DIRECTORY,
            TLS_DIRECTORY,
            AUTH_DIRECTORY,
        ];
        let is_own = |mount: &VolumeMount| {
            directories
                .iter()
                .any(|directory| Path::new(&mount.mount_path) == Path::new(directory))
        };
        container
            .volume_mounts
            .iter_mut()
            .for_each(|mounts| mounts.retain(|mount| !is_own(mount)));
    }
    let labels = derived
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.labels.clone());
    let mut template = derived;
    template.merge_from(user);
    if let (Some(metadata), Some(labels)) = (&mut template.metadata, labels) {
        metadata.labels.get_or_insert_default().extend(labels);
    }
    if let Some(merged) = gateway_container(&mut template) {
        resources::settle(merged.resources.get_or_insert_default(), &of_user);
    }
    template
}

fn gateway_container(template: &mut PodTemplateSpec) -> Option<&mut Container> {
    let containers = &mut template.spec.as_mut()?.containers;
    containers
        .iter_mut()
        .find(|container| container.name == CONTAINER)
}

fn container(gateway: &Gateway, site: &Site, files: Files<'_>) -> Container {
    let mut mounts = vec![
        mount(BOOT_VOLUME, BOOT_DIRECTORY),
        mount(LIVE_VOLUME, LIVE_DIRECTORY),
    ];
    mounts.extend(
        files
            .volumes()
            .map(|(volume, directory, _)| mount(volume, directory)),
    );
    Container {
        name: CONTAINER.to_owned(),
        image: Some(gateway.image.clone().unwrap_or_else(|| site.image.clone())),
        args: Some(vec![
            "--config".to_owned(),
            format!("{BOOT_DIRECTORY}/{BOOT_FILE}"),
            "--live".to_owned(),
            format!("{LIVE_DIRECTORY}/{LIVE_FILE}"),
            "--log-format".to_owned(),
            "json".to_owned(),
        ]),
        ports: Some(vec![
            port(names::CLIENTS_PORT_NAME, names::CLIENTS_PORT),
            port(names::ADMIN_PORT_NAME, names::ADMIN_PORT),
        ]),
        // Not `/readyz`: a gateway that waits for NATS is not made better by being killed.
        startup_probe: Some(Probe {
            period_seconds: Some(1),
            failure_threshold: Some(STARTUP_FAILURES),
            ..probe("/livez")
        }),
        readiness_probe: Some(Probe {
            period_seconds: Some(2),
            ..probe("/readyz")
        }),
        liveness_probe: Some(Probe {
            timeout_seconds: Some(5),
            ..probe("/livez")
        }),
        resources: Some(resources::resources()),
        security_context: Some(container_security()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        ..ContainerPort::default()
    }
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(names::ADMIN_PORT_NAME.to_owned()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

fn mount(volume: &str, directory: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: directory.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// What the restricted profile of the Pod Security Standards asks for, and a group by which the files can be read.
fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NOBODY),
        run_as_group: Some(NOBODY),
        fs_group: Some(NOBODY),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

/// Each generation of pods is placed for itself, or those that are about to go would push the new ones together.
const OF_ITS_GENERATION: &str = "pod-template-hash";

/// Over nodes as far as it goes: a pod that cannot be placed evenly is better than none.
fn over_nodes(gateway: &Gateway) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(names::pods(gateway)),
        match_label_keys: Some(vec![OF_ITS_GENERATION.to_owned()]),
        ..TopologySpreadConstraint::default()
    }
}

/// And over zones, by affinity: the scheduler leaves a node without one of the keys out of all spreading, and nodes
/// outside of clouds have no zone.
fn over_zones(gateway: &Gateway) -> Affinity {
    let elsewhere = WeightedPodAffinityTerm {
        weight: 100,
        pod_affinity_term: PodAffinityTerm {
            topology_key: "topology.kubernetes.io/zone".to_owned(),
            label_selector: Some(names::pods(gateway)),
            match_label_keys: Some(vec![OF_ITS_GENERATION.to_owned()]),
            ..PodAffinityTerm::default()
        },
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![elsewhere]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn volumes(name: &str, boot: &File, files: Files<'_>) -> Vec<Volume> {
    let of_config_map = |volume: &str, name: String| Volume {
        name: volume.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name,
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mut volumes = vec![
        of_config_map(BOOT_VOLUME, names::boot(name, &boot.hash)),
        of_config_map(LIVE_VOLUME, names::live(name)),
    ];
    volumes.extend(files.volumes().map(|(volume, directory, files)| Volume {
        name: volume.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(SECRET_MODE),
            sources: Some(projections(directory, files)),
        }),
        ..Volume::default()
    }));
    volumes
}

/// A source for each Secret and `ConfigMap`, in the order of the files.
fn projections(directory: &str, files: &[SecretFile]) -> Vec<VolumeProjection> {
    let mut sources: Vec<(&KeyOf, Vec<KeyToPath>)> = Vec::new();
    for file in files {
        let at = &file.content.at;
        let path = file.path.strip_prefix(directory).unwrap_or(&file.path);
        let item = KeyToPath {
            key: at.key.clone(),
            path: path.to_string_lossy().into_owned(),
            ..KeyToPath::default()
        };
        let same = |(other, _): &&mut (&KeyOf, _)| (other.kind, &other.name) == (at.kind, &at.name);
        match sources.iter_mut().find(same) {
            Some((_, items)) => items.push(item),
            None => sources.push((at, vec![item])),
        }
    }
    let projection = |(at, items): (&KeyOf, Vec<KeyToPath>)| match at.kind {
        ReferenceKind::Secret => VolumeProjection {
            secret: Some(SecretProjection {
                name: at.name.clone(),
                items: Some(items),
                ..SecretProjection::default()
            }),
            ..VolumeProjection::default()
        },
        ReferenceKind::ConfigMap => VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: at.name.clone(),
                items: Some(items),
                ..ConfigMapProjection::default()
            }),
            ..VolumeProjection::default()
        },
    };
    sources.into_iter().map(projection).collect()
}
