//! `wsgw`: what a person runs.

use std::process::ExitCode;

use clap::Parser;
use wsgateway_cli::args::{self, Args};

fn main() -> ExitCode {
    let args = Args::parse();
    // One thread: it waits for others most of the time, and a child must not outlive the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(args::run(args)),
        Err(error) => {
            eprintln!("wsgw: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
