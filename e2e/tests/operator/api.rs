//! The CRD as a real API server reads it: what `wsgw lint` refuses is refused, in the same words where the words are
//! ours, and what it accepts is accepted.
//!
//! The manifests are those of `model/tests/wrong.yaml`, where the word before each sentence says whose it is:
//! `SchemaViolation` is the CRD's, and any other what only the operator can know, so that the API server takes it. What
//! they leave out is in `fixtures/broken-rules.yaml`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use kube::Client;
use serde_json::{Value, json};
use wsgateway_e2e::{cluster::ControlPlane, needs};
use wsgateway_model::{Violation, documents, lint};

/// How many wrong manifests must be refused in the words of a CEL rule.
const BY_RULE_MIN: usize = 30;

const RULES_NOT_CHECKED: &str = "some validation rules were not checked";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// How the API server refuses a manifest.
#[derive(Debug)]
enum Refusal {
    /// It holds what is no field, or no version. The rest was not looked at.
    Unknown(Vec<String>),
    /// It breaks the schema or its rules.
    Invalid {
        said: Vec<Violation>,
        /// Not asked where the object's form is wrong.
        rules_checked: bool,
    },
}

/// Sends a manifest, of which nothing is stored. `None`: it was accepted.
async fn refusal(client: &Client, object: &Value) -> Option<Refusal> {
    let version = object["apiVersion"].as_str().unwrap();
    let path = "namespaces/default/wsgateways?dryRun=All&fieldValidation=Strict";
    let request = http::Request::post(format!("/apis/{version}/{path}"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(object).unwrap())
        .unwrap();
    let status = match client.request::<Value>(request).await {
        Ok(_) => return None,
        Err(kube::Error::Api(status)) if status.code == 404 => {
            return Some(Refusal::Unknown(vec!["apiVersion".to_owned()]));
        }
        Err(kube::Error::Api(status)) => status,
        Err(error) => panic!("{error}"),
    };
    if let Some((_, fields)) = status.message.split_once("strict decoding error: ") {
        let paths = fields.split(", ").map(|field| {
            let path = field.strip_prefix("unknown field \"");
            path.unwrap_or_else(|| panic!("{}", status.message))
                .trim_end_matches('"')
                .to_owned()
        });
        return Some(Refusal::Unknown(paths.collect()));
    }
    let causes = status.details.map(|details| details.causes);
    let causes = causes.unwrap_or_else(|| panic!("{}", status.message));
    let is_excuse = |message: &str| message.contains(RULES_NOT_CHECKED);
    // `.spec.replicas` is the path by which /scale finds the field; a number's form is checked apart from its type.
    let is_repeated = |field: &str, message: &str| {
        field.starts_with('.') || message.contains("Checked value must be of type")
    };
    Some(Refusal::Invalid {
        rules_checked: !causes.iter().any(|cause| is_excuse(&cause.message)),
        said: causes
            .into_iter()
            .filter(|cause| !is_excuse(&cause.message))
            .filter(|cause| !is_repeated(&cause.field, &cause.message))
            .map(|cause| Violation {
                path: cause.field.replace("<nil>", ""),
                message: cause
                    .message
                    .strip_prefix("Invalid value: ")
                    .unwrap_or(&cause.message)
                    .to_owned(),
            })
            .collect(),
    })
}

/// The sentences of the CRD's rules.
fn rules(crd: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match crd {
        Value::Object(fields) => {
            for rule in fields
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                found.insert(rule["message"].as_str().unwrap().to_owned());
            }
            found.extend(fields.values().flat_map(rules));
        }
        Value::Array(items) => found.extend(items.iter().flat_map(rules)),
        _ => {}
    }
    found
}

fn all_rules() -> BTreeSet<String> {
    let text = fs::read_to_string(file("../manifests/crd/wsgateways.yaml")).unwrap();
    rules(&serde_saphyr::from_str(&text).unwrap())
}

