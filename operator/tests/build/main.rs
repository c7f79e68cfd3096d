//! From a `WsGateway` that a user could write to all of its objects. Run with `UPDATE_EXPECT=1` to accept a change.

// A test fails by panicking; clippy.toml exempts the tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use expect_test::expect_file;
use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::OwnerReference};
use wsgateway_model::{Gateway, Referenced};
use wsgateway_nginx_ingress::{Dialect, gateway_api::Implementation};
use wsgateway_operator::{
    build::{Desired, Front, Issued, Object, Site, build, url},
    kinds::Kind,
};

mod properties;
mod secrets;
mod series;

/// Each file and who stands in front of it; all optional kinds but those of Prometheus are served.
#[test]
fn every_gateway_asks_for_the_objects_of_its_golden() {
    let mut seen = BTreeSet::new();
    let mut check = |name: &str, site: Site| {
        let file = goldens().join(format!("{name}.yaml"));
        let text = fs::read_to_string(&file).unwrap();
        let gateway = gateway(&text);
        let desired = build(&gateway, &site);
        expect_file![file.with_extension("objects.yaml")].assert_eq(&shown(&gateway, &desired));
        seen.insert(file);
    };
    let prometheus = [Kind::PodMonitor, Kind::ServiceMonitor, Kind::PrometheusRule];
    check("seed", site());
    check("f5", site());
    check(
        "community",
        behind(ingress("nginx", Some(Dialect::Community))),
    );
    check("unknown-controller", behind(ingress("traefik", None)));
    check(
        "front-unknown",
        Site {
            issued: None,
            ..behind(Front::Unknown)
        },
    );
    check(
        "http-route-fabric",
        behind(Front::GatewayApi(Implementation::NginxGatewayFabric)),
    );
    check(
        "http-route-other",
        behind(Front::GatewayApi(Implementation::Other)),
    );
    check("cert-manager", site());
    check("hpa", behind(Front::Service));
    check("keda", behind(Front::Service));
    check("load-balancer", behind(Front::Service));
    check("load-balancer-tls", behind(Front::Service));
    check("inside-tls", serving(prometheus, behind(Front::Service)));
    check("inside", serving(prometheus, behind(Front::Service)));
    check("pod-monitor", serving(prometheus, behind(Front::Service)));
    check(
        "service-monitor",
        serving(prometheus, behind(Front::Service)),
    );
    let other = behind(Front::GatewayApi(Implementation::Other));
    check(
        "not-served",
        Site {
            served: BTreeSet::new(),
            ..other
        },
    );
    check("network-policy", behind(Front::Service));
    check("pod-template", behind(Front::Service));
    check("secure-nats", behind(Front::Service));
    check("auth", serving(prometheus, behind(Front::Service)));
    check("limits", site());
    check("client-address", behind(Front::Service));
    check("hidden-addresses", behind(Front::Service));
    let files = fs::read_dir(goldens())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let inputs = files.filter(|file| !file.to_string_lossy().ends_with(".objects.yaml"));
    assert_eq!(
        seen,
        inputs.collect(),
        "a file that no case names, or the other way round"
    );
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// The validated gateway of a file, as the operator gets it: it reads no Secret that the kubelet mounts.
fn gateway(text: &str) -> Gateway {
    let documents = wsgateway_model::documents(text).unwrap();
    let [document] = documents.gateways.as_slice() else {
        panic!("a golden holds one WsGateway")
    };
    wsgateway_model::check(&document.value, &Referenced::mounted())
        .unwrap_or_else(|reasons| panic!("{reasons}"))
}

/// The objects as documents of YAML, below what else there is to say.
fn shown(gateway: &Gateway, desired: &Desired) -> String {
    let mut text = String::new();
    let mut say = |what: &str, value: String| {
        if !value.is_empty() {
            writeln!(text, "# {what}: {value}").unwrap();
        }
    };
    say("url", url(gateway).unwrap_or_default());
    say("dialect", desired.dialect.unwrap_or_default().to_owned());
    for not_expressed in &desired.not_expressed {
        say("not expressed", not_expressed.to_string());
    }
    for kind in &desired.missing {
        say("missing", kind.name().to_owned());
    }
    for (kind, name) in &desired.kept {
        say("kept", format!("{} {name}", kind.name()));
    }
    for object in all(desired) {
        let yaml = serde_saphyr::to_string(&object.manifest).unwrap();
        write!(text, "---\n{yaml}").unwrap();
    }
    text
}

/// All objects, the Deployment last.
fn all(desired: &Desired) -> Vec<Object> {
    let deployment = Object {
        kind: Kind::Deployment,
        name: desired.deployment.metadata.name.clone().unwrap(),
        manifest: serde_json::to_value(&desired.deployment).unwrap(),
    };
    desired
        .objects
        .iter()
        .cloned()
        .chain([deployment])
        .collect()
}

/// Behind F5's controller.
fn site() -> Site {
    behind(ingress("nginx", Some(Dialect::F5)))
}

fn ingress(class: &str, dialect: Option<Dialect>) -> Front {
    let class = Some(class.to_owned());
    Front::Ingress { class, dialect }
}

fn behind(front: Front) -> Site {
    let served = [
        Kind::HttpRoute,
        Kind::ClientSettingsPolicy,
        Kind::ProxySettingsPolicy,
        Kind::UpstreamSettingsPolicy,
        Kind::Certificate,
        Kind::ScaledObject,
    ];
    Site {
        image: "example.com/wsgateway:0.1.0".to_owned(),
        operator_namespace: Some("wsgateway-system".to_owned()),
        owner: Some(OwnerReference {
            api_version: "wsgateway.io/v1alpha1".to_owned(),
            kind: "WsGateway".to_owned(),
            name: "notifications".to_owned(),
            uid: "11111111-2222-3333-4444-555555555555".to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }),
        served: served.into(),
        front,
        issued: Some(issued("1")),
    }
}

fn serving(kinds: impl IntoIterator<Item = Kind>, mut site: Site) -> Site {
    site.served.extend(kinds);
    site
}

/// Contents that tell one issue from another.
fn issued(issue: &str) -> Issued {
    let data = |keys: &[&str]| {
        let keys = keys.iter();
        let pairs = keys.map(|key| {
            let content = format!("{key} of issue {issue}\n");
            ((*key).to_owned(), ByteString(content.into_bytes()))
        });
        pairs.collect::<BTreeMap<_, _>>()
    };
    Issued {
        authority: data(&["tls.crt", "tls.key"]),
        leaf: data(&["tls.crt", "tls.key", "ca.crt"]),
        trust: "what clients trust\n".to_owned(),
    }
}
