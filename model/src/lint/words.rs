//! The words of messages: what a value is, what a pattern asks for, which field may have been meant.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSON;
use serde_json::Value;
use wsgateway_crds::value::{Duration, PathTemplate, Pattern, Size, Subject, Template};

/// How much of a user's text a message repeats.
const EXCERPT_CHARS_MAX: usize = 60;

pub(super) fn plural(count: i64, noun: &str) -> String {
    if count == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}

pub(super) fn listed(words: &[JSON]) -> String {
    let words: Vec<_> = words.iter().filter_map(|value| value.0.as_str()).collect();
    words.join(", ")
}

pub(super) fn described(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(bool) => format!("the boolean {bool}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text `{}`", excerpt(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map of fields".to_owned(),
    }
}

/// The beginning of a user's text.
pub(super) fn excerpt(text: &str) -> String {
    let excerpt: String = text.chars().take(EXCERPT_CHARS_MAX).collect();
    let more = text.chars().nth(EXCERPT_CHARS_MAX).map_or("", |_| "…");
    excerpt + more
}

/// Why a text does not match, in the words of the type that will parse it where there is one.
pub(super) fn explained(pattern: &str, text: &str) -> String {
    let error = match pattern {
        Duration::PATTERN => text.parse::<Duration>().err().map(|e| e.to_string()),
        Size::PATTERN => text.parse::<Size>().err().map(|e| e.to_string()),
        PathTemplate::PATTERN => text.parse::<PathTemplate>().err().map(|e| e.to_string()),
        Template::PATTERN => text.parse::<Template>().err().map(|e| e.to_string()),
        Pattern::PATTERN => text.parse::<Pattern>().err().map(|e| e.to_string()),
        Subject::PATTERN => text.parse::<Subject>().err().map(|e| e.to_string()),
        _ => None,
    };
    error.unwrap_or_else(|| {
        let meaning = wsgateway_crds::v1alpha1::pattern_meaning(pattern);
        let meaning = meaning.map_or_else(|| format!("must match {pattern}"), str::to_owned);
        // What stands before an @ may be a password.
        if text.contains('@') {
            meaning
        } else {
            format!("{meaning}, but is `{}`", excerpt(text))
        }
    })
}

/// `; did you mean X?` for the nearest of the known words, where one is near.
pub(super) fn near<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let lower = word.to_lowercase();
    known
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(4))
        .min()
        .map_or_else(String::new, |(_, candidate)| {
            format!("; did you mean {candidate}?")
        })
}

/// Levenshtein's distance. Names of fields are short.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((b, diagonal), above) in right.iter().zip(&row).zip(row.iter().skip(1)) {
            let beside = next.last().copied().unwrap_or_default();
            next.push(
                (diagonal + usize::from(a != *b))
                    .min(above + 1)
                    .min(beside + 1),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
