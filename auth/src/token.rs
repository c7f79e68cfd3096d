//! The compact form of a signed token (RFC 7515 section 7.1), taken apart. Nothing in it is believed yet.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{
    json::{self, JsonError},
    key::Algorithm,
};

/// The longest token, in bytes. Keycloak's with many roles have some 2 to 4 KiB; proxies refuse heads over 8 KiB.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// A token that has the form of one.
#[derive(Debug, Clone)]
pub struct Token<'a> {
    /// What it says it is signed with.
    pub(crate) algorithm: Algorithm,
    /// The key that it says it is signed with.
    pub(crate) key_id: Option<String>,
    pub(crate) claims: Map<String, Value>,
    /// Header and claims as they were signed.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: Vec<u8>,
    issuer: String,
}

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Over 8 KiB. It is not decoded.
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// It has not the form of a signed token.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// A member of header or claims stands twice.
    #[error("a member of the token's {0} stands twice")]
    Doubled(&'static str),
    /// `none`, an algorithm that is not known, or one that the issuer's keys are not for.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// It is signed, but is no access token: an ID token, a refresh token, a logout token. Or it is no logout token,
    /// where that is asked for.
    #[error("the token is of another type than is asked for here")]
    Type,
    /// It is only good together with a proof of possession, which this gateway does not ask for.
    #[error("the token is bound to a key of its bearer")]
    SenderConstrained,
    /// Nobody here believes its issuer.
    #[error("the token's issuer is not known")]
    Issuer,
    /// It is meant for others.
    #[error("the token is for another audience")]
    Audience,
    /// It was issued to a client that may not use it here.
    #[error("the token was issued to another party")]
    AuthorizedParty,
    /// It has expired.
    #[error("the token has expired")]
    Expired,
    /// It holds from a later moment on.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It names no key, and there is more than one that it could mean.
    #[error("the token names no key")]
    KeyMissing,
    /// It names a key that the issuer does not have.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature is not that of the key.
    #[error("the token's signature is wrong")]
    Signature,
}

impl TokenError {
    /// A stable name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLong => "TokenTooLong",
            Self::Malformed(_) => "TokenMalformed",
            Self::Doubled(_) => "TokenDoubledMember",
            Self::Algorithm => "TokenAlgorithm",
            Self::Type => "TokenType",
            Self::SenderConstrained => "TokenSenderConstrained",
            Self::Issuer => "TokenIssuer",
            Self::Audience => "TokenAudience",
            Self::AuthorizedParty => "TokenAuthorizedParty",
            Self::Expired => "TokenExpired",
            Self::NotYetValid => "TokenNotYetValid",
            Self::KeyMissing => "TokenKeyMissing",
            Self::UnknownKey => "TokenUnknownKey",
            Self::Signature => "TokenSignature",
        }
    }
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// When it is too long or not of the form, or says of itself what no token may.
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        Self::parse_typed(text, &["jwt", "at+jwt"])
    }

    /// The same for a logout token, whose header may say so. What says neither is believed by its claims alone.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_logout(text: &'a str) -> Result<Self, TokenError> {
        Self::parse_typed(text, &["jwt", "logout+jwt"])
    }

    fn parse_typed(text: &'a str, types: &[&str]) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed("it must have three parts"));
        };
        let signed = text.as_bytes().get(..header.len() + 1 + claims.len());
        let header = object(header, "header")?;
        let (algorithm, key_id) = read_header(&header, types)?;
        let claims = object(claims, "claims")?;
        let issuer = claims.get("iss").and_then(Value::as_str);
        let issuer = issuer
            .ok_or(TokenError::Malformed("it has no claim iss"))?
            .to_owned();
        Ok(Self {
            algorithm,
            key_id,
            claims,
            signed: signed.unwrap_or_default(),
            signature: decode(signature)?,
            issuer,
        })
    }

    /// Who it says has issued it: by this it is known who may say whether that is true.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// No padding, no white space, and no bits left over: a token has one form only.
fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    let decoded = URL_SAFE_NO_PAD.decode(part);
    decoded.map_err(|_| TokenError::Malformed("a part is not in base64url"))
}

fn object(part: &str, name: &'static str) -> Result<Map<String, Value>, TokenError> {
    json::object(&decode(part)?).map_err(|error| match error {
        JsonError::Doubled => TokenError::Doubled(name),
        JsonError::Form => TokenError::Malformed("a part holds no JSON object"),
    })
}

/// What may carry a key or the address of one (`jwk`, `jku`, `x5u`, `x5c`) is not read: keys come from the issuer.
fn read_header(
    header: &Map<String, Value>,
    types: &[&str],
) -> Result<(Algorithm, Option<String>), TokenError> {
    if header.contains_key("crit") {
        return Err(TokenError::Malformed(
            "its header asks for what is not known here",
        ));
    }
    let is_of_type = match header.get("typ") {
        None => true,
        Some(Value::String(typ)) => {
            let typ = typ.to_ascii_lowercase();
            let typ = typ
                .strip_prefix("application/")
                .map_or(Cow::Borrowed(&*typ), Cow::Borrowed);
            types.contains(&&*typ)
        }
        Some(_) => false,
    };
    if !is_of_type {
        return Err(TokenError::Type);
    }
    let algorithm = header.get("alg").and_then(Value::as_str);
    let algorithm = algorithm
        .and_then(Algorithm::from_name)
        .ok_or(TokenError::Algorithm)?;
    match header.get("kid") {
        None => Ok((algorithm, None)),
        Some(Value::String(key_id)) => Ok((algorithm, Some(key_id.clone()))),
        Some(_) => Err(TokenError::Malformed("its kid is no text")),
    }
}
