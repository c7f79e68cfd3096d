//! Good tokens of every algorithm, and bad ones each refused with its reason.
//!
//! `rsa.json` holds a public RSA key and tokens that OpenSSL signed with its private half, which nobody has any more:
//! `ring` makes no RSA keys. `p521.json` is the same of P-521: a token, the same with its signature in DER, and one that
//! another key signed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::similar_names,
    clippy::too_many_lines,
    reason = "a header, what is headed by it, and a row a line"
)]

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    },
};
use serde_json::{Value, json};
use wsgateway_auth::{KeySet, TOKEN_BYTES_MAX, Token, TokenError, Trust, Verified, judge};
use wsgateway_crds::config::{
    Authorization, BackchannelLogout, HmacAlgorithm, KeySource, Provider,
};

const ISSUER: &str = "https://issuer.example";
const NOW: Duration = Duration::from_secs(1_700_000_000);

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn trust() -> Trust {
    Trust::new(&provider())
}

fn provider() -> Provider {
    Provider {
        name: "test".to_owned(),
        issuer: ISSUER.to_owned(),
        audiences: vec!["wsgateway".to_owned(), "other".to_owned()],
        authorized_parties: Vec::new(),
        leeway: wsgateway_crds::value::Duration::from_secs(30),
        keys: KeySource::Discovery { ca_file: None },
        backchannel_logout: BackchannelLogout::Disabled,
    }
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "wsgateway", "sub": "ann", "exp": NOW.as_secs() + 60})
}

/// A key that signs.
enum Signer {
    Ecdsa(EcdsaKeyPair, &'static str),
    Ed25519(Ed25519KeyPair),
    Hmac(hmac::Key),
}

impl Signer {
    fn ecdsa(kind: &'static EcdsaSigningAlgorithm, curve: &'static str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self::Ecdsa(
            EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).unwrap(),
            curve,
        )
    }

    fn p256() -> Self {
        Self::ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")
    }

