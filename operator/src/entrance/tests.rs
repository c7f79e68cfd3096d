use serde_json::json;
use wsgateway_nginx_ingress::value::ObjectName;

use super::{
    certificate::Fault,
    dial::{Answer, Awaited, Hop, Status},
    events::Quote,
    judge::{is_of_probe, judge, with_quote},
    *,
};
use crate::status::Holds;

#[test]
fn a_route_is_judged_by_what_its_gateways_say() {
    let check = |status: Value, reason: Option<&str>| {
        let route = json!({ "status": status });
        let verdict = refused_route(Some(&route));
        assert_eq!(verdict.as_ref().map(|verdict| &*verdict.reason), reason);
    };
    let parent = |accepted: &str, resolved: &str| {
        json!({"parents": [{"parentRef": {"name": "public"}, "conditions": [
            {"type": "Accepted", "status": accepted, "reason": "NoMatchingListenerHostname"},
            {"type": "ResolvedRefs", "status": resolved, "reason": "BackendNotFound"},
        ]}]})
    };
    check(json!(null), Some("NoParent"));
    check(json!({"parents": []}), Some("NoParent"));
    check(parent("False", "True"), Some("RouteRefused"));
    check(parent("True", "False"), Some("RouteRefused"));
    check(parent("True", "True"), None);
}

#[test]
fn an_address_is_an_ip_or_a_name() {
    let check = |points: Value, expected: &[&str]| {
        let object = json!({"status": {"loadBalancer": {"ingress": points}}});
        let found = balancer_addresses(&object, 443);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    };
    check(json!(null), &[]);
    check(json!([]), &[]);
    check(json!([{"ip": "", "hostname": ""}]), &[]);
    check(json!([{"ip": "192.0.2.1"}]), &["192.0.2.1:443"]);
    check(
        json!([{"ip": "2001:db8::1"}, {"hostname": "a.example.com"}]),
        &["[2001:db8::1]:443", "a.example.com:443"],
    );
}

#[test]
fn a_route_hangs_on_the_listener_that_it_names_or_on_one_for_its_host() {
    let gateway = json!({"spec": {"listeners": [
        {"name": "http", "port": 80, "protocol": "HTTP"},
        {"name": "tls", "port": 8443, "protocol": "HTTPS", "hostname": "*.example.com"},
        {"name": "raw", "port": 9, "protocol": "TCP"},
    ]}});
    let check = |section: Option<&str>, host: Option<&str>, expected: Option<(u16, bool)>| {
        let parent = ParentRef {
            name: ObjectName::new("public").unwrap(),
            section_name: section.map(|name| ObjectName::new(name).unwrap()),
        };
        let found = listener(&gateway, &parent, host);
        let found = found.map(|listener| (listener.port, listener.is_tls));
        assert_eq!(found, expected, "{section:?} {host:?}");
    };
    check(None, Some("a.example.com"), Some((8443, true)));
    check(None, Some("example.org"), Some((80, false)));
    check(None, None, Some((8443, true)));
    check(Some("http"), Some("a.example.com"), Some((80, false)));
    check(Some("raw"), None, None);
    check(Some("none"), None, None);
}

fn address(ip: &str) -> Address {
    Address::of_status(ip, 443)
}

fn target() -> Target {
    Target {
        addresses: vec![address("192.0.2.1")],
        host: Some("a.test".to_owned()),
        path: "/ws".to_owned(),
        certificate: Some(Expected {
            leaf: None,
            secret: Some("a-tls".to_owned()),
        }),
        front: "IngressClass nginx".to_owned(),
    }
}

fn judged(answers: &[Answer]) -> Option<Verdict> {
    let answers = answers.iter().cloned();
    let answers: Vec<_> = answers
        .map(|answer| (address("192.0.2.1"), answer))
        .collect();
    judge(&target(), &answers)
}

fn status(code: u16, reason: Option<&str>) -> Answer {
    Answer::Status(Status {
        code,
        server: Some("nginx".to_owned()),
        location: Some("https://b.test/".to_owned()),
        reason: reason.map(ToOwned::to_owned),
    })
}

