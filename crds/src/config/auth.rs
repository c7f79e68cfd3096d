//! Who may connect: whose tokens are believed, where they are looked for, and what each route asks of them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::value::{Duration, Role, Subject};

/// Whose tokens are believed, and where they are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Where a request may carry its token. A request that carries two is refused.
    pub token_sources: Vec<TokenSource>,
    /// Who issues tokens, 1 to 8 of distinct names and issuers.
    pub providers: Vec<Provider>,
    /// How long before its token expires a connection is closed at the earliest, so that those whose tokens were
    /// issued together do not all end together. At most a quarter of what the token has left. Default 30 s.
    #[serde(default = "thirty_seconds")]
    pub expiry_jitter: Duration,
    /// Whether a client is told ahead that its token expires. Absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_warning: Option<ExpiryWarning>,
    /// Where the gateways tell each other of logouts. Needed where a provider has `backchannelLogout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logout_subject: Option<Subject>,
}

/// What a client is told ahead of the end of its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpiryWarning {
    /// How long before the connection is closed.
    pub before: Duration,
    /// The text message that it is sent, once.
    pub message: String,
}

/// Where a request may carry its token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum TokenSource {
    /// `Authorization: Bearer TOKEN`
    Header,
    /// An offered subprotocol `wsgateway.bearer.TOKEN`, beside those that may be chosen. It is never chosen itself.
    Subprotocol,
    /// A cookie. Browsers send it with requests that other pages make.
    Cookie {
        /// Its name.
        name: String,
    },
    /// The query parameter `access_token`. Proxies write it to their logs.
    Query,
}

/// Who issues tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// Its name, in metrics and logs.
    pub name: String,
    /// The claim `iss` of its tokens, to the letter.
    pub issuer: String,
    /// One of these must be in the claim `aud`. Never empty.
    pub audiences: Vec<String>,
    /// Where there are any, the claim `azp` must be one of them: the clients that tokens were issued to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorized_parties: Vec<String>,
    /// By how much the clocks of issuer and gateway may differ. Default 30 s.
    #[serde(default = "thirty_seconds")]
    pub leeway: Duration,
    /// Where the keys come from that its tokens are verified with.
    pub keys: KeySource,
    /// Whether it may end sessions by logout tokens. Default `Disabled`.
    #[serde(default, skip_serializing_if = "BackchannelLogout::is_disabled")]
    pub backchannel_logout: BackchannelLogout,
}

/// Whether an issuer may end sessions by `POST /.wsgateway/backchannel-logout/PROVIDER` (OpenID Connect Back-Channel
/// Logout 1.0).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackchannelLogout {
    /// The path is not served.
    #[default]
    Disabled,
    /// It is.
    Enabled,
}

impl BackchannelLogout {
    /// Whether it is not.
    pub fn is_disabled(&self) -> bool {
        *self == Self::Disabled
    }
}

impl Auth {
    /// The issuers that may end sessions.
    pub fn that_log_out(&self) -> impl Iterator<Item = &Provider> {
        let providers = self.providers.iter();
        providers.filter(|provider| !provider.backchannel_logout.is_disabled())
    }
}

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum KeySource {
    /// The set that `ISSUER/.well-known/openid-configuration` names.
    Discovery {
        /// PEM file with the roots to trust in place of the system's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
    },
    /// A JSON Web Key Set at this address.
    Url {
        /// The address.
        url: String,
        /// PEM file with the roots to trust in place of the system's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
    },
    /// A JSON Web Key Set in a file, which is read again when it changes.
    File {
        /// The file.
        file: PathBuf,
    },
    /// A secret that gateway and issuer share. The only source by which HMAC is accepted.
    Hmac {
        /// The file that holds it, and nothing else. It is read again when it changes.
        file: PathBuf,
        /// The one algorithm that is accepted.
        algorithm: HmacAlgorithm,
    },
}

/// HMAC with SHA-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HmacAlgorithm {
    /// With SHA-256.
    HS256,
    /// With SHA-384.
    HS384,
    /// With SHA-512.
    HS512,
}

/// What a route asks of a token, all of it. The default is any token that is valid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorization {
    /// Whether a token is asked for at all.
    pub access: Access,
    /// One of these roles, where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any_role: Vec<Role>,
    /// One of these groups, where there are any, as they stand in the claim `groups`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// All of these scopes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

impl Authorization {
    /// Whether it asks for a valid token and nothing more.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a token is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// It is.
    #[default]
    Token,
    /// It is not, and none is looked at.
    Anonymous,
}

fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}
