//! Who may connect, and for how long: tokens good and bad, keys that change, and issuers that go away.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::{thread, time::Duration};

use serde_json::{Value, json};
use wsgateway_e2e::{
    gateway::Gateway,
    issuer::{Issuer, SigningKey, encode, now},
    nats::NatsServer,
    needs,
    row::row,
    socket::{Endpoint, RawSocket, Received, bearer},
    wait::SOON,
};

/// The part `live` with an issuer; `auth` and `routes` are what a test adds.
fn live(issuer: &Issuer, auth: &str, routes: &str) -> String {
    format!(
        "
auth:
  tokenSources: [{{type: Header}}, {{type: Subprotocol}}]
  expiryJitter: 0s
  providers: [{{name: test, issuer: \"{}\", audiences: [wsgateway], leeway: 2s, keys: {{type: Discovery}}}}]{auth}
routes:
  - {{name: ws, path: /ws, fromClient: {{type: Echo}}}}{routes}
",
        issuer.url()
    )
}

fn start(auth: &str, routes: &str) -> (NatsServer, Issuer, Gateway) {
    let (nats, issuer) = (NatsServer::start(), Issuer::start());
    let gateway = Gateway::start(&nats.url(), &live(&issuer, auth, routes));
    (nats, issuer, gateway)
}

/// The status of a handshake, and the reason of one that is refused.
fn shake(gateway: &Gateway, path: &str, headers: &str) -> (u16, String) {
    let answer = RawSocket::connect(gateway.address()).upgrade(path, headers);
    let reason = answer
        .header("wsgateway-reason")
        .unwrap_or_default()
        .to_owned();
    (answer.status, reason)
}

fn open(gateway: &Gateway, path: &str, token: &str) -> RawSocket {
    RawSocket::open_with(Endpoint::default(), gateway.address(), path, &bearer(token))
}

#[test]
fn each_hostile_token_is_refused_with_its_reason_and_counted() {
    needs!(NatsServer);
    let (_nats, issuer, gateway) = start("", "");
    let good = issuer.token(&json!({}));
    let (signed, _) = good.rsplit_once('.').unwrap();
    let claimed = |changes: Value| issuer.token(&changes);
    let with_header = |changes: Value| issuer.headed(&changes);
    let doubled = format!(
        "{{\"aud\":\"wsgateway\",{}",
        &issuer.claims(&json!({})).to_string()[1..]
    );
    let header = issuer.header(&json!({})).to_string();
    let none = encode(r#"{"alg":"none"}"#);
    let claims = encode(issuer.claims(&json!({})).to_string());
    let stranger = SigningKey::make("first");
    #[rustfmt::skip] // A row a line.
    let table = [
        ("alg none", format!("{none}.{claims}."), "TokenAlgorithm"),
        ("HMAC with the public key", with_header(json!({"alg": "HS256"})), "TokenAlgorithm"),
        ("another algorithm", with_header(json!({"alg": "RS256"})), "TokenAlgorithm"),
        ("a key of its own", stranger.sign(&issuer.header(&json!({"jwk": stranger.jwk()})).to_string(), &issuer.claims(&json!({})).to_string()), "TokenSignature"),
        ("no signature", format!("{signed}."), "TokenSignature"),
        ("truncated", good[..good.len() - 2].to_owned(), "TokenSignature"),
        ("truncated by one", good[..good.len() - 1].to_owned(), "TokenMalformed"),
        ("two parts", signed.to_owned(), "TokenMalformed"),
        ("oversized", claimed(json!({"pad": "x".repeat(8 << 10)})), "TokenTooLong"),
        ("a doubled claim", issuer.key().sign(&header, &doubled), "TokenDoubledMember"),
        ("a doubled header", issuer.key().sign(&format!("{{\"alg\":\"none\",{}", &header[1..]), &issuer.claims(&json!({})).to_string()), "TokenDoubledMember"),
        ("another issuer", claimed(json!({"iss": "https://evil.example"})), "TokenIssuer"),
        ("the issuer with a slash", claimed(json!({"iss": format!("{}/", issuer.url())})), "TokenIssuer"),
        ("another audience", claimed(json!({"aud": "account"})), "TokenAudience"),
        ("no audience", claimed(json!({"aud": null})), "TokenAudience"),
        ("expired", claimed(json!({"exp": now() - 3})), "TokenExpired"),
        ("without an end", claimed(json!({"exp": null})), "TokenMalformed"),
        ("not yet valid", claimed(json!({"nbf": now() + 60})), "TokenNotYetValid"),
        ("an ID token", claimed(json!({"typ": "ID"})), "TokenType"),
        ("a logout token", with_header(json!({"typ": "logout+jwt"})), "TokenType"),
        ("bound to a key", claimed(json!({"cnf": {"jkt": "x"}})), "TokenSenderConstrained"),
    ];
    for (what, token, expected) in &table {
        row(what, || {
            let count = || {
                gateway.metrics().sum(
                    "wsgateway_handshakes_refused_total",
                    &[("reason", expected)],
                )
            };
            let before = count();
            let mut socket = RawSocket::connect(gateway.address());
            let answer = socket.upgrade("/ws", &bearer(token));
            assert_eq!(
                (answer.status, answer.header("wsgateway-reason")),
                (401, Some(*expected)),
                "{answer:?}"
            );
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
            assert!((count() - before - 1.0).abs() < 0.5);
        });
    }
    let none = RawSocket::connect(gateway.address()).upgrade("/ws", "");
    assert_eq!(
        (none.status, none.header("www-authenticate")),
        (401, Some("Bearer realm=\"wsgateway\""))
    );
    open(&gateway, "/ws", &good);
    // None of them was worth a look at the issuer's keys.
    assert_eq!(issuer.fetches(), 1);
}

#[test]
fn ten_thousand_unknown_keys_cost_the_issuer_one_fetch() {
    const THREADS: usize = 4;
    needs!(NatsServer);
    let (_nats, issuer, gateway) = start("", "");
    assert_eq!(issuer.fetches(), 1);
    let address = gateway.address();
    let flood = |thread: usize| {
        let tokens: Vec<_> = (0..10_000 / THREADS)
            .map(|number| issuer.headed(&json!({"kid": format!("{thread}-{number}")})))
            .collect();
        thread::spawn(move || {
            for token in tokens {
                let answer = RawSocket::connect(address).upgrade("/ws", &bearer(&token));
                // The first are answered once the keys have been looked at; who comes later cannot be told yet.
                assert!(matches!(answer.status, 401 | 503), "{answer:?}");
            }
        })
    };
    let threads: Vec<_> = (0..THREADS).map(flood).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(issuer.fetches(), 2);
    let late =
        RawSocket::connect(address).upgrade("/ws", &bearer(&issuer.headed(&json!({"kid": "x"}))));
    assert_eq!(
        (late.status, late.header("wsgateway-reason")),
        (503, Some("KeysUnavailable"))
    );
    let seconds: u64 = late.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    // Whoever has a good one is not held up.
    open(&gateway, "/ws", &issuer.token(&json!({})));
}

#[test]
fn keys_are_rotated_and_the_issuer_goes_away_and_nobody_with_a_good_token_is_refused() {
    needs!(NatsServer);
    let (_nats, mut issuer, gateway) = start("", "");
    let old = issuer.token(&json!({}));
    open(&gateway, "/ws", &old);
    issuer.rotate("second");
    let new = issuer.token(&json!({}));
    // All at once, and all of them first.
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| open(&gateway, "/ws", &new));
        }
    });
    open(&gateway, "/ws", &old);
    assert_eq!(issuer.fetches(), 2);
    issuer.go_away();
    open(&gateway, "/ws", &old);
    open(&gateway, "/ws", &new);
    // What is signed with a key that nobody here has seen cannot be told from a forgery, and is not called one.
    issuer.rotate("third");
    let unseen = issuer.token(&json!({}));
    let unavailable = (503, "KeysUnavailable".to_owned());
    assert_eq!(shake(&gateway, "/ws", &bearer(&unseen)), unavailable);
}

