//! `wsgw render`: all objects that the operator makes of a manifest, without a cluster.
//!
//! What the operator would find in a cluster is taken from the manifest's own documents and the command line, or else
//! assumed; what was assumed is said, and so is what cannot be known without a cluster.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

mod front;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use wsgateway_model::Gateway;
use wsgateway_operator::{
    build::{Desired, Site, build, url},
    kinds::Kind,
};

use self::front::Fronts;
use crate::{
    defaults::Defaults,
    manifest::{self, ManifestError},
};

/// What to render, and for which cluster.
#[derive(Debug, clap::Args)]
pub struct RenderArgs {
    /// A manifest: WsGateways, and the IngressClass, Gateway and GatewayClass that they name.
    #[arg(value_name = "FILE", required_unless_present = "file")]
    given: Option<PathBuf>,
    /// The same, as kubectl takes it.
    #[arg(short, long, value_name = "FILE", conflicts_with = "given")]
    file: Option<PathBuf>,
    /// The controller in front, where neither the spec nor a class in FILE names it: as in spec.controller of an
    /// IngressClass or spec.controllerName of a GatewayClass.
    #[arg(long, value_name = "CONTROLLER")]
    controller: Option<String>,
    /// A kind that the cluster does not have, such as PodMonitor. It may be given several times. Default: it has all.
    #[arg(long, value_name = "KIND", value_parser = optional_kind)]
    without: Vec<Kind>,
    /// The image of WsGateways that name none.
    #[arg(long, value_name = "IMAGE", default_value = concat!("ghcr.io/wsgateway/wsgateway:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// The operator's namespace, which a NetworkPolicy lets in.
    #[arg(long, value_name = "NAMESPACE")]
    operator_namespace: Option<String>,
    #[command(flatten)]
    defaults: Defaults,
}

impl RenderArgs {
    fn manifest(&self) -> &Path {
        let file = self.given.as_deref().or(self.file.as_deref());
        file.unwrap_or(Path::new("-"))
    }
}

fn optional_kind(text: &str) -> Result<Kind, String> {
    let optional = || {
        Kind::ALL
            .into_iter()
            .filter(|kind| kind.is_optional() && kind.is_child())
    };
    let is_it = |kind: &Kind| {
        [kind.name(), kind.plural()]
            .iter()
            .any(|name| name.eq_ignore_ascii_case(text))
    };
    optional().find(is_it).ok_or_else(|| {
        let names: Vec<_> = optional().map(Kind::name).collect();
        format!("it must be one of {}", names.join(", "))
    })
}

/// What comes of a manifest.
#[derive(Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The objects, a document of YAML each.
    pub yaml: String,
    /// What was assumed, what is left out, and what cannot be said as the spec asks: a line each.
    pub notes: Vec<String>,
}

/// Prints the objects, and says the rest on standard error.
pub fn render(args: &RenderArgs) -> Result<(), ManifestError> {
    let text = manifest::text(args.manifest())?;
    let Rendered { yaml, notes } = rendered(&text, args)?;
    for note in notes {
        eprintln!("wsgw: {note}");
    }
    // Whoever reads may have read enough, as `head` does.
    _ = io::stdout().write_all(yaml.as_bytes());
    Ok(())
}

/// Pure: what [`render`] prints of a file's text.
fn rendered(text: &str, args: &RenderArgs) -> Result<Rendered, ManifestError> {
    let gateways = manifest::gateways_for_cluster(args.manifest(), text, &args.defaults)?;
    let fronts = Fronts::read(text);
    let optional = Kind::ALL.into_iter().filter(|kind| kind.is_optional());
    let served: BTreeSet<Kind> = optional
        .filter(|kind| !args.without.contains(kind))
        .collect();
    let mut rendered = Rendered {
        yaml: String::new(),
        notes: Vec::new(),
    };
    for gateway in gateways {
        let (front, assumed) = fronts.front(&gateway, args.controller.as_deref());
        let site = Site {
            image: args.image.clone(),
            operator_namespace: args.operator_namespace.clone(),
            owner: None,
            served: served.clone(),
            front,
            issued: None,
        };
        let desired = build(&gateway, &site);
        let notes = assumed.into_iter().chain(notes(&gateway, &desired));
        let of = format!("{}/{}", gateway.namespace, gateway.name);
        rendered
            .notes
            .extend(notes.map(|note| format!("{of}: {note}")));
        write_objects(&mut rendered.yaml, &desired);
    }
    Ok(rendered)
}

fn notes(gateway: &Gateway, desired: &Desired) -> Vec<String> {
    let mut notes = Vec::new();
    if !desired.kept.is_empty() {
        let kept = desired.kept.iter();
        let kept: Vec<_> = kept
            .map(|(kind, name)| format!("{} {name}", kind.name()))
            .collect();
        let kept = kept.join(", ");
        notes.push(format!(
            "{kept} left out: the operator makes keys and certificates in the cluster"
        ));
    }
    let missing = desired.missing.iter();
    notes.extend(missing.map(|kind| {
        format!(
            "{} left out: the spec asks for one, but the cluster does not have the kind",
            kind.name()
        )
    }));
    let not_expressed = desired.not_expressed.iter();
    notes.extend(not_expressed.map(|it| format!("cannot be said as asked: spec.{it}")));
    notes.extend(url(gateway).map(|url| format!("clients connect to {url}")));
    notes
}

