//! The Deployment, and the periods that follow from how a gateway leaves.

use std::time::Duration;

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
    apimachinery::pkg::util::intstr::IntOrString,
};
use wsgateway_model::Gateway;

use super::{Site, config_map::File, names, pod};

/// What a gateway may take beyond its drain to close files and exit.
const EXIT: Duration = Duration::from_secs(5);

/// How long a new pod may take to be placed, to get its image and to start: Kubernetes' own default.
const START: Duration = Duration::from_secs(600);

/// Old generations that are kept. Nobody goes back to one by hand, since the operator writes the template; but each one
/// keeps its boot `ConfigMap`.
const REVISIONS: i32 = 2;

pub(super) fn deployment(
    gateway: &Gateway,
    site: &Site,
    boot: &File,
    files: pod::Files<'_>,
) -> Deployment {
    Deployment {
        metadata: names::metadata(gateway, site, gateway.name.as_str()),
        spec: Some(DeploymentSpec {
            replicas: Some(i32::try_from(gateway.replicas).unwrap_or(i32::MAX)),
            selector: names::pods(gateway),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            // A Deployment does not wait for pods that end: a new one counts as available only once the old one, which
            // was told to end when it was made, is gone, so that one gateway ends at a time.
            min_ready_seconds: Some(whole_seconds(end(gateway))),
            progress_deadline_seconds: Some(whole_seconds(progress_deadline(gateway))),
            revision_history_limit: Some(REVISIONS),
            template: pod::template(gateway, site, boot, files),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// Until the kubelet kills a gateway: the last client's close frame may wait for as long as any message.
fn end(gateway: &Gateway) -> Duration {
    let drain = &gateway.live.drain;
    let clients_close = drain.propagation.get() + drain.period.get();
    clients_close + gateway.live.websocket.write_wait.get() + EXIT
}

/// In whole seconds, as a pod says it.
pub(super) fn grace(gateway: &Gateway) -> i64 {
    names::seconds(end(gateway))
}

/// A step of a rollout: a pod that ends may still hold the node's room, then a new one starts and must last. Kubernetes
/// asks for more than `minReadySeconds`.
fn progress_deadline(gateway: &Gateway) -> Duration {
    end(gateway) + START + end(gateway)
}

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(names::seconds(duration)).unwrap_or(i32::MAX)
}