    fn ed25519() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Ecdsa(pair, curve) => {
                let (x, y) = pair.public_key().as_ref()[1..]
                    .split_at((pair.public_key().as_ref().len() - 1) / 2);
                json!({"kty": "EC", "crv": curve, "kid": id, "use": "sig", "x": encode(x), "y": encode(y)})
            }
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": encode(pair.public_key())})
            }
            Self::Hmac(_) => panic!("a secret is not published"),
        }
    }

    fn sign(&self, signed: &str) -> String {
        let bytes = signed.as_bytes();
        match self {
            Self::Ecdsa(pair, _) => encode(pair.sign(&SystemRandom::new(), bytes).unwrap()),
            Self::Ed25519(pair) => encode(pair.sign(bytes)),
            Self::Hmac(key) => encode(hmac::sign(key, bytes)),
        }
    }

    /// A token of a header and claims as they are written.
    fn raw(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        format!("{signed}.{}", self.sign(&signed))
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        self.raw(&header.to_string(), &claims.to_string())
    }
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::read(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

fn verify(token: &str, keys: &KeySet, trust: &Trust) -> Result<Verified, TokenError> {
    trust.verify(&Token::parse(token)?, keys, NOW)
}

#[test]
fn every_algorithm_is_verified() {
    let rsa: Value = serde_json::from_str(include_str!("rsa.json")).unwrap();
    let keys = set(&[rsa["jwk"].clone()]);
    let tokens = rsa["tokens"].as_object().unwrap();
    assert_eq!(tokens.len(), 6);
    for (algorithm, token) in tokens {
        let token = token.as_str().unwrap();
        let verified =
            verify(token, &keys, &trust()).unwrap_or_else(|e| panic!("{algorithm}: {e}"));
        assert_eq!(verified.claims.text("sub").unwrap(), "ann");
        // Another algorithm's signature under the same key.
        let (signed, _) = token.rsplit_once('.').unwrap();
        for (other, by) in tokens.iter().filter(|(other, _)| *other != algorithm) {
            let (_, signature) = by.as_str().unwrap().rsplit_once('.').unwrap();
            let mixed = verify(&format!("{signed}.{signature}"), &keys, &trust());
            assert_eq!(
                mixed.unwrap_err().reason(),
                "TokenSignature",
                "{algorithm} {other}"
            );
        }
    }
    for (signer, algorithm) in [
        (Signer::p256(), "ES256"),
        (
            Signer::ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
            "ES384",
        ),
        (Signer::ed25519(), "EdDSA"),
        (Signer::ed25519(), "Ed25519"),
    ] {
        let keys = set(&[signer.jwk("k")]);
        let token = signer.token(&json!({"alg": algorithm, "kid": "k"}), &claims());
        let verified =
            verify(&token, &keys, &trust()).unwrap_or_else(|e| panic!("{algorithm}: {e}"));
        assert_eq!(verified.expires_at, NOW + Duration::from_secs(60));
        let stranger = match signer {
            Signer::Ed25519(_) => Signer::ed25519(),
            _ => Signer::ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
        };
        let token = stranger.token(&json!({"alg": algorithm, "kid": "k"}), &claims());
        assert_eq!(
            verify(&token, &keys, &trust()).unwrap_err().reason(),
            "TokenSignature"
        );
    }
    for (kind, digest, algorithm, length) in [
        (HmacAlgorithm::HS256, hmac::HMAC_SHA256, "HS256", 32),
        (HmacAlgorithm::HS384, hmac::HMAC_SHA384, "HS384", 48),
        (HmacAlgorithm::HS512, hmac::HMAC_SHA512, "HS512", 64),
    ] {
        let secret = vec![7; length];
        let keys = KeySet::secret(&secret, kind).unwrap();
        let signer = Signer::Hmac(hmac::Key::new(digest, &secret));
        for header in [
            json!({"alg": algorithm}),
            json!({"alg": algorithm, "kid": "any"}),
        ] {
            verify(&signer.token(&header, &claims()), &keys, &trust()).unwrap();
        }
        assert!(KeySet::secret(&secret[1..], kind).is_err());
    }
}

#[test]
fn es512_is_verified_as_another_implementation_signs_it() {
    let p521: Value = serde_json::from_str(include_str!("p521.json")).unwrap();
    let keys = set(&[p521["jwk"].clone()]);
    let verified = |name: &str| verify(p521[name].as_str().unwrap(), &keys, &trust());
    assert_eq!(
        verified("token").unwrap().claims.text("sub").unwrap(),
        "ann"
    );
    for name in ["der", "stranger"] {
        assert_eq!(
            verified(name).unwrap_err().reason(),
            "TokenSignature",
            "{name}"
        );
    }
    let (signed, signature) = p521["token"].as_str().unwrap().rsplit_once('.').unwrap();
    for (what, signature) in [
        ("none", String::new()),
        ("zeros", encode([0; 132])),
        ("short", encode([1; 131])),
        ("changed", signature.replacen(&signature[8..9], "_", 1)),
    ] {
        let token = format!("{signed}.{signature}");
        let refused = verify(&token, &keys, &trust()).unwrap_err();
        assert_eq!(refused.reason(), "TokenSignature", "{what}");
    }
    let other = verify(
        &Signer::p256().token(&json!({"alg": "ES256", "kid": "k"}), &claims()),
        &keys,
        &trust(),
    );
    assert_eq!(other.unwrap_err().reason(), "TokenAlgorithm");
}

#[test]
fn a_key_verifies_with_the_algorithms_of_its_kind_and_no_others() {
    let rsa: Value = serde_json::from_str(include_str!("rsa.json")).unwrap();
    let n = rsa["jwk"]["n"].as_str().unwrap();
    let reason = |token: &str, keys: &KeySet| verify(token, keys, &trust()).unwrap_err().reason();
    let keys = set(&[rsa["jwk"].clone()]);
    // The public key, taken for a shared secret, in the forms that programs have been known to take.
    for secret in [
        n.as_bytes().to_vec(),
        URL_SAFE_NO_PAD.decode(n).unwrap(),
        rsa["jwk"].to_string().into_bytes(),
    ] {
        let forger = Signer::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &secret));
        let token = forger.token(&json!({"alg": "HS256", "kid": "rsa"}), &claims());
        assert_eq!(reason(&token, &keys), "TokenAlgorithm");
    }
    // A key of the token's own.
    let forger = Signer::p256();
    let header = json!({"alg": "ES256", "jwk": forger.jwk("own"), "jku": "http://evil.example"});
    assert_eq!(
        reason(&forger.token(&header, &claims()), &keys),
        "TokenAlgorithm"
    );
    // A set that names the algorithm means that one alone.
    let mut jwk = rsa["jwk"].clone();
    jwk["alg"] = "RS256".into();
    let keys = set(&[jwk.clone()]);
    verify(rsa["tokens"]["RS256"].as_str().unwrap(), &keys, &trust()).unwrap();
    assert_eq!(
        reason(rsa["tokens"]["PS256"].as_str().unwrap(), &keys),
        "TokenAlgorithm"
    );
    // A secret is no public key.
    let keys = KeySet::secret(&[7; 32], HmacAlgorithm::HS256).unwrap();
    assert_eq!(
        reason(rsa["tokens"]["RS256"].as_str().unwrap(), &keys),
        "TokenAlgorithm"
    );
}

