//! Whose tokens are believed. What is cheap to see comes first; the signature is verified last, and only what it
//! signs is given on.

use std::{collections::HashSet, time::Duration};

use serde_json::{Map, Value};
use wsgateway_crds::config::Provider;

use crate::{
    claims::Claims,
    key::KeySet,
    logout::{self, Logout, LogoutError},
    token::{Token, TokenError},
};

/// What must hold for an issuer's tokens beside their signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    issuer: String,
    audiences: HashSet<String>,
    authorized_parties: HashSet<String>,
    leeway: Duration,
}

/// A token that is believed.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// What it says of its bearer.
    pub claims: Claims,
    /// When it expires, since 1970. The leeway is not in it.
    pub expires_at: Duration,
    /// When it was issued, since 1970, where it says so.
    pub issued_at: Option<Duration>,
}

impl Trust {
    /// What the configuration says of an issuer.
    pub fn new(provider: &Provider) -> Self {
        Self {
            issuer: provider.issuer.clone(),
            audiences: provider.audiences.iter().cloned().collect(),
            authorized_parties: provider.authorized_parties.iter().cloned().collect(),
            leeway: provider.leeway.get(),
        }
    }

    /// Whose tokens these are.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// By how much clocks may differ.
    pub fn leeway(&self) -> Duration {
        self.leeway
    }

    /// Whether a token can be believed, its signature aside; `now` is since 1970. Keys need not be asked for where
    /// it cannot.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(&self, token: &Token<'_>, now: Duration) -> Result<Duration, TokenError> {
        let claims = &token.claims;
        if token.issuer() != self.issuer {
            return Err(TokenError::Issuer);
        }
        // Keycloak says in its claims what RFC 9068 says in the header: `ID`, `Refresh`, `Offline`, `Logout`, `DPoP`.
        match claims.get("typ") {
            None => {}
            Some(Value::String(typ)) if typ.eq_ignore_ascii_case("Bearer") => {}
            Some(_) => return Err(TokenError::Type),
        }
        if claims.contains_key("cnf") {
            return Err(TokenError::SenderConstrained);
        }
        let expires_at = self.check_times(claims, now, Duration::ZERO)?;
        if !names_any(claims.get("aud"), |audience| {
            self.audiences.contains(audience)
        }) {
            return Err(TokenError::Audience);
        }
        if !self.authorized_parties.is_empty() {
            let party = claims.get("azp").and_then(Value::as_str);
            if !party.is_some_and(|party| self.authorized_parties.contains(party)) {
                return Err(TokenError::AuthorizedParty);
            }
        }
        Ok(expires_at)
    }

    /// Whether a logout token can be believed, its signature aside, as OpenID Connect Back-Channel Logout 1.0 section
    /// 2.6 asks.
    ///
    /// It is for a client of the issuer: one of the audiences, or of those that tokens may have been issued to. It may
    /// have expired by as much as it comes `late`, where others have believed it before: that a session is over does
    /// not end, and it says nothing of tokens that were issued after it.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_logout(
        &self,
        token: &Token<'_>,
        now: Duration,
        late: Duration,
    ) -> Result<Logout, LogoutError> {
        let claims = &token.claims;
        if token.issuer() != self.issuer {
            return Err(TokenError::Issuer.into());
        }
        self.check_times(claims, now, late)?;
        let is_ours = |client: &str| {
            self.audiences.contains(client) || self.authorized_parties.contains(client)
        };
        if !names_any(claims.get("aud"), is_ours) {
            return Err(TokenError::Audience.into());
        }
        let issued_at = date(claims, "iat")?;
        logout::read(claims, issued_at)
    }

    /// Believes a logout token, or says why not.
    ///
    /// # Errors
    /// As [`check_logout`](Self::check_logout), and when no key of the set has signed it.
    pub fn verify_logout(
        &self,
        token: &Token<'_>,
        keys: &KeySet,
        now: Duration,
        late: Duration,
    ) -> Result<Logout, LogoutError> {
        let logout = self.check_logout(token, now, late)?;
        keys.verify(token)?;
        Ok(logout)
    }

    /// The end of a token's time, where that is not over and has begun.
    fn check_times(
        &self,
        claims: &Map<String, Value>,
        now: Duration,
        late: Duration,
    ) -> Result<Duration, TokenError> {
        let expires_at =
            date(claims, "exp")?.ok_or(TokenError::Malformed("it has no claim exp"))?;
        if now >= expires_at.saturating_add(self.leeway).saturating_add(late) {
            return Err(TokenError::Expired);
        }
        let latest = now.saturating_add(self.leeway);
        for from in ["nbf", "iat"] {
            if date(claims, from)?.is_some_and(|from| from > latest) {
                return Err(TokenError::NotYetValid);
            }
        }
        Ok(expires_at)
    }

    /// Believes a token, or says why not.
    ///
    /// # Errors
    /// As [`check`](Self::check), and when no key of the set has signed it.
    pub fn verify(
        &self,
        token: &Token<'_>,
        keys: &KeySet,
        now: Duration,
    ) -> Result<Verified, TokenError> {
        let expires_at = self.check(token, now)?;
        keys.verify(token)?;
        Ok(Verified {
            claims: Claims::new(token.claims.clone()),
            expires_at,
            issued_at: date(&token.claims, "iat")?,
        })
    }
}

/// Whether a claim that is a text or a list of texts holds one of those.
fn names_any(claim: Option<&Value>, is_one: impl Fn(&str) -> bool) -> bool {
    match claim {
        Some(Value::String(text)) => is_one(text),
        Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).any(is_one),
        _ => false,
    }
}

/// A `NumericDate` of RFC 7519: seconds since 1970, which may have a fraction.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<Duration>, TokenError> {
    /// The year 9999. Beyond it arithmetic would need care and nobody means it.
    const LATEST_SECS: f64 = 253_402_300_799.0;
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    match value.as_f64() {
        Some(seconds) if (0.0..=LATEST_SECS).contains(&seconds) => {
            Ok(Some(Duration::from_secs_f64(seconds)))
        }
        _ => Err(TokenError::Malformed(
            "exp, nbf and iat must be seconds since 1970",
        )),
    }
}
