//! The keys of an issuer. Each verifies with the algorithms of its own kind and no others, so that no token can
//! choose how it is verified: a public key is never taken for a shared secret.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use p521::ecdsa::{Signature, VerifyingKey, signature::Verifier};
use ring::{
    hmac,
    signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey},
};
use serde_json::{Map, Value};
use wsgateway_crds::config::HmacAlgorithm;

use crate::{
    json,
    token::{Token, TokenError},
};

/// The largest set, in bytes. A key with its chain of certificates has some 4 KiB.
pub const KEY_SET_BYTES_MAX: usize = 512 << 10;

/// The most keys of a set that are read.
const KEYS_MAX: usize = 64;

/// RSA keys, in bytes of the modulus: 2,048 to 8,192 bits, which is also what `ring` verifies with.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// How a token is signed (RFC 7518 section 3.1, RFC 8037). `none` is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the RFCs")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
    HS256,
    HS384,
    HS512,
}

impl Algorithm {
    /// The algorithm of a name, which is compared by letter.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::RS256,
            "RS384" => Self::RS384,
            "RS512" => Self::RS512,
            "PS256" => Self::PS256,
            "PS384" => Self::PS384,
            "PS512" => Self::PS512,
            "ES256" => Self::ES256,
            "ES384" => Self::ES384,
            "ES512" => Self::ES512,
            // RFC 9864 names the curve too.
            "EdDSA" | "Ed25519" => Self::EdDSA,
            "HS256" => Self::HS256,
            "HS384" => Self::HS384,
            "HS512" => Self::HS512,
            _ => return None,
        })
    }
}

/// The keys of an issuer.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    /// How many keys of the set are of no use here: for encryption, of a kind that is not known, or too weak.
    pub skipped: usize,
}

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    /// The only algorithm, where the set names one.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Points in the uncompressed form of SEC 1.
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(VerifyingKey),
    Ed25519(Vec<u8>),
    Secret(hmac::Key),
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rsa { .. } => "Rsa",
            Self::P256(_) => "P256",
            Self::P384(_) => "P384",
            Self::P521(_) => "P521",
            Self::Ed25519(_) => "Ed25519",
            Self::Secret(_) => "Secret(…)",
        })
    }
}

/// Why there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is no set of keys.
    #[error("this is no JSON Web Key Set: {0}")]
    Form(&'static str),
    /// None of its keys is of use here.
    #[error(
        "none of the {0} keys in the set can verify: RSA of 2,048 to 8,192 bits, P-256, P-384, P-521 and Ed25519 can"
    )]
    NoneUsable(usize),
    /// The secret is shorter than the digest, which RFC 7518 section 3.2 forbids.
    #[error("the secret has {found} bytes, but {algorithm:?} asks for at least {least}")]
    WeakSecret {
        /// For what.
        algorithm: HmacAlgorithm,
        /// How many bytes it has.
        found: usize,
        /// How many it must have.
        least: usize,
    },
}

impl KeySetError {
    /// A stable name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Form(_) => "KeySetMalformed",
            Self::NoneUsable(_) => "NoUsableKey",
            Self::WeakSecret { .. } => "WeakSecret",
        }
    }
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys that are not for verifying signatures are passed over, as RFC 7517 section 5
    /// asks, and so are shared secrets: who publishes one does not share it.
    ///
    /// # Errors
    /// When it is no set, or no key in it is of use.
    pub fn read(text: &[u8]) -> Result<Self, KeySetError> {
        if text.len() > KEY_SET_BYTES_MAX {
            return Err(KeySetError::Form("it is too long"));
        }
        let set = json::object(text).map_err(|error| {
            KeySetError::Form(match error {
                json::JsonError::Form => "it is no JSON object",
                json::JsonError::Doubled => "a member stands twice",
            })
        })?;
        let found = set.get("keys").and_then(Value::as_array);
        let found = found.ok_or(KeySetError::Form("it has no list `keys`"))?;
        let objects = found.iter().take(KEYS_MAX).filter_map(Value::as_object);
        let keys: Vec<_> = objects.filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoneUsable(found.len()));
        }
        let skipped = found.len() - keys.len();
        Ok(Self { keys, skipped })
    }

    /// The one key that a shared secret makes.
    ///
    /// # Errors
    /// When it is shorter than the digest.
    pub fn secret(secret: &[u8], algorithm: HmacAlgorithm) -> Result<Self, KeySetError> {
        let (own, digest, least) = match algorithm {
            HmacAlgorithm::HS256 => (Algorithm::HS256, hmac::HMAC_SHA256, 32),
            HmacAlgorithm::HS384 => (Algorithm::HS384, hmac::HMAC_SHA384, 48),
            HmacAlgorithm::HS512 => (Algorithm::HS512, hmac::HMAC_SHA512, 64),
        };
        if secret.len() < least {
            let found = secret.len();
            return Err(KeySetError::WeakSecret {
                algorithm,
                found,
                least,
            });
        }
        let key = Key {
            id: None,
            algorithm: Some(own),
            material: Material::Secret(hmac::Key::new(digest, secret)),
        };
        Ok(Self {
            keys: vec![key],
            skipped: 0,
        })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Verifies a token's signature.
    pub(crate) fn verify(&self, token: &Token<'_>) -> Result<(), TokenError> {
        // A shared secret has no id, and an issuer that uses one may name it as it likes.
        let is_meant = |key: &&Key| match (&token.key_id, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            (Some(_), None) => matches!(key.material, Material::Secret(_)),
            (None, _) => true,
        };
        let mut meant = self.keys.iter().filter(is_meant).peekable();
        if meant.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        let mut fitting = meant.filter(|key| key.permits(token.algorithm));
        let Some(key) = fitting.next() else {
            return Err(TokenError::Algorithm);
        };
        let mut others = fitting.peekable();
        if token.key_id.is_none() && others.peek().is_some() {
            return Err(TokenError::KeyMissing);
        }
        // Two keys of one id differ in what they are for, or are in each other's way until the issuer mends it.
        std::iter::once(key)
            .chain(others)
            .any(|key| {
                key.material
                    .verifies(token.algorithm, token.signed, &token.signature)
            })
            .then_some(())
            .ok_or(TokenError::Signature)
    }
}

