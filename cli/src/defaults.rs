//! What the operator of a cluster was told to put in where a spec says nothing.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

use wsgateway_model::{Reason, Referenced, check_server};

/// What the operator puts in, as its own command line has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Defaults {
    /// A NATS server of WsGateways that name none, as the operator's own --nats-server and natsServers of its chart; may
    /// be given several times. Default: plan takes those that the WsGateway's gateways connect to where they run.
    #[arg(
        long = "nats-server",
        value_name = "URL",
        value_delimiter = ',',
        value_parser = server
    )]
    pub nats_servers: Vec<String>,
}

impl Defaults {
    /// What a manifest is checked with, for a cluster.
    pub fn referenced(&self) -> Referenced {
        Referenced {
            nats_servers: self.nats_servers.clone(),
            ..Referenced::mounted()
        }
    }
}

fn server(text: &str) -> Result<String, &'static str> {
    check_server(text).map(|()| text.to_owned())
}

/// The reason with what can be done about it on this command line.
pub(crate) fn advised(reason: &Reason) -> String {
    match reason.reason {
        "NoNatsServers" => format!("{reason}; where it has one, --nats-server names it"),
        _ => reason.to_string(),
    }
}
