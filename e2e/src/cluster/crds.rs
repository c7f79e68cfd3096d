//! The CRDs that a control plane knows: ours, and those of projects that a cluster may have or lack.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{ControlPlane, Identity, blocking, held, wait_for, wait_gone};
use crate::{program::Program, wait::SOON};

/// How often the API server is asked whether it serves what it has accepted.
const POLL_PERIOD: Duration = Duration::from_millis(20);

/// CRDs of another project. All but the last are its own, as [`Program::Crds`] has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optional {
    /// `PodMonitor`, `ServiceMonitor`, `PrometheusRule`.
    Prometheus,
    /// `Certificate` and issuers.
    CertManager,
    /// `ScaledObject`.
    Keda,
    /// `HTTPRoute`, `Gateway`.
    GatewayApi,
    /// The same kinds with the fields that are not stable yet. Not to be mixed with the stable ones.
    GatewayApiExperimental,
    /// The policies of NGINX Gateway Fabric. No Go module holds its CRDs: these take any field.
    NginxGatewayFabric,
}

impl Optional {
    fn definitions(self) -> Vec<CustomResourceDefinition> {
        let folder = match self {
            Self::Prometheus => "prometheus",
            Self::CertManager => "cert-manager",
            Self::Keda => "keda",
            Self::GatewayApi => "gateway-api",
            Self::GatewayApiExperimental => "gateway-api-experimental",
            Self::NginxGatewayFabric => return policies(),
        };
        let folder = Program::Crds.expect().join(folder);
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files.iter().map(|file| read(file)).collect()
    }
}

impl ControlPlane {
    /// Installs our CRD, unless it is there, and awaits that it is served.
    pub fn install_crd(&self) {
        self.install(&[ours()]);
    }

    /// Installs other projects' CRDs, unless they are there, and awaits that they are served.
    pub fn install_optional(&self, groups: &[Optional]) {
        for group in groups {
            self.install(&group.definitions());
        }
    }

    /// Deletes our CRD, and with it all objects of it.
    pub fn uninstall_crd(&self) {
        self.uninstall(&[ours()]);
    }

    /// Deletes other projects' CRDs, and with them all objects of them. On a control plane of the test's own.
    pub fn uninstall_optional(&self, groups: &[Optional]) {
        for group in groups {
            self.uninstall(&group.definitions());
        }
    }

    fn install(&self, definitions: &[CustomResourceDefinition]) {
        // Held to the end, so that another test finds them served.
        let mut installed = held(&self.installed);
        let config = self.config(&Identity::Admin);
        let new = definitions
            .iter()
            .filter(|definition| !installed.contains(&definition.name_any()))
            .collect::<Vec<_>>();
        blocking(async {
            let client = Client::try_from(config).unwrap();
            let api: Api<CustomResourceDefinition> = Api::all(client.clone());
            let params = PatchParams::apply("test").force();
            for &definition in &new {
                api.patch(&definition.name_any(), &params, &Patch::Apply(definition))
                    .await
                    .unwrap();
            }
            for &definition in &new {
                await_served(&client, &api, definition).await;
            }
        });
        installed.extend(new.iter().map(|definition| definition.name_any()));
    }

    fn uninstall(&self, definitions: &[CustomResourceDefinition]) {
        let mut installed = held(&self.installed);
        let config = self.config(&Identity::Admin);
        blocking(async {
            let client = Client::try_from(config).unwrap();
            let api: Api<CustomResourceDefinition> = Api::all(client);
            for definition in definitions {
                let name = definition.name_any();
                // One that was never installed is as gone as any.
                let _ = api.delete(&name, &DeleteParams::default()).await;
                wait_gone(&api, &name, SOON).await;
            }
        });
        installed.retain(|name| {
            definitions
                .iter()
                .all(|definition| definition.name_any() != *name)
        });
    }
}

fn ours() -> CustomResourceDefinition {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crd");
    read(&folder.join("wsgateways.yaml"))
}

fn read(file: &Path) -> CustomResourceDefinition {
    let text = fs::read_to_string(file).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The API server says that a kind is established a moment before it answers for it.
async fn await_served(
    client: &Client,
    api: &Api<CustomResourceDefinition>,
    definition: &CustomResourceDefinition,
) {
    let name = definition.name_any();
    wait_for(api, &name, "it is established", SOON, |seen| {
        let conditions = seen
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Established" && condition.status == "True")
    })
    .await;
    let spec = &definition.spec;
    for version in spec.versions.iter().filter(|version| version.served) {
        let group = format!("{}/{}", spec.group, version.name);
        let served = async {
            loop {
                if let Ok(list) = client.list_api_group_resources(&group).await
                    && list
                        .resources
                        .iter()
                        .any(|kind| kind.name == spec.names.plural)
                    && is_answered(client, &group, &spec.names.plural).await
                {
                    return;
                }
                sleep(POLL_PERIOD).await;
            }
        };
        timeout(SOON, served)
            .await
            .unwrap_or_else(|_| panic!("{name} is not served in {group}"));
    }
}

async fn is_answered(client: &Client, group: &str, plural: &str) -> bool {
    let path = format!("/apis/{group}/{plural}?limit=1");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    client.request_text(request).await.is_ok()
}

/// Stand-ins with the names of NGINX Gateway Fabric's kinds.
fn policies() -> Vec<CustomResourceDefinition> {
    [
        ("ClientSettingsPolicy", "clientsettingspolicies"),
        ("ProxySettingsPolicy", "proxysettingspolicies"),
        ("UpstreamSettingsPolicy", "upstreamsettingspolicies"),
    ]
    .iter()
    .map(|(kind, plural)| {
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let definition = json!({
            "metadata": {"name": format!("{plural}.gateway.nginx.org")},
            "spec": {
                "group": "gateway.nginx.org",
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural},
                "versions": [{
                    "name": "v1alpha1",
                    "served": true,
                    "storage": true,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": any, "status": any},
                    }},
                }],
            },
        });
        serde_json::from_value(definition).unwrap()
    })
    .collect()
}
