//! What a test needs of a `WsGateway` in its namespace on a cluster with nodes.

use std::{net::SocketAddr, path::PathBuf, process::Output, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Api, ResourceExt, runtime::watcher};
use serde_json::Value;
use wsgateway_crds::v1alpha1::WsGateway;

use super::{Kubernetes, READY};
use crate::{
    cluster::{Access, Namespace, says, wait_for, wait_for_all},
    directory::Directory,
    http,
    wait::until_true,
};

/// Where clients come in, and as whom they find the server.
#[derive(Debug)]
pub struct Entrance {
    /// What to dial, inside and outside: the ingress controller's TLS port.
    pub address: SocketAddr,
    /// What to name as SNI and `Host`.
    pub host: String,
    /// The authority that signed the certificate, a PEM file.
    pub authority: PathBuf,
    /// The same as text.
    pub authority_pem: String,
    _directory: Directory,
}

impl Entrance {
    /// By address, for who names the host beside it, as `wscat --host` does.
    pub fn url(&self, path: &str) -> String {
        format!("wss://{}{path}", self.address)
    }

    /// By name, for who is told the address beside it.
    pub fn named_url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.host)
    }

    /// What websocat takes to come in by name: options, and in the place of an URL, an address.
    pub fn websocat(&self, path: &str) -> (Vec<String>, String) {
        let uri = format!("--ws-c-uri={}", self.named_url("wss", path));
        let address = format!("ws-c:ssl-connect:tcp:{}", self.address);
        (vec![uri, "-".to_owned()], address)
    }

    /// Asks for a page by name, with curl's own options beside: `https` is checked by the authority.
    pub fn curl(&self, scheme: &str, path: &str, options: &[&str]) -> Output {
        let ip = self.address.ip();
        let resolve = [443, 80].map(|port| format!("{}:{port}:{ip}", self.host));
        let authority = self.authority.to_str().unwrap();
        let mut arguments = vec!["--cacert", authority];
        for entry in &resolve {
            arguments.extend(["--resolve", entry.as_str()]);
        }
        let url = self.named_url(scheme, path);
        arguments.extend(options);
        arguments.push(&url);
        http::curl(&arguments)
    }

    /// A gateway refuses a request that is no handshake; nginx itself would answer otherwise.
    fn leads_to_a_gateway(&self, path: &str) -> bool {
        let options = ["--output", "/dev/null", "--write-out", "%{http_code}"];
        let output = self.curl("https", path, &options);
        let status = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success() && !["404", "502", "503", "504"].contains(&status.as_str())
    }
}

impl Namespace<'_, Kubernetes> {
    /// A host that no other test has.
    pub fn host(&self, name: &str) -> String {
        format!("{name}.{}.example.com", self.name())
    }

    /// Awaits that a `WsGateway` is ready with its newest spec, and panics with its conditions where it does not get so.
    pub async fn ready(&self, name: &str) -> WsGateway {
        self.until(name, "Ready=True", READY).await
    }

    /// Awaits that a condition of a `WsGateway` has a status and a reason, `Type=Status/Reason` or `Type=Status`, of its
    /// newest spec.
    pub async fn until(&self, name: &str, condition: &str, within: Duration) -> WsGateway {
        let what = format!("{condition} (kubectl get wsgateway shows why not)");
        wait_for(&self.api(), name, &what, within, |gateway| {
            says(gateway, condition)
        })
        .await
    }

    /// Where clients of a `WsGateway` with a host and a certificate of the operator's come in. Awaits that the ingress
    /// controller lets them in with that certificate, which may be some seconds after the gateways are ready.
    pub async fn entrance(&self, name: &str) -> Entrance {
        let gateways: Api<WsGateway> = self.api();
        let gateway = gateways.get(name).await.unwrap();
        let spec = serde_json::to_value(&gateway.spec).unwrap();
        let text = |pointer: &str| {
            let value = spec.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_else(|| panic!("{name} has no {pointer}: {spec}"))
        };
        let authority_pem = self.authority(name).await;
        let directory = Directory::make();
        let entrance = Entrance {
            address: self.cluster().ingress(),
            host: text("/exposure/hosts/0").to_owned(),
            authority: directory.write("ca.crt", &authority_pem),
            authority_pem,
            _directory: directory,
        };
        // What captures stand for does not matter.
        let path = text("/routes/0/path").replace(['{', '}'], "");
        until_true("a gateway answers through the ingress", READY, || {
            entrance.leads_to_a_gateway(&path)
        });
        entrance
    }

    /// The authority that the operator made for a `WsGateway`, as its users get it.
    pub async fn authority(&self, name: &str) -> String {
        let maps: Api<ConfigMap> = self.api();
        let name = format!("{name}-ca");
        let map = wait_for(&maps, &name, "it has ca.crt", READY, |map| {
            map.data
                .as_ref()
                .is_some_and(|data| data.contains_key("ca.crt"))
        })
        .await;
        map.data.unwrap().remove("ca.crt").unwrap()
    }

    /// The pods of a `WsGateway`, once there are `count`, all of them ready and none of them about to go.
    pub async fn ready_pods(&self, name: &str, count: usize) -> Vec<Pod> {
        let what = format!("{count} pods of {name} are ready, and no other");
        wait_for_all(
            &self.api(),
            gateways_of(name),
            &what,
            READY,
            |pods: &[Pod]| pods.len() == count && pods.iter().all(is_ready),
        )
        .await
    }

    /// Awaits that the one pod of a `WsGateway` is another than `pod`, and ready, and returns its name.
    pub async fn until_replaced(&self, name: &str, pod: &str) -> String {
        let what = format!("{pod} is replaced");
        let pods = wait_for_all(
            &self.api(),
            gateways_of(name),
            &what,
            READY,
            |pods: &[Pod]| pods.len() == 1 && pods[0].name_any() != pod && is_ready(&pods[0]),
        )
        .await;
        pods[0].name_any()
    }
}

/// What selects the pods of a `WsGateway`.
fn gateways_of(name: &str) -> watcher::Config {
    watcher::Config::default().labels(&format!(
        "app.kubernetes.io/instance={name},app.kubernetes.io/managed-by=wsgateway-operator"
    ))
}

/// Whether a pod serves and is not about to go.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions);
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Where a pod listens, inside.
pub fn pod_address(pod: &Pod, port: u16) -> SocketAddr {
    let ip = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_deref());
    let ip = ip.unwrap_or_else(|| panic!("{} has no address", pod.name_any()));
    SocketAddr::new(ip.parse().unwrap(), port)
}

pub(super) fn pod_uid(admin: &Access, namespace: &str, pod: &str) -> String {
    admin.kubectl(&[
        "get",
        "pod",
        pod,
        "--namespace",
        namespace,
        "--output=jsonpath={.metadata.uid}",
    ])
}