impl Key {
    fn read(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        if jwk.contains_key("use") && text("use") != Some("sig") {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops") {
            let mut operations = operations.as_array()?.iter();
            operations.find(|operation| operation.as_str() == Some("verify"))?;
        }
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let n = without_leading_zeros(bytes("n")?);
                let e = without_leading_zeros(bytes("e")?);
                (RSA_BYTES.contains(&n.len()) && !e.is_empty()).then_some(Material::Rsa { n, e })?
            }
            ("EC", Some("P-256")) => Material::P256(point(&bytes("x")?, &bytes("y")?, 32)?),
            ("EC", Some("P-384")) => Material::P384(point(&bytes("x")?, &bytes("y")?, 48)?),
            ("EC", Some("P-521")) => {
                let point = point(&bytes("x")?, &bytes("y")?, 66)?;
                // It is looked at whether the point is on the curve.
                Material::P521(VerifyingKey::from_sec1_bytes(&point).ok()?)
            }
            ("OKP", Some("Ed25519")) => {
                let x = bytes("x")?;
                (x.len() == 32).then_some(Material::Ed25519(x))?
            }
            _ => return None,
        };
        let algorithm = match jwk.get("alg") {
            None => None,
            Some(name) => Some(Algorithm::from_name(name.as_str()?)?),
        };
        let key = Self {
            id: text("kid").map(str::to_owned),
            algorithm,
            material,
        };
        // A set that calls an RSA key HS256 is wrong or worse.
        algorithm
            .is_none_or(|own| key.material.suits(own))
            .then_some(key)
    }

    fn permits(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm) && self.material.suits(algorithm)
    }
}

impl Material {
    /// Whether an algorithm is one of its kind.
    fn suits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{
            ES256, ES384, ES512, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384,
            RS512,
        };
        match self {
            Self::Rsa { .. } => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
            Self::P256(_) => algorithm == ES256,
            Self::P384(_) => algorithm == ES384,
            Self::P521(_) => algorithm == ES512,
            Self::Ed25519(_) => algorithm == EdDSA,
            Self::Secret(_) => matches!(algorithm, HS256 | HS384 | HS512),
        }
    }

    fn verifies(&self, algorithm: Algorithm, signed: &[u8], by: &[u8]) -> bool {
        let unparsed = |kind: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(kind, key).verify(signed, by).is_ok()
        };
        match self {
            Self::Rsa { n, e } => {
                let kind: &RsaParameters = match algorithm {
                    Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
                    Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
                    Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }
                    .verify(kind, signed, by)
                    .is_ok()
            }
            Self::P256(point) => unparsed(&signature::ECDSA_P256_SHA256_FIXED, point),
            Self::P384(point) => unparsed(&signature::ECDSA_P384_SHA384_FIXED, point),
            // Both halves in full, as `ring` wants them of the others.
            Self::P521(key) => {
                Signature::from_slice(by).is_ok_and(|by| key.verify(signed, &by).is_ok())
            }
            Self::Ed25519(point) => unparsed(&signature::ED25519, point),
            Self::Secret(key) => hmac::verify(key, signed, by).is_ok(),
        }
    }
}

fn without_leading_zeros(mut bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    bytes
}

fn point(x: &[u8], y: &[u8], length: usize) -> Option<Vec<u8>> {
    (x.len() == length && y.len() == length).then(|| [&[4], x, y].concat())
}
