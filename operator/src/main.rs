//! The operator's binary.

use std::process::ExitCode;

use clap::Parser;
use wsgateway_operator::{args::Args, reconcile::Reconciler, run, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::start(args.log_format);
    match run::operator(args, Reconciler::new).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wsgateway-operator: {}", telemetry::chain(&error));
            ExitCode::FAILURE
        }
    }
}
