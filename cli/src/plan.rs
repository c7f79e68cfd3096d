//! `wsgw plan`: what applying a manifest would do, in the cluster and to the clients, without writing anything.
//!
//! 1. [`ask`] reads what is there: [`before`]. [`merge`] says what the WsGateway is once the file is applied.
//! 2. [`forecast`] builds the objects with the operator's own code; [`objects`] holds them against those that are there,
//!    field by field ([`diff`]); [`effects`] says what clients feel of it, [`reload`] what a changed live configuration closes.
//! 3. [`view`] is the text. All but [`ask`] is pure.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

mod ask;
mod before;
mod diff;
mod effects;
mod forecast;
mod front;
mod merge;
mod objects;
mod reload;
mod view;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use serde_json::{Value, json};
use wsgateway_crds::v1alpha1::WsGateway;
use wsgateway_model::{Document, Gateway, check, documents};

use self::forecast::{Forecast, forecast};
use crate::{
    cluster::{Cluster, ClusterArgs, ClusterError},
    defaults::{Defaults, advised},
    manifest::{self, ManifestError},
};

/// The exit code that says that something would change, as `terraform plan -detailed-exitcode` has it.
pub const CHANGES: u8 = 2;

/// What would be applied, and where.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// A manifest with one or more WsGateways.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    cluster: ClusterArgs,
    // A WsGateway that is there, and names none either, tells them by what its gateways connect to.
    #[command(flatten)]
    defaults: Defaults,
}

/// Why nothing can be foreseen.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file is no usable manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The cluster does not say.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The cluster does not know the kind.
    #[error(
        "the cluster has no WsGateways: their CRD is not installed (manifests/install.yaml or the chart brings it)"
    )]
    NoCrd,
    /// Who asks may not see them.
    #[error("cannot get wsgateways: {0}")]
    Forbidden(String),
    /// The command line contradicts the file.
    #[error("WsGateway {name} is of namespace {of_file}, and --namespace says {given}")]
    Namespace {
        /// The `WsGateway`.
        name: String,
        /// What the file says.
        of_file: String,
        /// What the command line says.
        given: String,
    },
    /// The file is right by itself, and wrong together with what is in the cluster.
    #[error("{0}")]
    Wrong(String),
    /// Nobody takes the output any more.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

impl PlanError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Manifest(error) => error.reason(),
            Self::Cluster(error) => error.reason(),
            Self::NoCrd => "KindNotServed",
            Self::Forbidden(_) => "AccessDenied",
            Self::Namespace { .. } => "NamespaceContradicted",
            Self::Wrong(_) => "ManifestWrong",
            Self::Write(_) => "NotWritten",
        }
    }
}

/// Shows what would happen. Says whether anything would.
pub async fn plan(args: PlanArgs) -> Result<bool, PlanError> {
    let PlanArgs {
        file,
        cluster,
        defaults,
    } = args;
    let text = manifest::text(&file)?;
    manifest::gateways_for_cluster(&file, &text, &or_asked_later(&defaults))?;
    let documents = documents(&text).map_err(|source| ManifestError::Form { file, source })?;
    let given = cluster.namespace.clone();
    let cluster = cluster.find().await?;
    let mut output = io::stdout().lock();
    let mut has_changes = false;
    for (index, document) in documents.gateways.iter().enumerate() {
        let forecast = Box::pin(one(&cluster, document, given.as_deref(), &defaults)).await?;
        has_changes |= forecast.has_changes();
        let gap = if index == 0 { "" } else { "\n" };
        write!(output, "{gap}{}", view::text(&forecast))?;
    }
    Ok(has_changes)
}

async fn one(
    cluster: &Cluster,
    document: &Document,
    given: Option<&str>,
    defaults: &Defaults,
) -> Result<Forecast, PlanError> {
    let name = document.name.as_str();
    let of_file = document
        .value
        .pointer("/metadata/namespace")
        .and_then(Value::as_str);
    if let (Some(of_file), Some(given)) = (of_file, given)
        && of_file != given
    {
        return Err(PlanError::Namespace {
            name: name.to_owned(),
            of_file: of_file.to_owned(),
            given: given.to_owned(),
        });
    }
    let cluster = Cluster {
        client: cluster.client.clone(),
        namespace: of_file.unwrap_or(&cluster.namespace).to_owned(),
    };
    let live = ask::gateway(&cluster, name).await?;
    let file = in_namespace(&document.value, &cluster.namespace);
    let after = match &live {
        Some(live) => merge::applied(live, &file),
        None => file,
    };
    let defaults = match (&live, defaults.nats_servers.as_slice()) {
        (Some(live), []) => ask::defaults(&cluster, live).await?,
        _ => defaults.clone(),
    };
    let (after, gateway) = understood(&after, &defaults)?;
    let before = ask::before(&cluster, &after, &gateway, live, defaults).await?;
    Ok(forecast(&after, &gateway, &before))
}

/// Whether there are servers for a WsGateway that names none is asked of the cluster, once the file is right by itself.
fn or_asked_later(defaults: &Defaults) -> Defaults {
    let mut defaults = defaults.clone();
    if defaults.nats_servers.is_empty() {
        defaults.nats_servers = vec!["nats://asked-later:4222".to_owned()];
    }
    defaults
}

fn in_namespace(object: &Value, namespace: &str) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    object
}

/// What a WsGateway means.
fn understood(object: &Value, defaults: &Defaults) -> Result<(WsGateway, Gateway), PlanError> {
    let gateway = check(object, &defaults.referenced()).map_err(|reasons| {
        let reasons: Vec<_> = reasons.iter().map(advised).collect();
        let reasons = reasons.join("\n");
        PlanError::Wrong(format!("together with what is in the cluster: {reasons}"))
    })?;
    let object = serde_json::from_value(object.clone())
        .map_err(|error| PlanError::Wrong(error.to_string()))?;
    Ok((object, gateway))
}

#[cfg(test)]
mod tests;
