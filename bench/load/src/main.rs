//! The load generator's binary: one scenario against one server, one line of JSON on standard output.

use anyhow::Result;
use clap::Parser;
use load::{options::Options, scenario};

fn main() -> Result<()> {
    let options = Options::parse();
    let measurement = scenario::run(&options)?;
    println!("{}", serde_json::to_string(&measurement)?);
    Ok(())
}
