//! The request before it is a WebSocket: route, form, origin, subprotocol, subjects, limits; then 101.
//!
//! Refusals are ordered from cheap to costly, and each says what was wrong in a line of text.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::Engine;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    header::{self, HeaderName, HeaderValue},
};
use hyper_tungstenite::tungstenite::handshake::derive_accept_key;
use wsgateway_auth::{RequestValues, judge};
use wsgateway_crds::{
    config::FromClient,
    report::{PROBE_SUBPROTOCOL, REASON_HEADER},
    value::{Pattern, ValueError},
};

use crate::{
    admission::{AdmissionRefusal, Admissions, Arrival, Places},
    auth::{AuthRefusal, Identity, Terms},
    config::{LiveConfig, Route},
    deflate::{Agreement, Window, offer::negotiate},
    exchange::QueueState,
    logout::{Login, Logouts},
    page::{PAGE_BYTES_MAX, Page},
    probe::Allowance,
};

/// The subprotocol of plain mode. No offer means the same.
const PLAIN: &str = "wsgateway.plain";

/// The patterns of one client at most, where lists of its token make some: each is compared with each.
const PATTERNS_MAX: usize = 256;

/// How soon a client that was refused for want of something may come back, in seconds.
const RETRY_AFTER_SECS: u64 = 2;

/// How many connections are open in the whole process, and whether more may come.
#[derive(Debug, Default)]
pub struct Gate {
    open: AtomicUsize,
    draining: AtomicBool,
    /// Probes have no place among the connections.
    probes: Allowance,
    /// Handshakes, and the connections of each address and user.
    pub admissions: Admissions,
}

/// A place among the open connections, given back when dropped.
#[derive(Debug)]
pub struct Permit(Arc<Gate>);

impl Gate {
    /// A place, where fewer than `max` are taken.
    pub fn enter(self: &Arc<Self>, max: usize) -> Option<Permit> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Permit(self.clone()))
    }

    /// The places taken.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether the process drains.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The process drains from now on.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request that was let in becomes.
#[derive(Debug)]
pub enum Entry {
    /// A client's connection.
    Connection(Box<Accepted>),
    /// The operator's question whether clients come in.
    Probe,
}

/// A client's connection to be.
#[derive(Debug)]
pub struct Accepted {
    /// Its route.
    pub route: Arc<Route>,
    /// The page that it comes from, where it is a browser's.
    pub page: Option<Page>,
    /// The patterns of the route's subjects, in order.
    pub patterns: Vec<Arc<str>>,
    /// Which subject of the route each of them is of.
    pub subjects: Vec<u16>,
    /// What it publishes to, where that depends on the request.
    pub publish: Option<Arc<str>>,
    /// What its messages are compressed with, where that was agreed on.
    pub window: Option<Window>,
    /// What it is held to by its token, where it has one.
    pub terms: Option<Terms>,
    /// Its place.
    pub permit: Permit,
    /// Its places among those of its address and its user.
    pub places: Places,
}

/// What the checks need to know beside the request.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    /// The configuration.
    pub live: &'a LiveConfig,
    /// The open connections.
    pub gate: &'a Arc<Gate>,
    /// Open connections at most: the configuration's number, or what the descriptors allow.
    pub connections_max: usize,
    /// Whether NATS is there.
    pub nats_connected: bool,
    /// The time since the process began.
    pub age: Duration,
    /// The sessions that were ended.
    pub logouts: &'a Logouts,
}

