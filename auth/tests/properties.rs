//! What nobody has signed is never believed, whatever its bytes: the fuzz target's checks, bounded.
//!
//! A failure names the seed; `SEED=…` runs it again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

#[path = "../../fuzz/tokens.rs"]
mod tokens;

use std::env;

use serde_json::json;
use tokens::{ISSUER, NOW, token};

const ROUNDS: usize = 100_000;

/// What headers and claims are made of.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\"alg\":\"none\"",
    "\"alg\":\"HS256\"",
    "\"alg\":\"EdDSA\"",
    "\"alg\":\"ES256\"",
    "\"kid\":\"ed\"",
    "\"kid\":\"ec\"",
    "\"crit\":[\"b64\"]",
    "\"b64\":false",
    "\"typ\":\"ID\"",
    "\"exp\":1e308",
    "\"exp\":-1",
    "\"exp\":null",
    "\"aud\":[]",
    "\"nbf\":99999999999999999999",
    "\"iss\":\"\"",
    "\\u0000",
    "\u{feff}",
    " ",
    "\n",
    ".",
    "=",
    "1e999",
    "-0",
    "null",
    "\u{0}",
    "é",
];

#[test]
fn what_nobody_signed_is_never_believed() {
    let seed = env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let claims =
        json!({"iss": ISSUER, "aud": "wsgateway", "sub": "ann", "exp": NOW.as_secs() + 60})
            .to_string();
    let headers = [
        "EdDSA\",\"kid\":\"ed",
        "ES256\",\"kid\":\"ec",
        "HS256",
        "none",
        "RS256",
    ];
    for _ in 0..ROUNDS {
        let header = format!("{{\"alg\":\"{}\"}}", headers[random.usize(..headers.len())]);
        let signature: Vec<u8> = (0..[0, 32, 64, 96][random.usize(..4)])
            .map(|_| random.u8(..))
            .collect();
        // All of it is good but the signature.
        let mut data = [
            header.as_bytes(),
            b"\n",
            claims.as_bytes(),
            b"\n",
            &signature,
        ]
        .concat();
        // And then some of it is not.
        for _ in 0..random.usize(..4) {
            let piece = PIECES[random.usize(..PIECES.len())].as_bytes();
            let at = random.usize(..=data.len());
            let gone = random.usize(..=(data.len() - at).min(8));
            data.splice(at..at + gone, piece.iter().copied());
        }
        token(&data);
    }
}
