//! A manifest's file, as a person wrote it, on its way to a validated [`Gateway`].

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use wsgateway_model::{
    Document, Documents, Gateway, ReadError, Reason, Referenced, check, documents,
};

use crate::defaults::{Defaults, advised};

/// The largest file that is read: far above any set of manifests that etcd would hold.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a file is no usable manifest. Each line of its text names the file, and the field where there is one.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no YAML, or not of Kubernetes objects.
    #[error("{}: {source}", .file.display())]
    Form {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: ReadError,
    },
    /// It breaks rules.
    #[error("{}", Lines(.file, .violations))]
    Wrong {
        /// The file.
        file: PathBuf,
        /// Which.
        violations: Vec<Violation>,
    },
    /// It holds several, of which only one can run.
    #[error("{}: it holds {count} WsGateways, and `wsgw local` runs one", .file.display())]
    Several {
        /// The file.
        file: PathBuf,
        /// How many.
        count: usize,
    },
}

impl ManifestError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "ManifestUnreadable",
            Self::Form { source, .. } => source.reason(),
            Self::Wrong { .. } => "ManifestWrong",
            Self::Several { .. } => "SeveralGateways",
        }
    }
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The line of the file that breaks it, from 1.
    pub line: usize,
    /// `path: sentence`.
    pub sentence: String,
}

/// `FILE:LINE: path: sentence`, which editors can jump to, a line for each.
struct Lines<'a>(&'a Path, &'a [Violation]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Violation { line, sentence }) in self.1.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}: {sentence}", self.0.display())?;
        }
        Ok(())
    }
}

/// The text of a manifest's file.
pub fn text(file: &Path) -> Result<String, ManifestError> {
    let unreadable = |source| ManifestError::Unreadable {
        file: file.to_owned(),
        source,
    };
    let length = std::fs::metadata(file).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        return Err(unreadable(io::Error::other(format!(
            "it has more than {FILE_BYTES_MAX} bytes"
        ))));
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

/// The one gateway of a manifest, validated.
pub fn gateway(file: &Path, text: &str) -> Result<Gateway, ManifestError> {
    let documents = read(file, text)?;
    let [document] = documents.gateways.as_slice() else {
        let count = documents.gateways.len();
        return Err(ManifestError::Several {
            file: file.to_owned(),
            count,
        });
    };
    let referenced = documents.referenced(&document.namespace);
    checked(document, &referenced).map_err(|violations| ManifestError::Wrong {
        file: file.to_owned(),
        violations,
    })
}

/// All gateways of a manifest, validated as an operator with these defaults does.
pub fn gateways_for_cluster(
    file: &Path,
    text: &str,
    defaults: &Defaults,
) -> Result<Vec<Gateway>, ManifestError> {
    let documents = read(file, text)?;
    let referenced = defaults.referenced();
    let mut gateways = Vec::new();
    let mut violations = Vec::new();
    for document in &documents.gateways {
        match checked(document, &referenced) {
            Ok(gateway) => gateways.push(gateway),
            Err(of_document) => violations.extend(of_document),
        }
    }
    if violations.is_empty() {
        return Ok(gateways);
    }
    Err(ManifestError::Wrong {
        file: file.to_owned(),
        violations,
    })
}

/// All gateways of a manifest, validated.
pub fn check_all(file: &Path, text: &str) -> Result<(), ManifestError> {
    let documents = read(file, text)?;
    let found = documents
        .gateways
        .iter()
        .map(|document| checked(document, &documents.referenced(&document.namespace)));
    let violations: Vec<_> = found.filter_map(Result::err).flatten().collect();
    if violations.is_empty() {
        return Ok(());
    }
    Err(ManifestError::Wrong {
        file: file.to_owned(),
        violations,
    })
}

fn read(file: &Path, text: &str) -> Result<Documents, ManifestError> {
    documents(text).map_err(|source| ManifestError::Form {
        file: file.to_owned(),
        source,
    })
}

fn checked(document: &Document, referenced: &Referenced) -> Result<Gateway, Vec<Violation>> {
    check(&document.value, referenced).map_err(|reasons| {
        let violation = |reason: &Reason| Violation {
            line: document.line(&reason.path),
            sentence: one_line(&advised(reason)),
        };
        reasons.iter().map(violation).collect()
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The gateway of a spec in flow style.
    pub(crate) fn gateway(spec: &str) -> Gateway {
        let text = format!(
            "{{apiVersion: wsgateway.io/v1alpha1, kind: WsGateway, metadata: {{name: notifications}}, spec: {spec}}}"
        );
        super::gateway(Path::new("test.yaml"), &text).unwrap()
    }

    #[test]
    fn each_line_names_the_file_and_the_field() {
        let head =
            "{apiVersion: wsgateway.io/v1alpha1, kind: WsGateway, metadata: {name: a}, spec: ";
        for (text, reason, parts) in [
            ("{", "InvalidYaml", vec!["f.yaml: "]),
            (
                "{kind: Service, metadata: {name: a}}",
                "NoGateway",
                vec!["f.yaml: ", "no WsGateway"],
            ),
            (
                &format!("{head}{{replicas: x, routes: [{{name: a, path: /a}}]}}}}"),
                "ManifestWrong",
                vec!["f.yaml:1: spec.replicas: "],
            ),
            (
                &format!(
                    "{head}{{websocket: {{pingPeriod: 70s}}, routes: [{{name: a, path: /a}}]}}}}"
                ),
                "ManifestWrong",
                vec!["f.yaml:1: spec.websocket", "pingPeriod", "pongWait"],
            ),
        ] {
            let error = super::gateway(Path::new("f.yaml"), text).unwrap_err();
            assert_eq!(error.reason(), reason, "{error}");
            for part in parts {
                assert!(error.to_string().contains(part), "{part}: {error}");
            }
        }
    }
}
