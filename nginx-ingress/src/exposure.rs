//! What a proxy needs to know of a `WsGateway`, and nothing else: second on the path. The model
//! crate fills [`ExposureSettings`] from `spec.exposure` and the routes; [`Exposure::new`] checks
//! the rules between the fields, so that every renderer after it is infallible.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::value::{Cidr, HostName, LocationPath, NginxDuration, NginxSize, ObjectName};

/// How long a proxy tries to connect to a worker: a draining worker refuses at once, and a pod that
/// vanished must leave time for another within the gateway's `handshakeTimeout` of 10 s.
pub const PROXY_CONNECT_TIMEOUT: NginxDuration = NginxDuration::from_secs(3);

/// The fields of an exposure, each valid in itself. Defaults are the seed's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExposureSettings {
    /// The host names that clients ask for; none means any host.
    #[serde(default)]
    pub hosts: Vec<HostName>,
    /// The paths of the routes. Two that differ in the names of parameters alone are the same to a
    /// proxy.
    pub paths: Vec<LocationPath>,
    /// The proxy ends a connection over which nothing came from the worker for so long. Default 90
    /// s; the model holds it above `pongWait`.
    #[serde(default = "ninety_seconds")]
    pub proxy_read_timeout: NginxDuration,
    /// The proxy ends a connection whose worker took nothing for so long. Default 90 s.
    #[serde(default = "ninety_seconds")]
    pub proxy_send_timeout: NginxDuration,
    /// Whether responses are buffered. Default `Disabled`. It has no effect after a 101.
    #[serde(default)]
    pub proxy_buffering: Buffering,
    /// The largest request body, 0 for any. Default 0. It does not limit messages.
    #[serde(default = "unlimited")]
    pub body_size: NginxSize,
    /// A request body up to this size stays in memory. Default 128 KiB.
    #[serde(default = "client_body_buffer")]
    pub client_body_buffer_size: NginxSize,
    /// What brings a client back to its worker. Default `ClientIP`.
    #[serde(default)]
    pub affinity: Affinity,
    /// What the proxy connects to. Default `Endpoints`.
    #[serde(default)]
    pub upstream: UpstreamMode,
    /// Where the proxy shows its connection counts; absent means nowhere.
    #[serde(default)]
    pub status: Option<StatusPage>,
    /// Where the certificate is; absent means that the proxy speaks plain HTTP alone. The
    /// standalone configuration takes files instead, in [`crate::conf::Listeners`].
    #[serde(default)]
    pub tls_secret: Option<ObjectName>,
}

fn ninety_seconds() -> NginxDuration {
    NginxDuration::from_secs(90)
}

fn unlimited() -> NginxSize {
    NginxSize::from_kib(0)
}

fn client_body_buffer() -> NginxSize {
    NginxSize::from_kib(128)
}

impl ExposureSettings {
    /// The seed's defaults for these paths.
    pub fn for_paths(paths: Vec<LocationPath>) -> Self {
        Self {
            hosts: Vec::new(),
            paths,
            proxy_read_timeout: ninety_seconds(),
            proxy_send_timeout: ninety_seconds(),
            proxy_buffering: Buffering::default(),
            body_size: unlimited(),
            client_body_buffer_size: client_body_buffer(),
            affinity: Affinity::default(),
            upstream: UpstreamMode::default(),
            status: None,
            tls_secret: None,
        }
    }
}

/// Whether the proxy collects a response before it passes it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Buffering {
    /// It does.
    Enabled,
    /// Each piece is passed on as it comes.
    #[default]
    Disabled,
}

/// What brings a client back to the worker that it had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Affinity {
    /// Its address. nginx's `ip_hash` keys the first three octets of an IPv4 address, so a NAT or a
    /// /24 is one client.
    #[default]
    #[serde(rename = "ClientIP")]
    ClientIp,
    /// Nothing: the worker with the fewest connections gets the next client.
    None,
    /// A cookie that the proxy sets.
    Cookie,
}

/// What the proxy connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum UpstreamMode {
    /// Each pod. Controllers reload nginx when pods come and go.
    #[default]
    Endpoints,
    /// The Service's address: no reload, but no affinity by address either, and some 28,000
    /// connections in all for each nginx, since every one takes a local port towards the same
    /// destination.
    #[serde(rename = "ServiceIP")]
    ServiceIp,
}

/// Where `stub_status` is shown, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusPage {
    /// A path without parameters that no route matches.
    pub path: LocationPath,
    /// Who may read it; everyone else gets 403. Empty means nobody.
    pub allow: Vec<Cidr>,
}

/// An [`ExposureSettings`] whose fields agree with each other. Read-only: it derefs to the
/// settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ExposureSettings", into = "ExposureSettings")]
pub struct Exposure(ExposureSettings);

