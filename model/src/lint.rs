//! A `WsGateway` against the CRD, as the API server would hold it: second on the path.
//!
//! The schema comes first: types, enums, patterns, limits, required and unknown fields. Then, with the schema's
//! defaults in place, the CRD's own CEL rules, so that a user reads one sentence here and there.

mod schema;
mod structure;
mod words;

use std::fmt;

use kube::core::cel::Validator;
use serde_json::Value;

use schema::SCHEMA;

/// A place in a `WsGateway` that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The field, such as `spec.routes[0].path`; empty for the object itself.
    pub path: String,
    /// What is wrong with it, in a sentence without the path.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Holds a `WsGateway` against the CRD. Empty: the API server would take it.
pub fn lint(gateway: &Value) -> Vec<Violation> {
    settled(gateway).err().unwrap_or_default()
}

/// The same, and where nothing is wrong the `WsGateway` with the schema's defaults.
pub(crate) fn settled(gateway: &Value) -> Result<Value, Vec<Violation>> {
    let mut gateway = gateway.clone();
    structure::settle(&SCHEMA.root, &mut gateway);
    let mut found = structure::check(&SCHEMA.root, &gateway);
    // As in the API server: no rule is asked about an object whose form it could not rely on.
    if !found.iter().any(|finding| finding.blocks_rules) {
        found.extend(broken_rules(&gateway));
    }
    let mut violations: Vec<_> = found
        .into_iter()
        .map(|structure::Finding { violation, .. }| Violation {
            path: one_line(&violation.path),
            message: one_line(&violation.message),
        })
        .collect();
    violations.sort();
    violations.dedup();
    if violations.is_empty() {
        Ok(gateway)
    } else {
        Err(violations)
    }
}

fn broken_rules(gateway: &Value) -> Vec<structure::Finding> {
    let Err(errors) = Validator::new().validate_compiled(&SCHEMA.rules, gateway, None) else {
        return Vec::new();
    };
    let violation = |path, message| structure::Finding {
        violation: Violation { path, message },
        blocks_rules: false,
    };
    errors
        .into_iter()
        .map(|error| violation(error.field_path, error.message))
        .collect()
}

/// The longest message: a status condition holds 32 KiB, and a person reads less.
const MESSAGE_CHARS_MAX: usize = 400;

/// A message that may repeat what a user wrote, in one line that no terminal takes for a command.
pub(crate) fn one_line(message: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut line: String = message.chars().map(shown).take(MESSAGE_CHARS_MAX).collect();
    if message.chars().nth(MESSAGE_CHARS_MAX).is_some() {
        line.push('…');
    }
    line
}
