//! Every sample is right, and means what this says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{fmt::Write, fs, path::PathBuf};

use expect_test::expect_file;
use wsgateway_crds::config::{Boot, Config, Listen};

/// Where the samples are.
fn samples() -> Vec<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    files
}

/// `UPDATE_EXPECT=1` writes the goldens anew.
#[test]
fn every_sample_becomes_the_configuration_of_a_worker() {
    for file in samples() {
        let text = fs::read_to_string(&file).unwrap();
        let documents = wsgateway_model::documents(&text).unwrap();
        assert!(
            documents.ignored.is_empty(),
            "{file:?}: {:?}",
            documents.ignored
        );
        for document in &documents.gateways {
            assert_eq!(wsgateway_model::lint(&document.value), [], "{file:?}");
            let referenced = documents.referenced(&document.namespace);
            let gateway = wsgateway_model::check(&document.value, &referenced)
                .unwrap_or_else(|reasons| panic!("{file:?}: {reasons}"));
            let (nats, files) = gateway.nats.config("/run/wsgateway".as_ref());
            let listen = Listen {
                clients: "127.0.0.1:8001".parse().unwrap(),
                admin: "127.0.0.1:9001".parse().unwrap(),
                shards: None,
                tls: None,
            };
            let (live, auth_files) = gateway.live_in("/run/wsgateway/auth".as_ref());
            let config = Config {
                boot: Boot { listen, nats },
                live: Some(live),
            };
            let mut golden = config.write().unwrap();
            for file in files.into_iter().chain(auth_files) {
                writeln!(golden, "# file: {}", file.path.display()).unwrap();
            }
            let exposure = serde_saphyr::to_string(&gateway.exposure).unwrap();
            writeln!(
                golden,
                "# proxy:\n{exposure}# certificate: {:?}",
                gateway.tls
            )
            .unwrap();
            let name = file.file_name().unwrap().to_str().unwrap();
            expect_file![format!("golden/{name}")].assert_eq(&golden);
        }
    }
}
