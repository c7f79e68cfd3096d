//! The CRD that is in the repository is the one that the types make.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{collections::BTreeMap, fs};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Client-side apply keeps the whole object in an annotation, and annotations end at 262,144 bytes.
const CRD_BYTES_MAX: usize = 200_000;

/// `UPDATE_EXPECT=1` writes them anew, as crdgen does.
#[test]
fn the_crd_and_its_reference_in_the_repository_are_what_the_types_make() {
    let crd = wsgateway_crds::v1alpha1::crd_yaml();
    assert!(crd.len() <= CRD_BYTES_MAX, "{} bytes", crd.len());
    let reference = wsgateway_crds::v1alpha1::reference();
    for (file, made) in [
        ("manifests/crd/wsgateways.yaml", crd),
        ("docs/api.md", reference),
    ] {
        let path = format!("{ROOT}/{file}");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, &made).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        let hint = "run UPDATE_EXPECT=1 cargo test -p wsgateway-crds";
        assert!(kept == made, "{file} differs from the types: {hint}");
    }
}

/// Calls `visit` with the path and schema of each node of the spec.
fn walk(path: &str, schema: &JSONSchemaProps, visit: &mut dyn FnMut(&str, &JSONSchemaProps)) {
    visit(path, schema);
    for (name, property) in schema.properties.iter().flat_map(BTreeMap::iter) {
        walk(&format!("{path}.{name}"), property, visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(&format!("{path}[]"), items, visit);
    }
}

fn spec() -> JSONSchemaProps {
    let version = wsgateway_crds::v1alpha1::crd().spec.versions.remove(0);
    let root = version.schema.unwrap().open_api_v3_schema.unwrap();
    root.properties.unwrap().remove("spec").unwrap()
}

#[test]
fn every_text_and_list_has_a_limit_so_that_rules_stay_cheap() {
    walk("spec", &spec(), &mut |path, schema| {
        let limited = match schema.type_.as_deref() {
            Some("string") => schema.max_length.is_some() || schema.enum_.is_some(),
            Some("array") => schema.max_items.is_some(),
            Some("integer") => schema.minimum.is_some() && schema.maximum.is_some(),
            Some("boolean") => true,
            // A map of texts, or another resource's fields, over which there are no rules.
            Some("object") => {
                schema.properties.is_some()
                    || schema.max_properties.is_some()
                    || schema.x_kubernetes_preserve_unknown_fields == Some(true)
            }
            None => schema.x_kubernetes_int_or_string == Some(true) && schema.max_length.is_some(),
            Some(other) => panic!("{path}: a {other} has no place in this API"),
        };
        assert!(limited, "{path}");
    });
}

#[test]
fn every_field_is_documented_with_an_example() {
    walk("spec", &spec(), &mut |path, schema| {
        let text = schema.description.as_deref().unwrap_or_default();
        let is_field = path != "spec" && !path.ends_with("[]");
        assert!(!is_field || text.contains("Example: `"), "{path}: {text}");
    });
}

#[test]
fn every_field_is_required_or_says_its_default() {
    walk("spec", &spec(), &mut |path, schema| {
        let required = schema.required.as_deref().unwrap_or_default();
        for (name, property) in schema.properties.iter().flat_map(BTreeMap::iter) {
            let text = property.description.as_deref().unwrap_or_default();
            let is_object =
                property.type_.as_deref() == Some("object") && property.default.is_some();
            let said = is_object || text.contains("Default") || text.contains("with type");
            assert!(said || required.contains(name), "{path}.{name}: {text}");
        }
    });
}
