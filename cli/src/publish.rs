//! `wsgw pub`: one message to NATS, for a machine without the `nats` program.

use async_nats::ConnectOptions;

/// What is published, and where.
#[derive(Debug, clap::Args)]
pub struct PublishArgs {
    /// The subject, such as `notifications.demo`.
    subject: String,
    /// The payload.
    text: String,
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
    creds: Option<std::path::PathBuf>,
}

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It would reach nobody, or break the protocol.
    #[error("`{0}` is not a subject to publish to: tokens joined by dots, without spaces, * and >")]
    Subject(String),
    /// The .creds file cannot be read.
    #[error("cannot read {path}: {source}")]
    Creds {
        /// The file.
        path: String,
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
    /// The connection was lost on the way.
    #[error("the message is not sent: {0}")]
    Send(String),
}

impl PublishError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Subject(_) => "InvalidSubject",
            Self::Creds { .. } => "CredsUnreadable",
            Self::Connect { .. } => "NatsUnreachable",
            Self::Send(_) => "NotSent",
        }
    }
}

/// Publishes, and returns once the server has it.
pub async fn publish(args: PublishArgs) -> Result<(), PublishError> {
    let PublishArgs {
        subject,
        text,
        server,
        creds,
    } = args;
    if subject.parse::<wsgateway_crds::value::Subject>().is_err() {
        return Err(PublishError::Subject(subject));
    }
    let options = match creds {
        Some(path) => ConnectOptions::with_credentials_file(&path)
            .await
            .map_err(|source| PublishError::Creds {
                path: path.display().to_string(),
                source,
            })?,
        None => ConnectOptions::new(),
    };
    let client = options
        .connect(&server)
        .await
        .map_err(|source| PublishError::Connect {
            server: server.clone(),
            source,
        })?;
    let lost = |error: &dyn std::fmt::Display| PublishError::Send(error.to_string());
    client
        .publish(subject, text.into())
        .await
        .map_err(|error| lost(&error))?;
    client.flush().await.map_err(|error| lost(&error))
}
