//! The annotations of an Ingress: the same intent in the words of each controller, with a report of
//! what has no word there. Fourth on the path. The dialect comes from
//! `IngressClass.spec.controller`: both controllers name their class `nginx`.

mod community;
mod f5;
mod unknown;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::exposure::{Affinity, Exposure};
use crate::value::ObjectName;

pub use unknown::without_words;

/// Whose annotations an Ingress carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// F5's NGINX Ingress Controller, `nginx.org/…`.
    F5,
    /// The community's ingress-nginx, `nginx.ingress.kubernetes.io/…`. Retired upstream in March
    /// 2026.
    Community,
}

impl Dialect {
    /// The dialect of `IngressClass.spec.controller`, none when this crate does not know the
    /// controller.
    pub fn from_controller(controller: &str) -> Option<Self> {
        match controller {
            "nginx.org/ingress-controller" => Some(Self::F5),
            "k8s.io/ingress-nginx" => Some(Self::Community),
            _ => None,
        }
    }

    /// The prefix of the annotations, which is also the dialect's name in status.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::F5 => "nginx.org",
            Self::Community => "nginx.ingress.kubernetes.io",
        }
    }

    /// Whether the controller has no more releases, which a condition says.
    pub const fn is_retired(self) -> bool {
        matches!(self, Self::Community)
    }

    /// The annotations for an Ingress in front of the Service, and what they cannot say.
    pub fn annotations(self, exposure: &Exposure, service: &ObjectName) -> Rendered {
        match self {
            Self::F5 => f5::annotations(exposure, service),
            Self::Community => community::annotations(exposure),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix())
    }
}

/// The annotations of an Ingress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rendered {
    /// By full name, such as `nginx.org/lb-method`.
    pub annotations: BTreeMap<String, String>,
    /// What the dialect cannot say, or says only roughly.
    pub not_expressed: Vec<NotExpressed>,
}

/// A [`Rendered`] on its way, which knows whose prefix to write.
struct Draft {
    dialect: Dialect,
    rendered: Rendered,
}

impl Draft {
    fn new(dialect: Dialect) -> Self {
        let rendered = Rendered {
            annotations: BTreeMap::new(),
            not_expressed: Vec::new(),
        };
        Self { dialect, rendered }
    }

    fn set(&mut self, name: &'static str, value: impl fmt::Display) {
        let name = format!("{}/{name}", self.dialect.prefix());
        self.rendered.annotations.insert(name, value.to_string());
    }

    fn report(&mut self, field: &'static str, why: impl Into<String>) {
        self.rendered
            .not_expressed
            .push(NotExpressed::new(field, why));
    }

    fn report_paths(&mut self, exposure: &Exposure) {
        self.rendered.not_expressed.extend(path_reports(exposure));
    }

    fn report_status_page(&mut self, exposure: &Exposure) {
        if exposure.status.is_some() {
            self.report(
                "exposure.status",
                "a controller shows stub_status for all its Ingresses, on a port of its own pod",
            );
        }
    }

    /// Through the Service's address the proxy sees one destination, and kube-proxy chooses the
    /// pod.
    fn report_affinity_behind_service(&mut self, exposure: &Exposure) {
        let why = match exposure.affinity {
            Affinity::None => "with upstream ServiceIP the Service chooses the pod, not least_conn",
            Affinity::ClientIp | Affinity::Cookie => {
                "with upstream ServiceIP the Service chooses the pod, for each connection anew"
            }
        };
        self.report("exposure.affinity", why);
    }
}

/// An Ingress path is a literal: what comes after the first parameter is matched by the gateway
/// alone.
fn path_reports(exposure: &Exposure) -> impl Iterator<Item = NotExpressed> {
    let paths = exposure.paths.iter().filter(|path| !path.is_literal());
    paths.map(|path| {
        let prefix = path.literal_prefix();
        let why = format!(
            "an Ingress has no parameters; everything below {prefix} reaches the gateway, which \
             matches {path} itself"
        );
        NotExpressed::new("routes.path", why)
    })
}

/// A field of the exposure that the target cannot express as it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotExpressed {
    /// The field's path below `spec`, such as `exposure.affinity`.
    pub field: &'static str,
    /// A sentence: what happens instead.
    pub why: String,
}

impl NotExpressed {
    pub(crate) fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self {
            field,
            why: why.into(),
        }
    }
}

impl fmt::Display for NotExpressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}
