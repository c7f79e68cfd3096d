//! Why the connection to NATS does not stand, under names that stay.

use async_nats::ConnectErrorKind;

/// What is told of an attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// A stable name.
    pub(super) reason: &'static str,
    /// A sentence.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// Before an attempt has failed since the connection stood, or at all.
    pub(super) fn unknown(has_connected: bool) -> Self {
        if has_connected {
            Self::new("Disconnected", "the connection to NATS is lost")
        } else {
            Self::new("Connecting", "NATS has not been reached yet")
        }
    }

    /// What the client says of an attempt: the text of the error's kind, without what lay beneath. `None` where the
    /// credentials could not be used: who read them has said more.
    pub(super) fn of_client(text: String) -> Option<Self> {
        use ConnectErrorKind::{
            Authentication, AuthorizationViolation, Dns, Io, MaxReconnects, ServerParse, TimedOut,
            Tls,
        };
        let kinds = [
            Authentication,
            AuthorizationViolation,
            Dns,
            Io,
            TimedOut,
            Tls,
        ];
        let kind = kinds.into_iter().find(|kind| kind.to_string() == text);
        let (reason, message) = match kind {
            Some(Authentication) => return None,
            Some(AuthorizationViolation) => {
                ("Unauthorized", "the NATS server refuses the credentials")
            }
            Some(Dns) => ("UnknownHost", "no NATS server's name can be resolved"),
            Some(Io) => ("Unreachable", "no NATS server can be reached"),
            Some(TimedOut) => ("TimedOut", "no NATS server answers in time"),
            Some(Tls) => ("TlsFailed", "TLS with the NATS server fails"),
            Some(ServerParse | MaxReconnects) | None => return Some(Self::new("Failed", text)),
        };
        Some(Self::new(reason, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_says_has_a_name() {
        let reason = |text: &str| Failure::of_client(text.to_owned()).map(|failure| failure.reason);
        assert_eq!(reason("IO error"), Some("Unreachable"));
        assert_eq!(reason("authorization violation"), Some("Unauthorized"));
        assert_eq!(reason("failed signing nonce"), None);
        assert_eq!(reason("something new"), Some("Failed"));
    }
}
