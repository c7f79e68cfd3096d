//! Who a request comes from: its token, found and verified with the keys that are at hand.
//!
//! A handshake waits for an issuer only where its token names a key that is not known, and then for one fetch that
//! all such handshakes share, at most once a minute. All else is [`keyring`]'s, in the background.

mod bearer;
mod fetch;
pub mod keyring;
mod metrics;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hyper::{
    HeaderMap, StatusCode,
    header::{self, HeaderValue},
};
use wsgateway_auth::{Claims, Denial, Token, TokenError, Trust, judge};
use wsgateway_crds::config::{self as file, Access, Authorization, TokenSource};

use self::keyring::{Keyring, Lookup};
pub use self::metrics::AuthMetrics;

/// The part of its token's time, as a divisor, that jitter takes from a connection at most.
const JITTER_PART: u32 = 4;

/// Whose tokens are believed, and where requests carry them.
#[derive(Debug)]
pub struct Auth {
    sources: Vec<TokenSource>,
    issuers: Vec<Issuer>,
    jitter: Duration,
}

#[derive(Debug)]
struct Issuer {
    trust: Trust,
    keys: Arc<Keyring>,
}

/// What a verified token says, and until when.
#[derive(Debug)]
pub struct Identity {
    /// Its claims.
    pub claims: Claims,
    /// When the connection is closed.
    pub expires_at: Instant,
}

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthRefusal {
    /// 401: it has no token.
    #[error("this path asks for a token")]
    NoToken,
    /// 400: it has more than one, and which was meant cannot be known.
    #[error("the request carries more than one token")]
    TwoTokens,
    /// 401: its token is not believed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// 403: its token does not allow this.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// 503: whether its token is good cannot be told now.
    #[error("the keys of the token's issuer cannot be had now")]
    KeysUnavailable {
        /// When to ask again.
        retry_after: Duration,
    },
}

impl Auth {
    /// What the configuration says. `keyring` gives each issuer its keys.
    pub fn new(
        auth: &file::Auth,
        keyring: &mut dyn FnMut(&file::Provider) -> Arc<Keyring>,
    ) -> Self {
        let file::Auth {
            token_sources,
            providers,
            expiry_jitter,
        } = auth;
        let issuer = |provider| Issuer {
            trust: Trust::new(provider),
            keys: keyring(provider),
        };
        Self {
            sources: token_sources.clone(),
            issuers: providers.iter().map(issuer).collect(),
            jitter: expiry_jitter.get(),
        }
    }

    /// Who the request comes from. `None` where a route asks for no token.
    ///
    /// # Errors
    /// When it has not the one token that the route asks for.
    pub async fn authorize(
        &self,
        asked: &Authorization,
        headers: &HeaderMap,
        query: &str,
    ) -> Result<Option<Identity>, AuthRefusal> {
        if asked.access == Access::Anonymous {
            return Ok(None);
        }
        let token = bearer::find(&self.sources, headers, query)?.ok_or(AuthRefusal::NoToken)?;
        let identity = self.identify(&token).await?;
        judge(asked, &identity.claims)?;
        Ok(Some(identity))
    }

    async fn identify(&self, token: &str) -> Result<Identity, AuthRefusal> {
        let token = Token::parse(token)?;
        let mut issuers = self.issuers.iter();
        let issuer = issuers.find(|issuer| issuer.trust.issuer() == token.issuer());
        let Issuer { trust, keys } = issuer.ok_or(TokenError::Issuer)?;
        let (now, instant) = (since_1970(), Instant::now());
        // What can be said without keys is said first: nobody's keys are fetched for a token that is of no use.
        trust.check(&token, now)?;
        let Some(known) = keys.known().await else {
            let retry_after = keyring::FIRST_RETRY;
            return Err(AuthRefusal::KeysUnavailable { retry_after });
        };
        let verified = match trust.verify(&token, &known, now) {
            Err(TokenError::UnknownKey) => match keys.look_again(&known).await {
                Lookup::Fetched(known) => trust.verify(&token, &known, now)?,
                Lookup::Unavailable(retry_after) => {
                    return Err(AuthRefusal::KeysUnavailable { retry_after });
                }
            },
            verified => verified?,
        };
        let left = match verified.expires_at.saturating_sub(now) {
            // The clocks differ: it is let in for as long as they may.
            Duration::ZERO => (verified.expires_at + trust.leeway()).saturating_sub(now),
            left => left.saturating_sub(part(self.jitter.min(left / JITTER_PART))),
        };
        Ok(Identity {
            claims: verified.claims,
            expires_at: instant + left,
        })
    }
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// A random part of a duration.
fn part(max: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) as u32;
    max.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

impl AuthRefusal {
    /// A stable name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "NoToken",
            Self::TwoTokens => "TwoTokens",
            Self::Token(error) => error.reason(),
            Self::Denied(denial) => denial.reason(),
            Self::KeysUnavailable { .. } => "KeysUnavailable",
        }
    }

    /// Its HTTP status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::TwoTokens => StatusCode::BAD_REQUEST,
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::KeysUnavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Adds what RFC 6750 section 3 and RFC 9110 ask of the answer.
    pub fn extend(&self, headers: &mut HeaderMap) {
        let challenge = match self {
            Self::NoToken => r#"Bearer realm="wsgateway""#.to_owned(),
            Self::TwoTokens => r#"Bearer realm="wsgateway", error="invalid_request""#.to_owned(),
            Self::Token(error) => format!(
                r#"Bearer realm="wsgateway", error="invalid_token", error_description="{error}""#
            ),
            Self::Denied(Denial::Scope(scopes)) => format!(
                r#"Bearer realm="wsgateway", error="insufficient_scope", scope="{}""#,
                scopes.join(" ")
            ),
            Self::Denied(_) => r#"Bearer realm="wsgateway", error="insufficient_scope""#.to_owned(),
            Self::KeysUnavailable { retry_after } => {
                let seconds = retry_after.as_secs().max(1);
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                return;
            }
        };
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
    }
}
