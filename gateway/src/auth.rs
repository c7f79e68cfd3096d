//! Who a request comes from: its token, found and verified with the keys that are at hand.
//!
//! A handshake waits for an issuer only where its token names a key that is not known, and then for one fetch that
//! all such handshakes share, at most once a minute. All else is [`keyring`]'s, in the background.

mod bearer;
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
use wsgateway_auth::{Claims, Denial, KeySet, LogoutError, Token, TokenError, Trust, judge};
use wsgateway_crds::config::{self as file, Access, Authorization, TokenSource};

use self::keyring::{Keyring, Lookup};
pub use self::metrics::AuthMetrics;
use crate::logout::{Ended, Login};

/// The part of its token's time, as a divisor, that jitter takes from a connection at most.
const JITTER_PART: u32 = 4;

/// Whose tokens are believed, and where requests carry them.
#[derive(Debug)]
pub struct Auth {
    sources: Vec<TokenSource>,
    issuers: Vec<Issuer>,
    jitter: Duration,
    warn_before: Option<Duration>,
    /// Where gateways tell each other of logouts.
    pub logout_subject: Option<Arc<str>>,
}

#[derive(Debug)]
struct Issuer {
    name: String,
    trust: Trust,
    keys: Arc<Keyring>,
    /// Whether it may end sessions.
    logs_out: bool,
}

/// What a verified token says, and until when.
#[derive(Debug)]
pub struct Identity {
    /// Its claims.
    pub claims: Claims,
    /// What its connection is held to.
    pub terms: Terms,
}

/// What a connection is held to by its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// When it is closed.
    pub expires_at: Instant,
    /// When it is told so, where it is.
    pub warn_at: Option<Instant>,
    /// Which logouts end it, where its issuer can.
    pub login: Option<Login>,
    /// Whether it may publish, where its route asks for more than a connection needs.
    pub may_publish: bool,
}

/// Why a logout token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogoutRefusal {
    /// It is wrong.
    #[error(transparent)]
    Token(#[from] LogoutError),
    /// Whether it is good cannot be told now.
    #[error("the keys of the token's issuer cannot be had now")]
    KeysUnavailable {
        /// When to ask again.
        retry_after: Duration,
    },
}

impl LogoutRefusal {
    /// A stable name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Token(error) => error.reason(),
            Self::KeysUnavailable { .. } => "KeysUnavailable",
        }
    }
}

