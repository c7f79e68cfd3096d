//! The command line, and which function each subcommand is.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

use std::{env, path::Path, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    lint::{self, LintArgs},
    local::{self, console::Console, guard, settings::LocalArgs},
    plan::{self, PlanArgs},
    publish::{self, PublishArgs},
    render::{self, RenderArgs},
    simulate::{self, SimulateArgs},
    status::{self, StatusArgs},
    stream::{self, StreamArgs},
    top::{self, TopArgs},
};

/// WebSocket gateways in front of NATS: run one on this machine, check a manifest, look at those of a cluster.
#[derive(Debug, Parser)]
#[command(name = "wsgw", version, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a WsGateway on this machine: workers, a real nginx with TLS, and a real NATS.
    #[command(args_override_self = true)]
    Local(Box<LocalArgs>),
    /// Say what is wrong in manifests: a line for each, and exit code 1.
    Lint(LintArgs),
    /// Print all objects that the operator makes of a manifest, without a cluster.
    Render(RenderArgs),
    /// Say what a token may do with a WsGateway, and why: whether it is let in, what it gets and sends, when it ends.
    ///
    /// Exit code 0: it would be let in, by one of the routes at least; 1: it would not, or it cannot be said.
    Simulate(SimulateArgs),
    /// Publish a message to NATS.
    Pub(PublishArgs),
    /// Make a JetStream stream, as a queue needs one.
    Stream(StreamArgs),
    /// Show what applying a manifest would change on a cluster, and what clients would feel of it.
    ///
    /// That is which gateways are replaced and how many sockets close. Nothing is written. Exit code 0: nothing would
    /// change, 2: something would, 1: it cannot be said.
    Plan(PlanArgs),
    /// Show a WsGateway on a cluster, what was made for it, and what to do about what is wrong.
    ///
    /// Exit code 0: all are ready, 1: one is not, or it cannot be said.
    Status(StatusArgs),
    /// Show what the pods of a WsGateway on a cluster do at this moment.
    Top(TopArgs),
    /// End what a killed wsgw local leaves.
    #[command(name = guard::COMMAND, hide = true)]
    Guard,
}

/// The file under which kubectl finds a program as its own subcommand: `kubectl wsgw`.
const PLUGIN: &str = "kubectl-wsgw";

impl Args {
    /// Reads the command line. Help is an answer too.
    pub fn read() -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let program = env::args_os().next();
        let is_plugin = program.is_some_and(|program| {
            Path::new(&program)
                .file_stem()
                .is_some_and(|name| name == PLUGIN)
        });
        if is_plugin {
            command = command.bin_name("kubectl wsgw");
        }
        let matches = command.try_get_matches()?;
        Self::from_arg_matches(&matches)
    }
}

/// Does what the command line asks for. What is wrong goes to standard error, a line for each thing.
pub async fn run(args: Args) -> ExitCode {
    match args.command {
        Command::Local(args) => {
            let console = Console::new();
            let ended = Box::pin(local::run((*args).into(), console)).await;
            console.flush();
            outcome(ended)
        }
        Command::Lint(args) => {
            let wrong = lint::lint(args);
            for error in &wrong {
                println!("{error}");
            }
            if wrong.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Command::Render(args) => outcome(render::render(&args)),
        Command::Simulate(args) => match Box::pin(simulate::simulate(args)).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => outcome(Err(error)),
        },
        Command::Pub(args) => outcome(publish::publish(args).await),
        Command::Stream(args) => outcome(stream::create(args).await),
        Command::Plan(args) => match Box::pin(plan::plan(args)).await {
            Ok(false) => ExitCode::SUCCESS,
            Ok(true) => ExitCode::from(plan::CHANGES),
            Err(error) => outcome(Err(error)),
        },
        Command::Status(args) => match Box::pin(status::status(args)).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => outcome(Err(error)),
        },
        Command::Top(args) => outcome(Box::pin(top::top(args)).await),
        Command::Guard => {
            guard::stand().await;
            ExitCode::SUCCESS
        }
    }
}

fn outcome(result: Result<(), impl std::error::Error>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    for line in error.to_string().lines() {
        eprintln!("wsgw: {line}");
    }
    ExitCode::FAILURE
}
