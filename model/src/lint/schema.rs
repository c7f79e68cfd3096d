//! The CRD's schema, made ready once.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::core::cel::{CompiledSchema, compile_schema};
use regex::Regex;
use serde_json::json;

/// The schema in each of the forms that it is used in.
pub(super) struct Schema {
    /// For the walk over the structure.
    pub(super) root: JSONSchemaProps,
    /// The CEL rules, compiled.
    pub(super) rules: CompiledSchema,
    /// The patterns, compiled.
    pub(super) patterns: BTreeMap<String, Regex>,
}

/// The schema of `v1alpha1`.
pub(super) static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let versions = wsgateway_crds::v1alpha1::crd().spec.versions;
    let root = versions
        .into_iter()
        .find_map(|version| version.schema?.open_api_v3_schema)
        .expect("the CRD should have a schema");
    let mut patterns = BTreeMap::new();
    collect_patterns(&root, &mut patterns);
    Schema {
        rules: compile_schema(&json!(root)),
        root,
        patterns,
    }
});

fn collect_patterns(schema: &JSONSchemaProps, patterns: &mut BTreeMap<String, Regex>) {
    if let Some(pattern) = &schema.pattern {
        let regex =
            Regex::new(pattern).expect("a pattern of the CRD should be a regular expression");
        patterns.insert(pattern.clone(), regex);
    }
    let properties = schema.properties.iter().flat_map(BTreeMap::values);
    properties.for_each(|property| collect_patterns(property, patterns));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        collect_patterns(items, patterns);
    }
}