/// Why a request does not become a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 404.
    #[error("no route has the path {0}")]
    UnknownPath(String),
    /// 405.
    #[error("a WebSocket begins with GET")]
    Method,
    /// 426: a plain HTTP request.
    #[error(
        "this is a WebSocket endpoint: the request needs `Upgrade: websocket` and `Connection: Upgrade`"
    )]
    NotUpgrade,
    /// 426: another version of the protocol.
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
    /// 400: a header that must stand once, in a certain form.
    #[error("{0}")]
    Malformed(&'static str),
    /// 400: none of the offered subprotocols is known.
    #[error("none of the offered subprotocols is supported: offer wsgateway.plain, or none")]
    UnsupportedSubprotocol,
    /// 403.
    #[error("origin {0} is not allowed")]
    Origin(String),
    /// 400, 401, 403 or 503: whose request it is, or what that allows.
    #[error(transparent)]
    Auth(#[from] AuthRefusal),
    /// 400 or 403: a value that cannot be part of a subject.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// 503.
    #[error("all {0} connections are taken")]
    TooManyConnections(usize),
    /// 503.
    #[error("NATS is not connected")]
    NatsUnavailable,
    /// 503.
    #[error("the route's queue cannot be served: {0:?}")]
    QueueUnavailable(QueueState),
    /// 429: there are enough of its kind.
    #[error(transparent)]
    Admission(#[from] AdmissionRefusal),
    /// 429.
    #[error("too many probes; come back in {} ms", .0.as_millis())]
    TooManyProbes(Duration),
}

impl Refusal {
    /// A stable name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::UnknownPath(_) => "UnknownPath",
            Self::Method => "Method",
            Self::NotUpgrade => "NotUpgrade",
            Self::Version => "UnsupportedVersion",
            Self::Malformed(_) => "Malformed",
            Self::UnsupportedSubprotocol => "UnsupportedSubprotocol",
            Self::Origin(_) => "Origin",
            Self::Auth(refusal) => refusal.reason(),
            Self::Value(ValueError::Request(_)) => "InvalidValue",
            Self::Value(ValueError::Claim(_) | ValueError::TooMany(_)) => "InvalidClaim",
            Self::TooManyConnections(_) => "TooManyConnections",
            Self::NatsUnavailable => "NatsUnavailable",
            Self::QueueUnavailable(_) => "QueueUnavailable",
            Self::Admission(refusal) => refusal.reason(),
            Self::TooManyProbes(_) => "TooManyProbes",
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::UnknownPath(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Malformed(_)
            | Self::UnsupportedSubprotocol
            | Self::Value(ValueError::Request(_)) => StatusCode::BAD_REQUEST,
            Self::Origin(_) | Self::Value(ValueError::Claim(_) | ValueError::TooMany(_)) => {
                StatusCode::FORBIDDEN
            }
            Self::Auth(refusal) => refusal.status(),
            Self::TooManyConnections(_) | Self::NatsUnavailable | Self::QueueUnavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Admission(_) | Self::TooManyProbes(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// The answer.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(format!("{self}\n"))));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(
            HeaderName::from_static(REASON_HEADER),
            HeaderValue::from_static(self.reason()),
        );
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        match self {
            Self::Method => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
            }
            Self::NotUpgrade | Self::Version => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(
                    header::CONNECTION,
                    HeaderValue::from_static("upgrade, close"),
                );
                headers.insert(
                    header::SEC_WEBSOCKET_VERSION,
                    HeaderValue::from_static("13"),
                );
            }
            Self::TooManyProbes(wait) => {
                let secs = wait.as_millis().div_ceil(1_000);
                let secs = u64::try_from(secs).unwrap_or(u64::MAX);
                headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
            }
            Self::Admission(refusal) => {
                let seconds = refusal.retry_after_secs();
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Self::Auth(refusal) => refusal.extend(headers),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS));
            }
            _ => {}
        }
        response
    }
}

