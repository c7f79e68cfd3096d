//! A file with `WsGateways`, and with the Secrets and `ConfigMaps` that they name: first on the path of `wsgw`.

mod lines;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;

use crate::{gateway::SecretBytes, validate::Referenced};
use lines::Lines;

/// Where an object without a namespace is, as for `kubectl`.
const NAMESPACE_DEFAULT: &str = "default";

/// What a file holds.
#[derive(Debug, Default)]
pub struct Documents {
    /// The `WsGateways` in the order of the file, not yet checked. At least one.
    pub gateways: Vec<Document>,
    /// `Kind/name` of each object that is of no use here.
    pub ignored: Vec<String>,
    referenced: BTreeMap<String, Referenced>,
}

/// A `WsGateway` as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its namespace, `default` where it names none.
    pub namespace: String,
    /// Its name, empty where it has none.
    pub name: String,
    /// All of it.
    pub value: Value,
    lines: Lines,
}

impl Document {
    /// The line of the file on which a field such as `spec.routes[0].path` stands, or else the nearest one around it.
    /// Lines count from 1.
    pub fn line(&self, path: &str) -> usize {
        self.lines.of(path)
    }
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no YAML. The message names line and column.
    #[error("{0}")]
    Yaml(String),
    /// A document is no Kubernetes object.
    #[error("document {0}: {1}")]
    Object(usize, &'static str),
    /// A Secret or `ConfigMap` is not of its kind's form.
    #[error("{kind} {name}: {message}")]
    Form {
        /// `Secret` or `ConfigMap`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What is wrong, in a sentence.
        message: String,
    },
    /// Two objects of one kind, namespace and name.
    #[error("{0} stands twice in the file")]
    Doubled(String),
    /// Nothing to run.
    #[error("the file holds no WsGateway (apiVersion wsgateway.io/v1alpha1, kind WsGateway)")]
    NoGateway,
}

impl ReadError {
    /// A stable word for logs and exit codes.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Yaml(_) => "InvalidYaml",
            Self::Object(..) => "NoObject",
            Self::Form { .. } => "InvalidObject",
            Self::Doubled(_) => "DoubledObject",
            Self::NoGateway => "NoGateway",
        }
    }
}

/// Reads the text of a file: YAML documents, or a `List` of objects, or JSON.
///
/// # Errors
/// When it is no YAML, a document is no object, or none of them is a `WsGateway`.
pub fn documents(text: &str) -> Result<Documents, ReadError> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| ReadError::Yaml(error.without_snippet().to_string()))?;
    let mut documents = Documents::default();
    let mut lines = lines::lines(text).into_iter();
    for (index, value) in values
        .into_iter()
        .filter(|value| !value.is_null())
        .enumerate()
    {
        documents.take(index + 1, value, lines.next().unwrap_or_default())?;
    }
    if documents.gateways.is_empty() {
        return Err(ReadError::NoGateway);
    }
    Ok(documents)
}

impl Documents {
    /// The Secrets and `ConfigMaps` of a namespace: a `WsGateway` names those of its own alone.
    pub fn referenced(&self, namespace: &str) -> Referenced {
        self.referenced.get(namespace).cloned().unwrap_or_default()
    }

    fn take(&mut self, number: usize, mut value: Value, lines: Lines) -> Result<(), ReadError> {
        let text = |pointer| {
            value
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let kind = text("/kind").ok_or(ReadError::Object(
            number,
            "is no Kubernetes object: it has no kind",
        ))?;
        if kind == "List" {
            let items = value.get_mut("items").map(Value::take);
            let items = items
                .as_ref()
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            return items.into_iter().enumerate().try_for_each(|(index, item)| {
                self.take(number, item, lines.below(&format!("items[{index}]")))
            });
        }
        let name = text("/metadata/name").unwrap_or_default();
        let namespace = text("/metadata/namespace").unwrap_or_else(|| NAMESPACE_DEFAULT.to_owned());
        match kind.as_str() {
            "WsGateway" => self.take_gateway(Document {
                namespace,
                name,
                value,
                lines,
            }),
            "Secret" => {
                let keys = secret_keys(&name, value)?;
                let place = &mut self.referenced.entry(namespace).or_default().secrets;
                take_once(place, "Secret", name, keys)
            }
            "ConfigMap" => {
                let keys = config_map_keys(&name, value)?;
                let place = &mut self.referenced.entry(namespace).or_default().config_maps;
                take_once(place, "ConfigMap", name, keys)
            }
            _ => {
                self.ignored.push(format!("{kind}/{name}"));
                Ok(())
            }
        }
    }

    fn take_gateway(&mut self, document: Document) -> Result<(), ReadError> {
        let same = |other: &Document| {
            !document.name.is_empty()
                && (&other.namespace, &other.name) == (&document.namespace, &document.name)
        };
        if self.gateways.iter().any(same) {
            return Err(ReadError::Doubled(format!("WsGateway {}", document.name)));
        }
        self.gateways.push(document);
        Ok(())
    }
}

fn take_once<T>(
    place: &mut BTreeMap<String, T>,
    kind: &'static str,
    name: String,
    keys: T,
) -> Result<(), ReadError> {
    if place.contains_key(&name) {
        return Err(ReadError::Doubled(format!("{kind} {name}")));
    }
    place.insert(name, keys);
    Ok(())
}

/// `stringData` goes before `data`, as in the API server.
fn secret_keys(name: &str, value: Value) -> Result<BTreeMap<String, SecretBytes>, ReadError> {
    let secret: Secret = serde_json::from_value(value).map_err(|_| ReadError::Form {
        kind: "Secret",
        name: name.to_owned(),
        // The decoder's own words could quote a part of the secret.
        message: "data must be base64 by key, and stringData text by key".to_owned(),
    })?;
    let data = secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, bytes)| (key, bytes.0));
    let texts = secret.string_data.unwrap_or_default();
    let texts = texts
        .into_iter()
        .map(|(key, text)| (key, text.into_bytes()));
    Ok(data
        .chain(texts)
        .map(|(key, bytes)| (key, SecretBytes::new(bytes)))
        .collect())
}

