//! What the server says to a pull: messages, and words about the pull itself.

use async_nats::Message;

/// The header by which an ended pull says what it has left.
const PENDING_MESSAGES: &str = "Nats-Pending-Messages";

/// What a status means for its pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ignored,
    /// It is over; another may follow.
    Ended,
    /// The server does not take such a pull now.
    Refused,
    /// There is nothing to pull from.
    ConsumerLost,
}

/// What the server says about a pull, by its status and description.
pub(super) fn classify(status: u16, text: &str) -> Status {
    let text = text.to_ascii_lowercase();
    match status {
        // Heartbeats.
        100 => Status::Ignored,
        409 if text.starts_with("consumer deleted") || text.contains("push based") => {
            Status::ConsumerLost
        }
        409 if text.starts_with("exceeded") => Status::Refused,
        404 | 408 | 409 => Status::Ended,
        // No responders: there is no consumer of that name, or no JetStream.
        503 => Status::ConsumerLost,
        _ => Status::Refused,
    }
}

/// How many messages an ended pull has left.
pub(super) fn pending_messages(message: &Message) -> Option<u32> {
    message
        .headers
        .as_ref()?
        .get(PENDING_MESSAGES)?
        .as_str()
        .parse()
        .ok()
}

/// Which delivery it is and the sequence in the stream, from the subject that acknowledgements go to:
/// `$JS.ACK.[domain.account.]stream.consumer.deliveries.sequence.…` (ADR-15).
pub(super) fn parse_ack_subject(reply: &str) -> Option<(u64, u64)> {
    let tokens = reply.strip_prefix("$JS.ACK.")?;
    let before = if tokens.split('.').count() >= 9 { 4 } else { 2 };
    let mut tokens = tokens.split('.').skip(before);
    Some((tokens.next()?.parse().ok()?, tokens.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_subject_says_which_message_it_is() {
        for (reply, expected) in [
            (
                "$JS.ACK.JOBS.d.3.100.7.1790230470084404000.42",
                Some((3, 100)),
            ),
            (
                "$JS.ACK._.hash.JOBS.d.3.100.7.1790230470084404000.42",
                Some((3, 100)),
            ),
            (
                "$JS.ACK.hub.hash.JOBS.d.3.100.7.1790230470084404000.42.token",
                Some((3, 100)),
            ),
            ("$JS.ACK.JOBS.d", None),
            ("_INBOX.x", None),
        ] {
            assert_eq!(parse_ack_subject(reply), expected, "{reply}");
        }
    }

    #[test]
    fn each_status_is_known_for_what_it_means() {
        for (status, text, expected) in [
            (100, "Idle Heartbeat", Status::Ignored),
            (404, "No Messages", Status::Ended),
            (408, "Request Timeout", Status::Ended),
            (409, "Consumer Deleted", Status::ConsumerLost),
            (409, "Consumer is push based", Status::ConsumerLost),
            (409, "Leadership Change", Status::Ended),
            (409, "Server Shutdown", Status::Ended),
            (409, "Exceeded MaxWaiting", Status::Refused),
            (409, "Exceeded MaxRequestBatch of 5", Status::Refused),
            (400, "Bad Request - invalid JSON", Status::Refused),
            (503, "", Status::ConsumerLost),
        ] {
            assert_eq!(classify(status, text), expected, "{status} {text}");
        }
    }
}
