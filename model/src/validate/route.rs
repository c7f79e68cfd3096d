//! `spec.routes`: paths, templates and sources, and what must hold between them.

use std::{collections::BTreeMap, ops::RangeInclusive};

use wsgateway_crds::{
    config::{Access, FromClient, Payload, Queue, Route, SlowConsumer, Source, SourceKind},
    v1alpha1::{
        self, Acknowledge, Core, DeadLetter, FromClientType, Publish, SlowConsumerPolicy,
        SourceType,
    },
    value::{Duration, PathTemplate, Pattern, Subject, Template},
};
use wsgateway_nginx_ingress::value::LocationPath;

use super::{
    findings::Findings,
    live::{self, MESSAGE},
};

/// How long a client may take to acknowledge. The consumer's pull ends within 5 s, so less than 1 s would race it.
const ACK_WAIT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// The paths as the proxy needs them, and the routes as the workers do.
pub(super) fn routes(
    specs: Vec<v1alpha1::Route>,
    has_auth: bool,
    findings: &mut Findings<'_>,
) -> (Option<Vec<LocationPath>>, Option<Vec<Route>>) {
    let mut locations = Vec::new();
    let mut routes = Vec::new();
    for (index, spec) in specs.into_iter().enumerate() {
        let path = format!("spec.routes[{index}]");
        let location =
            findings.parse::<LocationPath>(&format!("{path}.path"), &spec.path, "InvalidPath");
        // The proxy refuses more than a worker does: one sentence is enough.
        let route = location
            .as_ref()
            .and_then(|_| route(&path, spec, has_auth, findings));
        locations.push(location);
        routes.push(route);
    }
    check_overlaps(&routes, findings);
    check_consumers(&routes, findings);
    (
        locations.into_iter().collect(),
        routes.into_iter().collect(),
    )
}

fn route(
    at: &str,
    spec: v1alpha1::Route,
    has_auth: bool,
    findings: &mut Findings<'_>,
) -> Option<Route> {
    let v1alpha1::Route {
        name,
        path,
        payload,
        authorization,
        max_message_size,
        compression,
        from_client,
        to_client,
    } = spec;
    let authorization = authorization.unwrap_or_default();
    let authorization = super::auth::authorization(at, authorization, findings);
    let path = findings.parse::<PathTemplate>(&format!("{at}.path"), &path, "InvalidPath")?;
    let max_message_size = max_message_size
        .map(|size| {
            findings
                .size(&format!("{at}.maxMessageSize"), &size, &MESSAGE)
                .ok_or(())
        })
        .transpose();
    let compression = compression
        .map(|spec| live::compression(&format!("{at}.compression"), spec, findings).ok_or(()))
        .transpose();
    let claims = match &authorization {
        _ if !has_auth => Claims::NoAuth,
        Some(authorization) if authorization.access == Access::Anonymous => Claims::NoToken,
        _ => Claims::Verified,
    };
    let request = Request {
        path: &path,
        claims,
    };
    let from_client = from_client_of(&format!("{at}.fromClient"), from_client, request, findings);
    let to_client: Vec<_> = to_client
        .into_iter()
        .enumerate()
        .map(|(index, spec)| source(&format!("{at}.toClient[{index}]"), spec, request, findings))
        .collect();
    Some(Route {
        name,
        payload: match payload {
            v1alpha1::Payload::Text => Payload::Text,
            v1alpha1::Payload::Binary => Payload::Binary,
            v1alpha1::Payload::Auto => Payload::Auto,
        },
        authorization: authorization?,
        max_message_size: max_message_size.ok()?,
        compression: compression.ok()?,
        from_client: from_client?,
        to_client: to_client.into_iter().collect::<Option<_>>()?,
        path,
    })
}

/// What a template may take values from.
#[derive(Clone, Copy)]
struct Request<'a> {
    path: &'a PathTemplate,
    claims: Claims,
}

