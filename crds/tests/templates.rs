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
    PathMatch, PathTemplate, Pattern, Template, TemplateValues, ValueError, patterns_overlap,
    query_value, subject_matches,
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
    try_percent_decoded(text).unwrap()
}

/// None where an escape is broken.
fn try_percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
                is_hex.then(|| {
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                })?
            }
            byte => byte,
        });
    }
    Some(decoded)
}

fn seed() -> u64 {
    env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap())
}

#[test]
fn no_value_leads_outside_its_token() {
    let seed = seed();
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

/// What stands in a request target, as it came: any byte at all escaped, escapes that are broken or doubled, and what
/// divides a target into its parts.
fn raw(random: &mut fastrand::Rng) -> String {
    let piece = |random: &mut fastrand::Rng| match random.u8(..8) {
        0 => format!("%{:02x}", random.u8(..)),
        1 => format!("%{:02X}", b".*> \t\r\n\0/%"[random.usize(..10)]),
        2 => format!("%25{:02X}", random.u8(..)),
        3 => [
            "%", "%4", "%zz", "&", "&v=w", "=", "/", "+", ".", "*", ">", "..", ";",
        ][random.usize(..13)]
        .to_owned(),
        4 => "%C3%A9%E2%80%A8".to_owned(),
        _ => "a".to_owned(),
    };
    (0..random.usize(1..5)).map(|_| piece(random)).collect()
}

/// A request as the gateway takes it apart.
struct Request<'a> {
    path: PathMatch<'a>,
    query: &'a str,
}

impl TemplateValues for Request<'_> {
    fn path(&self, name: &str) -> Option<Cow<'_, str>> {
        self.path.get(name)
    }

    fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        query_value(self.query, name)
    }

    fn claim(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

#[test]
fn no_bytes_of_a_request_lead_outside_their_token() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut rendered, mut refused) = (0, 0);
    let route: PathTemplate = "/rooms/{v}".parse().unwrap();
    let templates = [
        "own.{path.v}.{query.v}.>",
        "own.{path.v|percent}.{query.v|percent}.>",
    ];
    let templates = templates.map(|text| text.parse::<Template>().unwrap());
    for _ in 0..ROUNDS {
        let (segment, query) = (raw(&mut random), raw(&mut random));
        let (path, query) = (format!("/rooms/{segment}"), format!("v={query}"));
        let Some(matched) = route.matches(&path) else {
            // It was more than one segment, or none.
            assert!(segment.contains('/'), "{path} (SEED={seed})");
            continue;
        };
        let request = Request {
            path: matched,
            query: &query,
        };
        // A trailing slash is no part of a segment. What stands behind `&` is no part of the value.
        let in_path = try_percent_decoded(segment.strip_suffix('/').unwrap_or(&segment));
        let in_query =
            try_percent_decoded(query.split('&').next().unwrap().split_once('=').unwrap().1);
        let names_it = |pair: &str| {
            let name = pair.split('=').next().unwrap();
            try_percent_decoded(name).as_deref() == Some(b"v")
        };
        let is_doubled = query.split('&').skip(1).any(names_it);
        for (template, percent) in templates.iter().zip([false, true]) {
            let what = format!("{path}?{query} by {template} (SEED={seed})");
            let good = |value: &Option<Vec<u8>>| {
                let text = value
                    .clone()
                    .and_then(|bytes| String::from_utf8(bytes).ok());
                is_good(text.as_deref(), percent)
            };
            let Ok(pattern) = template.render(&request) else {
                refused += 1;
                assert!(is_doubled || !good(&in_path) || !good(&in_query), "{what}");
                continue;
            };
            rendered += 1;
            assert!(!is_doubled && good(&in_path) && good(&in_query), "{what}");
            let tokens: Vec<_> = pattern.as_str().split('.').collect();
            assert!(
                matches!(tokens[..], ["own", _, _, ">"]),
                "{what}: {pattern:?}"
            );
            for (token, value) in [(tokens[1], &in_path), (tokens[2], &in_query)] {
                assert!(!token.contains(['*', '>']), "{what}: {pattern:?}");
                let meant = if percent {
                    percent_decoded(token)
                } else {
                    token.into()
                };
                assert_eq!(Some(&meant), value.as_ref(), "{what}: {pattern:?}");
            }
        }
    }
    assert!(
        rendered > ROUNDS / 20 && refused > ROUNDS / 20,
        "{rendered} {refused}"
    );
}

/// A token whose one claim is a list.
struct Listed(Vec<String>);

impl TemplateValues for Listed {
    fn path(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn query(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn claim(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn claim_list(&self, _: &str) -> Option<Vec<Cow<'_, str>>> {
        Some(
            self.0
                .iter()
                .map(|text| Cow::Borrowed(text.as_str()))
                .collect(),
        )
    }
}

#[test]
fn no_text_of_a_list_leads_outside_its_token_and_a_bad_one_refuses_all() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut rendered, mut refused) = (0, 0);
    let templates = [
        ("own.{claims.v|each}.>", false),
        ("own.{claims.v|each|percent}.>", true),
    ];
    let templates = templates.map(|(text, percent)| (text.parse::<Template>().unwrap(), percent));
    for _ in 0..ROUNDS {
        let list = Listed((0..random.usize(..4)).map(|_| value(&mut random)).collect());
        for (template, percent) in &templates {
            let what = format!("{:?} by {template} (SEED={seed})", list.0);
            let are_good = list.0.iter().all(|text| is_good(Some(text), *percent));
            let Ok(patterns) = template.render_each(&list) else {
                refused += 1;
                assert!(!are_good, "{what}");
                continue;
            };
            rendered += 1;
            assert!(are_good && patterns.len() == list.0.len(), "{what}");
            for (pattern, text) in patterns.iter().zip(&list.0) {
                let tokens: Vec<_> = pattern.as_str().split('.').collect();
                let ["own", token, ">"] = tokens[..] else {
                    panic!("{what}: {pattern:?}");
                };
                assert!(!token.contains(['*', '>']), "{what}: {pattern:?}");
                let meant = if *percent {
                    percent_decoded(token)
                } else {
                    token.into()
                };
                assert_eq!(meant, text.as_bytes(), "{what}: {pattern:?}");
            }
        }
    }
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
    let own = text.replace(['*', '>'], "w");
    assert!(subject_matches(text, &own), "{what}");
    // What the template means to NATS, with any token in the place of each value, means it too, and nothing shorter.
    let any: Vec<_> = tokens
        .iter()
        .map(|token| match token {
            Token::Literal(literal) => *literal,
            Token::Value { .. } => "*",
        })
        .collect();
    assert!(subject_matches(&any.join("."), &own), "{what}");
    // Another's token in its place means other subjects.
    for (index, token) in tokens.iter().enumerate() {
        if matches!(token, Token::Value { .. }) {
            let mut other: Vec<_> = text.split('.').collect();
            other[index] = "somebody-else";
            assert!(!patterns_overlap(text, &other.join(".")), "{what}");
        }
    }
}
