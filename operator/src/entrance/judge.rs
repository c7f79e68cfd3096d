//! From what came of a probe to what users are told of it: what was answered, what that most likely means, and what to
//! do. Pure. No sentence holds anything that changes by itself, so that a status is written only when something did.

use super::{
    address::Address,
    certificate::Fault,
    dial::{Answer, Awaited, Hop, PROBE_TIMEOUT, Status},
    events::Quote,
    target::Target,
};
use crate::status::{Holds, Verdict};

/// The reasons of a handshake that was tried.
const TRIED: [&str; 20] = [
    "HandshakeAnswered",
    "WrongCertificate",
    "AnotherServer",
    "Redirected",
    "NotRouted",
    "PathChanged",
    "RefusedInFront",
    "UpgradeLost",
    "NoEndpoints",
    "BadGateway",
    "UnexpectedAnswer",
    "IngressRejected",
    "AddressNotDialable",
    "AddressUnknown",
    "ConnectionRefused",
    "NoRouteToAddress",
    "NoAnswer",
    "ConnectionCut",
    "TlsHandshakeFailed",
    "NoHttp",
];

/// Whether a reason is one of a handshake that was tried.
pub(super) fn is_of_probe(reason: &str) -> bool {
    TRIED.contains(&reason)
}

/// What all addresses came to: what is wrong with one is wrong for the clients that get it. None where the gateways had
/// been asked too often to say anything.
pub(super) fn judge(target: &Target, answers: &[(Address, Answer)]) -> Option<Verdict> {
    // One of several that is not dialable from here says nothing while others do.
    let is_local = |answer: &Answer| matches!(answer, Answer::Silent(Hop::Local(_)));
    let has_others = answers.iter().any(|(_, answer)| !is_local(answer));
    let judged = answers
        .iter()
        .filter(|(_, answer)| !(has_others && is_local(answer)))
        .filter_map(|(address, answer)| one(target, address, answer));
    judged.min_by_key(|verdict| match verdict.holds {
        Holds::False => 0,
        Holds::Unknown => 1,
        Holds::True => 2,
    })
}

/// The words of the controller, where it said something. A way that nobody answers, since the controller has refused it,
/// is known not to be one.
pub(super) fn with_quote(verdict: Verdict, quote: Option<&Quote>) -> Verdict {
    let Some(quote) = quote else { return verdict };
    let Quote {
        by,
        reason,
        note,
        is_rejection,
    } = quote;
    let said = format!("{by} says of the Ingress: {reason}: {note}");
    let message = &verdict.message;
    match (is_rejection, verdict.holds) {
        (_, Holds::True) => verdict,
        (true, _) => Verdict::no("IngressRejected", format!("{said}; {message}")),
        (false, Holds::False) => {
            let message = format!("{message}; {said}");
            Verdict::no(&verdict.reason, message)
        }
        (false, Holds::Unknown) => {
            let message = format!("{message}; {said}");
            Verdict::unknown(&verdict.reason, message)
        }
    }
}

fn one(target: &Target, address: &Address, answer: &Answer) -> Option<Verdict> {
    let asked = format!("{address} {}", asked(target));
    Some(match answer {
        Answer::Gateway => Verdict::yes(
            "HandshakeAnswered",
            format!("a gateway answered a handshake at {asked}"),
        ),
        Answer::Upgraded => Verdict::no(
            "AnotherServer",
            format!(
                "{asked} upgraded the connection, and is no gateway: another Ingress or server has this host and path, \
                 or something on the way drops Sec-WebSocket-Protocol"
            ),
        ),
        Answer::Certificate(fault) => {
            Verdict::no("WrongCertificate", certificate(target, &asked, fault))
        }
        Answer::Status(status) => return of_status(target, &asked, status),
        Answer::Silent(hop) => of_hop(address, &asked, hop),
    })
}

/// With host and path as the request had them.
fn asked(target: &Target) -> String {
    let path = &target.path;
    match &target.host {
        Some(host) => format!("(host {host}, path {path})"),
        None => format!("(path {path})"),
    }
}

fn certificate(target: &Target, asked: &str, fault: &Fault) -> String {
    let front = &target.front;
    let secret = target.certificate.as_ref().and_then(|c| c.secret.as_ref());
    let ours = secret.map_or_else(
        || "one for that host".to_owned(),
        |secret| format!("the one of Secret {secret}"),
    );
    match fault {
        Fault::Fake => format!(
            "{asked} presents ingress-nginx's \"Kubernetes Ingress Controller Fake Certificate\" instead of {ours}: the \
             controller has no usable certificate for the host, or no rule for it at all; check that the Secret exists and \
             covers the host, that exposure.hosts is set, and that {front} is the class of the controller at this address"
        ),
        Fault::Another { names } => format!(
            "{asked} presents another certificate than {ours}, for {names}: another Ingress has the host with its own \
             Secret, {front} has not taken up the Secret, or something before it ends TLS"
        ),
        Fault::NotForHost { names } => format!(
            "{asked} presents a certificate for {names}, which clients of that host refuse: check the Secret or listener \
             that {front} takes it from"
        ),
        Fault::NotValidNow => format!(
            "{asked} presents a certificate that has expired or is not valid yet: renew it, or check the clocks"
        ),
        Fault::Unreadable(why) => {
            format!("{asked} presents no certificate that can be read: {why}")
        }
    }
}

