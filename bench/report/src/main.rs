//! Makes the tables of a benchmark run: a line of JSON for each measurement in, Markdown and JSON out.
//!
//! - [`about`]: the machine and the programs
//! - [`runs`]: measurements by scenario and server, medians and ratios
//! - [`mod@goals`]: what the project holds itself to
//! - [`forms`], [`mod@tables`], [`steps`]: the text; [`hold`]: that of a million connections
//! - [`mod@plots`], [`plot`]: the pictures

mod about;
mod forms;
mod goals;
mod hold;
mod nginx;
mod plot;
mod plots;
mod runs;
mod steps;
mod tables;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;

use crate::{about::About, goals::goals, plots::plots, runs::Runs};

/// Makes the tables of a benchmark run.
#[derive(Debug, Parser)]
struct Args {
    /// The measurements, a line of JSON each, in the order in which they were made.
    #[arg(long)]
    rows: PathBuf,
    /// Where the tables go: `.md` and `.json` are added, and `-memory.svg` and so on for the plots.
    #[arg(long)]
    out: PathBuf,
    /// The heading.
    #[arg(long)]
    title: String,
    /// The command that this was.
    #[arg(long)]
    command: String,
    /// Versions and circumstances, as `nats-server=v2.15.2`.
    #[arg(long = "about", value_name = "KEY=VALUE")]
    about: Vec<String>,
    /// The run was a quick one: its figures show that it works, and no more.
    #[arg(long)]
    quick: bool,
    /// What the gateway says of its own sizes, if it does.
    #[arg(long)]
    sizes: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let rows = fs::read_to_string(&args.rows).with_context(|| args.rows.display().to_string())?;
    let runs = Runs::parse(&rows)?;
    let about = About::read(&args.about)?;
    let goals = goals(&runs);

    let mut markdown = tables::heading(&args.title, &about, &args.command, args.quick, &runs);
    markdown += &tables::goals(&goals);
    let name = args.out.file_name().unwrap_or_default().to_string_lossy();
    for (plot, title, svg) in plots(&runs) {
        fs::write(format!("{}-{plot}.svg", args.out.display()), svg)
            .context("cannot write a plot")?;
        markdown += &format!("\n![{title}]({name}-{plot}.svg)\n");
    }
    markdown += &tables::scenarios(&runs);
    markdown += &nginx::tables(&runs);
    if let Some(file) = &args.sizes {
        let sizes = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        markdown += &format!(
            "\n## What the gateway says of its own sizes\n\n```\n{}\n```\n",
            sizes.trim_end()
        );
    }
    let data = json!({
        "title": args.title,
        "command": args.command,
        "quick": args.quick,
        "about": about,
        "goals": goals,
        "medians": runs.medians(),
        "measurements": runs.all(),
    });

    let file = |extension: &str| PathBuf::from(format!("{}.{extension}", args.out.display()));
    fs::write(file("md"), &markdown).context("cannot write the Markdown")?;
    fs::write(file("json"), serde_json::to_string_pretty(&data)? + "\n")
        .context("cannot write the JSON")?;
    println!("{markdown}");
    Ok(())
}
