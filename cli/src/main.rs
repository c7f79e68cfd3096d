//! `wsgw`: what a person runs.

use std::process::ExitCode;

use wsgateway_cli::args::{self, Args};

fn main() -> ExitCode {
    let args = match Args::read() {
        Ok(args) => args,
        Err(answer) => {
            // Nobody may be there to read it.
            let _ = answer.print();
            // A wrong command line is 1: 2 is what `wsgw plan` says where something would change.
            return ExitCode::from(u8::from(answer.use_stderr()));
        }
    };
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