#[test]
fn each_answer_has_a_reason_and_a_sentence_that_says_what_to_do() {
    let names = || "b.test".to_owned();
    #[rustfmt::skip] // A row a line.
    let table = [
        (Answer::Gateway, Holds::True, "HandshakeAnswered", "192.0.2.1:443 (host a.test, path /ws)"),
        (Answer::Upgraded, Holds::False, "AnotherServer", "is no gateway"),
        (Answer::Certificate(Fault::Fake), Holds::False, "WrongCertificate", "Secret a-tls"),
        (Answer::Certificate(Fault::Another { names: names() }), Holds::False, "WrongCertificate", "for b.test"),
        (Answer::Certificate(Fault::NotForHost { names: names() }), Holds::False, "WrongCertificate", "for b.test"),
        (Answer::Certificate(Fault::NotValidNow), Holds::False, "WrongCertificate", "expired"),
        (status(404, None), Holds::False, "NotRouted", "answered 404 (nginx)"),
        (status(503, None), Holds::False, "NoEndpoints", "endpoints"),
        (status(502, None), Holds::False, "BadGateway", "does not reach the gateways"),
        (status(504, None), Holds::False, "BadGateway", "does not reach the gateways"),
        (status(401, None), Holds::False, "RefusedInFront", "annotations"),
        (status(403, None), Holds::False, "RefusedInFront", "ConfigMap"),
        (status(200, None), Holds::False, "UpgradeLost", "Upgrade and Connection"),
        (status(400, None), Holds::False, "UpgradeLost", "Upgrade and Connection"),
        (status(426, Some("NotUpgrade")), Holds::False, "UpgradeLost", "websocket-services"),
        (status(308, None), Holds::False, "Redirected", "https://b.test/"),
        (status(500, None), Holds::False, "UnexpectedAnswer", "log of the proxy"),
        (status(404, Some("UnknownPath")), Holds::False, "PathChanged", "rewrites"),
        (status(400, Some("UnsupportedSubprotocol")), Holds::True, "HandshakeAnswered", "older version"),
        (Answer::Silent(Hop::Local([127, 0, 0, 1].into())), Holds::Unknown, "AddressNotDialable", "--probe-via"),
        (Answer::Silent(Hop::Name), Holds::Unknown, "AddressUnknown", "DNS"),
        (Answer::Silent(Hop::Refused), Holds::Unknown, "ConnectionRefused", "nobody listens"),
        (Answer::Silent(Hop::Unroutable("no route".to_owned())), Holds::Unknown, "NoRouteToAddress", "no route"),
        (Answer::Silent(Hop::Slow(Awaited::Connection)), Holds::Unknown, "NoAnswer", "firewall"),
        (Answer::Silent(Hop::Slow(Awaited::Pong)), Holds::Unknown, "NoAnswer", "no pong"),
        (Answer::Silent(Hop::Cut(Awaited::Answer)), Holds::Unknown, "ConnectionCut", "answer to the handshake"),
        (Answer::Silent(Hop::Cut(Awaited::Tls)), Holds::Unknown, "TlsHandshakeFailed", "no certificate for the host"),
        (Answer::Silent(Hop::Tls("alert".to_owned())), Holds::Unknown, "TlsHandshakeFailed", "alert"),
        (Answer::Silent(Hop::NotHttp("x".to_owned())), Holds::Unknown, "NoHttp", "no HTTP"),
    ];
    for (answer, holds, reason, part) in table {
        let verdict = judged(std::slice::from_ref(&answer)).unwrap();
        assert_eq!((verdict.holds, &*verdict.reason), (holds, reason));
        assert!(verdict.message.contains(part), "{}", verdict.message);
        assert!(is_of_probe(reason), "{reason}");
    }
    assert_eq!(judged(&[status(429, Some("TooManyProbes"))]), None);
}

#[test]
fn what_is_wrong_with_one_address_is_wrong() {
    let refused = Answer::Silent(Hop::Refused);
    let local = Answer::Silent(Hop::Local([127, 0, 0, 1].into()));
    let check = |answers: &[Answer], reason: &str| {
        assert_eq!(judged(answers).unwrap().reason, reason);
    };
    check(&[Answer::Gateway, Answer::Gateway], "HandshakeAnswered");
    check(&[Answer::Gateway, status(404, None)], "NotRouted");
    check(&[Answer::Gateway, refused.clone()], "ConnectionRefused");
    check(&[refused, status(404, None)], "NotRouted");
    check(&[local.clone(), Answer::Gateway], "HandshakeAnswered");
    check(&[local], "AddressNotDialable");
}

#[test]
fn the_controllers_own_words_are_quoted() {
    let quote = |is_rejection| Quote {
        by: "nginx-ingress-controller".to_owned(),
        reason: "Rejected".to_owned(),
        note: "all hosts are taken".to_owned(),
        is_rejection,
    };
    let check = |verdict: Verdict, is_rejection: bool, expected: (Holds, &str, bool)| {
        let verdict = with_quote(verdict, Some(&quote(is_rejection)));
        let is_quoted = verdict.message.contains("Rejected: all hosts are taken");
        assert_eq!((verdict.holds, &*verdict.reason, is_quoted), expected);
    };
    let no_address = || Verdict::unknown("NoAddress", "none");
    check(no_address(), true, (Holds::False, "IngressRejected", true));
    check(no_address(), false, (Holds::Unknown, "NoAddress", true));
    let not_routed = || Verdict::no("NotRouted", "404");
    check(not_routed(), true, (Holds::False, "IngressRejected", true));
    check(not_routed(), false, (Holds::False, "NotRouted", true));
    let answered = Verdict::yes("HandshakeAnswered", "a");
    check(answered, true, (Holds::True, "HandshakeAnswered", false));
}