#[test]
fn a_token_is_taken_from_where_the_configuration_looks_for_it() {
    needs!(NatsServer);
    let (nats, issuer) = (NatsServer::start(), Issuer::start());
    let sources =
        "[{type: Header}, {type: Subprotocol}, {type: Cookie, name: token}, {type: Query}]";
    let live = live(&issuer, "", "").replace("[{type: Header}, {type: Subprotocol}]", sources)
        + "websocket: {allowedOrigins: [SameHost]}\n";
    let gateway = Gateway::start(&nats.url(), &live);
    let token = issuer.token(&json!({}));
    let answer =
        |path: &str, headers: &str| RawSocket::connect(gateway.address()).upgrade(path, headers);

    let offered = format!("Sec-WebSocket-Protocol: wsgateway.bearer.{token}, wsgateway.plain\r\n");
    let found = answer("/ws", &offered);
    assert_eq!(
        (found.status, found.header("sec-websocket-protocol")),
        (101, Some("wsgateway.plain"))
    );
    // Alone it is an offer without a name that could be chosen, which a browser would take for a failure.
    let alone = format!("Sec-WebSocket-Protocol: wsgateway.bearer.{token}\r\n");
    let found = answer("/ws", &alone);
    assert_eq!(
        (found.status, found.header("wsgateway-reason")),
        (400, Some("UnsupportedSubprotocol"))
    );
    assert!(!found.text().contains(&token[..20]), "{}", found.text());

    let query = format!("/ws?access_token={token}");
    let cookie = format!("Cookie: other=1; token={token}\r\n");
    assert_eq!(answer("/ws", &bearer(&token)).status, 101);
    assert_eq!(answer("/ws", &cookie).status, 101);
    assert_eq!(answer(&query, "").status, 101);
    for (what, path, headers) in [
        ("header and query", &*query, bearer(&token)),
        ("header and cookie", "/ws", bearer(&token) + &cookie),
        ("header and subprotocol", "/ws", bearer(&token) + &offered),
        ("two headers", "/ws", bearer(&token) + &bearer(&token)),
    ] {
        row(what, || {
            let found = answer(path, &headers);
            assert_eq!(
                (found.status, found.header("wsgateway-reason")),
                (400, Some("TwoTokens"))
            );
        });
    }
    // A page of another site sends the cookie along, but is none of ours.
    let foreign = answer("/ws", &(cookie + "Origin: https://evil.example\r\n"));
    assert_eq!(
        (foreign.status, foreign.header("wsgateway-reason")),
        (403, Some("Origin"))
    );
    let said = gateway.process.lines().join("\n");
    assert!(!said.contains(&token[..20]), "{said}");
}