/// Checks a request. Comes with the answer: 101 where it is let in. It waits only where the token names a key that
/// is not known.
///
/// # Errors
/// When it is not let in.
pub async fn accept<B>(
    request: &Request<B>,
    arrival: Arrival,
    conditions: Conditions<'_>,
) -> Result<(Entry, Response<Full<Bytes>>), Refusal> {
    let path = request.uri().path();
    let matched = |route: &&Arc<Route>| route.path.matches(path).is_some();
    let route = conditions.live.routes.iter().find(matched);
    let route = route.ok_or_else(|| Refusal::UnknownPath(path.chars().take(100).collect()))?;
    if request.method() != Method::GET {
        return Err(Refusal::Method);
    }
    let headers = request.headers();
    let accept_key = check_form(request.version(), headers)?;
    if tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|offer| offer == PROBE_SUBPROTOCOL) {
        let allowed = conditions.gate.probes.take(conditions.age);
        allowed.map_err(Refusal::TooManyProbes)?;
        let response = switching_protocols(&accept_key, Some(PROBE_SUBPROTOCOL), None)?;
        return Ok((Entry::Probe, response));
    }
    let (limits, admissions) = (&conditions.live.admission, &conditions.gate.admissions);
    let mut places = arrival.admit(headers, admissions, conditions.live, conditions.age)?;
    let subprotocol = choose_subprotocol(headers)?;
    let compression = agree_on_compression(headers, route)?;
    let page = check_origin(headers, conditions.live)?;
    check_sources(route, conditions.nats_connected)?;
    let full = Refusal::TooManyConnections(conditions.connections_max);
    if conditions.gate.open() >= conditions.connections_max {
        return Err(full);
    }
    // What is refused cheaply takes nothing of what the others share.
    admissions.admit_handshake(limits, conditions.age)?;
    let query = request.uri().query().unwrap_or_default();
    let mut identity = match &conditions.live.auth {
        Some(auth) => auth.authorize(&route.authorization, headers, query).await?,
        None => None,
    };
    if let Some(identity) = &mut identity {
        let logouts = conditions.logouts;
        let is_over = |login: Login| logouts.covers(&login);
        if identity.terms.login.is_some_and(is_over) {
            return Err(AuthRefusal::LoggedOut.into());
        }
        admissions.admit_user(limits, || user(identity), &mut places)?;
        identity.terms.may_publish = judge(&route.publish_authorization, &identity.claims).is_ok();
    }
    let (patterns, subjects, publish) = subjects(route, path, query, identity.as_ref())?;
    let permit = conditions
        .gate
        .enter(conditions.connections_max)
        .ok_or(full)?;
    let response = switching_protocols(&accept_key, subprotocol, compression.as_ref())?;
    let accepted = Accepted {
        route: route.clone(),
        page,
        patterns,
        subjects,
        publish,
        window: compression.map(|agreement| agreement.window),
        terms: identity.map(|identity| identity.terms),
        permit,
        places,
    };
    Ok((Entry::Connection(Box::new(accepted)), response))
}

/// By whom a token was issued and to whom. Who has no name is, with its issuer, one user.
fn user(identity: &Identity) -> (String, String) {
    let claim = |name| identity.claims.text(name).unwrap_or_default().into_owned();
    (claim("iss"), claim("sub"))
}

/// The request is a WebSocket handshake as RFC 6455 section 4.2.1 wants it. Returns the accept key.
fn check_form(version: Version, headers: &HeaderMap) -> Result<String, Refusal> {
    if version != Version::HTTP_11 {
        return Err(Refusal::Malformed("a WebSocket needs HTTP/1.1"));
    }
    if !has_token(headers, &header::UPGRADE, "websocket")
        || !has_token(headers, &header::CONNECTION, "upgrade")
    {
        return Err(Refusal::NotUpgrade);
    }
    let versions = single(headers, &header::SEC_WEBSOCKET_VERSION).ok_or(Refusal::Version)?;
    if versions != b"13" {
        return Err(Refusal::Version);
    }
    if single(headers, &header::HOST).is_none() {
        return Err(Refusal::Malformed(
            "the Host header must stand exactly once",
        ));
    }
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    if has_body {
        return Err(Refusal::Malformed("a WebSocket handshake has no body"));
    }
    let key = single(headers, &header::SEC_WEBSOCKET_KEY).ok_or(Refusal::Malformed(
        "Sec-WebSocket-Key must stand exactly once",
    ))?;
    let nonce = base64::engine::general_purpose::STANDARD.decode(key);
    if nonce.map_or(0, |nonce| nonce.len()) != 16 {
        return Err(Refusal::Malformed(
            "Sec-WebSocket-Key must be 16 bytes in base64",
        ));
    }
    Ok(derive_accept_key(key))
}

/// Whether one of a header's comma-separated tokens is this one.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
}