#[test]
fn what_is_no_key_for_signatures_is_passed_over() {
    let good = Signer::p256();
    let rsa: Value = serde_json::from_str(include_str!("rsa.json")).unwrap();
    let with = |name: &str, value: Value| {
        let mut jwk = rsa["jwk"].clone();
        jwk[name] = value;
        jwk
    };
    let useless = [
        with("use", "enc".into()),
        with("key_ops", json!(["encrypt"])),
        with("alg", "RSA-OAEP".into()),
        with("alg", "HS256".into()),
        with("alg", "ES256".into()),
        with("n", encode([0xff; 128]).into()),
        with("n", "!".into()),
        with("kty", "oct".into()),
        json!({"kty": "oct", "k": encode([7; 32]), "kid": "k"}),
        json!({"kty": "EC", "crv": "P-521", "x": "", "y": ""}),
        json!({"kty": "EC", "crv": "P-521", "x": encode([1; 66]), "y": encode([1; 66])}),
        json!({"kty": "EC", "crv": "P-256", "x": encode([1; 31]), "y": encode([1; 32])}),
        json!({"kty": "OKP", "crv": "X25519", "x": encode([1; 32])}),
        json!("text"),
    ];
    for jwk in &useless {
        let text = json!({"keys": [jwk]}).to_string();
        assert!(KeySet::read(text.as_bytes()).is_err(), "{jwk}");
        let keys = set(&[jwk.clone(), good.jwk("good")]);
        assert_eq!((keys.len(), keys.skipped), (1, 1), "{jwk}");
    }
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys": {}}"#,
        r#"{"keys": []}"#,
        r#"{"keys": [], "keys": []}"#,
    ] {
        assert!(KeySet::read(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
#[expect(clippy::too_many_lines)] // A table.
fn each_bad_token_is_refused_with_its_reason() {
    let signer = Signer::p256();
    let (other, keys) = (
        Signer::p256(),
        set(&[signer.jwk("k"), Signer::ed25519().jwk("e")]),
    );
    let header = json!({"alg": "ES256", "kid": "k", "typ": "JWT"});
    let with = |object: &Value, changes: Value| {
        let mut object = object.clone();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => _ = object.as_object_mut().unwrap().remove(name),
                value => object[name] = value.clone(),
            }
        }
        object
    };
    let with_header = |changes| signer.token(&with(&header, changes), &claims());
    let with_claims = |changes| signer.token(&header, &with(&claims(), changes));
    let good = with_header(json!({}));
    let seconds = NOW.as_secs();
    let (content, signature) = good.rsplit_once('.').unwrap();
    let doubled = |text: &Value, name: &str| {
        text.to_string()
            .replacen('{', &format!("{{\"{name}\":\"x\","), 1)
    };
    let table = [
        // Form.
        (String::new(), "TokenMalformed"),
        ("a.b".to_owned(), "TokenMalformed"),
        (format!("{good}."), "TokenMalformed"),
        (format!("{good}="), "TokenMalformed"),
        (format!(" {good}"), "TokenMalformed"),
        (good[..good.len() - 1].to_owned(), "TokenMalformed"),
        (good[..good.len() - 2].to_owned(), "TokenSignature"),
        (format!("{content}."), "TokenSignature"),
        (format!("{content}.{}", encode([0; 64])), "TokenSignature"),
        (format!("{content}.{signature}AAAA"), "TokenSignature"),
        ("x".repeat(TOKEN_BYTES_MAX + 1), "TokenTooLong"),
        (
            with_claims(json!({"pad": "x".repeat(TOKEN_BYTES_MAX)})),
            "TokenTooLong",
        ),
        (signer.raw("[]", &claims().to_string()), "TokenMalformed"),
        (signer.raw(&header.to_string(), "1"), "TokenMalformed"),
        (
            signer.raw(&doubled(&header, "alg"), &claims().to_string()),
            "TokenDoubledMember",
        ),
        (
            signer.raw(&doubled(&header, "kid"), &claims().to_string()),
            "TokenDoubledMember",
        ),
        (
            signer.raw(&header.to_string(), &doubled(&claims(), "sub")),
            "TokenDoubledMember",
        ),
        (
            signer.raw(&header.to_string(), &doubled(&claims(), "aud")),
            "TokenDoubledMember",
        ),
        // Header.
        (with_header(json!({"alg": "none"})), "TokenAlgorithm"),
        (
            format!(
                "{}.{}.",
                encode(r#"{"alg":"none"}"#),
                encode(claims().to_string())
            ),
            "TokenAlgorithm",
        ),
        (with_header(json!({"alg": "None"})), "TokenAlgorithm"),
        (with_header(json!({"alg": "es256"})), "TokenAlgorithm"),
        (with_header(json!({"alg": "ES512"})), "TokenAlgorithm"),
        (with_header(json!({"alg": null})), "TokenAlgorithm"),
        (with_header(json!({"alg": 1})), "TokenAlgorithm"),
        (with_header(json!({"alg": "HS256"})), "TokenAlgorithm"),
        (with_header(json!({"alg": "EdDSA"})), "TokenAlgorithm"),
        (with_header(json!({"alg": "ES384"})), "TokenAlgorithm"),
        (with_header(json!({"kid": "unknown"})), "TokenUnknownKey"),
        (with_header(json!({"kid": "e"})), "TokenAlgorithm"),
        (with_header(json!({"kid": 1})), "TokenMalformed"),
        (
            with_header(json!({"crit": ["b64"], "b64": false})),
            "TokenMalformed",
        ),
        (with_header(json!({"typ": "logout+jwt"})), "TokenType"),
        (with_header(json!({"typ": "dpop+jwt"})), "TokenType"),
        (with_header(json!({"typ": 1})), "TokenType"),
        // Claims.
        (with_claims(json!({"iss": null})), "TokenMalformed"),
        (
            with_claims(json!({"iss": format!("{ISSUER}/")})),
            "TokenIssuer",
        ),
        (
            with_claims(json!({"iss": "https://ISSUER.example"})),
            "TokenIssuer",
        ),
        (with_claims(json!({"aud": null})), "TokenAudience"),
        (with_claims(json!({"aud": "account"})), "TokenAudience"),
        (
            with_claims(json!({"aud": ["account", 1, "WSGATEWAY"]})),
            "TokenAudience",
        ),
        (
            with_claims(json!({"aud": {"wsgateway": 1}})),
            "TokenAudience",
        ),
        (with_claims(json!({"exp": null})), "TokenMalformed"),
        (with_claims(json!({"exp": "4000000000"})), "TokenMalformed"),
        (with_claims(json!({"exp": -1})), "TokenMalformed"),
        (with_claims(json!({"exp": 1e300})), "TokenMalformed"),
        (with_claims(json!({"exp": seconds - 30})), "TokenExpired"),
        (with_claims(json!({"exp": 0})), "TokenExpired"),
        (
            with_claims(json!({"nbf": seconds + 31})),
            "TokenNotYetValid",
        ),
        (with_claims(json!({"nbf": "soon"})), "TokenMalformed"),
        (
            with_claims(json!({"iat": seconds + 31})),
            "TokenNotYetValid",
        ),
        (with_claims(json!({"typ": "ID"})), "TokenType"),
        (with_claims(json!({"typ": "Refresh"})), "TokenType"),
        (with_claims(json!({"typ": "Logout"})), "TokenType"),
        (
            with_claims(json!({"cnf": {"jkt": "x"}})),
            "TokenSenderConstrained",
        ),
        // Signature.
        (other.token(&header, &claims()), "TokenSignature"),
        (
            other.token(&json!({"alg": "ES256"}), &claims()),
            "TokenSignature",
        ),
    ];
    for (token, expected) in &table {
        let found = verify(token, &keys, &trust()).map_err(|error| error.reason());
        assert_eq!(found.err(), Some(*expected), "{token}");
    }
    // What is just within.
    for token in [
        good.clone(),
        with_header(json!({"kid": null})),
        with_header(json!({"typ": null})),
        with_header(json!({"typ": "at+jwt"})),
        with_header(json!({"typ": "application/AT+JWT"})),
        with_claims(json!({"aud": ["account", "other"]})),
        with_claims(json!({"exp": seconds - 29})),
        with_claims(json!({"exp": seconds as f64 + 0.5})),
        with_claims(json!({"nbf": seconds + 30, "iat": seconds + 30})),
        with_claims(json!({"typ": "Bearer"})),
    ] {
        verify(&token, &keys, &trust()).unwrap_or_else(|error| panic!("{error}: {token}"));
    }
    // Each byte of a good token, changed: nothing of it is without effect.
    for at in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(verify(&changed, &keys, &trust()).is_err(), "{at}");
    }
}

#[test]
fn a_token_that_names_no_key_means_the_only_one_that_it_can_mean() {
    let (one, two, third) = (Signer::p256(), Signer::p256(), Signer::ed25519());
    let token = one.token(&json!({"alg": "ES256"}), &claims());
    verify(&token, &set(&[one.jwk("1"), third.jwk("3")]), &trust()).unwrap();
    let both = set(&[one.jwk("1"), two.jwk("2")]);
    assert_eq!(
        verify(&token, &both, &trust()).unwrap_err().reason(),
        "TokenKeyMissing"
    );
}

#[test]
fn a_party_must_be_authorized_where_parties_are_named() {
    let signer = Signer::p256();
    let keys = set(&[signer.jwk("k")]);
    let trust = Trust::new(&Provider {
        authorized_parties: vec!["web".to_owned()],
        ..provider()
    });
    for (party, expected) in [
        (json!("web"), None),
        (json!("cli"), Some("TokenAuthorizedParty")),
        (Value::Null, Some("TokenAuthorizedParty")),
    ] {
        let mut claims = claims();
        claims["azp"] = party;
        let token = signer.token(&json!({"alg": "ES256", "kid": "k"}), &claims);
        assert_eq!(
            verify(&token, &keys, &trust)
                .err()
                .map(|error| error.reason()),
            expected
        );
    }
}

#[test]
fn a_route_asks_for_one_role_one_group_and_all_scopes() {
    let signer = Signer::p256();
    let keys = set(&[signer.jwk("k")]);
    let mut claims = claims();
    claims["realm_access"] = json!({"roles": ["viewer", "a:b"]});
    claims["resource_access"] =
        json!({"shop": {"roles": ["reader"]}, "account": {"roles": ["viewer"]}});
    claims["groups"] = json!(["/staff", "/shop/admins"]);
    claims["scope"] = "openid orders:read".into();
    let token = signer.token(&json!({"alg": "ES256", "kid": "k"}), &claims);
    let claims = verify(&token, &keys, &trust()).unwrap().claims;
    let check = |asked: Value, expected: Option<&str>| {
        let asked: Authorization = serde_json::from_value(asked.clone()).unwrap();
        let found = judge(&asked, &claims).err().map(|denial| denial.reason());
        assert_eq!(found, expected, "{asked:?}");
    };
    check(json!({}), None);
    check(json!({"anyRole": ["realm:admin", "realm:viewer"]}), None);
    check(json!({"anyRole": ["realm:a:b"]}), None);
    check(json!({"anyRole": ["client:shop:reader"]}), None);
    check(json!({"anyRole": ["realm:reader"]}), Some("MissingRole"));
    check(
        json!({"anyRole": ["client:shop:viewer"]}),
        Some("MissingRole"),
    );
    check(
        json!({"anyRole": ["client:none:reader"]}),
        Some("MissingRole"),
    );
    check(json!({"groups": ["/shop/admins"]}), None);
    check(json!({"groups": ["/shop", "admins"]}), Some("MissingGroup"));
    check(json!({"scopes": ["orders:read", "openid"]}), None);
    check(
        json!({"scopes": ["orders:read", "orders"]}),
        Some("MissingScope"),
    );
    check(
        json!({"anyRole": ["realm:viewer"], "groups": ["/none"]}),
        Some("MissingGroup"),
    );
}
