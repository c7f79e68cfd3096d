//! Wrong manifests, and the one line that a user reads of each fault.
//!
//! `wrong.yaml` holds them; the comment above each is what must be said. `UPDATE_EXPECT=1` writes the comments.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{fmt::Write, fs};

use wsgateway_model::{check, documents, lint};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wrong.yaml");
const BETWEEN: &str = "\n---\n";

/// What is said of a manifest, a comment line for each fault.
fn said(manifest: &str) -> String {
    let documents = documents(manifest).unwrap_or_else(|error| panic!("{error}:\n{manifest}"));
    let document = &documents.gateways[0];
    let Err(reasons) = check(&document.value, &documents.referenced(&document.namespace)) else {
        panic!("nothing is said of:\n{manifest}")
    };
    // lint says the same of what the API server would refuse.
    let violations = lint(&document.value);
    if !violations.is_empty() {
        let linted: Vec<_> = violations.iter().map(ToString::to_string).collect();
        assert_eq!(linted.join("\n"), reasons.to_string());
    }
    reasons.iter().fold(String::new(), |mut said, reason| {
        assert!(!reason.message.contains('\n'), "{reason}");
        writeln!(said, "# {}: {reason}", reason.reason).unwrap();
        said
    })
}

#[test]
fn each_wrong_manifest_is_refused_with_one_clear_line_for_each_fault() {
    let text = fs::read_to_string(FILE).unwrap();
    let mut updated = Vec::new();
    for case in text.split(BETWEEN) {
        let manifest: String = case
            .lines()
            .filter(|line| !line.starts_with('#'))
            .fold(String::new(), |text, line| text + line + "\n");
        // A Secret that belongs to a case is written as a List, so that `---` parts cases.
        updated.push(format!("{}{}", said(&manifest), manifest.trim_end()));
    }
    assert!(updated.len() >= 30, "{}", updated.len());
    let updated = updated.join(BETWEEN) + "\n";
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(FILE, &updated).unwrap();
    } else {
        expect_test::expect_file![FILE].assert_eq(&updated);
    }
}
