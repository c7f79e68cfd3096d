//! The gateway's binary.

use std::process::ExitCode;

use clap::Parser;
use wsgateway_gateway::{config::Args, server, telemetry};

/// After 18,000 connections glibc's keeps their 18 MB; this one returns them within seconds.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::start(args.log_format);
    let result = if args.check {
        server::check(&args)
    } else {
        server::run(&args)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, with what lies beneath; no backtrace is of use to who wrote the file.
            eprintln!("wsgateway: {:#}", anyhow::Error::from(error));
            ExitCode::FAILURE
        }
    }
}