fn write_objects(yaml: &mut String, desired: &Desired) {
    let deployment = serde_saphyr::to_string(&desired.deployment);
    let objects = desired.objects.iter();
    let documents = objects.map(|object| serde_saphyr::to_string(&object.manifest));
    for document in documents.chain([deployment]) {
        let document = document.expect("a Kubernetes object should have a YAML form");
        _ = write!(yaml, "---\n{document}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Parser;
    use serde_json::Value;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RenderArgs,
    }

    fn of(text: &str, options: &[&str]) -> Result<Rendered, ManifestError> {
        let line = ["render", "-f", "f.yaml"].iter().chain(options);
        rendered(text, &Line::parse_from(line).args)
    }

    fn gateway(spec: &str) -> String {
        format!(
            "apiVersion: wsgateway.io/v1alpha1\nkind: WsGateway\nmetadata: {{name: chat, namespace: shop}}\nspec:\n  \
             nats: {{servers: ['nats://nats:4222']}}\n  routes: [{{name: a, path: /a}}]\n{spec}"
        )
    }

    /// How many objects there are of each kind.
    fn kinds(rendered: &Rendered) -> BTreeMap<String, usize> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&rendered.yaml).unwrap();
        let mut kinds = BTreeMap::new();
        for document in documents {
            let kind = document["kind"].as_str().unwrap().to_owned();
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }

    #[test]
    fn every_object_is_a_document_and_what_a_cluster_must_add_is_said() {
        let rendered = of(&gateway("  exposure: {hosts: [ws.example.com]}\n"), &[]).unwrap();
        let expected = [
            ("ConfigMap", 2),
            ("Deployment", 1),
            ("Ingress", 1),
            ("PodDisruptionBudget", 1),
            ("PodMonitor", 1),
            ("PrometheusRule", 1),
            ("Service", 1),
            ("ServiceAccount", 1),
        ];
        let expected = expected.map(|(kind, count)| (kind.to_owned(), count));
        assert_eq!(kinds(&rendered), expected.into());
        assert!(
            rendered.yaml.contains("nginx.org/websocket-services: chat"),
            "{}",
            rendered.yaml
        );
        assert!(
            rendered
                .yaml
                .contains("image: ghcr.io/wsgateway/wsgateway:"),
            "{}",
            rendered.yaml
        );
        assert!(
            !rendered.yaml.contains("ownerReferences"),
            "{}",
            rendered.yaml
        );
        assert_eq!(
            rendered.notes,
            [
                "shop/chat: nothing names the controller of the Ingress; nginx.org/ingress-controller is assumed, \
                 --controller names another",
                "shop/chat: Secret chat-ca, Secret chat-tls, ConfigMap chat-ca left out: the operator makes keys and \
                 certificates in the cluster",
                "shop/chat: cannot be said as asked: spec.exposure.status: a controller shows stub_status for all its \
                 Ingresses, on a port of its own pod",
                "shop/chat: clients connect to wss://ws.example.com/a",
            ]
        );
    }

    #[test]
    fn kinds_that_the_cluster_lacks_are_left_out_and_said_where_they_were_asked_for() {
        let spec =
            "  exposure: {type: None, tls: {type: None}}\n  monitoring: {metrics: PodMonitor}\n";
        let options = [
            "--without",
            "podmonitors",
            "--without",
            "PrometheusRule",
            "--image",
            "i:1",
        ];
        let rendered = of(&gateway(spec), &options).unwrap();
        let kinds = kinds(&rendered);
        assert!(
            !kinds.contains_key("PodMonitor") && !kinds.contains_key("PrometheusRule"),
            "{kinds:?}"
        );
        assert!(rendered.yaml.contains("image: i:1"), "{}", rendered.yaml);
        assert_eq!(
            rendered.notes,
            [
                "shop/chat: PodMonitor left out: the spec asks for one, but the cluster does not have the kind",
                "shop/chat: clients connect to ws://chat.shop.svc:8000/a",
            ]
        );
    }

    #[test]
    fn what_the_operator_would_refuse_is_refused_in_its_words() {
        let check = |text: &str, expected: &str| {
            let error = of(text, &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let nats = "  nats: {servers: ['nats://nats:4222']}\n";
        let without = gateway("").replace(nats, "");
        check(
            &without,
            "f.yaml:5: spec.nats.servers: must be set in a cluster where the operator has no default: no server is started \
             there; where it has one, --nats-server names it",
        );
        check(&gateway("  replicas: -1\n"), "f.yaml:7: spec.replicas");
    }

    #[test]
    fn the_operators_servers_are_those_of_who_names_none() {
        let nats = "  nats: {servers: ['nats://nats:4222']}\n";
        let without = gateway("").replace(nats, "");
        let options = ["--nats-server", "nats://a:1,tls://b:2"];
        let both = of(&without, &options).unwrap();
        assert!(
            both.yaml.contains("nats://a:1") && both.yaml.contains("tls://b:2"),
            "{}",
            both.yaml
        );
        let named = of(&gateway(""), &options).unwrap();
        assert!(
            named.yaml.contains("nats://nats:4222") && !named.yaml.contains("nats://a:1"),
            "{}",
            named.yaml
        );
        let wrong = ["render", "-f", "f.yaml", "--nats-server", "http://a"];
        let wrong = Line::try_parse_from(wrong).err().unwrap().to_string();
        assert!(
            wrong.contains("must be nats://host:port or tls://host:port"),
            "{wrong}"
        );
    }

    #[test]
    fn only_optional_kinds_can_be_missing() {
        let check = |text: &str, expected: Option<Kind>| {
            assert_eq!(optional_kind(text).ok(), expected, "{text}");
        };
        check("HTTPRoute", Some(Kind::HttpRoute));
        check("scaledobjects", Some(Kind::ScaledObject));
        check("Service", None);
        check("Gateway", None);
    }
}
