//! Names: of hosts and of Kubernetes objects.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Expected, ValueError, spelled};

spelled!(HostName, ObjectName);

/// A host that clients ask for: a lower-case DNS name, whose first label may be `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// RFC 1035, section 2.3.4: the longest name and the longest label.
const HOST_NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

impl HostName {
    /// Takes `ws.example.com` and `*.example.com`; neither Ingress nor Gateway API take an IP
    /// address.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        let refuse = |why| Err(ValueError::new(Expected::HostName, value, why));
        if value.len() > HOST_NAME_BYTES_MAX {
            return refuse("it is longer than 253 bytes");
        }
        if value.parse::<IpAddr>().is_ok() {
            return refuse("it is an IP address");
        }
        let name = value.strip_prefix("*.").unwrap_or(value);
        if !name.split('.').all(is_label) {
            return refuse(
                "each label must be 1 to 63 of a-z, 0-9 and -, with no - at either end; \
                 only the first label may be *",
            );
        }
        Ok(Self(value.to_owned()))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn spelling(&self) -> String {
        self.0.clone()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The name of a Service, Secret, Gateway or route: a DNS-1123 subdomain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

impl ObjectName {
    /// Takes `notifications` and `notifications-tls`.
    pub fn new(value: &str) -> Result<Self, ValueError> {
        if value.len() > HOST_NAME_BYTES_MAX || !value.split('.').all(is_label) {
            return Err(ValueError::new(
                Expected::ObjectName,
                value,
                "it must be a DNS-1123 subdomain",
            ));
        }
        Ok(Self(value.to_owned()))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn spelling(&self) -> String {
        self.0.clone()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
