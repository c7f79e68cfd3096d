//! `wsgw status`: a `WsGateway` on a cluster with all that was made for it, and what to do about what is wrong.
//!
//! [`observed`] is what was seen, [`view`] the text that it makes: pure, with [`conditions`] for what is not as it
//! should be, [`advice`] for what to do then, and [`child`] for a line about each object. [`ask`] alone asks the
//! cluster.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

mod advice;
mod ask;
mod child;
mod conditions;
mod observed;
mod tree;
mod view;

use std::io::{self, Write};

use k8s_openapi::jiff::Timestamp;

use crate::cluster::{ClusterArgs, ClusterError};

/// Whose status.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// The WsGateway. Default: all in the namespace.
    name: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Those of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The cluster does not say.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The cluster does not know the kind.
    #[error(
        "the cluster has no WsGateways: their CRD is not installed (manifests/install.yaml or the chart brings it)"
    )]
    NoCrd,
    /// Who asks may not see them.
    #[error("cannot list wsgateways: {0}")]
    Forbidden(String),
    /// There is none.
    #[error("{0}")]
    None(String),
    /// Nobody takes the output any more.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

impl StatusError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Cluster(error) => error.reason(),
            Self::NoCrd => "KindNotServed",
            Self::Forbidden(_) => "AccessDenied",
            Self::None(_) => "NoGateway",
            Self::Write(_) => "NotWritten",
        }
    }
}

/// Shows them. Says whether all of them are ready.
pub async fn status(args: StatusArgs) -> Result<bool, StatusError> {
    let StatusArgs {
        name,
        cluster,
        all_namespaces,
    } = args;
    let cluster = cluster.find().await?;
    let place = if all_namespaces {
        ask::Place::Everywhere
    } else {
        ask::Place::Namespace(cluster.namespace.clone())
    };
    let seen = ask::observe(&cluster, &place, name.as_deref()).await?;
    let now = Timestamp::now();
    let mut output = io::stdout().lock();
    for (index, gateway) in seen.gateways.iter().enumerate() {
        if index > 0 {
            writeln!(output)?;
        }
        write!(output, "{}", view::text(gateway, now))?;
    }
    for line in &seen.not_permitted {
        writeln!(output, "\nnot shown, for want of permission: {line}")?;
    }
    Ok(seen.gateways.iter().all(observed::Observed::is_ready))
}