fn of_status(target: &Target, asked: &str, status: &Status) -> Option<Verdict> {
    let front = &target.front;
    let Status {
        code,
        server,
        location,
        reason,
    } = status;
    let server = server.as_ref().map(|server| format!(" ({server})"));
    let answered = format!("{asked} answered {code}{}", server.unwrap_or_default());
    if let Some(reason) = reason {
        return of_gateway(&answered, reason);
    }
    let (reason, means) = match code {
        404 => (
            "NotRouted",
            format!(
                "no rule for this host and path has reached the proxy; check that {front} is served by the controller at \
                 this address, and the controller's log"
            ),
        ),
        503 => (
            "NoEndpoints",
            "the proxy knows the rule and no ready gateway behind it; check the Service's endpoints, and that the \
             controller may read them"
                .to_owned(),
        ),
        502 | 504 => (
            "BadGateway",
            "the proxy does not reach the gateways; check NetworkPolicies between it and port 8000 of the pods, and \
             annotations that change the protocol to the upstream"
                .to_owned(),
        ),
        401 | 403 | 407 | 429 => (
            "RefusedInFront",
            "the proxy itself refuses the client; look for allow lists, deny lists, authentication or rate limits in the \
             Ingress's annotations and in the controller's ConfigMap"
                .to_owned(),
        ),
        200..=299 | 400 | 405 | 426 => (
            "UpgradeLost",
            "this is no answer to a WebSocket handshake; the headers Upgrade and Connection are lost on the way (F5: \
             nginx.org/websocket-services), or another server has this host and path"
                .to_owned(),
        ),
        300..=399 => {
            let to = location.as_ref().map(|to| format!(" to {to}"));
            (
                "Redirected",
                format!(
                    "WebSocket clients do not follow redirects{}; look for redirects in the Ingress's annotations and in \
                     the controller's ConfigMap",
                    to.unwrap_or_default()
                ),
            )
        }
        _ => (
            "UnexpectedAnswer",
            "a gateway would have answered 101; see the log of the proxy".to_owned(),
        ),
    };
    Some(Verdict::no(reason, format!("{answered}: {means}")))
}

/// A gateway was reached, and refused the handshake.
fn of_gateway(answered: &str, reason: &str) -> Option<Verdict> {
    Some(match reason {
        // It could have been anybody who asked so often.
        "TooManyProbes" => return None,
        "UnknownPath" => Verdict::no(
            "PathChanged",
            format!(
                "{answered}: a gateway was reached and knows no such path; an annotation rewrites it, or another WsGateway \
                 has the host"
            ),
        ),
        "NotUpgrade" | "UnsupportedVersion" | "Malformed" | "Method" => Verdict::no(
            "UpgradeLost",
            format!(
                "{answered}: a gateway was reached without the headers of a handshake ({reason}); the proxy does not pass \
                 Upgrade and Connection on (F5: nginx.org/websocket-services)"
            ),
        ),
        // It is of a version that knows no probe, and it was reached by a whole handshake.
        "UnsupportedSubprotocol" => Verdict::yes(
            "HandshakeAnswered",
            format!("{answered}: a gateway of an older version was reached by a handshake"),
        ),
        _ => Verdict::no(
            "UnexpectedAnswer",
            format!("{answered}: a gateway was reached and refused the probe: {reason}"),
        ),
    })
}

fn of_hop(address: &Address, asked: &str, hop: &Hop) -> Verdict {
    let secs = PROBE_TIMEOUT.as_secs();
    let (reason, message) = match hop {
        Hop::Local(ip) => (
            "AddressNotDialable",
            format!(
                "the address {ip} in the status means the machine of whoever connects: nobody can tell from here whether \
                 it works; start the operator with --probe-via for an address that it can reach"
            ),
        ),
        Hop::Name | Hop::Slow(Awaited::Name) => (
            "AddressUnknown",
            format!(
                "the name {} has no address here: the load balancer's DNS may need some minutes",
                address.host
            ),
        ),
        Hop::Refused => (
            "ConnectionRefused",
            format!(
                "nobody listens at {asked}: the proxy does not run, has no such port, or is not reached there from inside \
                 the cluster (--probe-via)"
            ),
        ),
        Hop::Unroutable(why) => (
            "NoRouteToAddress",
            format!("there is no way to {asked} from here: {why}; see --probe-via"),
        ),
        Hop::Slow(Awaited::Connection) => (
            "NoAnswer",
            format!(
                "nothing answers at {asked} within {secs} s: a firewall or NetworkPolicy drops it, or the address is not \
                 reached from inside the cluster (--probe-via)"
            ),
        ),
        Hop::Slow(awaited) => (
            "NoAnswer",
            format!(
                "{asked} took the connection, and no {} came within {secs} s",
                awaited.word()
            ),
        ),
        Hop::Cut(Awaited::Tls) => (
            "TlsHandshakeFailed",
            format!(
                "{asked} cut the connection during the TLS handshake: the proxy has no certificate for the host, or does \
                 not speak TLS there"
            ),
        ),
        Hop::Cut(awaited) => (
            "ConnectionCut",
            format!(
                "{asked} cut the connection before the {} came",
                awaited.word()
            ),
        ),
        Hop::Tls(why) => (
            "TlsHandshakeFailed",
            format!("{asked} and the operator do not agree on TLS: {why}"),
        ),
        Hop::NotHttp(why) => ("NoHttp", format!("what {asked} answers is no HTTP: {why}")),
    };
    Verdict::unknown(reason, message)
}

impl Awaited {
    const fn word(self) -> &'static str {
        match self {
            Self::Name => "address",
            Self::Connection => "connection",
            Self::Tls => "TLS handshake",
            Self::Answer => "answer to the handshake",
            Self::Pong => "pong",
        }
    }
}