#[test]
fn a_token_opens_what_its_roles_allow_and_no_other_subjects_than_its_own() {
    needs!(NatsServer);
    let routes = r#"
  - name: staff
    path: /staff
    authorization: {anyRole: ["realm:viewer", "client:shop:reader"], scopes: [orders]}
    fromClient: {type: Echo}
  - name: own
    path: /own
    fromClient: {type: Publish, subject: "in.{claims.sub|percent}"}
    toClient: [{name: live, type: Core, subjects: ["users.{claims.sub}.>"]}]
  - {name: open, path: /open, authorization: {access: Anonymous}, fromClient: {type: Echo}}"#;
    let (nats, issuer, gateway) = start("", routes);
    let shop =
        json!({"resource_access": {"shop": {"roles": ["reader"]}}, "scope": "openid orders"});
    open(&gateway, "/staff", &issuer.token(&shop));
    for (what, claims, reason) in [
        ("no role", json!({"scope": "orders"}), "MissingRole"),
        (
            "a role of another client",
            json!({"resource_access": {"x": {"roles": ["reader"]}}}),
            "MissingRole",
        ),
        (
            "no scope",
            json!({"realm_access": {"roles": ["viewer"]}}),
            "MissingScope",
        ),
    ] {
        row(what, || {
            let token = issuer.token(&claims);
            let answer = RawSocket::connect(gateway.address()).upgrade("/staff", &bearer(&token));
            assert_eq!(
                (answer.status, answer.header("wsgateway-reason")),
                (403, Some(reason))
            );
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.contains("insufficient_scope"), "{challenge}");
        });
    }
    assert_eq!(shake(&gateway, "/open", ""), (101, String::new()));

    let mut ann = open(&gateway, "/own", &issuer.token(&json!({"sub": "ann"})));
    let mut bob = open(&gateway, "/own", &issuer.token(&json!({"sub": "bob"})));
    let client = nats.client();
    client.publish("users.bob.mail", "for bob");
    client.publish("users.ann.mail", "for ann");
    assert_eq!(ann.message(SOON), "for ann");
    assert_eq!(bob.message(SOON), "for bob");
    // What is no token of a subject opens nothing.
    for subject in ["", "*", ">", "a.b", "a b", "ann.>"] {
        let token = issuer.token(&json!({"sub": subject}));
        assert_eq!(
            shake(&gateway, "/own", &bearer(&token)),
            (403, "InvalidClaim".to_owned()),
            "{subject:?}"
        );
    }
    for subject in [json!(null), json!(["ann"]), json!(true)] {
        let token = issuer.token(&json!({"sub": subject}));
        assert_eq!(
            shake(&gateway, "/own", &bearer(&token)),
            (403, "InvalidClaim".to_owned()),
            "{subject}"
        );
    }
}