/// The value of a header that must stand once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// The subprotocol to answer with. Browsers fail a handshake whose offer is not answered, so an offer
/// without a supported name is refused with a reason.
fn choose_subprotocol(headers: &HeaderMap) -> Result<Option<&'static str>, Refusal> {
    let name = &header::SEC_WEBSOCKET_PROTOCOL;
    if !headers.contains_key(name) {
        return Ok(None);
    }
    if tokens(headers, name).any(|offer| offer == PLAIN) {
        Ok(Some(PLAIN))
    } else {
        Err(Refusal::UnsupportedSubprotocol)
    }
}

/// What is offered is not even read where the route has no compression.
fn agree_on_compression(headers: &HeaderMap, route: &Route) -> Result<Option<Agreement>, Refusal> {
    if route.compress_bytes_min.is_none() {
        return Ok(None);
    }
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    negotiate(offers.iter().map(HeaderValue::as_bytes)).map_err(|_| {
        Refusal::Malformed("Sec-WebSocket-Extensions must be a list of extensions with parameters")
    })
}

fn check_origin(headers: &HeaderMap, live: &LiveConfig) -> Result<Option<Page>, Refusal> {
    if headers.get_all(header::ORIGIN).iter().count() > 1 {
        return Err(Refusal::Malformed("the Origin header must not stand twice"));
    }
    let text = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or("?"))
    };
    let Some(origin) = text(header::ORIGIN) else {
        return Ok(None);
    };
    let host = text(header::HOST);
    if origin.len() > PAGE_BYTES_MAX || host.is_some_and(|host| host.len() > PAGE_BYTES_MAX) {
        return Err(Refusal::Malformed(
            "Origin and Host must be no longer than a host name can be",
        ));
    }
    let page = Page {
        origin: origin.into(),
        host: host.map(Into::into),
    };
    if page.is_allowed(&live.allowed_origins) {
        return Ok(Some(page));
    }
    Err(Refusal::Origin(origin.chars().take(100).collect()))
}

type Subjects = (Vec<Arc<str>>, Vec<u16>, Option<Arc<str>>);

fn subjects(
    route: &Route,
    path: &str,
    query: &str,
    identity: Option<&Identity>,
) -> Result<Subjects, Refusal> {
    let path = route.path.matches(path).unwrap_or_default();
    let values = RequestValues {
        path: &path,
        query,
        claims: identity.map(|identity| &identity.claims),
    };
    let (mut patterns, mut subjects) = (Vec::new(), Vec::new());
    for (at, subject) in (0..).zip(&route.subjects) {
        if let Some(pattern) = &subject.fixed {
            patterns.push(pattern.clone());
        } else {
            let rendered = subject.template.render_each(&values)?;
            patterns.extend(rendered.iter().map(Pattern::shared));
            if patterns.len() > PATTERNS_MAX {
                return Err(ValueError::TooMany(subject.template.to_string()).into());
            }
        }
        subjects.resize(patterns.len(), at);
    }
    let publish = match (&route.publish_fixed, &route.from_client) {
        (Some(subject), _) => Some(subject.clone()),
        // Who may not publish need not have the claims for it.
        (None, FromClient::Publish { .. }) if identity.is_some_and(|it| !it.terms.may_publish) => {
            None
        }
        (None, FromClient::Publish { subject, .. }) => Some(subject.render(&values)?.shared()),
        _ => None,
    };
    Ok((patterns, subjects, publish))
}

fn check_sources(route: &Route, nats_connected: bool) -> Result<(), Refusal> {
    if route.needs_nats() && !nats_connected {
        return Err(Refusal::NatsUnavailable);
    }
    match route
        .queues
        .iter()
        .map(|queue| queue.status.get())
        .find(|s| *s != QueueState::Ready)
    {
        Some(state) => Err(Refusal::QueueUnavailable(state)),
        None => Ok(()),
    }
}

fn switching_protocols(
    accept_key: &str,
    subprotocol: Option<&'static str>,
    compression: Option<&Agreement>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let accept_key = HeaderValue::from_str(accept_key)
        .map_err(|_| Refusal::Malformed("Sec-WebSocket-Key must be 16 bytes in base64"))?;
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept_key);
    if let Some(name) = subprotocol {
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(name),
        );
    }
    if let Some(Ok(answer)) = compression.map(|a| HeaderValue::from_str(&a.answer)) {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
    }
    Ok(response)
}
