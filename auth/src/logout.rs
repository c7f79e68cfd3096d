//! A logout token (OpenID Connect Back-Channel Logout 1.0): an issuer says that a session, or all of a subject's, is
//! over.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::token::TokenError;

/// The member of `events` that makes a token a logout token (section 2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// What a logout token ends. It has a session, a subject, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logout {
    /// The session that is over. None: all of the subject.
    pub session: Option<String>,
    /// Whose it was.
    pub subject: Option<String>,
    /// When the issuer said so, since 1970. Tokens that it has issued later are none of those that are over.
    pub issued_at: Duration,
}

/// Why a logout token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogoutError {
    /// As any token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It has no claim `events` with the member that makes it one.
    #[error("the token has not the event of a logout")]
    Event,
    /// It has a nonce, so that it was made to be taken for an ID token or is one.
    #[error("the token has a nonce, which a logout token must not have")]
    Nonce,
    /// It does not say what is over.
    #[error("the token has neither sid nor sub")]
    Nobody,
    /// It lacks a claim that each has.
    #[error("the token has no claim {0}")]
    Missing(&'static str),
}

impl LogoutError {
    /// A stable name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Token(error) => error.reason(),
            Self::Event => "LogoutEvent",
            Self::Nonce => "LogoutNonce",
            Self::Nobody => "LogoutNobody",
            Self::Missing(_) => "LogoutClaimMissing",
        }
    }
}

/// Reads what is a logout token's alone.
pub(crate) fn read(
    claims: &Map<String, Value>,
    issued_at: Option<Duration>,
) -> Result<Logout, LogoutError> {
    // Keycloak says what it is in the claims too.
    match claims.get("typ") {
        None => {}
        Some(Value::String(typ)) if typ.eq_ignore_ascii_case("Logout") => {}
        Some(_) => return Err(TokenError::Type.into()),
    }
    let event = claims.get("events").and_then(|events| events.get(EVENT));
    if !event.is_some_and(Value::is_object) {
        return Err(LogoutError::Event);
    }
    if claims.contains_key("nonce") {
        return Err(LogoutError::Nonce);
    }
    let text = |name: &str| {
        let text = claims.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    text("jti").ok_or(LogoutError::Missing("jti"))?;
    let (session, subject) = (text("sid"), text("sub"));
    if session.is_none() && subject.is_none() {
        return Err(LogoutError::Nobody);
    }
    Ok(Logout {
        session,
        subject,
        issued_at: issued_at.ok_or(LogoutError::Missing("iat"))?,
    })
}
