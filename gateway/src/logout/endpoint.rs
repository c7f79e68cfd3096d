//! What an issuer asks: `POST /.wsgateway/backchannel-logout/PROVIDER` with a logout token.
//!
//! Anybody may ask it. What costs anything comes after what does not, and the table and NATS get only what the issuer
//! has signed and what was not told before.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use tokio::time::timeout;
use wsgateway_auth::TOKEN_BYTES_MAX;
use wsgateway_crds::{report::LOGOUT_PATH, value::query_value};

use super::Logouts;
use crate::{
    auth::{Auth, LogoutRefusal},
    config::LiveConfig,
};

/// Signatures that are looked at in a burst, by the whole process, and how long until another is. An issuer that ends
/// all sessions of a realm sends a token for each, and does not send it again.
pub(super) const BURST: u64 = 2_000;

/// See [`BURST`].
pub(super) const INTERVAL_MS: u64 = 1;

/// The largest form: a token, and what an encoder may make of it.
const FORM_BYTES_MAX: usize = 2 * TOKEN_BYTES_MAX;

/// How many bodies are awaited at once, by the whole process, and for how long. A request holds a place among the
/// handshakes that are answered (512 on each shard) meanwhile, and who sends its body slowly must not take those from
/// clients. An issuer sends it with the head, and a proxy waits for it by itself.
pub(super) const BODIES_MAX: usize = 128;

/// See [`BODIES_MAX`].
const BODY_WAIT: Duration = Duration::from_secs(1);

/// When an issuer that repeats itself may do so after NATS was away, in seconds.
const RETRY_AFTER_SECS: u64 = 2;

/// Why a logout is not carried out.
#[derive(Debug, thiserror::Error)]
enum Problem {
    /// 405.
    #[error("a logout token is sent by POST")]
    Method,
    /// 400.
    #[error("the body must be a form with one logout_token, of at most {FORM_BYTES_MAX} bytes")]
    Form,
    /// 400, or 503 where that cannot be told.
    #[error(transparent)]
    Refused(#[from] LogoutRefusal),
    /// 429.
    #[error("too many logout tokens")]
    TooMany(Duration),
    /// 503. The sessions on this gateway have been ended.
    #[error("the other gateways could not be told")]
    NatsUnavailable,
}

impl Problem {
    fn reason(&self) -> &'static str {
        match self {
            Self::Method => "Method",
            Self::Form => "Form",
            Self::Refused(refusal) => refusal.reason(),
            Self::TooMany(_) => "TooMany",
            Self::NatsUnavailable => "NatsUnavailable",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Form | Self::Refused(LogoutRefusal::Token(_)) => StatusCode::BAD_REQUEST,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Refused(LogoutRefusal::KeysUnavailable { .. }) | Self::NatsUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn retry_after(&self) -> Option<u64> {
        let wait = match self {
            Self::TooMany(wait) => *wait,
            Self::Refused(LogoutRefusal::KeysUnavailable { retry_after }) => *retry_after,
            Self::NatsUnavailable => Duration::from_secs(RETRY_AFTER_SECS),
            Self::Method | Self::Form | Self::Refused(LogoutRefusal::Token(_)) => return None,
        };
        Some(wait.as_secs().max(1))
    }
}

/// The issuer that a path is for, where it may end sessions. Of no other path anything is known here.
pub fn provider<'a>(live: &LiveConfig, path: &'a str) -> Option<&'a str> {
    let name = path.strip_prefix(LOGOUT_PATH)?;
    let auth = live.auth.as_ref()?;
    auth.can_log_out(name).then_some(name)
}

/// Answers an issuer, at a time since the process began.
pub async fn answer(
    logouts: &Logouts,
    live: &LiveConfig,
    provider: &str,
    request: Request<Incoming>,
    age: Duration,
) -> Response<Full<Bytes>> {
    let result = match &live.auth {
        Some(auth) => carry_out(logouts, auth, provider, request, age).await,
        None => return Response::new(Full::default()),
    };
    let label = result
        .as_ref()
        .map_or_else(Problem::reason, |result| *result);
    logouts.metrics.logout("issuer", label);
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    // Section 2.8, and so that nothing of it stays anywhere.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let Err(problem) = result else {
        return response;
    };
    // Anybody can make one that is refused: it is in the answer and in the metric.
    tracing::debug!(
        provider,
        reason = problem.reason(),
        "a logout is refused: {problem}"
    );
    if let Some(seconds) = problem.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if matches!(problem, Problem::Method) {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let status = problem.status();
    let error = match status {
        StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => "invalid_request",
        _ => "temporarily_unavailable",
    };
    let body = serde_json::json!({"error": error, "error_description": problem.to_string()});
    *response.status_mut() = status;
    *response.body_mut() = Full::new(Bytes::from(body.to_string()));
    response
}

async fn carry_out(
    logouts: &Logouts,
    auth: &Auth,
    provider: &str,
    request: Request<Incoming>,
    age: Duration,
) -> Result<&'static str, Problem> {
    if request.method() != Method::POST {
        return Err(Problem::Method);
    }
    let token = {
        let place = logouts.bodies.try_acquire();
        let _place = place.map_err(|_| Problem::TooMany(BODY_WAIT))?;
        let token = timeout(BODY_WAIT, token(request)).await;
        token.ok().flatten().ok_or(Problem::Form)?
    };
    auth.check_logout(&token, provider)?;
    logouts.allowance.take(age).map_err(Problem::TooMany)?;
    let ended = auth.verify_logout(&token, Some(provider), Duration::ZERO);
    let ended = ended.await?;
    if logouts.table().is_told(&ended) {
        return Ok("repeated");
    }
    let token = Bytes::from(token);
    logouts.apply(ended, token.clone());
    let told = logouts.tell_all(token).await;
    told.map_err(|_| Problem::NatsUnavailable)?;
    logouts.table().set_told(&ended);
    Ok("accepted")
}

/// The token of the form (section 2.5).
async fn token(request: Request<Incoming>) -> Option<String> {
    const FORM: &str = "application/x-www-form-urlencoded";
    let kind = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case(FORM) {
        return None;
    }
    let body = Limited::new(request.into_body(), FORM_BYTES_MAX).collect();
    let body = body.await.ok()?.to_bytes();
    let form = std::str::from_utf8(&body).ok()?;
    let token = query_value(form, "logout_token")?;
    (!token.is_empty()).then(|| token.into_owned())
}
