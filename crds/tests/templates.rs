//! No value of a claim, a path or a query, whatever it is, leads outside its token of a template.
//!
//! Random templates are rendered with random values, most of them made of what is dangerous. A failure names the seed;
//! `SEED=…` runs it again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{borrow::Cow, collections::HashMap, env};

use wsgateway_crds::value::{
    Pattern, Template, TemplateValues, ValueError, patterns_overlap, subject_matches,
};

const ROUNDS: usize = 200_000;

/// What a value may be made of: what NATS takes for more than a letter, what others may take for it, and letters.
const PIECES: &[&str] = &[
    ".",
    "*",
    ">",
    "$",
    " ",
    "\t",
    "\r\n",
    "\0",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{3000}",
    "\u{feff}",
    "\u{ff0e}",
    "\u{2024}",
    "\u{ff0a}",
    "%2E",
    "%2e",
    "%",
    "{",
    "}",
    "{claims.a}",
    "|percent",
    "_INBOX",
    "$JS",
    "$SYS",
    "a",
    "b",
    "Z",
    "0",
    "-",
    "_",
    "é",
    "日",
    "🦀",
    "\"",
    "\\",
    "/",
    "..",
    "a.b",
    "PUB x 1\r\n",
];

type Named = HashMap<String, String>;

#[derive(Default)]
struct Values {
    claims: Named,
    path: Named,
    query: Named,
}

fn of<'a>(values: &'a Named, name: &str) -> Option<Cow<'a, str>> {
    values.get(name).map(|value| Cow::Borrowed(value.as_str()))
}

impl TemplateValues for Values {
    fn path(&self, name: &str) -> Option<Cow<'_, str>> {
        of(&self.path, name)
    }

    fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        of(&self.query, name)
    }

    fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        of(&self.claims, name)
    }
}

/// A token of a template, as it was made.
enum Token {
    Literal(&'static str),
    Value {
        value: Option<String>,
        percent: bool,
        is_claim: bool,
    },
}

fn value(random: &mut fastrand::Rng) -> String {
    let pieces = match random.u8(..8) {
        0 => 0,
        1 => 140,
        _ => random.usize(1..6),
    };
    let piece = |random: &mut fastrand::Rng| match random.u8(..4) {
        0 => random.char(..).to_string(),
        1 => "a".to_owned(),
        _ => PIECES[random.usize(..PIECES.len())].to_owned(),
    };
    (0..pieces).map(|_| piece(random)).collect()
}

/// A template's text, its tokens, and values for them.
fn made(random: &mut fastrand::Rng) -> (String, Vec<Token>, Values) {
    let mut values = Values::default();
    let mut tokens = vec![Token::Literal("first")];
    let mut texts = vec!["first".to_owned()];
    for index in 0..random.usize(1..5) {
        if random.bool() {
            let literal = ["x", "*", "y-z"][random.usize(..3)];
            tokens.push(Token::Literal(literal));
            texts.push(literal.to_owned());
            continue;
        }
        let name = format!("n{index}");
        let value = random.u8(..10).ne(&0).then(|| value(random));
        let (source, named) = match random.u8(..3) {
            0 => ("claims", &mut values.claims),
            1 => ("path", &mut values.path),
            _ => ("query", &mut values.query),
        };
        if let Some(value) = &value {
            named.insert(name.clone(), value.clone());
        }
        let percent = random.bool();
        texts.push(format!(
            "{{{source}.{name}{}}}",
            if percent { "|percent" } else { "" }
        ));
        let is_claim = source == "claims";
        tokens.push(Token::Value {
            value,
            percent,
            is_claim,
        });
    }
    if random.bool() {
        tokens.push(Token::Literal(">"));
        texts.push(">".to_owned());
    }
    (texts.join("."), tokens, values)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    decoded
}

#[test]
fn no_value_leads_outside_its_token() {
    let seed = env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut rendered, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let (text, tokens, values) = made(&mut random);
        let template: Template = text.parse().unwrap();
        match template.render(&values) {
            Ok(pattern) => {
                rendered += 1;
                check(
                    &pattern,
                    &tokens,
                    &format!("{text} gives {pattern:?} (SEED={seed})"),
                );
            }
            Err(error) => {
                refused += 1;
                let blamed_claim = matches!(error, ValueError::Claim(_));
                let is_to_blame = |token: &Token| match token {
                    Token::Literal(_) => false,
                    Token::Value {
                        value,
                        percent,
                        is_claim,
                    } => *is_claim == blamed_claim && !is_good(value.as_deref(), *percent),
                };
                assert!(
                    tokens.iter().any(is_to_blame),
                    "{text}: {error} (SEED={seed})"
                );
            }
        }
    }
    // Neither is a test of nothing.
    assert!(
        rendered > ROUNDS / 20 && refused > ROUNDS / 20,
        "{rendered} {refused}"
    );
}

/// What API.md lets a value be.
fn is_good(value: Option<&str>, percent: bool) -> bool {
    value.is_some_and(|value| {
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !".*>".contains(c);
        (1..=128).contains(&value.len()) && (percent || value.chars().all(is_plain))
    })
}

fn check(pattern: &Pattern, tokens: &[Token], what: &str) {
    let text = pattern.as_str();
    assert!(text.parse::<Pattern>().is_ok(), "{what}");
    assert!(
        text.bytes().all(|byte| byte > b' ' && byte != 0x7f),
        "{what}"
    );
    let found: Vec<_> = text.split('.').collect();
    assert_eq!(found.len(), tokens.len(), "{what}");
    for (found, token) in found.iter().zip(tokens) {
        match token {
            Token::Literal(literal) => assert_eq!(found, literal, "{what}"),
            Token::Value { value, percent, .. } => {
                let value = value.as_deref().unwrap();
                assert!(is_good(Some(value), *percent), "{what}");
                assert!(!found.contains(['*', '>']), "{what}");
                // It is never rewritten, so two values never become one token.
                let meant = if *percent {
                    percent_decoded(found)
                } else {
                    found.as_bytes().to_vec()
                };
                assert_eq!(meant, value.as_bytes(), "{what}");
            }
        }
    }
    // Another's token in its place means other subjects.
    let own = text.replace(['*', '>'], "w");
    assert!(subject_matches(text, &own), "{what}");
    for (index, token) in tokens.iter().enumerate() {
        if matches!(token, Token::Value { .. }) {
            let mut other: Vec<_> = text.split('.').collect();
            other[index] = "somebody-else";
            assert!(!patterns_overlap(text, &other.join(".")), "{what}");
        }
    }
}
