//! The reference of the resource for users, made from the CRD's own words.

use std::{collections::BTreeMap, fmt::Write};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde_json::Value;

/// The reference as Markdown, as it stands in `docs/api.md`: a section for each object of the spec.
pub fn reference() -> String {
    let mut text = String::from(
        "<!-- Made by `cargo run -p wsgateway-crds --bin crdgen -- docs`; do not edit. -->\n\
         # WsGateway\n\n\
         `apiVersion: wsgateway.io/v1alpha1`, `kind: WsGateway`, short name `wsgw`. Fields that are not given take their \
         defaults, so the smallest one names a route alone; see [the samples](../manifests/samples). What breaks a rule \
         is refused by `kubectl apply` and by `wsgw lint` with the rule's own sentence.\n",
    );
    let versions = super::crd().spec.versions;
    let roots = versions
        .into_iter()
        .filter_map(|version| version.schema?.open_api_v3_schema);
    for mut root in roots {
        let mut rules = String::new();
        write_rules(&mut rules, &root);
        text.push_str(&rules);
        if let Some(spec) = root
            .properties
            .as_mut()
            .and_then(|properties| properties.remove("spec"))
        {
            write_object(&mut text, "spec", &spec);
        }
    }
    text
}

fn write_object(text: &mut String, path: &str, schema: &JSONSchemaProps) {
    _ = writeln!(
        text,
        "\n## {path}\n\n| field | form | default | meaning |\n|---|---|---|---|"
    );
    let required = schema.required.as_deref().unwrap_or_default();
    let properties = schema.properties.iter().flat_map(BTreeMap::iter);
    for (name, property) in properties.clone() {
        let default = match &property.default {
            _ if required.contains(name) => "**required**".to_owned(),
            Some(default) => default_of(&default.0),
            None => String::new(),
        };
        let meaning = property.description.as_deref().unwrap_or_default();
        let meaning = meaning.replace('\n', " ").replace('|', "\\|");
        _ = writeln!(
            text,
            "| `{name}` | {} | {default} | {meaning} |",
            form(property)
        );
    }
    let mut rules = String::new();
    write_rules(&mut rules, schema);
    for (_, property) in properties
        .clone()
        .filter(|(_, property)| property.items.is_some())
    {
        write_rules(&mut rules, property);
    }
    text.push_str(&rules);
    for (name, property) in properties {
        let (path, object) = match &property.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => (format!("{path}.{name}[]"), &**items),
            _ => (format!("{path}.{name}"), property),
        };
        if object.properties.is_some() {
            write_object(text, &path, object);
        }
    }
}

/// An object's default is that of its fields, which stand in its own section.
fn default_of(default: &Value) -> String {
    if default.is_object() {
        String::new()
    } else {
        format!("`{default}`")
    }
}

fn write_rules(text: &mut String, schema: &JSONSchemaProps) {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    let sentences = rules.filter_map(|rule| rule.message.as_deref());
    for (index, sentence) in sentences.enumerate() {
        let first = if index == 0 { "\n" } else { "" };
        _ = writeln!(
            text,
            "{first}- {}",
            sentence.replace('*', "\\*").replace('<', "\\<")
        );
    }
}

fn form(schema: &JSONSchemaProps) -> String {
    if let Some(words) = &schema.enum_ {
        let words: Vec<_> = words.iter().filter_map(|word| word.0.as_str()).collect();
        return words.join(", ");
    }
    let bounds = match (schema.minimum, schema.maximum) {
        (Some(least), Some(most)) => format!(" {least} to {most}"),
        _ => String::new(),
    };
    match (schema.type_.as_deref(), &schema.pattern) {
        (None, _) => "size".to_owned(),
        (Some("string"), Some(pattern)) if pattern == crate::value::Duration::PATTERN => {
            "duration".to_owned()
        }
        (Some("string"), _) => "text".to_owned(),
        (Some("integer"), _) => format!("number{bounds}"),
        (Some("array"), _) => {
            let most = schema.max_items.unwrap_or_default();
            format!("list of up to {most}")
        }
        (Some(other), _) => other.to_owned(),
    }
}
