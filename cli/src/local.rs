//! `wsgw local`: a `WsGateway` as processes of this machine.
//!
//! [`run`] is the whole path, and the modules stand in its order. What it starts it keeps running, and stops;
//! nothing of it outlives the command, however that ends.

pub mod console;
pub mod settings;
pub mod signals;

pub mod certificate;
pub mod guard;
pub mod leftover;
pub mod port;
pub mod programs;
pub mod sockets;
pub mod state;

pub mod backoff;
pub mod child;
mod http;

pub mod nats;
pub mod nginx;
pub mod worker;

pub mod banner;
mod exposition;
pub mod metrics;
pub mod stub_status;

pub mod plan;
pub mod site;
pub mod watch;

use std::{io, net::IpAddr, net::SocketAddr, time::Duration};

use wsgateway_model::Gateway;

use crate::manifest::{self, ManifestError};
use console::Console;
use settings::Settings;
use signals::Signals;
use site::Site;
use watch::Watched;

/// How often the certificate's end is looked at. Its renewal is due days before.
const RENEWAL_CHECK: Duration = Duration::from_secs(60 * 60);

/// Why `wsgw local` does not run. The text is a line, or one for each wrong field.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // Each variant is the error of one step, and says itself what it is.
pub enum LocalError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Program(#[from] programs::ProgramError),
    #[error(transparent)]
    State(#[from] state::StateError),
    #[error(transparent)]
    Port(#[from] port::PortError),
    #[error("this machine has no address {0}: choose another with --listen")]
    NoAddress(IpAddr),
    #[error(transparent)]
    Certificate(#[from] certificate::CertificateError),
    #[error(transparent)]
    Child(#[from] child::ChildError),
    #[error(transparent)]
    Nginx(#[from] nginx::NginxError),
    #[error("a worker's configuration cannot be written: {0}")]
    Config(#[from] wsgateway_crds::config::ConfigError),
    #[error("cannot serve metrics on {address}: {source}")]
    Metrics {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot receive signals: {0}")]
    Signals(io::Error),
}

impl LocalError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Manifest(error) => error.reason(),
            Self::Program(error) => error.reason(),
            Self::State(error) => error.reason(),
            Self::Port(error) => error.reason(),
            Self::NoAddress(_) => "NoAddress",
            Self::Certificate(error) => error.reason(),
            Self::Child(error) => error.reason(),
            Self::Nginx(error) => error.reason(),
            Self::Config(_) => "ConfigNotWritten",
            Self::Metrics { .. } => "MetricsNotServed",
            Self::Signals(_) => "NoSignals",
        }
    }
}

/// Runs a manifest until it is told to stop. Whatever happens, nothing is left running.
pub async fn run(settings: Settings, console: Console) -> Result<(), LocalError> {
    let mut signals = Signals::new().map_err(LocalError::Signals)?;
    let text = manifest::text(&settings.file)?;
    let gateway = manifest::gateway(&settings.file, &text)?; // read, linted, validated
    let mut watched = Watched::new(&settings.file, text);
    let mut site = Site::prepare(settings.clone(), gateway, console).await?;
    let outcome = tokio::select! {
        started = start(&mut site, console) => started,
        () = signals.next() => {
            console.say("stopping before all is started");
            site.stop(&mut signals).await;
            return Ok(());
        }
    };
    if outcome.is_ok() {
        supervise(&mut site, &settings, &mut watched, &mut signals, console).await;
    }
    site.stop(&mut signals).await;
    outcome
}

async fn start(site: &mut Site, console: Console) -> Result<(), LocalError> {
    site.provide_certificate()?;
    site.post_guard();
    site.start_nats().await?;
    site.start_workers().await?;
    site.start_nginx().await?;
    site.serve_metrics().await?;
    console.block(&site.banner());
    Ok(())
}

/// Children look after themselves in tasks of their own; what is left is the manifest, the certificate, and the end.
async fn supervise(
    site: &mut Site,
    settings: &Settings,
    watched: &mut Watched,
    signals: &mut Signals,
    console: Console,
) {
    let begin = tokio::time::Instant::now() + RENEWAL_CHECK;
    let mut renewal = tokio::time::interval_at(begin, RENEWAL_CHECK);
    loop {
        let step = async {
            tokio::select! {
                changed = watched.changed() => match read(settings, changed) {
                    Ok(gateway) => {
                        console.say(format_args!("{} has changed", settings.file.display()));
                        site.apply(gateway).await
                    }
                    Err(error) => Err(error.into()),
                },
                _ = renewal.tick() => site.renew_certificate().await,
            }
        };
        tokio::select! {
            () = signals.next() => return,
            outcome = step => {
                if let Err(error) = outcome {
                    for line in error.to_string().lines() {
                        console.problem(line);
                    }
                    console.problem("what ran before goes on running");
                }
            }
        }
    }
}

fn read(settings: &Settings, changed: io::Result<String>) -> Result<Gateway, ManifestError> {
    let text = changed.map_err(|source| ManifestError::Unreadable {
        file: settings.file.clone(),
        source,
    })?;
    manifest::gateway(&settings.file, &text)
}
