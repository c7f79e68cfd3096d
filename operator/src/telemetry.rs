//! Logs: a line an event on standard error, for people or as JSON. What belongs to one reconcile carries
//! its id and its `WsGateway`.

use std::{
    io::IsTerminal,
    sync::atomic::{AtomicU64, Ordering},
};

use tracing::Span;
use tracing_subscriber::{EnvFilter, fmt};

use crate::{args::LogFormat, watch::Key};

/// Starts logging. `RUST_LOG` chooses what is logged; the default is `info`, without
/// the client, whose faults are logged in our own words.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_client=off,tower=warn"));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .init(),
    }
}

/// The span of one reconcile. Ids count from 1 in each process.
pub fn reconcile_span(gateway: &Key) -> Span {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    tracing::info_span!("reconcile", wsgateway = %gateway, reconcile = id)
}

/// An error with what lies beneath, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let beneath = error.to_string();
        // Some errors already say what lies beneath them.
        if !text.contains(&beneath) {
            text.push_str(": ");
            text.push_str(&beneath);
        }
        source = error.source();
    }
    text
}