fn config_map_keys(name: &str, value: Value) -> Result<BTreeMap<String, Vec<u8>>, ReadError> {
    let map: ConfigMap = serde_json::from_value(value).map_err(|error| ReadError::Form {
        kind: "ConfigMap",
        name: name.to_owned(),
        message: error.to_string(),
    })?;
    let texts = map.data.unwrap_or_default().into_iter();
    let bytes = map.binary_data.unwrap_or_default().into_iter();
    Ok(texts
        .map(|(key, text)| (key, text.into_bytes()))
        .chain(bytes.map(|(key, bytes)| (key, bytes.0)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str =
        "{apiVersion: wsgateway.io/v1alpha1, kind: WsGateway, metadata: {name: a}}";

    #[test]
    fn a_file_is_sorted_into_gateways_and_what_they_may_name() {
        let text = format!(
            "---\n{GATEWAY}\n---\n# nothing\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: s}}, data: {{a: YQ==, b: Yg==}}, stringData: {{b: text}}}}\n---\n\
             {{apiVersion: v1, kind: ConfigMap, metadata: {{name: c, namespace: other}}, data: {{a: text}}}}\n---\n\
             {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: d}}}}\n"
        );
        let documents = documents(&text).unwrap();
        assert_eq!(documents.gateways.len(), 1);
        assert_eq!(documents.gateways[0].namespace, "default");
        assert_eq!(documents.ignored, ["Deployment/d"]);
        let referenced = documents.referenced("default");
        let secret = &referenced.secrets["s"];
        assert_eq!(
            (secret["a"].expose(), secret["b"].expose()),
            (&b"a"[..], &b"text"[..])
        );
        assert!(referenced.config_maps.is_empty());
        assert_eq!(documents.referenced("other").config_maps["c"]["a"], b"text");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_refused_with_its_place() {
        for (text, says) in [
            ("", "the file holds no WsGateway"),
            (
                "{kind: Secret, apiVersion: v1, metadata: {name: s}}",
                "the file holds no WsGateway",
            ),
            ("just text", "document 1: is no Kubernetes object"),
            (
                &format!("{GATEWAY}\n---\n[1]"),
                "document 2: is no Kubernetes object",
            ),
            (
                &format!("{GATEWAY}\n---\n{GATEWAY}"),
                "WsGateway a stands twice in the file",
            ),
            ("kind: WsGateway\nspec: {a: [}\n", "line 2"),
            ("kind: WsGateway\nkind: WsGateway\n", "duplicate"),
            (
                "{kind: Secret, metadata: {name: s}, data: {a: '%%%'}}",
                "Secret s: data must be base64",
            ),
        ] {
            let error = documents(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("%%%") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_field_of_each_gateway_has_its_line_in_the_file() {
        let text = format!(
            "{GATEWAY}\n---\n\n---\nkind: List\nitems:\n  - kind: WsGateway\n    spec: {{}}\n"
        );
        let documents = documents(&text).unwrap();
        let line = |index: usize, path| documents.gateways[index].line(path);
        assert_eq!(
            (
                line(0, "spec"),
                line(1, "spec.routes"),
                line(1, "metadata.name")
            ),
            (1, 8, 7)
        );
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        let text = format!(
            "{GATEWAY}\n---\n{{kind: Secret, metadata: {{name: s}}, stringData: {{a: hunter2}}}}"
        );
        assert!(!format!("{:?}", documents(&text).unwrap()).contains("hunter2"));
    }
}
