//! The load generator's binary: one scenario against one server, one line of JSON on standard output.

use std::process::ExitCode;

use clap::Parser;
use load::{
    options::{Member, Mode, Options},
    scenario::{self, hold::member},
};

fn main() -> ExitCode {
    let options = Options::parse();
    if let Mode::Member(member) = &options.mode {
        return serve(member);
    }
    let outcome = scenario::run(&options);
    let code = if outcome.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    // A failure is a line of output too, so that a table shows it in its place.
    let measurement = outcome.unwrap_or_else(|error| scenario::failed(&options, &error));
    match serde_json::to_string(&measurement) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("load: {error}"),
    }
    code
}

/// A client process of the mode `hold`: its standard output is for reports alone.
fn serve(member: &Member) -> ExitCode {
    match member::run(member) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: client process {}: {error:#}", member.number);
            ExitCode::FAILURE
        }
    }
}
