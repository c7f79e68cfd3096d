//! The NATS server of `wsgw pub` and `wsgw stream`.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

use std::path::PathBuf;

use async_nats::{Client, ConnectOptions};

/// Which server, and who asks.
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// The server.
    #[arg(
        long,
        value_name = "URL",
        default_value = "nats://127.0.0.1:4222",
        env = "NATS_URL"
    )]
    server: String,
    /// A .creds file, where the server asks for one.
    #[arg(long, value_name = "FILE")]
    creds: Option<PathBuf>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The .creds file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Creds {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The server cannot be reached.
    #[error("cannot connect to {server}: {source}")]
    Connect {
        /// The server.
        server: String,
        /// What failed.
        source: async_nats::ConnectError,
    },
}

impl ServerError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Creds { .. } => "CredsUnreadable",
            Self::Connect { .. } => "NatsUnreachable",
        }
    }
}

impl ServerArgs {
    /// Connects, once.
    pub async fn connect(self) -> Result<Client, ServerError> {
        let Self { server, creds } = self;
        let options = match creds {
            Some(path) => ConnectOptions::with_credentials_file(&path)
                .await
                .map_err(|source| ServerError::Creds { path, source })?,
            None => ConnectOptions::new(),
        };
        let connected = options.connect(&server).await;
        connected.map_err(|source| ServerError::Connect { server, source })
    }
}
