//! Nothing that a user writes breaks out of the configuration: a constructor refuses it, or what is
//! written is one word that nginx reads as the value itself.

// A test fails by panicking; clippy.toml exempts the tests, not what they call.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fmt::Display;
use std::path::Path;

use wsgateway_nginx_ingress::conf::{self, Standalone};
use wsgateway_nginx_ingress::value::{
    Cidr, FilePath, HostName, ListenAddress, LocationPath, NginxDuration, NginxSize, ObjectName,
    UpstreamAddress,
};

const HOSTILE: &[&str] = &[
    "",
    " ",
    ";",
    "{",
    "}",
    "\"",
    "'",
    "\\",
    "#",
    "$",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u{7f}",
    "\u{2028}",
    "пример.рф",
    "a;b",
    "a b",
    "a\nb",
    "a\"b",
    "a{b}c",
    "$host",
    "${host}",
    "/a;return 200;",
    "/a\" { return 200; } location \"/b",
    "/a' { return 200; } location '/b",
    "/a\\",
    "/a\\\"",
    "/a\\\\\"",
    "/$uri",
    "/a#b",
    "/a%3Bb",
    "/a b",
    "/a\n/b",
    "/..",
    "/a/../b",
    "/a//b",
    "//",
    "/{}",
    "/{a b}",
    "/{a};",
    "/{a}{b}",
    "/x{a}",
    "/{a:.*}",
    "/(?<x>.*)",
    "/a|b",
    "/[a-z]",
    "/^a$",
    "~ /",
    "= /",
    "ws.example.com; return 200",
    "~^(.*)$",
    ".example.com",
    "*.*.example.com",
    "ws.*.com",
    "-a.com",
    "a-.com",
    "a..b",
    "WS.example.com",
    "1.2.3.4",
    "::1",
    "1.2.3.4:80; }",
    "unix:/tmp/sock",
    "host:0",
    "host:65536",
    "host:+80",
    "host:80 backup",
    "*.host:80",
    "1.2.3.4:0",
    "[::1%1]:80",
    "[fe80::1%eth0]:80",
    "10.0.0.0/33",
    "10.0.0.1/8",
    "10.0.0.0/+8",
    "10.0.0.0/8; allow all",
    "::/129",
    "all",
    "unix:",
    "-1",
    "+1",
    "1e3",
    "1.5k",
    "1kk",
    "1 k",
    "k",
    "99999999999999999999",
    "9999999999g",
    "0s",
    "90",
    "90 s",
    "-90s",
    "90s;",
    "1d",
    "99999h99999h99999h99999h",
    "1s1s1s1s1s",
    "123456s",
];

#[test]
fn hostile_text_is_refused_or_written_as_one_word_of_its_own_value() {
    for text in HOSTILE
        .iter()
        .map(ToString::to_string)
        .chain(random_texts())
    {
        let text = text.as_str();
        stays_one_word(text, HostName::new(text), |value| value.as_str() == text);
        stays_one_word(text, ObjectName::new(text), |value| value.as_str() == text);
        stays_one_word(text, NginxDuration::new(text), |_| true);
        stays_one_word(text, NginxSize::new(text), |value| {
            NginxSize::new(&value.to_string()) == Ok(*value)
        });
        stays_one_word(text, Cidr::new(text), |value| {
            Cidr::new(&value.to_string()) == Ok(*value)
        });
        stays_one_word(text, UpstreamAddress::new(text), |value| {
            value.to_string() == text
        });
        stays_one_word(text, ListenAddress::new(text), |value| {
            value.to_string() == text
        });
        if let Ok(path) = FilePath::new(text) {
            assert_eq!(path.as_path(), Path::new(text));
            assert_eq!(words(&path.to_string()), [text], "{text:?}");
        }
        if let Ok(path) = LocationPath::new(text) {
            assert_eq!(
                LocationPath::new(&path.spelling()),
                Ok(path.clone()),
                "{text:?}"
            );
            let fit = |c: char| c.is_ascii_alphanumeric() || "-._~@:+,=!&*()/{}".contains(c);
            assert!(path.spelling().chars().all(fit), "{text:?}");
        }
    }
}

