//! The operator's binary.
//!
//! It is built and named so that images and charts can rely on it. Reconciling is not in this version:
//! it says so and ends, instead of running without doing anything.

use std::process::ExitCode;

use clap::Parser;

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "wsgateway-operator",
    version,
    about = "Makes gateways of WsGateways"
)]
struct Args {}

fn main() -> ExitCode {
    let Args {} = Args::parse();
    eprintln!(
        "this version has no reconciler yet: run a WsGateway without a cluster by `wsgw local -f FILE`"
    );
    ExitCode::FAILURE
}