/// Holds what the API server says against what lint says, and returns the sentences of rules that both say.
fn compare(
    rules: &BTreeSet<String>,
    linted: &[Violation],
    refusal: Option<&Refusal>,
) -> Result<Vec<String>, &'static str> {
    let is_rule = |violation: &&Violation| rules.contains(&violation.message);
    match refusal {
        None if linted.is_empty() => Ok(Vec::new()),
        None => Err("lint refuses what the API server takes"),
        Some(_) if linted.is_empty() => Err("the API server refuses what lint takes"),
        // Lint says all that is wrong; the API server stops here.
        Some(Refusal::Unknown(paths)) => paths
            .iter()
            .all(|path| {
                linted
                    .iter()
                    .any(|violation| path.starts_with(&violation.path))
            })
            .then(Vec::new)
            .ok_or("the API server knows no such field, and lint does"),
        Some(Refusal::Invalid { said, .. })
            if !said.iter().all(|one| is_said(rules, one, linted)) =>
        {
            Err("the API server says what lint does not")
        }
        Some(Refusal::Invalid {
            said,
            rules_checked,
        }) => {
            let mut expected = linted.iter().filter(|one| *rules_checked || !is_rule(one));
            if !expected.all(|one| is_said(rules, one, said)) {
                return Err("lint says what the API server does not");
            }
            Ok(said
                .iter()
                .filter(is_rule)
                .map(|one| one.message.clone())
                .collect())
        }
    }
}

/// Whether `others` say it too. A rule's sentence is the same to the letter. Of the schema the API server speaks in words
/// of its own, and lint in better ones, so that the field alone is the same.
fn is_said(rules: &BTreeSet<String>, one: &Violation, others: &[Violation]) -> bool {
    if rules.contains(&one.message) {
        return others.contains(one);
    }
    others
        .iter()
        .any(|other| one.path == other.path || is_item(one, other) || is_item(other, one))
}

/// Of what stands twice in a list, the API server names the item, and lint the item's key.
fn is_item(item: &Violation, key: &Violation) -> bool {
    let parent = key.path.rsplit_once('.').map(|(parent, _)| parent);
    item.path.ends_with(']') && parent == Some(item.path.as_str())
}

/// The `WsGateways` of the fixtures, each with what to call it.
fn wrong() -> Vec<(String, Value)> {
    let of_model = fs::read_to_string(file("../model/tests/wrong.yaml")).unwrap();
    let of_model = of_model.split("\n---\n").map(|case| {
        let gateway = documents(case).unwrap().gateways.swap_remove(0);
        (case.to_owned(), gateway.value)
    });
    let specs = include_str!("../fixtures/broken-rules.yaml");
    let specs = specs.split("\n---\n").skip(1).map(|case| {
        let spec: Value = serde_saphyr::from_str(case).unwrap();
        let object = json!({
            "apiVersion": "wsgateway.io/v1alpha1",
            "kind": "WsGateway",
            "metadata": {"name": "wrong"},
            "spec": spec,
        });
        (case.to_owned(), object)
    });
    of_model.chain(specs).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_what_lint_does_and_in_its_words() {
    needs!(Kubernetes);
    let cluster = ControlPlane::shared();
    cluster.install_crd();
    let client = cluster.client();
    let rules = all_rules();
    let (mut refused, mut by_rule, mut broken) = (0, 0, BTreeSet::new());
    let mut differences = Vec::new();
    for (case, gateway) in wrong() {
        let linted = lint(&gateway);
        let refusal = refusal(&client, &gateway).await;
        refused += usize::from(refusal.is_some());
        match compare(&rules, &linted, refusal.as_ref()) {
            Ok(sentences) => {
                by_rule += usize::from(!sentences.is_empty());
                broken.extend(sentences);
            }
            Err(difference) => differences.push(format!(
                "{difference}:\n{case}\nlint: {linted:#?}\nthe API server: {refusal:#?}"
            )),
        }
    }
    println!(
        "{refused} manifests are refused, {by_rule} of them by {} CEL rules",
        broken.len()
    );
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    assert!(
        by_rule >= BY_RULE_MIN,
        "only {by_rule} are refused by a rule"
    );
    let whole: Vec<_> = rules.difference(&broken).collect();
    assert!(
        whole.is_empty(),
        "no manifest breaks these rules: {whole:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_accepts_every_sample() {
    needs!(Kubernetes);
    let cluster = ControlPlane::shared();
    cluster.install_crd();
    let namespace = cluster.namespace();
    let mut count = 0;
    for entry in fs::read_dir(file("../manifests/samples")).unwrap() {
        let sample = entry.unwrap().path();
        let sample = sample.to_str().unwrap();
        let arguments = ["apply", "--server-side", "--dry-run=server", "-f", sample];
        let output = namespace.try_kubectl(&arguments, "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sample}: {said}");
        assert!(!said.contains("Warning"), "{sample}: {said}");
        count += 1;
    }
    assert!(count > 0);
}
