//! What holds for any token at all that nobody has signed. Shared by the fuzz target and by auth/tests/properties.rs.

use std::{sync::LazyLock, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use wsgateway_auth::{KeySet, TOKEN_BYTES_MAX, Token, Trust, json};
use wsgateway_crds::config::{BackchannelLogout, HmacAlgorithm, KeySource, Provider};

pub(crate) const ISSUER: &str = "https://issuer.example";
pub(crate) const NOW: Duration = Duration::from_secs(1_700_000_000);

/// Keys of each kind, and whose tokens they verify.
static KEYS: LazyLock<(Trust, [KeySet; 2])> = LazyLock::new(|| {
    let provider = Provider {
        name: "test".to_owned(),
        issuer: ISSUER.to_owned(),
        audiences: vec!["wsgateway".to_owned()],
        authorized_parties: Vec::new(),
        leeway: wsgateway_crds::value::Duration::from_secs(30),
        keys: KeySource::Discovery { ca_file: None },
        backchannel_logout: BackchannelLogout::Disabled,
    };
    // RFC 8037, appendix A.2, and RFC 7517, appendix A.1.
    let published = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty": "EC", "crv": "P-256", "kid": "ec", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"},
    ]});
    let published = KeySet::read(published.to_string().as_bytes());
    let secret = KeySet::secret(b"a secret that no fuzzer will guess", HmacAlgorithm::HS256);
    let keys = [published, secret].map(|keys| keys.expect("the keys should be good"));
    (Trust::new(&provider), keys)
});

/// The data as a token, and as the parts of one: header, claims and signature, a line each.
pub(crate) fn token(data: &[u8]) {
    refused(&String::from_utf8_lossy(data));
    let parts = data.splitn(3, |byte| *byte == b'\n');
    let parts: Vec<_> = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
    refused(&parts.join("."));
    // What is read as JSON means the same to every other reader.
    if let Ok(object) = json::object(data) {
        let other = serde_json::from_slice::<Value>(data).ok();
        assert_eq!(other, Some(Value::Object(object)));
    }
    let _ = KeySet::read(data);
}

/// Nobody has signed it, so nobody believes it, whatever it says of its algorithm and its key.
fn refused(text: &str) {
    let token = match Token::parse(text) {
        Ok(token) => token,
        Err(error) => return assert!(error.reason().starts_with("Token")),
    };
    assert!(text.len() <= TOKEN_BYTES_MAX);
    let (trust, keys) = &*KEYS;
    for keys in keys {
        let verified = trust.verify(&token, keys, NOW);
        let error = verified.err().unwrap_or_else(|| panic!("believed: {text}"));
        assert!(
            error.reason().starts_with("Token"),
            "{text}: {}",
            error.reason()
        );
    }
}