/// Only these of the table are values at all; the list keeps a lax constructor from passing unseen.
#[test]
fn of_the_hostile_texts_only_these_are_accepted() {
    let accepted = |constructor: &dyn Fn(&str) -> bool| -> Vec<&str> {
        HOSTILE
            .iter()
            .copied()
            .filter(|text| constructor(text))
            .collect()
    };
    let none: [&str; 0] = [];
    let labels = [
        "all",
        "1e3",
        "1.5k",
        "1kk",
        "k",
        "99999999999999999999",
        "9999999999g",
        "0s",
    ]
    .into_iter()
    .chain([
        "90",
        "1d",
        "99999h99999h99999h99999h",
        "1s1s1s1s1s",
        "123456s",
    ]);
    assert_eq!(
        accepted(&|t| HostName::new(t).is_ok()),
        labels.collect::<Vec<_>>()
    );
    assert_eq!(accepted(&|t| LocationPath::new(t).is_ok()), none);
    assert_eq!(accepted(&|t| NginxDuration::new(t).is_ok()), none);
    assert_eq!(accepted(&|t| NginxSize::new(t).is_ok()), ["90"]);
    assert_eq!(accepted(&|t| Cidr::new(t).is_ok()), ["1.2.3.4", "::1"]);
    assert_eq!(accepted(&|t| UpstreamAddress::new(t).is_ok()), none);
    assert_eq!(accepted(&|t| ListenAddress::new(t).is_ok()), none);
}

#[test]
fn a_configuration_with_awkward_values_has_the_same_words_as_one_with_plain_values() {
    let awkward = "/tmp/a b;{}'\"\\#\\\\n~|(é)";
    let shape = |file: &str| {
        let document = serde_json::json!({
            "exposure": {"paths": ["/(a)*!&=+,:@~", "/{x}/b.c*(d)"], "hosts": ["*.a-b.example"]},
            "listeners": {
                "http": ["127.0.0.1:8080"],
                "https": {"listen": ["127.0.0.1:8443"], "certificate": file, "key": file},
            },
            "workers": ["w-1.example:1", "[::1]:2"],
            "capacity": {"workerProcesses": 1, "workerConnections": 9, "workerRlimitNofile": 9},
            "directory": file,
            "errorLog": {"file": file},
            "accessLog": file,
        });
        let standalone: Standalone = serde_json::from_value(document).unwrap();
        words(&conf::render(&standalone))
            .into_iter()
            .map(|word| word.replace(file, "FILE"))
            .collect::<Vec<_>>()
    };
    assert_eq!(shape(awkward), shape("/elsewhere"));
}

fn stays_one_word<T: Display, E>(text: &str, made: Result<T, E>, same: impl Fn(&T) -> bool) {
    let Ok(value) = made else { return };
    let written = value.to_string();
    assert!(same(&value), "{text:?} became {written:?}");
    assert_eq!(
        words(&written),
        [written.as_str()],
        "{text:?} became {written:?}"
    );
    assert!(
        !written.contains(['$', '"', '\'', '\\', '#']),
        "{text:?} became {written:?}"
    );
}

/// The words of a configuration as nginx's `ngx_conf_read_token` takes them, with `;`, `{` and `}`
/// as words.
fn words(conf: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = conf.chars().peekable();
    while let Some(first) = chars.next() {
        match first {
            c if c.is_ascii_whitespace() => {}
            ';' | '{' | '}' => words.push(first.to_string()),
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' | '\'' => {
                let mut word = String::new();
                loop {
                    match chars.next().expect("a quoted word should end") {
                        '\\' => match chars.next().expect("an escape should end") {
                            c @ ('"' | '\'' | '\\') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c if c == first => break,
                        c => word.push(c),
                    }
                }
                let after = chars.peek().copied();
                let apart = after.is_none_or(|c| c.is_ascii_whitespace() || ";{)".contains(c));
                assert!(apart, "nginx refuses {after:?} after a quoted word");
                words.push(word);
            }
            c => {
                let mut word = String::from(c);
                while let Some(c) =
                    chars.next_if(|c| !c.is_ascii_whitespace() && !";{".contains(*c))
                {
                    word.push(c);
                }
                words.push(word);
            }
        }
    }
    words
}

/// The same texts in each run, from characters that mean something to nginx, a URL or a YAML file.
fn random_texts() -> impl Iterator<Item = String> {
    const ALPHABET: &[u8] = b"/;{}\"'\\$# \n\t\0.:*%~^()[]|-_=,@+!&<>?azA019smhkg";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    (0..20_000).map(move |round| {
        let prefix = if round % 2 == 0 { "/" } else { "" };
        let length = next(12);
        let rest: String = (0..length)
            .map(|_| char::from(ALPHABET[next(ALPHABET.len())]))
            .collect();
        format!("{prefix}{rest}")
    })
}
