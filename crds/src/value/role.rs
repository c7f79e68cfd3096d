//! Roles as a route names them: `realm:viewer`, `client:shop:reader`.

use std::{fmt, str::FromStr};

/// The longest role, in bytes.
const ROLE_BYTES_MAX: usize = 256;

/// A role of Keycloak: one of the realm, or one that a client of the realm defines.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Role {
    /// `realm:NAME`: in the claim `realm_access.roles`.
    Realm(String),
    /// `client:CLIENT:NAME`: in the claim `resource_access.CLIENT.roles`. The client's id holds no colon; the role's
    /// name may.
    Client {
        /// The client's id.
        client: String,
        /// The role's name.
        role: String,
    },
}

/// Why a text is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role: write realm:NAME or client:CLIENT:NAME")]
pub struct RoleError(String);

impl Role {
    /// The pattern that the API server checks.
    pub const PATTERN: &'static str = r"^(realm:[^\s]+|client:[^\s:]+:[^\s]+)$";
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let error = || RoleError(text.chars().take(80).collect());
        let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_whitespace);
        if text.len() > ROLE_BYTES_MAX {
            return Err(error());
        }
        match text.split_once(':') {
            Some(("realm", name)) if is_name(name) => Ok(Self::Realm(name.to_owned())),
            Some(("client", rest)) => match rest.split_once(':') {
                Some((client, role)) if is_name(client) && is_name(role) => Ok(Self::Client {
                    client: client.to_owned(),
                    role: role.to_owned(),
                }),
                _ => Err(error()),
            },
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Realm(name) => write!(f, "realm:{name}"),
            Self::Client { client, role } => write!(f, "client:{client}:{role}"),
        }
    }
}

super::serde_as_string!(Role);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_and_written() {
        for text in [
            "realm:viewer",
            "realm:a:b",
            "client:shop:reader",
            "client:shop:orders:read",
        ] {
            assert_eq!(text.parse::<Role>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "viewer",
            "realm:",
            "realm:a b",
            "client:shop",
            "client::a",
            "client:a:",
            "group:a",
        ] {
            assert!(text.parse::<Role>().is_err(), "{text:?}");
        }
    }
}
