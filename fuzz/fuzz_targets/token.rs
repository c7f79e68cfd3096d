//! Whatever claims to be a token.

#![no_main]

#[path = "../tokens.rs"]
mod tokens;

libfuzzer_sys::fuzz_target!(|data: &[u8]| tokens::token(data));
