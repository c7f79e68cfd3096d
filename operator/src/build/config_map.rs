//! The two parts of a gateway's configuration, each in a `ConfigMap`: what only a restart changes, under a name of its
//! own for each text, and what running gateways read again.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Serialize;
use wsgateway_crds::{
    config::{Boot, Config, Listen},
    report::hash,
};
use wsgateway_model::{Gateway, gateway::SecretFile};

use super::{Object, Site, names};
use crate::kinds::Kind;

/// Where the boot configuration is mounted.
pub(super) const BOOT_DIRECTORY: &str = "/etc/wsgateway/boot";
/// Its file.
pub(super) const BOOT_FILE: &str = "boot.yaml";
/// Where the live configuration is mounted: as a directory, since the kubelet never renews a `subPath`.
pub(super) const LIVE_DIRECTORY: &str = "/etc/wsgateway/live";
/// Its file.
pub(super) const LIVE_FILE: &str = "live.yaml";
/// Where what NATS asks for is mounted.
pub(super) const NATS_DIRECTORY: &str = "/etc/wsgateway/nats";
/// Where keys of issuers, shared secrets and what issuers are trusted by are mounted.
pub(super) const AUTH_DIRECTORY: &str = "/etc/wsgateway/auth";

/// Where the certificate is mounted, where the gateways end TLS themselves. As a directory: the kubelet brings a renewed
/// one.
pub(super) const TLS_DIRECTORY: &str = "/etc/wsgateway/tls";

/// The text of a configuration file, and by what it is told from others.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) text: String,
    pub(super) hash: String,
}

impl File {
    fn of(value: &impl Serialize) -> Self {
        let text = serde_saphyr::to_string(value)
            .expect("a configuration should have a YAML form: its maps are keyed by text");
        let hash = hash(&text);
        Self { text, hash }
    }
}

/// What only a restart changes, and the files that it names: for NATS, and for TLS.
pub(super) fn boot_file(gateway: &Gateway) -> (File, [Vec<SecretFile>; 2]) {
    // All of the pod's addresses of the older family: a node may have been started without the newer one.
    let on = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    let (nats, nats_files) = gateway.nats.config(Path::new(NATS_DIRECTORY));
    let (tls, tls_files) = gateway.tls_in(Path::new(TLS_DIRECTORY)).unzip();
    let listen = Listen {
        clients: on(names::CLIENTS_PORT),
        admin: on(names::ADMIN_PORT),
        shards: None,
        tls,
    };
    let boot = Boot { listen, nats };
    let file = File::of(&Config { boot, live: None });
    (file, [nats_files, tls_files.unwrap_or_default()])
}

/// What running gateways read again, and the files that it names. The kubelet brings a changed one to running pods;
/// another one needs another pod.
pub(super) fn live_file(gateway: &Gateway) -> (File, Vec<SecretFile>) {
    let (live, files) = gateway.live_in(Path::new(AUTH_DIRECTORY));
    (File::of(&live), files)
}

/// Immutable: pods of an older generation go on with theirs, and the kubelet need not watch it.
pub(super) fn boot(gateway: &Gateway, site: &Site, file: &File) -> Object {
    let name = names::boot(gateway.name.as_str(), &file.hash);
    let mut object = with_file(gateway, site, name, BOOT_FILE, file);
    object.immutable = Some(true);
    names::typed(Kind::ConfigMap, &object.metadata, &object)
}

pub(super) fn live(gateway: &Gateway, site: &Site, file: &File) -> Object {
    let name = names::live(gateway.name.as_str());
    let object = with_file(gateway, site, name, LIVE_FILE, file);
    names::typed(Kind::ConfigMap, &object.metadata, &object)
}

fn with_file(gateway: &Gateway, site: &Site, name: String, key: &str, file: &File) -> ConfigMap {
    ConfigMap {
        metadata: names::metadata(gateway, site, name),
        data: Some(BTreeMap::from([(key.to_owned(), file.text.clone())])),
        ..ConfigMap::default()
    }
}
