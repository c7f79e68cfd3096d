//! Sessions that their issuer ends: a logout token at one gateway, and the sockets on all of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr)] // A test's own functions.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use wsgateway_e2e::{
    gateway::Gateway,
    http::{self, Response},
    issuer::{Issuer, SigningKey, now},
    local::Local,
    nats::NatsServer,
    needs,
    row::row,
    socket::{Endpoint, RawSocket, Received, bearer},
    wait::{SOON, until_true},
};

const SUBJECT: &str = "wsgateway.test.ws.logout";
const PATH: &str = "/.wsgateway/backchannel-logout/test";
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

fn live(issuer: &Issuer) -> String {
    format!(
        "
auth:
  tokenSources: [{{type: Header}}]
  expiryJitter: 0s
  logoutSubject: {SUBJECT}
  providers:
    - {{name: test, issuer: \"{}\", audiences: [wsgateway], authorizedParties: [web], leeway: 2s, keys: {{type: Discovery}}, backchannelLogout: Enabled}}
routes:
  - {{name: ws, path: /ws, fromClient: {{type: Echo}}}}
",
        issuer.url()
    )
}

fn start(count: usize) -> (NatsServer, Issuer, Vec<Gateway>) {
    let (nats, issuer) = (NatsServer::start(), Issuer::start());
    let gateway = |_| Gateway::start(&nats.url(), &live(&issuer));
    let gateways = (0..count).map(gateway).collect();
    until_true("every gateway hears of logouts", SOON, || {
        nats.subscriptions_to(SUBJECT) == count
    });
    (nats, issuer, gateways)
}

/// An access token of a session.
fn access(issuer: &Issuer, changes: &Value) -> String {
    let mut claims = json!({"azp": "web", "sid": "s1", "iat": now()});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    issuer.token(&claims)
}

/// The claims of a logout token as Keycloak 26 writes them, with these changes; `null` takes one away.
fn logout_claims(issuer: &Issuer, changes: &Value) -> Value {
    let mut claims = json!({
        "aud": "web", "sid": "s1", "iat": now(), "exp": now() + 120, "jti": "j1", "typ": "Logout", "events": {EVENT: {}},
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    issuer.claims(&claims)
}

fn logout(issuer: &Issuer, changes: &Value) -> String {
    let header = issuer.header(&json!({"typ": "logout+jwt"}));
    let claims = logout_claims(issuer, changes);
    issuer.key().sign(&header.to_string(), &claims.to_string())
}

fn post(gateway: &Gateway, body: &str) -> Response {
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    http::post(gateway.address(), PATH, form, body)
}

fn send(gateway: &Gateway, token: &str) -> Response {
    post(gateway, &format!("logout_token={token}"))
}

fn shake(gateway: &Gateway, token: &str) -> (u16, String) {
    let answer = RawSocket::connect(gateway.address()).upgrade("/ws", &bearer(token));
    let reason = answer.header("wsgateway-reason").unwrap_or_default();
    (answer.status, reason.to_owned())
}

fn open(gateway: &Gateway, token: &str) -> RawSocket {
    RawSocket::open_with(
        Endpoint::default(),
        gateway.address(),
        "/ws",
        &bearer(token),
    )
}

fn logouts(gateway: &Gateway, from: &str, result: &str) -> f64 {
    let labels = [("from", from), ("result", result)];
    gateway
        .metrics()
        .sum("wsgateway_auth_logouts_total", &labels)
}

#[test]
fn a_logout_at_one_gateway_closes_the_sessions_sockets_on_all_and_no_others() {
    const EACH: usize = 20;
    needs!(NatsServer);
    let (_nats, issuer, gateways) = start(3);
    let token = access(&issuer, &json!({}));
    let sessionless = access(&issuer, &json!({"sid": null}));
    let others = [
        access(&issuer, &json!({"sid": "s2"})),
        access(&issuer, &json!({"sub": "bob", "sid": "s3"})),
        access(&issuer, &json!({"sub": "bob", "sid": null})),
    ];
    let mut ended = Vec::new();
    let mut staying = Vec::new();
    for gateway in &gateways {
        ended.extend((0..EACH).map(|_| open(gateway, &token)));
        // Whose session that is nobody can tell, so it goes with any of its subject.
        ended.push(open(gateway, &sessionless));
        staying.extend(others.iter().map(|other| open(gateway, other)));
    }
    let started = Instant::now();
    let said = send(&gateways[0], &logout(&issuer, &json!({})));
    let answered = started.elapsed();
    assert_eq!(
        (said.status, said.header("cache-control")),
        (200, Some("no-store"))
    );
    for socket in &mut ended {
        assert_eq!(socket.closed(SOON), Some(4401));
    }
    let took = started.elapsed();
    eprintln!(
        "a logout: answered after {answered:?}, {} sockets on 3 gateways closed after {took:?}",
        ended.len()
    );
    assert!(took < Duration::from_secs(1), "{took:?}");
    for gateway in &gateways {
        let labels = [("reason", "LoggedOut"), ("code", "4401")];
        gateway.await_metric(
            "wsgateway_connections_closed_total",
            &labels,
            (EACH + 1) as f64,
        );
    }
    for socket in &mut staying {
        assert_eq!(socket.receive(Duration::from_millis(50)), Received::Nothing);
    }

    // The token still holds, and opens nothing any more on any of them.
    let refused = (401, "LoggedOut".to_owned());
    for gateway in &gateways {
        assert_eq!(shake(gateway, &token), refused);
        assert_eq!(shake(gateway, &sessionless), refused);
        assert_eq!(shake(gateway, &others[0]).0, 101);
    }
    // What the issuer says again is not told again.
    let again = send(&gateways[1], &logout(&issuer, &json!({"iat": now() - 5})));
    assert_eq!(again.status, 200);
    assert!((logouts(&gateways[1], "issuer", "repeated") - 1.0).abs() < 0.5);
    for (gateway, from) in gateways.iter().zip(["issuer", "gateways", "gateways"]) {
        assert!((logouts(gateway, from, "accepted") - 1.0).abs() < 0.5);
    }
}

#[test]
fn a_logout_of_a_subject_ends_all_its_sessions_and_not_the_next() {
    needs!(NatsServer);
    let (_nats, issuer, gateways) = start(2);
    let before = now() - 10;
    let mut sockets: Vec<_> = ["s1", "s2"]
        .iter()
        .map(|sid| {
            open(
                &gateways[1],
                &access(&issuer, &json!({"sid": sid, "iat": before})),
            )
        })
        .collect();
    let all = logout(
        &issuer,
        &json!({"sid": null, "sub": "ann", "iat": now() - 5}),
    );
    assert_eq!(send(&gateways[0], &all).status, 200);
    for socket in &mut sockets {
        assert_eq!(socket.closed(SOON), Some(4401));
    }
    // Who has logged in since then is somebody else, to the gateway.
    for gateway in &gateways {
        open(gateway, &access(&issuer, &json!({"sid": "s4"})));
    }
}

#[test]
fn each_wrong_logout_token_is_refused_with_its_reason_and_ends_nothing() {
    needs!(NatsServer);
    let (nats, issuer, gateways) = start(2);
    let mut stays = open(&gateways[0], &access(&issuer, &json!({})));
    let with = |changes: Value| logout(&issuer, &changes);
    let headed = |header: Value| {
        let claims = logout_claims(&issuer, &json!({})).to_string();
        issuer
            .key()
            .sign(&issuer.header(&header).to_string(), &claims)
    };
    let stranger = SigningKey::make("first");
    let usual = issuer.header(&json!({"typ": "logout+jwt"})).to_string();
    let forged = stranger.sign(&usual, &logout_claims(&issuer, &json!({})).to_string());
    #[rustfmt::skip] // A row a line.
    let table = [
        ("an access token", access(&issuer, &json!({})), "LogoutEvent"),
        ("an access token for the client", access(&issuer, &json!({"aud": "web"})), "LogoutEvent"),
        ("said to be an access token", with(json!({"typ": "Bearer"})), "TokenType"),
        ("with the header of one", headed(json!({"typ": "at+jwt"})), "TokenType"),
        ("signed by another", forged.clone(), "TokenSignature"),
        ("alg none", headed(json!({"alg": "none"})), "TokenAlgorithm"),
        ("HMAC with the public key", headed(json!({"alg": "HS256"})), "TokenAlgorithm"),
        ("for another client", with(json!({"aud": "shop"})), "TokenAudience"),
        ("for nobody", with(json!({"aud": null})), "TokenAudience"),
        ("of another issuer", with(json!({"iss": "https://evil.example"})), "TokenIssuer"),
        ("expired", with(json!({"exp": now() - 3})), "TokenExpired"),
        ("without an end", with(json!({"exp": null})), "TokenMalformed"),
        ("issued later", with(json!({"iat": now() + 60})), "TokenNotYetValid"),
        ("without a time", with(json!({"iat": null})), "LogoutClaimMissing"),
        ("without an id", with(json!({"jti": null})), "LogoutClaimMissing"),
        ("without an event", with(json!({"events": null})), "LogoutEvent"),
        ("of another event", with(json!({"events": {"x": {}}})), "LogoutEvent"),
        ("whose event is no object", with(json!({"events": {EVENT: true}})), "LogoutEvent"),
        ("with a nonce", with(json!({"nonce": "n"})), "LogoutNonce"),
        ("of nobody", with(json!({"sid": null, "sub": null})), "LogoutNobody"),
        ("oversized", with(json!({"pad": "x".repeat(8 << 10)})), "TokenTooLong"),
        ("no token", "x".to_owned(), "TokenMalformed"),
    ];
    for (what, token, expected) in &table {
        row(what, || {
            let before = logouts(&gateways[0], "issuer", expected);
            let said = send(&gateways[0], token);
            let error: Value = serde_json::from_slice(&said.body).unwrap();
            assert_eq!(
                (said.status, error["error"].as_str()),
                (400, Some("invalid_request"))
            );
            assert_eq!(said.header("cache-control"), Some("no-store"));
            let after = logouts(&gateways[0], "issuer", expected);
            assert!((after - before - 1.0).abs() < 0.5, "{expected}: {said:?}");
        });
    }
    let good = logout(&issuer, &json!({}));
    for (what, body) in [
        ("nothing", String::new()),
        ("another field", format!("token={good}")),
        ("two", format!("logout_token={good}&logout_token={good}")),
        (
            "too much",
            format!("logout_token={good}&pad={}", "x".repeat(64 << 10)),
        ),
    ] {
        row(what, || assert_eq!(post(&gateways[0], &body).status, 400));
    }
    let body = format!("logout_token={good}");
    let json = "Content-Type: application/json\r\n";
    assert_eq!(
        http::post(gateways[0].address(), PATH, json, &body).status,
        400
    );
    let get = http::get(gateways[0].address(), PATH);
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    // No such provider, and nothing is said of which there are.
    let other = PATH.replace("/test", "/other");
    assert_eq!(
        http::post(gateways[0].address(), &other, json, &body).status,
        404
    );

    // Whoever may publish there can log nobody out.
    // One that was good once is: it may come late, since a session that is over stays so.
    let wrong = table.iter().filter(|(what, ..)| *what != "expired");
    for (_, token, _) in wrong {
        nats.client().publish(SUBJECT, token);
    }
    gateways[0].await_metric(
        "wsgateway_auth_logouts_total",
        &[("from", "gateways")],
        (table.len() - 1) as f64,
    );
    assert!(logouts(&gateways[0], "gateways", "accepted").abs() < 0.5);
    assert_eq!(stays.receive(Duration::from_millis(100)), Received::Nothing);
    // But what the issuer has signed holds, whoever brings it.
    nats.client().publish(SUBJECT, &good);
    assert_eq!(stays.closed(SOON), Some(4401));
    let said = gateways[0].process.lines().join("\n");
    assert!(!said.contains(&good[..20]), "{said}");
}

#[test]
fn a_gateway_that_starts_later_hears_of_logouts_before() {
    needs!(NatsServer);
    let (nats, issuer, gateways) = start(2);
    let token = access(&issuer, &json!({}));
    let other = access(&issuer, &json!({"sid": "s2"}));
    // The logout token itself has expired by the time that it is told again.
    let logout = logout(&issuer, &json!({"exp": now() + 1}));
    assert_eq!(send(&gateways[0], &logout).status, 200);
    until_true("the logout token has expired", SOON, || {
        send(&gateways[0], &logout).status == 400
    });
    let late = Gateway::start(&nats.url(), &live(&issuer));
    until_true("it knows of the logout", SOON, || {
        shake(&late, &token) == (401, "LoggedOut".to_owned())
    });
    assert_eq!(shake(&late, &other).0, 101);
    // One of the two that knew has told it, and both had no need to verify it again.
    assert!((logouts(&late, "gateways", "accepted") - 1.0).abs() < 0.5);
    assert!((logouts(&gateways[1], "gateways", "accepted") - 1.0).abs() < 0.5);
    // Nobody is logged out by what was never believed, however late it comes.
    let forged = SigningKey::make("first").sign(
        &issuer.header(&json!({"typ": "logout+jwt"})).to_string(),
        &logout_claims(&issuer, &json!({"sid": "s2", "exp": now() - 60})).to_string(),
    );
    nats.client().publish(SUBJECT, forged);
    let labels = [("from", "gateways"), ("result", "TokenSignature")];
    late.await_metric("wsgateway_auth_logouts_total", &labels, 1.0);
    assert_eq!(shake(&late, &other).0, 101);
}

#[test]
fn without_nats_the_issuer_is_told_to_come_again_and_the_others_hear_when_nats_is_back() {
    needs!(NatsServer);
    let (mut nats, issuer, gateways) = start(2);
    let token = access(&issuer, &json!({}));
    let mut here = open(&gateways[0], &token);
    let mut there = open(&gateways[1], &token);
    nats.kill();
    gateways[0].await_metric("wsgateway_nats_connected", &[], 0.0);
    let logout = logout(&issuer, &json!({}));
    let said = send(&gateways[0], &logout);
    assert_eq!((said.status, said.header("retry-after")), (503, Some("2")));
    assert_eq!(here.closed(SOON), Some(4401));
    assert_eq!(there.receive(Duration::from_millis(100)), Received::Nothing);
    nats.restart();
    // Whether the issuer asks again or not.
    assert_eq!(there.closed(SOON), Some(4401));
    assert_eq!(send(&gateways[0], &logout).status, 200);
}

#[test]
fn who_sends_a_body_slowly_keeps_neither_issuers_nor_clients_waiting() {
    // More than the answers that a shard has under way at once, on each of two.
    const SLOW: usize = 1_200;
    needs!(NatsServer);
    let (_nats, issuer, gateways) = start(1);
    let gateway = &gateways[0];
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: 100\r\n\r\nlogout_token="
    );
    let mut slow: Vec<_> = (0..SLOW)
        .map(|_| {
            let mut socket = RawSocket::connect(gateway.address());
            socket.send(&head);
            socket
        })
        .collect();
    let token = access(&issuer, &json!({}));
    let mut socket = open(gateway, &token);
    // All of them have an answer, long before a handshake would be given up.
    for socket in &mut slow {
        let status = socket.head(Duration::from_secs(8)).unwrap().status;
        assert!(matches!(status, 400 | 429), "{status}");
    }
    assert_eq!(send(gateway, &logout(&issuer, &json!({}))).status, 200);
    assert_eq!(socket.closed(SOON), Some(4401));
}

#[test]
fn the_path_is_exposed_beside_the_routes_and_one_logout_ends_all_behind_the_proxy() {
    needs!(NatsServer, Nginx, Wsgw);
    let issuer = Issuer::start();
    let local = Local::start(&format!(
        "replicas: 3
auth:
  providers: [{{name: test, type: OIDC, oidc: {{issuer: \"{}\", audiences: [wsgateway], authorizedParties: [web], backchannelLogout: Enabled}}}}]
routes: [{{name: ws, path: /ws}}]
exposure: {{affinity: None}}",
        issuer.url()
    ));
    let bearer = format!("Authorization: Bearer {}\r\n", access(&issuer, &json!({})));
    let open = |_| {
        let mut socket = RawSocket::connect(local.http());
        let answer = socket.upgrade("/ws", &bearer);
        assert_eq!(answer.status, 101, "{answer:?}");
        socket
    };
    let mut sockets: Vec<_> = (0..9).map(open).collect();
    let busy = || {
        let metrics = local.metrics();
        let open = metrics.series("wsgateway_connections");
        open.filter(|(_, value)| *value > 0.5).count()
    };
    until_true("every worker has connections", SOON, || busy() == 3);
    let form = "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n";
    let body = format!("logout_token={}", logout(&issuer, &json!({})));
    let said = http::post(local.http(), PATH, form, &body);
    assert_eq!(said.status, 200, "{said:?}");
    for socket in &mut sockets {
        assert_eq!(socket.closed(SOON), Some(4401));
    }
    let wrong = http::post(local.http(), PATH, form, "logout_token=x");
    assert_eq!(
        (wrong.status, wrong.header("cache-control")),
        (400, Some("no-store"))
    );
    let other = http::post(local.http(), &PATH.replace("/test", "/other"), form, &body);
    assert_eq!(other.status, 404);
}

#[test]
fn a_storm_of_logouts_is_carried_out() {
    const SESSIONS: usize = 200;
    needs!(NatsServer);
    let (_nats, issuer, gateways) = start(2);
    let of = |number: usize| json!({"sid": format!("storm-{number}")});
    let mut sockets: Vec<_> = (0..SESSIONS)
        .map(|number| open(&gateways[1], &access(&issuer, &of(number))))
        .collect();
    let tokens: Vec<_> = (0..SESSIONS)
        .map(|number| logout(&issuer, &of(number)))
        .collect();
    let started = Instant::now();
    thread::scope(|scope| {
        for part in tokens.chunks(SESSIONS / 4) {
            let gateway = &gateways[0];
            scope.spawn(move || {
                for token in part {
                    assert_eq!(send(gateway, token).status, 200);
                }
            });
        }
    });
    for socket in &mut sockets {
        assert_eq!(socket.closed(SOON), Some(4401));
    }
    eprintln!(
        "{SESSIONS} logouts at one gateway, sockets on another: {:?}",
        started.elapsed()
    );
}
