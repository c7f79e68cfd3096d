//! The gateway's binary.

use clap::Parser;
use wsgateway_gateway::{config::Args, server, telemetry};

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    telemetry::start(args.log_format);
    if args.check {
        server::check(&args)?;
        println!("the configuration is valid");
        return Ok(());
    }
    server::run(&args)?;
    Ok(())
}
