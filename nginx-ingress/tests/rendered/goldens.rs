//! Goldens: an exposure that a person could write goes in, and all that is rendered from it lies
//! beside it. Run with `UPDATE_EXPECT=1` to accept a change. A second test has a real nginx read
//! every configuration.

use std::fs;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use serde_json::{Value, json};
use wsgateway_nginx_ingress::conf::{
    self, Capacity, Https, ListenerSettings, Listeners, Standalone,
};
use wsgateway_nginx_ingress::gateway_api::{self, Implementation, ParentRef, RouteTarget};
use wsgateway_nginx_ingress::value::{FilePath, ListenAddress, ObjectName, UpstreamAddress};
use wsgateway_nginx_ingress::{Dialect, Exposure};

use crate::nginx::Nginx;

#[test]
fn every_exposure_renders_as_its_goldens_say() {
    let mut seen = 0;
    for (file, exposure) in read::<Exposure>("") {
        let service = ObjectName::new("notifications").unwrap();
        let annotations = json!({
            Dialect::F5.prefix(): Dialect::F5.annotations(&exposure, &service),
            Dialect::Community.prefix(): Dialect::Community.annotations(&exposure, &service),
        });
        expect_file![file.with_extension("annotations.yaml")].assert_eq(&yaml(annotations));
        let target = RouteTarget {
            name: service.clone(),
            parent_refs: vec![ParentRef {
                name: ObjectName::new("public").unwrap(),
                section_name: Some(ObjectName::new("wss").unwrap()),
            }],
            service,
            port: 80,
        };
        let objects = json!({
            "nginxGatewayFabric":
                gateway_api::objects(&exposure, &target, Implementation::NginxGatewayFabric),
            "other": gateway_api::objects(&exposure, &target, Implementation::Other),
        });
        expect_file![file.with_extension("gateway-api.yaml")].assert_eq(&yaml(objects));
        let conf = conf::render(&standalone_for(exposure));
        expect_file![file.with_extension("conf")].assert_eq(&conf);
        seen += 1;
    }
    assert!(seen >= 4, "only {seen} exposures were found");
}

#[test]
fn every_standalone_renders_as_its_golden_says() {
    let mut seen = 0;
    for (file, standalone) in read::<Standalone>("standalone") {
        expect_file![file.with_extension("conf")].assert_eq(&conf::render(&standalone));
        seen += 1;
    }
    assert!(seen >= 2, "only {seen} documents were found");
}

#[test]
fn a_real_nginx_accepts_every_golden() {
    let Some(nginx) = Nginx::find() else {
        return;
    };
    let exposures = read::<Exposure>("").map(|(file, exposure)| (file, standalone_for(exposure)));
    for (file, standalone) in exposures.chain(read::<Standalone>("standalone")) {
        nginx
            .accepts(&standalone)
            .unwrap_or_else(|says| panic!("{}: {says}", file.display()));
    }
}

/// What `wsgw local` makes of the sample manifest.
fn standalone_for(exposure: Exposure) -> Standalone {
    let listen = |address| vec![ListenAddress::new(address).unwrap()];
    Standalone {
        exposure,
        listeners: Listeners::new(ListenerSettings {
            http: listen("0.0.0.0:8080"),
            https: Some(Https {
                listen: listen("0.0.0.0:8443"),
                certificate: FilePath::new("/run/wsgw/tls.crt").unwrap(),
                key: FilePath::new("/run/wsgw/tls.key").unwrap(),
            }),
        })
        .unwrap(),
        workers: ["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"]
            .map(|worker| UpstreamAddress::new(worker).unwrap())
            .to_vec(),
        capacity: Capacity::for_sockets(30_000, NonZeroU16::MIN, 1_048_576),
        directory: FilePath::new("/run/wsgw").unwrap(),
        error_log: conf::ErrorLog::default(),
        access_log: None,
        worker_shutdown_timeout: None,
    }
}

/// The inputs of a folder, in the order of their names: the YAML files that no golden's ending
/// marks.
fn read<T: serde::de::DeserializeOwned>(folder: &str) -> impl Iterator<Item = (PathBuf, T)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.split_once('.')
                .is_some_and(|(_, endings)| endings == "yaml")
        })
        .collect();
    files.sort();
    files.into_iter().map(|file| {
        let text = fs::read_to_string(&file).unwrap();
        let input = serde_saphyr::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (file, input)
    })
}

/// YAML with sorted keys, so that another crate's choice of `serde_json`'s map does not change a
/// golden.
fn yaml(value: impl serde::Serialize) -> String {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Array(items) => items.into_iter().map(sorted).collect(),
            Value::Object(members) => {
                let mut members: Vec<_> = members.into_iter().collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                members
                    .into_iter()
                    .map(|(key, value)| (key, sorted(value)))
                    .collect()
            }
            scalar => scalar,
        }
    }
    serde_saphyr::to_string(&sorted(serde_json::to_value(value).unwrap())).unwrap()
}
