//! Whether a token allows what a route asks for.

use std::fmt;

use wsgateway_crds::config::Authorization;

use crate::claims::Claims;

/// What a token lacks. The client is told, since it is no secret: the manifest of a route is no part of its defence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// None of the route's roles.
    Role,
    /// None of the route's groups.
    Group,
    /// Not all of the route's scopes: these.
    Scope(Vec<String>),
}

impl Denial {
    /// A stable name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Role => "MissingRole",
            Self::Group => "MissingGroup",
            Self::Scope(_) => "MissingScope",
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role => f.write_str("the token has none of the roles that this path asks for"),
            Self::Group => f.write_str("the token has none of the groups that this path asks for"),
            Self::Scope(scopes) => write!(f, "the token lacks the scope {}", scopes.join(" ")),
        }
    }
}

impl std::error::Error for Denial {}

/// Holds claims against what a route asks for: one of its roles, one of its groups, and all of its scopes.
///
/// # Errors
/// When something is missing: the first of these.
pub fn judge(asked: &Authorization, claims: &Claims) -> Result<(), Denial> {
    let Authorization {
        access: _,
        any_role,
        groups,
        scopes,
    } = asked;
    if !any_role.is_empty() && !any_role.iter().any(|role| claims.has_role(role)) {
        return Err(Denial::Role);
    }
    if !groups.is_empty() && !groups.iter().any(|group| claims.has_group(group)) {
        return Err(Denial::Group);
    }
    let missing = scopes.iter().filter(|scope| !claims.has_scope(scope));
    let missing: Vec<_> = missing.cloned().collect();
    if !missing.is_empty() {
        return Err(Denial::Scope(missing));
    }
    Ok(())
}
