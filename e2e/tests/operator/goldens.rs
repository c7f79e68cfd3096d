//! What the goldens say that the operator makes, a real API server takes, word for word.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use wsgateway_e2e::{
    cluster::{ControlPlane, Identity, Optional, Options},
    needs,
    process::command,
    program::Program,
};

/// The namespace that all goldens are in.
const NAMESPACE: &str = "shop";

/// Kinds of which no schema can be had; their CRDs here take any field.
const WITHOUT_SCHEMA: &str = "ClientSettingsPolicy,ProxySettingsPolicy,UpstreamSettingsPolicy";

/// The one warning that a golden's own words bring about: they stand where a certificate would be.
const NO_CERTIFICATE: &str = "Warning: tls: failed to find any PEM data in certificate input";

/// The files with objects, by name.
fn goldens() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/tests/goldens");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut goldens: Vec<_> = files
        .filter_map(|file| {
            let name = file.file_name()?.to_str()?.to_owned();
            let text = fs::read_to_string(&file).ok()?;
            name.ends_with(".objects.yaml").then_some((name, text))
        })
        .collect();
    goldens.sort();
    assert!(goldens.len() >= 18, "{} goldens", goldens.len());
    goldens
}

/// The objects of a golden. Its first document is a comment.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("---\n").skip(1)
}

fn both(output: &Output) -> String {
    let text = [&*output.stdout, b"\n", &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn the_api_server_takes_every_golden_without_a_warning() {
    needs!(Kubernetes, Crds);
    let cluster = ControlPlane::start_with(Options {
        controller_manager: false,
        ..Options::default()
    });
    cluster.install_optional(&[
        Optional::Prometheus,
        Optional::CertManager,
        Optional::Keda,
        Optional::GatewayApi,
        Optional::NginxGatewayFabric,
    ]);
    cluster.kubectl(&["create", "namespace", NAMESPACE]);
    let mut kinds = BTreeSet::new();
    for (name, text) in goldens() {
        // Validation is strict: a field that the API server does not know is an error.
        let output = cluster.try_kubectl(
            &Identity::Admin,
            &[
                "apply",
                "--server-side",
                "--dry-run=server",
                "--validate=strict",
                "--output=name",
                "--filename=-",
            ],
            &text,
        );
        assert!(output.status.success(), "{name}: {}", both(&output));
        let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut warnings = warnings.lines().filter(|line| *line != NO_CERTIFICATE);
        assert_eq!(warnings.next(), None, "{name}");
        let taken = String::from_utf8(output.stdout).unwrap();
        assert_eq!(taken.lines().count(), documents(&text).count(), "{name}");
        kinds.extend(
            taken
                .lines()
                .filter_map(|line| Some(line.split_once('/')?.0.to_owned())),
        );
    }
    println!("kinds that the API server took: {kinds:?}");
    // All of the operator's, whatever is left out of a single golden.
    assert_eq!(kinds.len(), 18, "{kinds:?}");
}

#[test]
fn every_golden_keeps_to_the_schemas_of_kubernetes() {
    needs!(Kubeconform, Schemas);
    let schemas = Program::Schemas.expect();
    let schemas = schemas.join("{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json");
    for (name, text) in goldens() {
        let mut kubeconform = command(Program::Kubeconform.expect());
        kubeconform
            .args(["-strict", "-summary", "-skip", WITHOUT_SCHEMA])
            .arg("-schema-location")
            .arg(&schemas)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = kubeconform.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(text.as_bytes()).unwrap();
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        let said = both(&output);
        assert!(output.status.success(), "{name}: {said}");
        let found = format!("{} resources found", documents(&text).count());
        assert!(said.contains(&found), "{name}: {said}");
    }
}