#[test]
fn a_list_in_the_token_opens_a_subject_of_each_and_no_others() {
    needs!(NatsServer);
    let routes = r#"
  - name: rooms
    path: /rooms
    fromClient: {type: Discard}
    toClient:
      - {name: own, type: Core, subjects: ["users.{claims.sub}"]}
      - {name: rooms, type: Core, subjects: ["rooms.{claims.rooms|each}.>"]}"#;
    let (nats, issuer, gateway) = start("", routes);
    let rooms = |rooms: Value| issuer.token(&json!({"rooms": rooms}));
    let mut both = open(&gateway, "/rooms", &rooms(json!(["a", "b", "a"])));
    let mut one = open(&gateway, "/rooms", &rooms(json!("b")));
    let mut none = open(&gateway, "/rooms", &rooms(json!([])));
    let client = nats.client();
    for subject in ["rooms.c.x", "rooms.a.x", "rooms.b.x", "users.ann"] {
        client.publish(subject, subject);
    }
    for (socket, expected) in [
        (&mut both, &["rooms.a.x", "rooms.b.x", "users.ann"][..]),
        (&mut one, &["rooms.b.x", "users.ann"]),
        (&mut none, &["users.ann"]),
    ] {
        // Of several subjects in any order, as NATS hands them over.
        let mut got: Vec<_> = expected.iter().map(|_| socket.message(SOON)).collect();
        got.sort_unstable();
        assert_eq!(got, expected);
        assert_eq!(
            socket.receive(Duration::from_millis(100)),
            Received::Nothing
        );
    }
    let many: Vec<_> = (0..65).map(|number| number.to_string()).collect();
    for list in [
        json!(null),
        json!(["a", "*"]),
        json!(["a", ["b"]]),
        json!({"a": 1}),
        json!(many),
    ] {
        let answer = shake(&gateway, "/rooms", &bearer(&rooms(list.clone())));
        assert_eq!(answer, (403, "InvalidClaim".to_owned()), "{list}");
    }
}

#[test]
fn a_connection_ends_with_its_token() {
    needs!(NatsServer);
    let (_nats, issuer, gateway) = start("", "");
    let mut short = open(&gateway, "/ws", &issuer.token(&json!({"exp": now() + 3})));
    let mut long = open(&gateway, "/ws", &issuer.token(&json!({"exp": now() + 300})));
    assert_eq!(short.closed(SOON), Some(4401));
    gateway.await_metric(
        "wsgateway_connections_closed_total",
        &[("reason", "TokenExpired"), ("code", "4401")],
        1.0,
    );
    assert_eq!(long.receive(Duration::from_millis(100)), Received::Nothing);
}

#[test]
fn a_reload_closes_those_whom_it_asks_for_more_and_no_others() {
    needs!(NatsServer);
    let routes = |more: &str| {
        format!(
            "\n  - {{name: other, path: /other, fromClient: {{type: Echo}}{more}}}\nwebsocket: {{handshakeTimeout: 9s}}"
        )
    };
    let (_nats, issuer, mut gateway) = start("", &routes(""));
    let token = issuer.token(&json!({}));
    let mut stays = open(&gateway, "/ws", &token);
    let mut goes = open(&gateway, "/other", &token);
    gateway.reload(&live(
        &issuer,
        "",
        &routes(", authorization: {anyRole: [\"realm:admin\"]}"),
    ));
    assert_eq!(goes.closed(SOON), Some(1012));
    assert_eq!(shake(&gateway, "/other", &bearer(&token)).0, 403);
    assert_eq!(stays.receive(Duration::from_millis(200)), Received::Nothing);
    // Nobody believes that issuer any more.
    let strangers = live(&issuer, "", &routes("")).replace("wsgateway]", "another]");
    gateway.reload(&strangers);
    assert_eq!(stays.closed(SOON), Some(1012));
    assert_eq!(
        shake(&gateway, "/ws", &bearer(&token)),
        (401, "TokenAudience".to_owned())
    );
}
