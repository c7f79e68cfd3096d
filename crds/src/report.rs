//! What a gateway says of itself: the JSON of `GET /status` on its admin port.
//!
//! The gateway writes it, the operator and `wsgw top` read it. Either may be of a neighbouring version: fields that
//! are not known are passed over, and a field that is added must have a default.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many bytes of the digest a hash shows: enough to tell apart all configurations that one gateway will ever have,
/// and short enough for a name and a label.
const HASH_BYTES: usize = 8;

/// What the operator's probe offers in `Sec-WebSocket-Protocol`, and the gateway answers it with: a connection that
/// carries nothing but ping, pong and close, and only proves that clients can come in.
pub const PROBE_SUBPROTOCOL: &str = "wsgateway.probe.v1";

/// Where an issuer sends its logout tokens: this and the provider's name.
pub const LOGOUT_PATH: &str = "/.wsgateway/backchannel-logout/";

/// The header of a gateway's answer to a handshake that it refuses, with a stable reason: no other server has it.
pub const REASON_HEADER: &str = "wsgateway-reason";

/// What a gateway says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The gateway's version, such as `0.1.0`.
    pub version: String,
    /// [`hash`] of the text of the file named by `--config`, as it was read at the start.
    pub boot_hash: String,
    /// [`hash`] of the text of the file with the live part that runs now, on every thread: the one named by `--live`,
    /// else the one named by `--config`. A newer file shows here once the last thread has gone over to it.
    pub live_hash: String,
    /// Why the newest file is not what runs. Absent when it runs, or is about to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
    /// Open connections.
    pub connections: u64,
    /// Whether it was told to end.
    pub draining: bool,
    /// Its connection to NATS.
    pub nats: NatsReport,
    /// The certificate that it shows to clients. Absent where it does not end TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsReport>,
    /// Whom it accepts tokens of. Empty where it accepts none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auth: Vec<ProviderReport>,
}

/// A configuration file that was refused; the one before it still runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// [`hash`] of its text. Empty when it could not be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// A stable name for what is wrong: `Unreadable`, `Malformed`, `Contradictory` or `NoLive`.
    pub reason: String,
    /// What is wrong, in a sentence, with the place where there is one.
    pub message: String,
}

/// A gateway's connection to NATS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NatsReport {
    /// Whether it stands at this moment.
    pub connected: bool,
    /// A stable name for why it does not stand, such as `Unreachable` or `Unauthorized`. Empty while it stands.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The same in a sentence. Empty while it stands.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The certificate that a gateway shows to clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsReport {
    /// When it ends, in seconds since 1970.
    pub not_after: u64,
    /// Why the newest one is not shown. Absent while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<CertificateRejected>,
}

/// A certificate that is of no use; the one before is still shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRejected {
    /// A stable name for what is wrong, such as `Unreadable`, `NoCertificate`, `NoPrivateKey` or `KeyMismatch`.
    pub reason: String,
    /// The same in a sentence, without any of what the files hold.
    pub message: String,
}

/// What a gateway knows of an issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderReport {
    /// Its name in the configuration.
    pub name: String,
    /// The keys that tokens are verified with now. 0: no token of it can be verified.
    pub keys: u64,
    /// When they were had last, in seconds since 1970. Absent where they never were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded: Option<u64>,
    /// Whether that is too long ago: fetches have failed for several times the usual interval. They are used on.
    #[serde(default)]
    pub stale: bool,
    /// Why the last fetch failed. Absent where it succeeded, or none has ended yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FetchFailure>,
}

/// A fetch of keys that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchFailure {
    /// A stable name, such as `Unreachable`, `TlsFailed`, `ErrorAnswer` or `IssuerMismatch`.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
}

/// By what a text is told from another: the first 16 hexadecimal digits of its SHA-256.
pub fn hash(text: &str) -> String {
    let digest = Sha256::digest(text);
    let shown = digest.iter().take(HASH_BYTES);
    shown.fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_beginning_of_sha256() {
        assert_eq!(hash(""), "e3b0c44298fc1c14");
        assert_eq!(hash("abc"), "ba7816bf8f01cfea");
    }

    #[test]
    fn a_report_is_read_by_neighbouring_versions() {
        let newer = r#"{"version":"0.2.0","bootHash":"b","liveHash":"l","connections":3,"draining":false,
            "nats":{"connected":true,"server":"n1"},"color":"red"}"#;
        let report: Report = serde_json::from_str(newer).unwrap();
        let nats = NatsReport {
            connected: true,
            reason: String::new(),
            message: String::new(),
        };
        assert_eq!((report.rejected.clone(), &report.nats), (None, &nats));
        assert_eq!((report.tls.clone(), &*report.auth), (None, &[][..]));
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"version":"0.2.0","bootHash":"b","liveHash":"l","connections":3,"draining":false,"nats":{"connected":true}}"#
        );
    }
}
