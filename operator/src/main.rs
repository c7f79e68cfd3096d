//! The operator's binary.

use std::{convert::Infallible, process::ExitCode};

use clap::Parser;
use wsgateway_operator::{
    args::Args,
    queue::{Outcome, Reconcile},
    run, telemetry,
    watch::Key,
};

/// Stands where the reconciler will.
struct Idle;

impl Reconcile for Idle {
    type Error = Infallible;

    async fn reconcile(&self, gateway: &Key) -> Result<Outcome, Infallible> {
        tracing::info!(%gateway, "this version has no reconciler");
        Ok(Outcome::Settled)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::start(args.log_format);
    match run::operator(args, |_| Idle).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wsgateway-operator: {}", telemetry::chain(&error));
            ExitCode::FAILURE
        }
    }
}
