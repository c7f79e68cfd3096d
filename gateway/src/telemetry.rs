//! Logs: a line an event on standard error, for people or as JSON.

use std::{error::Error, io::IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::LogFormat;

/// Starts logging. `RUST_LOG` chooses what is logged; the default is `info`, and only warnings of the NATS client,
/// whose events are logged in our own words.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,async_nats=warn"));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// An error and what lies beneath it, in a line.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut beneath = error.source();
    while let Some(source) = beneath {
        line.push_str(": ");
        line.push_str(&source.to_string());
        beneath = source.source();
    }
    line
}
