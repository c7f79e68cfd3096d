//! What the chart repeats of the code is held to it: the roles, the resource, versions, arguments and metrics; and its
//! schema and README to its values. That it renders, and that an API server takes it, is shown in `e2e/tests/chart.rs`.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::PathBuf,
};

use clap::CommandFactory;
use serde_json::Value;
use wsgateway_operator::{args::Args, rbac};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn values() -> Value {
    serde_saphyr::from_str(&read("charts/wsgateway/values.yaml")).unwrap()
}

#[test]
fn generated_files_are_what_make_manifests_would_make() {
    assert_eq!(
        read("charts/wsgateway/templates/_rules.tpl"),
        rbac::template(),
        "run `make manifests`"
    );
    assert_eq!(
        read("charts/wsgateway/files/wsgateways.yaml"),
        read("manifests/crd/wsgateways.yaml"),
        "run `make manifests`"
    );
}

#[test]
fn versions_are_this_ones() {
    let chart: Value = serde_saphyr::from_str(&read("charts/wsgateway/Chart.yaml")).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let of_image = concat!("\nARG VERSION=", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(read("Dockerfile").matches(of_image).count(), 2);
}

#[test]
fn every_argument_is_one_that_the_operator_knows() {
    let command = Args::command();
    let known: BTreeSet<_> = command
        .get_arguments()
        .filter_map(|argument| argument.get_long())
        .collect();
    let template = read("charts/wsgateway/templates/deployment.yaml");
    let used: Vec<_> = template
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- --"))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert!(used.len() > 5, "{used:?}");
    for name in used {
        assert!(known.contains(name), "--{name}");
    }
}

#[test]
fn the_schema_has_every_value_and_no_other() {
    let schema: Value = serde_json::from_str(&read("charts/wsgateway/values.schema.json")).unwrap();
    compare("", &values(), &schema);
}

fn compare(at: &str, values: &Value, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    assert_eq!(schema["additionalProperties"], false, "{at}");
    let values = values.as_object().unwrap();
    let names = |names: Vec<&String>| -> BTreeSet<String> {
        names
            .into_iter()
            .filter(|name| *name != "global")
            .cloned()
            .collect()
    };
    assert_eq!(
        names(values.keys().collect()),
        names(properties.keys().collect()),
        "{at}"
    );
    for (name, value) in values {
        compare(&format!("{at}.{name}"), value, &properties[name]);
    }
}

/// A value's path, its default as JSON, and the comment above it.
fn documented() -> Vec<(String, String, String)> {
    let mut rows = Vec::new();
    let mut comment = String::new();
    let mut above: BTreeMap<usize, String> = BTreeMap::new();
    for line in read("charts/wsgateway/values.yaml").lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(text) = text.strip_prefix("# ") {
            if !comment.is_empty() {
                comment.push(' ');
            }
            comment.push_str(text);
        } else if text.is_empty() {
            comment.clear();
        } else if let Some((name, value)) = text.split_once(':') {
            above.split_off(&indent);
            let parents: Vec<_> = above.values().map(String::as_str).collect();
            let path = [parents.as_slice(), &[name]].concat().join(".");
            above.insert(indent, name.to_owned());
            let value = value.trim();
            if path == "resources" || (!value.is_empty() && !path.starts_with("resources.")) {
                let pointer = format!("/{}", path.replace('.', "/"));
                let default = values().pointer(&pointer).unwrap().to_string();
                rows.push((path, default, std::mem::take(&mut comment)));
            }
            comment.clear();
        }
    }
    rows
}

#[test]
fn the_readme_lists_every_value() {
    const BEGIN: &str = "do not edit. -->\n";
    const END: &str = "<!-- end -->";
    let mut table = "\n| value | default | what it does |\n|---|---|---|\n".to_owned();
    let rows = documented();
    assert!(rows.len() > 40, "{rows:?}");
    for (path, default, comment) in rows {
        assert!(!comment.is_empty(), "{path} has no comment above it");
        let comment = comment.replace('|', "\\|");
        writeln!(table, "| `{path}` | `{default}` | {comment} |").unwrap();
    }
    table.push('\n');
    let name = "charts/wsgateway/README.md";
    let readme = read(name);
    let begin = readme.find(BEGIN).unwrap() + BEGIN.len();
    let end = readme.find(END).unwrap();
    let wanted = format!("{}{table}{}", &readme[..begin], &readme[end..]);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path(name), &wanted).unwrap();
    } else {
        assert_eq!(readme, wanted, "run it with UPDATE_EXPECT=1");
    }
}

#[test]
fn alerts_ask_for_metrics_that_there_are() {
    let source = read("operator/src/metrics.rs");
    let rules = read("charts/wsgateway/templates/prometheusrule.yaml");
    let metrics: BTreeSet<_> = rules
        .split("wsgateway_operator_")
        .skip(1)
        .map(|rest| rest.split('{').next().unwrap().trim_end_matches("_total"))
        .collect();
    assert!(metrics.len() >= 4, "{metrics:?}");
    for metric in metrics {
        assert!(source.contains(&format!("\"{metric}\"")), "{metric}");
    }
}