/// Whether a request has claims.
#[derive(Clone, Copy)]
enum Claims {
    Verified,
    NoAuth,
    NoToken,
}

fn from_client_of(
    at: &str,
    spec: v1alpha1::FromClient,
    request: Request<'_>,
    findings: &mut Findings<'_>,
) -> Option<FromClient> {
    let v1alpha1::FromClient { type_, publish } = spec;
    match (type_, publish) {
        (FromClientType::Echo, _) => Some(FromClient::Echo),
        (FromClientType::Discard, _) => Some(FromClient::Discard),
        (FromClientType::Reject, _) => Some(FromClient::Reject),
        (FromClientType::Publish, Some(publish)) => {
            let Publish {
                subject,
                authorization,
            } = publish;
            let at = format!("{at}.publish");
            let authorization = authorization.unwrap_or_default();
            let authorization = super::auth::publish_authorization(&at, authorization, findings);
            let subject = template(&format!("{at}.subject"), &subject, request, findings);
            Some(FromClient::Publish {
                subject: subject?,
                authorization: authorization?,
            })
        }
        (FromClientType::Publish, None) => missing(at, "publish", findings),
    }
}

/// The CRD's rule says so first; this keeps the step total.
fn missing<T>(at: &str, member: &str, findings: &mut Findings<'_>) -> Option<T> {
    findings.refuse(
        &format!("{at}.{member}"),
        "MemberMissing",
        "must be set for this type",
    );
    None
}

fn source(
    at: &str,
    spec: v1alpha1::Source,
    request: Request<'_>,
    findings: &mut Findings<'_>,
) -> Option<Source> {
    let v1alpha1::Source {
        name,
        type_,
        core,
        queue,
        slow_consumer,
    } = spec;
    let kind = match (type_, core, queue) {
        (SourceType::Core, Some(Core { subjects }), _) => {
            let v1alpha1::SlowConsumer { policy } = slow_consumer.unwrap_or_default();
            let subjects: Vec<_> = subjects
                .iter()
                .enumerate()
                .map(|(index, text)| {
                    template(
                        &format!("{at}.core.subjects[{index}]"),
                        text,
                        request,
                        findings,
                    )
                })
                .collect();
            SourceKind::Core {
                subjects: subjects.into_iter().collect::<Option<_>>()?,
                slow_consumer: match policy {
                    SlowConsumerPolicy::Disconnect => SlowConsumer::Disconnect,
                    SlowConsumerPolicy::DropOldest => SlowConsumer::DropOldest,
                },
            }
        }
        (SourceType::Queue, _, Some(spec)) => {
            SourceKind::Queue(queue_of(&format!("{at}.queue"), spec, findings)?)
        }
        (SourceType::Core, None, _) => return missing(at, "core", findings),
        (SourceType::Queue, _, None) => return missing(at, "queue", findings),
    };
    Some(Source { name, kind })
}

/// A template whose values the request can have.
fn template(
    at: &str,
    text: &str,
    Request { path, claims }: Request<'_>,
    findings: &mut Findings<'_>,
) -> Option<Template> {
    let template = findings.parse::<Template>(at, text, "InvalidSubject")?;
    for name in template
        .path_names()
        .filter(|name| !path.params().any(|param| param == *name))
    {
        let message = format!("`{{path.{name}}}` is no parameter of the route's path {path}");
        findings.refuse(at, "UnknownPathParameter", message);
    }
    let why = match claims {
        Claims::Verified => return Some(template),
        Claims::NoAuth => "there is no spec.auth",
        Claims::NoToken => "the route's authorization asks for none",
    };
    for name in template.claim_names() {
        let message = format!("`{{claims.{name}}}` needs a verified token, and {why}");
        findings.refuse(at, "ClaimWithoutToken", message);
    }
    Some(template)
}

