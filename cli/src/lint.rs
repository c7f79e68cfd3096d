//! `wsgw lint`: what the API server and the operator would refuse, before anything is applied.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

use std::path::PathBuf;

use crate::manifest::{self, ManifestError};

/// The files to look at.
#[derive(Debug, clap::Args)]
pub struct LintArgs {
    /// Manifests: WsGateways, and the Secrets and ConfigMaps that they name.
    #[arg(value_name = "FILE", required_unless_present = "file")]
    files: Vec<PathBuf>,
    /// The same, as kubectl takes it.
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
}

/// What is wrong in each file, in their order.
pub fn lint(args: LintArgs) -> Vec<ManifestError> {
    let LintArgs { files, file } = args;
    files
        .into_iter()
        .chain(file)
        .filter_map(|file| {
            manifest::text(&file)
                .and_then(|text| manifest::check_all(&file, &text))
                .err()
        })
        .collect()
}
