//! What a verified token says of its bearer.

use std::borrow::Cow;

use serde_json::{Map, Value};
use wsgateway_crds::value::{PathMatch, Role, TemplateValues, query_value};

/// The claims of a verified token. Only [`Trust::verify`](crate::Trust::verify) makes them.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    pub(crate) fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// A claim as a text, for subjects: a text or a whole number; of anything else there is no one form.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        text(self.0.get(name)?)
    }

    /// A claim that is a list of such texts, or one of them.
    pub fn texts(&self, name: &str) -> Option<Vec<Cow<'_, str>>> {
        match self.0.get(name)? {
            Value::Array(items) => items.iter().map(text).collect(),
            item => Some(vec![text(item)?]),
        }
    }

    /// Whether its bearer has a role.
    pub fn has_role(&self, role: &Role) -> bool {
        let (roles, name) = match role {
            Role::Realm(name) => (self.0.get("realm_access"), name),
            Role::Client { client, role } => {
                let clients = self.0.get("resource_access");
                (
                    clients.and_then(|clients| clients.as_object()?.get(client)),
                    role,
                )
            }
        };
        let roles = roles.and_then(|access| access.as_object()?.get("roles"));
        holds(roles, name)
    }

    /// Whether its bearer is in a group.
    pub fn has_group(&self, group: &str) -> bool {
        holds(self.0.get("groups"), group)
    }

    /// Whether it has a scope: RFC 8693's list in one text, parted by spaces.
    pub fn has_scope(&self, scope: &str) -> bool {
        match self.0.get("scope") {
            Some(Value::String(scopes)) => scopes.split(' ').any(|found| found == scope),
            scopes => holds(scopes, scope),
        }
    }
}

fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            Some(Cow::Owned(number.to_string()))
        }
        _ => None,
    }
}

/// Whether a list holds a text.
fn holds(list: Option<&Value>, text: &str) -> bool {
    let mut items = list.and_then(Value::as_array).into_iter().flatten();
    items.any(|item| item.as_str() == Some(text))
}

/// What a request has for the subjects of its route.
#[derive(Debug, Clone, Copy)]
pub struct RequestValues<'a> {
    /// Of its path.
    pub path: &'a PathMatch<'a>,
    /// Its query, behind the question mark.
    pub query: &'a str,
    /// Of its token, where it has one.
    pub claims: Option<&'a Claims>,
}

impl TemplateValues for RequestValues<'_> {
    fn path(&self, name: &str) -> Option<Cow<'_, str>> {
        self.path.get(name)
    }

    /// A parameter that stands twice has no value: which one was meant cannot be known.
    fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        query_value(self.query, name)
    }

    fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        self.claims?.text(name)
    }

    fn claim_list(&self, name: &str) -> Option<Vec<Cow<'_, str>>> {
        self.claims?.texts(name)
    }
}
