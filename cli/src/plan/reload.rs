//! What a changed live configuration does to open connections: what the gateway decides when it reads it again
//! (`continues` in gateway/src/config/live.rs), foreseen.

use wsgateway_crds::{
    config::{
        Access, Authorization, BackchannelLogout, FromClient, Live, Provider, Queue, Route,
        SlowConsumer, SourceKind,
    },
    value::{Duration, Template},
};

/// The connections of a route are closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClosedRoute {
    /// The route's name.
    pub(super) name: String,
    /// Why.
    pub(super) why: &'static str,
}

/// The routes of the old configuration whose connections the new one does not permit as they are.
pub(super) fn closed_routes(old: &Live, new: &Live) -> Vec<ClosedRoute> {
    let closed = old.routes.iter().filter_map(|route| {
        let next = new.routes.iter().find(|next| next.name == route.name);
        let why = match next {
            None => "it is gone",
            Some(next) if next.path != route.path => "its path changes",
            Some(next) if !admits_all_of(new, next, old, route) => "what it asks of tokens changes",
            Some(next) if subjects(next) != subjects(route) => "its subjects change",
            Some(next) if queues(next) != queues(route) => "its queues change",
            Some(next) if publishes(next) != publishes(route) => "what it publishes to changes",
            Some(_) => return None,
        };
        Some(ClosedRoute {
            name: route.name.clone(),
            why,
        })
    });
    closed.collect()
}

/// Whether all whom a route let in would be let in again, by their tokens. A name, a leeway and whether it may
/// end sessions end no connection.
fn admits_all_of(new: &Live, next: &Route, old: &Live, route: &Route) -> bool {
    let (now, before) = (issuers(new, next), issuers(old, route));
    now.is_empty()
        || (!before.is_empty()
            && next.authorization == route.authorization
            && publish_authorization(next) == publish_authorization(route)
            && before.iter().all(|issuer| now.contains(issuer)))
}

/// What publishing asks of a token.
fn publish_authorization(route: &Route) -> Option<&Authorization> {
    match &route.from_client {
        FromClient::Publish { authorization, .. } => Some(authorization),
        _ => None,
    }
    .filter(|authorization| !authorization.is_default())
}

/// Whose tokens a route believes; none where it asks for none.
fn issuers(live: &Live, route: &Route) -> Vec<Provider> {
    let auth = live.auth.iter();
    let auth = auth.filter(|_| route.authorization.access == Access::Token);
    let providers = auth.flat_map(|auth| &auth.providers);
    let issuers = providers.map(|provider| Provider {
        name: String::new(),
        leeway: Duration::from_secs(0),
        backchannel_logout: BackchannelLogout::Disabled,
        ..provider.clone()
    });
    issuers.collect()
}

fn subjects(route: &Route) -> Vec<(&Template, SlowConsumer)> {
    let sources = route.to_client.iter();
    let subjects = sources.filter_map(|source| match &source.kind {
        SourceKind::Core {
            subjects,
            slow_consumer,
        } => Some(subjects.iter().map(|subject| (subject, *slow_consumer))),
        SourceKind::Queue(_) => None,
    });
    subjects.flatten().collect()
}

fn queues(route: &Route) -> Vec<&Queue> {
    let sources = route.to_client.iter();
    let queues = sources.filter_map(|source| match &source.kind {
        SourceKind::Queue(queue) => Some(queue),
        SourceKind::Core { .. } => None,
    });
    queues.collect()
}

/// A subject that takes something from the request was settled when the client came.
fn publishes(route: &Route) -> Option<&Template> {
    match &route.from_client {
        FromClient::Publish { subject, .. } if subject.as_pattern().is_none() => Some(subject),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: &str = "
websocket: {}
limits: {}
drain: {}
routes:
  - {name: a, path: '/a/{room}', fromClient: {type: Publish, subject: 'in.{path.room}'}}
  - name: b
    path: /b
    fromClient: {type: Publish, subject: in.b}
    toClient:
      - {name: live, type: Core, subjects: [x.>]}
      - {name: jobs, type: Queue, stream: JOBS, durable: d, ackWait: 30s, maxDeliver: 5, maxInFlightPerClient: 16}
";

    fn check(from: &str, to: &str, expected: &[(&str, &'static str)]) {
        let read = |text: &str| Live::read(text).unwrap().0;
        let closed = closed_routes(&read(LIVE), &read(&LIVE.replace(from, to)));
        let closed: Vec<_> = closed
            .iter()
            .map(|route| (&*route.name, route.why))
            .collect();
        assert_eq!(closed, expected);
    }

    #[test]
    fn a_connection_ends_where_what_it_was_opened_for_changes() {
        check("", "", &[]);
        check("in.b}", "in.b, authorization: {scopes: [a]}}", &[]);
        check("limits: {}", "limits: {connections: 5}", &[]);
        check("subject: in.b", "subject: out.b", &[]);
        check("path: /b\n", "path: /b\n    maxMessageSize: 1Mi\n", &[]);
        check("path: /b\n", "path: /c\n", &[("b", "its path changes")]);
        check("name: b\n", "name: c\n", &[("b", "it is gone")]);
        check("x.>", "y.>", &[("b", "its subjects change")]);
        check(
            "maxDeliver: 5",
            "maxDeliver: 6",
            &[("b", "its queues change")],
        );
        check(
            "in.{path.room}",
            "up.{path.room}",
            &[("a", "what it publishes to changes")],
        );
    }
}