fn queue_of(at: &str, spec: v1alpha1::Queue, findings: &mut Findings<'_>) -> Option<Queue> {
    let v1alpha1::Queue {
        stream,
        durable,
        filter_subjects,
        acknowledge: Acknowledge::Receipt,
        ack_wait,
        max_deliver,
        max_in_flight_per_client,
        dead_letter,
    } = spec;
    let filters_at = format!("{at}.filterSubjects");
    let filters = findings.parse_all::<Pattern>(&filters_at, &filter_subjects, "InvalidSubject");
    for (index, text) in filter_subjects.iter().enumerate() {
        refuse_template(&format!("{filters_at}[{index}]"), text, findings);
    }
    let ack_wait = findings.duration(&format!("{at}.ackWait"), &ack_wait, &ACK_WAIT);
    let letter_at = format!("{at}.deadLetter.subject");
    let dead_letter = dead_letter
        .map(|DeadLetter { subject }| {
            refuse_template(&letter_at, &subject, findings);
            findings
                .parse::<Subject>(&letter_at, &subject, "InvalidSubject")
                .ok_or(())
        })
        .transpose();
    let (filters, dead_letter) = (filters?, dead_letter.ok()?);
    for (index, filter) in filters.iter().enumerate() {
        if let Some(other) = filters
            .iter()
            .take(index)
            .find(|other| other.overlaps(filter))
        {
            let message = format!("overlaps {other}, which JetStream refuses in one consumer");
            findings.refuse(
                &format!("{filters_at}[{index}]"),
                "OverlappingSubjects",
                message,
            );
        }
        if let Some(subject) = dead_letter.as_ref().filter(|s| filter.matches(s.as_str())) {
            let message = format!(
                "{subject} is one of the queue's own filterSubjects ({filter}): a dead letter would come back as work"
            );
            findings.refuse(&letter_at, "DeadLetterLoop", message);
        }
    }
    Some(Queue {
        stream,
        durable,
        filter_subjects: filters,
        ack_wait: ack_wait?,
        max_deliver,
        max_in_flight_per_client,
        dead_letter,
    })
}

/// NATS itself would take braces as they stand.
fn refuse_template(at: &str, text: &str, findings: &mut Findings<'_>) {
    if text.contains(['{', '}']) {
        let message = format!(
            "`{text}` must not hold {{ or }}: all clients share the consumer, so no value of a request can be meant"
        );
        findings.refuse(at, "TemplateNotAllowed", message);
    }
}

/// No request may be meant by two routes.
fn check_overlaps(routes: &[Option<Route>], findings: &mut Findings<'_>) {
    for (index, route) in routes.iter().enumerate() {
        let Some(route) = route else { continue };
        let mut earlier = routes.iter().take(index).flatten();
        if let Some(other) = earlier.find(|other| other.path.overlaps(&route.path)) {
            let message = format!(
                "{} also matches requests of route {}, whose path is {}",
                route.path, other.name, other.path
            );
            findings.refuse(
                &format!("spec.routes[{index}].path"),
                "OverlappingPaths",
                message,
            );
        }
    }
}

/// A durable consumer has one set of settings and one route whose clients share its messages.
fn check_consumers(routes: &[Option<Route>], findings: &mut Findings<'_>) {
    let mut seen = BTreeMap::new();
    for (index, route) in routes.iter().enumerate() {
        for (at, source) in route
            .iter()
            .flat_map(|route| route.to_client.iter().enumerate())
        {
            let SourceKind::Queue(Queue {
                stream, durable, ..
            }) = &source.kind
            else {
                continue;
            };
            let path = format!("spec.routes[{index}].toClient[{at}]");
            if let Some(first) = seen.get(&(stream, durable)) {
                let message =
                    format!("consumer {durable} of stream {stream} is already read by {first}");
                findings.refuse(&format!("{path}.queue.durable"), "ConsumerShared", message);
            } else {
                seen.insert((stream, durable), path);
            }
        }
    }
}