impl From<TokenError> for LogoutRefusal {
    fn from(error: TokenError) -> Self {
        Self::Token(error.into())
    }
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
    /// 401: the issuer has ended the session of its token.
    #[error("the session of the token is over")]
    LoggedOut,
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
            expiry_warning,
            logout_subject,
        } = auth;
        let issuer = |provider: &file::Provider| Issuer {
            name: provider.name.clone(),
            trust: Trust::new(provider),
            keys: keyring(provider),
            logs_out: !provider.backchannel_logout.is_disabled(),
        };
        Self {
            sources: token_sources.clone(),
            issuers: providers.iter().map(issuer).collect(),
            jitter: expiry_jitter.get(),
            warn_before: expiry_warning.as_ref().map(|warning| warning.before.get()),
            logout_subject: logout_subject
                .as_ref()
                .map(|subject| subject.as_str().into()),
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
        let issuer = issuer.ok_or(TokenError::Issuer)?;
        let trust = &issuer.trust;
        let (now, instant) = (since_1970(), Instant::now());
        // What can be said without keys is said first: nobody's keys are fetched for a token that is of no use.
        trust.check(&token, now)?;
        let verified = issuer
            .with_keys(
                |keys| trust.verify(&token, keys, now),
                |error| *error == TokenError::UnknownKey,
            )
            .await
            .map_err(|retry_after| AuthRefusal::KeysUnavailable { retry_after })??;
        let left = match verified.expires_at.saturating_sub(now) {
            // The clocks differ: it is let in for as long as they may.
            Duration::ZERO => (verified.expires_at + trust.leeway()).saturating_sub(now),
            left => left.saturating_sub(part(self.jitter.min(left / JITTER_PART))),
        };
        let warn_after = self.warn_before.and_then(|before| left.checked_sub(before));
        let login = || Login::new(trust.issuer(), &verified.claims, verified.issued_at);
        let terms = Terms {
            expires_at: instant + left,
            warn_at: warn_after.map(|after| instant + after),
            login: issuer.logs_out.then(login),
            may_publish: true,
        };
        Ok(Identity {
            claims: verified.claims,
            terms,
        })
    }

    /// Whether the issuer of this name may end sessions.
    pub fn can_log_out(&self, provider: &str) -> bool {
        let mut issuers = self.issuers.iter();
        issuers.any(|issuer| issuer.logs_out && issuer.name == provider)
    }

    /// Whether a logout token of an issuer, by its name, can be believed, its signature aside.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_logout(&self, token: &str, provider: &str) -> Result<(), LogoutRefusal> {
        let token = Token::parse_logout(token)?;
        let issuer = self.issuer_of_logout(&token, Some(provider))?;
        issuer
            .trust
            .check_logout(&token, since_1970(), Duration::ZERO)?;
        Ok(())
    }

    /// What a logout token ends: of the issuer of this name, who brings it, or of any that may end sessions, so much
    /// late at most.
    ///
    /// # Errors
    /// When it is not believed, or that cannot be told now.
    pub async fn verify_logout(
        &self,
        token: &str,
        provider: Option<&str>,
        late: Duration,
    ) -> Result<Ended, LogoutRefusal> {
        let token = Token::parse_logout(token)?;
        let issuer = self.issuer_of_logout(&token, provider)?;
        let (trust, now) = (&issuer.trust, since_1970());
        trust.check_logout(&token, now, late)?;
        let logout = issuer
            .with_keys(
                |keys| trust.verify_logout(&token, keys, now, late),
                |error| *error == LogoutError::Token(TokenError::UnknownKey),
            )
            .await
            .map_err(|retry_after| LogoutRefusal::KeysUnavailable { retry_after })??;
        Ok(Ended::new(trust.issuer(), &logout))
    }

    fn issuer_of_logout(
        &self,
        token: &Token<'_>,
        provider: Option<&str>,
    ) -> Result<&Issuer, TokenError> {
        let is_it = |issuer: &&Issuer| {
            issuer.logs_out
                && issuer.trust.issuer() == token.issuer()
                && provider.is_none_or(|provider| issuer.name == provider)
        };
        self.issuers.iter().find(is_it).ok_or(TokenError::Issuer)
    }
}

impl Issuer {
    /// Verifies with the keys at hand, and where the key that was meant is not among them, once more with those that
    /// have been fetched since. Outside: how long until that can be told, where it cannot be now.
    async fn with_keys<T, E>(
        &self,
        verify: impl Fn(&KeySet) -> Result<T, E>,
        is_unknown: impl Fn(&E) -> bool,
    ) -> Result<Result<T, E>, Duration> {
        let known = self.keys.known().await.ok_or(keyring::FIRST_RETRY)?;
        match verify(&known) {
            Err(error) if is_unknown(&error) => match self.keys.look_again(&known).await {
                Lookup::Fetched(known) => Ok(verify(&known)),
                Lookup::Unavailable(retry_after) => Err(retry_after),
            },
            verified => Ok(verified),
        }
    }
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// A random part of a duration.
pub(crate) fn part(max: Duration) -> Duration {
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
            Self::LoggedOut => "LoggedOut",
            Self::KeysUnavailable { .. } => "KeysUnavailable",
        }
    }

    /// Its HTTP status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::Token(_) | Self::LoggedOut => StatusCode::UNAUTHORIZED,
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
            Self::Token(_) | Self::LoggedOut => format!(
                r#"Bearer realm="wsgateway", error="invalid_token", error_description="{self}""#
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