/// A rule between the fields of an exposure that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExposureError {
    /// A proxy without a path has nothing to pass on.
    #[error("paths must name at least one route")]
    NoPath,
    /// nginx would refuse or shadow the second.
    #[error("the paths {first} and {second} match the same requests")]
    AmbiguousPaths {
        /// The path that came first.
        first: LocationPath,
        /// The one that it would hide.
        second: LocationPath,
    },
    /// The status page is one page.
    #[error("status.path {0} must have no parameters")]
    StatusPathHasParameters(LocationPath),
    /// The status page would hide the route.
    #[error("status.path {status} is also matched by the route {route}")]
    StatusPathIsRoute {
        /// The path of the status page.
        status: LocationPath,
        /// The route that it would hide.
        route: LocationPath,
    },
    /// It is there for requests with a body; 0 bytes cannot hold any.
    #[error("clientBodyBufferSize must be more than 0")]
    NoBodyBuffer,
}

impl ExposureError {
    /// A stable word for status, events and metric labels.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoPath => "NoPath",
            Self::AmbiguousPaths { .. } => "AmbiguousPaths",
            Self::StatusPathHasParameters(_) => "StatusPathHasParameters",
            Self::StatusPathIsRoute { .. } => "StatusPathIsRoute",
            Self::NoBodyBuffer => "NoBodyBuffer",
        }
    }
}

impl Exposure {
    /// Checks the rules between the fields.
    ///
    /// Two paths may overlap as long as they have different shapes: `/rooms/lobby` beside
    /// `/rooms/{room}` is well, since a literal goes first everywhere. `/rooms/{a}` beside
    /// `/rooms/{b}` is refused.
    pub fn new(settings: ExposureSettings) -> Result<Self, ExposureError> {
        if settings.paths.is_empty() {
            return Err(ExposureError::NoPath);
        }
        if settings.client_body_buffer_size.as_bytes() == 0 {
            return Err(ExposureError::NoBodyBuffer);
        }
        for (index, second) in settings.paths.iter().enumerate() {
            let earlier = settings.paths.iter().take(index);
            if let Some(first) = earlier
                .into_iter()
                .find(|first| first.is_ambiguous_with(second))
            {
                let (first, second) = (first.clone(), second.clone());
                return Err(ExposureError::AmbiguousPaths { first, second });
            }
        }
        if let Some(status) = &settings.status {
            if !status.path.is_literal() {
                return Err(ExposureError::StatusPathHasParameters(status.path.clone()));
            }
            if let Some(route) = settings
                .paths
                .iter()
                .find(|route| route.overlaps(&status.path))
            {
                return Err(ExposureError::StatusPathIsRoute {
                    status: status.path.clone(),
                    route: route.clone(),
                });
            }
        }
        Ok(Self(settings))
    }
}

impl Deref for Exposure {
    type Target = ExposureSettings;

    fn deref(&self) -> &ExposureSettings {
        &self.0
    }
}

impl TryFrom<ExposureSettings> for Exposure {
    type Error = ExposureError;

    fn try_from(settings: ExposureSettings) -> Result<Self, ExposureError> {
        Self::new(settings)
    }
}

impl From<Exposure> for ExposureSettings {
    fn from(exposure: Exposure) -> Self {
        exposure.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_contradict_each_other_are_refused_with_a_sentence_that_names_them() {
        let check = |paths: &[&str], status: Option<&str>, expected: Result<(), &str>| {
            let path = |text: &&str| LocationPath::new(text).unwrap();
            let mut settings = ExposureSettings::for_paths(paths.iter().map(path).collect());
            let allow = Vec::new();
            settings.status = status
                .as_ref()
                .map(path)
                .map(|path| StatusPage { path, allow });
            let got = Exposure::new(settings)
                .map(drop)
                .map_err(|error| error.to_string());
            assert_eq!(got, expected.map_err(str::to_owned));
        };
        check(&["/ws"], Some("/status"), Ok(()));
        check(&["/rooms/lobby", "/rooms/{room}"], None, Ok(()));
        check(&[], None, Err("paths must name at least one route"));
        check(
            &["/ws", "/ws/"],
            None,
            Err("the paths /ws and /ws match the same requests"),
        );
        check(
            &["/x/{a}", "/x/{b}"],
            None,
            Err("the paths /x/{a} and /x/{b} match the same requests"),
        );
        check(
            &["/ws"],
            Some("/{s}"),
            Err("status.path /{s} must have no parameters"),
        );
        check(
            &["/{any}"],
            Some("/status"),
            Err("status.path /status is also matched by the route /{any}"),
        );
    }

    #[test]
    fn an_empty_body_buffer_is_refused() {
        let mut settings = ExposureSettings::for_paths(vec![LocationPath::new("/ws").unwrap()]);
        settings.client_body_buffer_size = NginxSize::from_kib(0);
        assert_eq!(Exposure::new(settings), Err(ExposureError::NoBodyBuffer));
    }
}
