//! `wsgw pub`: one message to NATS, for a machine without the `nats` program.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

use crate::server::{ServerArgs, ServerError};

/// What is published, and where.
#[derive(Debug, clap::Args)]
pub struct PublishArgs {
    /// The subject, such as notifications.demo.
    subject: String,
    /// The payload.
    text: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It would reach nobody, or break the protocol.
    #[error("`{0}` is not a subject to publish to: tokens joined by dots, without spaces, * and >")]
    Subject(String),
    /// There is no connection.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The connection was lost on the way.
    #[error("the message is not sent: {0}")]
    Send(String),
}

impl PublishError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Subject(_) => "InvalidSubject",
            Self::Server(error) => error.reason(),
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
    } = args;
    if subject.parse::<wsgateway_crds::value::Subject>().is_err() {
        return Err(PublishError::Subject(subject));
    }
    let client = server.connect().await?;
    let lost = |error: &dyn std::fmt::Display| PublishError::Send(error.to_string());
    client
        .publish(subject, text.into())
        .await
        .map_err(|error| lost(&error))?;
    client.flush().await.map_err(|error| lost(&error))
}
