//! What becomes of messages that are given up.

use async_nats::{
    HeaderMap,
    header::{HeaderName, HeaderValue, NATS_MESSAGE_ID},
    jetstream::context::GetStreamByNameErrorKind,
    subject::Subject,
};
use bytes::Bytes;
use tracing::{info, warn};
use wsgateway_crds::config;

use super::{
    consumer::Api,
    metrics::{DeadLabels, QueueMetrics},
};
use crate::queue::{DeadReason, Message};

/// Ends a message's life in its stream.
const TERMINATE: &str = "+TERM";

/// A message that could not be moved comes again after five seconds, to be moved then.
const COME_AGAIN: &str = r#"-NAK {"delay": 5000000000}"#;

/// Why a message could not be moved to the dead-letter subject.
#[derive(Debug, thiserror::Error)]
enum BuryError {
    #[error("cannot learn which stream takes the subject")]
    LookUp(#[source] async_nats::jetstream::context::GetStreamByNameError),
    #[error("the stream did not take it")]
    Store(#[source] async_nats::jetstream::context::PublishError),
    #[error("it cannot be published")]
    Publish(#[source] async_nats::PublishError),
    #[error("it cannot be flushed")]
    Flush(#[source] async_nats::client::FlushError),
}

/// Moves a message to the dead-letter subject and terminates it.
pub(super) async fn bury(
    api: Api,
    queue: config::Queue,
    message: Message,
    reason: DeadReason,
    metrics: QueueMetrics,
) {
    let moved = match &queue.dead_letter {
        Some(subject) => publish(&api, &queue, subject.as_str(), &message, reason)
            .await
            .map(|()| "published"),
        None => Ok("terminated"),
    };
    let (stream, consumer) = (queue.stream, queue.durable);
    let (outcome, answer) = match &moved {
        Ok(outcome) => {
            info!(
                stream, consumer, outcome, reason = reason.reason(), sequence = message.sequence,
                deliveries = message.deliveries, subject = %message.subject, "gave a message up"
            );
            (*outcome, TERMINATE)
        }
        Err(error) => {
            warn!(
                stream,
                consumer,
                sequence = message.sequence,
                error = error as &dyn std::error::Error,
                "cannot move a message to the dead letters"
            );
            ("failed", COME_AGAIN)
        }
    };
    let labels = DeadLabels {
        stream,
        consumer,
        reason: reason.reason(),
        outcome,
    };
    metrics.dead.get_or_create(&labels).inc();
    let reply = Subject::from(&*message.reply);
    // Where the connection is gone for good the process ends, and the message comes again.
    let _ = api
        .client
        .publish(reply, Bytes::from_static(answer.as_bytes()))
        .await;
}

async fn publish(
    api: &Api,
    queue: &config::Queue,
    subject: &str,
    message: &Message,
    reason: DeadReason,
) -> Result<(), BuryError> {
    let headers = headers(queue, message, reason);
    let payload = Bytes::copy_from_slice(message.frame.payload());
    let subject = subject.to_owned();
    match api.context.stream_by_subject(subject.clone()).await {
        Ok(_stream) => {
            let stored = api
                .context
                .publish_with_headers(subject, headers, payload)
                .await;
            stored
                .map_err(BuryError::Store)?
                .await
                .map_err(BuryError::Store)?;
            Ok(())
        }
        Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => {
            let published = api
                .client
                .publish_with_headers(subject, headers, payload)
                .await;
            published.map_err(BuryError::Publish)?;
            api.client.flush().await.map_err(BuryError::Flush)
        }
        Err(error) => Err(BuryError::LookUp(error)),
    }
}

/// The message's own headers, and where it comes from.
fn headers(queue: &config::Queue, message: &Message, reason: DeadReason) -> HeaderMap {
    let mut headers = message.headers.as_deref().cloned().unwrap_or_default();
    let sequence = message.sequence.to_string();
    let fields = [
        ("Wsgateway-Stream", queue.stream.clone()),
        ("Wsgateway-Consumer", queue.durable.clone()),
        ("Wsgateway-Sequence", sequence),
        ("Wsgateway-Subject", message.subject.to_string()),
        ("Wsgateway-Deliveries", message.deliveries.to_string()),
        ("Wsgateway-Reason", reason.reason().to_owned()),
    ];
    for (name, value) in fields {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    // A second attempt, after an answer that was lost, is stored once.
    let id = format!(
        "wsgateway.{}.{}.{}",
        queue.stream, queue.durable, message.sequence
    );
    headers.insert(NATS_MESSAGE_ID, id);
    headers
}
