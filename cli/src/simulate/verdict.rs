//! What a token comes to on each route, in words.

use std::{fmt::Write, time::Duration};

use k8s_openapi::jiff::Timestamp;
use wsgateway_auth::{Claims, RequestValues, judge};
use wsgateway_crds::{
    config::{Access, Auth, FromClient, Live, Route, SourceKind},
    value::{PathMatch, Template, ValueError},
};

use super::ask::Identity;

/// What the gateways take from a connection's time at most, as a divisor: gateway/src/auth.rs has the same.
const JITTER_PART: u32 = 4;

/// A token before a gateway.
pub(super) struct Session<'a> {
    pub(super) live: &'a Live,
    /// None where nobody is asked for a token.
    pub(super) identity: Option<&'a Identity>,
    pub(super) now: Duration,
}

impl Session<'_> {
    /// What becomes of a request.
    pub(super) fn of_path(&self, request: &str) -> (String, bool) {
        let (path, query) = request.split_once('?').unwrap_or((request, ""));
        let mut text = self.head();
        let mut routes = self.live.routes.iter();
        let matched = routes.find_map(|route| Some((route, route.path.matches(path)?)));
        let Some((route, path)) = matched else {
            _ = writeln!(
                text,
                "{path}: refused with 404 UnknownPath: no route has it"
            );
            return (text, false);
        };
        let (verdict, is_let_in) = self.of_route(route, Some((&path, query)));
        (text + &verdict, is_let_in)
    }

    /// What becomes of requests to each route.
    pub(super) fn of_all_routes(&self) -> (String, bool) {
        let mut text = self.head();
        let mut is_any_let_in = false;
        for route in &self.live.routes {
            let (verdict, is_let_in) = self.of_route(route, None);
            text += &verdict;
            is_any_let_in |= is_let_in;
        }
        (text, is_any_let_in)
    }

    /// What is the token's, whatever it is used for.
    fn head(&self) -> String {
        match self.identity {
            None => "there is no spec.auth: nobody is asked for a token\n".to_owned(),
            Some(Err(error)) => {
                format!("the token is refused: 401 {}: {error}\n", error.reason())
            }
            Some(Ok(believed)) => {
                let name = &believed.provider.name;
                let expires = believed.verified.expires_at;
                format!("the token is {name}'s, and expires at {}\n", time(expires))
            }
        }
    }

    fn of_route(&self, route: &Route, request: Option<(&PathMatch<'_>, &str)>) -> (String, bool) {
        let mut text = format!("{} ({}): ", route.path, route.name);
        let claims = match self.claims(route) {
            Ok(claims) => claims,
            Err(refusal) => {
                _ = writeln!(text, "refused with {refusal}");
                return (text, false);
            }
        };
        let none = PathMatch::default();
        let (path, query) = request.unwrap_or((&none, ""));
        let values = RequestValues {
            path,
            query,
            claims,
        };
        let render = |template: &Template| -> Result<Vec<String>, ValueError> {
            match request {
                Some(_) => {
                    let subjects = template.render_each(&values);
                    subjects.map(|subjects| subjects.iter().map(ToString::to_string).collect())
                }
                None => template
                    .show_with_claims(&values)
                    .map(|subject| vec![subject]),
            }
        };
        let (denial, publish) = match &route.from_client {
            FromClient::Publish {
                subject,
                authorization,
            } => match claims.map_or(Ok(()), |claims| judge(authorization, claims)) {
                Ok(()) => (None, Some(render(subject))),
                Err(denial) => (Some(denial), None),
            },
            _ => (None, None),
        };
        let gets: Result<Vec<_>, _> = subjects(route).map(&render).collect();
        let publish = publish.transpose();
        let (gets, publish) = match (gets, publish) {
            (Ok(gets), Ok(publish)) => (gets, publish),
            (Err(error), _) | (_, Err(error)) => {
                let refusal = match &error {
                    ValueError::Claim(_) | ValueError::TooMany(_) => "403 InvalidClaim",
                    ValueError::Request(_) => "400 InvalidValue",
                };
                _ = writeln!(text, "refused with {refusal}: {error}");
                return (text, false);
            }
        };
        text += "let in\n";
        let queues = route
            .to_client
            .iter()
            .filter_map(|source| match &source.kind {
                SourceKind::Queue(queue) => Some(format!("its share of {}", queue.durable)),
                SourceKind::Core { .. } => None,
            });
        let gets: Vec<_> = gets.into_iter().flatten().chain(queues).collect();
        let gets = if gets.is_empty() {
            "nothing".to_owned()
        } else {
            gets.join(", ")
        };
        _ = writeln!(text, "  gets    {gets}");
        let sends = match (&route.from_client, &publish, &denial) {
            (_, Some(subject), _) => format!("what is published to {}", subject.concat()),
            (_, _, Some(denial)) => {
                format!(
                    "nothing: a message is closed with 4403 PublishDenied: {}: {denial}",
                    denial.reason()
                )
            }
            (FromClient::Echo, ..) => "what is echoed".to_owned(),
            (FromClient::Reject, ..) => {
                "nothing: a message is closed with 1008 MessageRejected".to_owned()
            }
            (FromClient::Discard | FromClient::Publish { .. }, ..) => "what is dropped".to_owned(),
        };
        _ = writeln!(text, "  sends   {sends}");
        if let Some(closed) = self.closed(route) {
            _ = writeln!(text, "  closed  {closed}");
        }
        (text, true)
    }

    /// The claims that a route may use, or the answer of who refuses.
    fn claims(&self, route: &Route) -> Result<Option<&Claims>, String> {
        let asks = route.authorization.access == Access::Token;
        match self.identity.filter(|_| asks) {
            None => Ok(None),
            Some(Err(error)) => Err(format!("401 {}", error.reason())),
            Some(Ok(believed)) => {
                let claims = &believed.verified.claims;
                judge(&route.authorization, claims)
                    .map(|()| Some(claims))
                    .map_err(|denial| format!("403 {}: {denial}", denial.reason()))
            }
        }
    }

    /// When a connection that is opened now is closed, and told so.
    fn closed(&self, route: &Route) -> Option<String> {
        let Auth {
            expiry_jitter,
            expiry_warning,
            ..
        } = self.live.auth.as_ref()?;
        let believed = self.identity?.as_ref().ok()?;
        if route.authorization.access == Access::Anonymous {
            return None;
        }
        let end = believed.verified.expires_at;
        let left = end.saturating_sub(self.now);
        if left.is_zero() {
            let latest = end + believed.provider.leeway.get();
            return Some(format!(
                "with 4401 TokenExpired at {}: it has expired, and clocks may differ by so much",
                time(latest)
            ));
        }
        let earliest = end.saturating_sub(expiry_jitter.get().min(left / JITTER_PART));
        let mut text = format!(
            "with 4401 TokenExpired from {} to {}",
            time(earliest),
            time(end)
        );
        if let Some(warning) = expiry_warning {
            let before = warning.before.get();
            match earliest.saturating_sub(self.now).checked_sub(before) {
                Some(_) => _ = write!(text, ", told {} before", warning.before),
                None => text += ", not told before, since that is too soon",
            }
        }
        Some(text)
    }
}

fn subjects(route: &Route) -> impl Iterator<Item = &Template> {
    let sources = route.to_client.iter();
    let subjects = sources.filter_map(|source| match &source.kind {
        SourceKind::Core { subjects, .. } => Some(subjects),
        SourceKind::Queue(_) => None,
    });
    subjects.flatten()
}

fn time(since_1970: Duration) -> String {
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| "the end of time".to_owned(), |t| t.to_string())
}
