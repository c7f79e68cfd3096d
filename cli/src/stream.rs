//! `wsgw stream`: a JetStream stream for a queue to try, for a machine without the `nats` program.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

use async_nats::jetstream::{
    self,
    context::{CreateStreamError, CreateStreamErrorKind},
    stream::Config,
};
use wsgateway_crds::value::Pattern;

use crate::server::{ServerArgs, ServerError};

/// Which stream, and where.
#[derive(Debug, clap::Args)]
pub struct StreamArgs {
    /// Its name, such as JOBS.
    name: String,
    /// The subjects that it keeps, such as 'jobs.>'.
    #[arg(required = true)]
    subjects: Vec<Pattern>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// There is no connection.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The server refuses, for example because the stream exists with other settings.
    #[error("the stream {name} is not made: {source}")]
    Create {
        /// The stream.
        name: String,
        /// What the server says.
        source: CreateStreamError,
    },
}

impl StreamError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Server(error) => error.reason(),
            Self::Create { source, .. } => match source.kind() {
                CreateStreamErrorKind::JetStreamUnavailable => "NoJetStream",
                _ => "StreamRefused",
            },
        }
    }
}

/// Makes it. One that exists with these settings is as good.
pub async fn create(args: StreamArgs) -> Result<(), StreamError> {
    let StreamArgs {
        name,
        subjects,
        server,
    } = args;
    let context = jetstream::new(server.connect().await?);
    let subjects = subjects.iter().map(ToString::to_string).collect();
    let config = Config {
        name: name.clone(),
        subjects,
        ..Config::default()
    };
    match context.create_stream(config).await {
        Ok(_) => Ok(()),
        Err(source) => Err(StreamError::Create { name, source }),
    }
}
