//! `wsgw simulate` says of a token what a gateway then does with it.

#![allow(clippy::unwrap_used)] // A test's own functions.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};
use wsgateway_e2e::{
    directory::Directory,
    gateway::Gateway,
    issuer::{Issuer, now},
    nats::NatsServer,
    needs,
    process::command,
    program::Program,
    row::row,
    socket::RawSocket,
};

/// What is the same in the manifest and in the gateway's own configuration.
const ROUTES: &str = r#"
  routes:
    - {name: own, path: "/own/{room}", AUTHORIZATION fromClient: {PUBLISH}, toClient: [{name: live, type: Core, SUBJECTS}]}
    - {name: staff, path: /staff, authorization: {anyRole: ["realm:staff"]}, fromClient: {type: Echo}}
    - {name: open, path: /open, authorization: {access: Anonymous}, fromClient: {type: Discard}}
"#;

/// How it ended, and what it said.
fn simulate(manifest: &str, token: &str, more: &[&str]) -> (Option<i32>, String) {
    let mut process = command(Program::Wsgw.expect())
        .args(["simulate", "--token", "-", "-f", manifest])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(token.as_bytes()).unwrap();
    drop(input);
    let output = process.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn what_is_said_of_a_token_is_what_a_gateway_does() {
    needs!(NatsServer, Wsgw);
    let (nats, mut issuer, directory) = (NatsServer::start(), Issuer::start(), Directory::make());
    let manifest = ROUTES
        .replace("AUTHORIZATION", "authorization: {scopes: [chat]},")
        .replace("PUBLISH", "type: Publish, publish: {subject: \"in.{claims.sub}.{path.room}\", authorization: {scopes: [send]}}")
        .replace("SUBJECTS", "core: {subjects: [\"out.{claims.sub}.{path.room}\", \"q.{query.x}\"]}");
    let manifest = format!(
        "apiVersion: wsgateway.io/v1alpha1\nkind: WsGateway\nmetadata: {{name: a}}\nspec:\n  \
         auth: {{providers: [{{name: test, type: OIDC, oidc: {{issuer: \"{}\", audiences: [wsgateway], leeway: 2s}}}}], \
         onExpiry: {{jitter: 0s, warnBefore: 1m}}}}{manifest}",
        issuer.url()
    );
    let manifest = directory.write("manifest.yaml", manifest);
    let manifest = manifest.to_str().unwrap();
    let live = ROUTES
        .replace("\n  ", "\n")
        .replace("AUTHORIZATION", "authorization: {scopes: [chat]},")
        .replace("PUBLISH", "type: Publish, subject: \"in.{claims.sub}.{path.room}\", authorization: {scopes: [send]}")
        .replace("SUBJECTS", "subjects: [\"out.{claims.sub}.{path.room}\", \"q.{query.x}\"]");
    let live = format!(
        "auth:\n  tokenSources: [{{type: Header}}]\n  expiryJitter: 0s\n  \
         providers: [{{name: test, issuer: \"{}\", audiences: [wsgateway], leeway: 2s, keys: {{type: Discovery}}}}]{live}",
        issuer.url()
    );
    let gateway = Gateway::start(&nats.url(), &live);

    let may = |changes: Value| {
        let mut claims = json!({"scope": "chat send"});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        issuer.token(&claims)
    };
    let request = "/own/lobby?x=1";
    #[rustfmt::skip] // A row a line.
    let table = [
        ("all it asks for", may(json!({})), request, "what is published to in.ann.lobby"),
        ("its subjects", may(json!({})), request, "gets    out.ann.lobby, q.1"),
        ("may not send", may(json!({"scope": "chat"})), request, "closed with 4403 PublishDenied: MissingScope"),
        ("no scope", may(json!({"scope": ""})), request, "403 MissingScope"),
        ("no role", may(json!({})), "/staff", "403 MissingRole"),
        ("the role", may(json!({"realm_access": {"roles": ["staff"]}})), "/staff", "let in"),
        ("no such path", may(json!({})), "/none", "404 UnknownPath"),
        ("no query", may(json!({})), "/own/lobby", "400 InvalidValue"),
        ("a claim that is no token", may(json!({"sub": "a.b"})), request, "403 InvalidClaim"),
        ("expired", may(json!({"exp": now() - 10})), request, "401 TokenExpired"),
        ("another audience", may(json!({"aud": "x"})), request, "401 TokenAudience"),
        ("another issuer", may(json!({"iss": "x"})), request, "401 TokenIssuer"),
        ("truncated", may(json!({})).split_at(90).0.to_owned(), request, "401 TokenMalformed"),
        ("another key", issuer.headed(&json!({"kid": "x"})), request, "401 TokenUnknownKey"),
        ("open for all", may(json!({"exp": 1})), "/open", "let in"),
    ];
    for (what, token, path, expected) in &table {
        row(what, || {
            let (code, said) = simulate(manifest, token, &["--path", path]);
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains(&token[..20]), "{said}");
            let bearer = format!("Authorization: Bearer {token}\r\n");
            let answer = RawSocket::connect(gateway.address()).upgrade(path, &bearer);
            assert_eq!(code == Some(0), answer.status == 101, "{said}{answer:?}");
            if let Some(reason) = answer.header("wsgateway-reason") {
                assert!(
                    said.contains(&format!("{} {reason}", answer.status)),
                    "{said}{answer:?}"
                );
            }
        });
    }

    // Of all routes, at another time, and with keys that are given.
    let token = may(json!({}));
    let (code, said) = simulate(manifest, &token, &[]);
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "out.ann.{path.room}, q.{query.x}",
        "/staff (staff): refused with 403 MissingRole",
        "told 60s before",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let (code, said) = simulate(
        manifest,
        &token,
        &["--path", request, "--at", "2100-01-01T00:00:00Z"],
    );
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("401 TokenExpired"), "{said}");
    let keys = json!({"keys": [issuer.key().jwk()]}).to_string();
    issuer.go_away();
    let (code, said) = simulate(manifest, &token, &["--path", request]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the keys of test cannot be had"), "{said}");
    let keys = directory.write("keys.json", keys);
    let keys = keys.to_str().unwrap();
    let (code, said) = simulate(
        manifest,
        &format!("Bearer {token}\n"),
        &["--path", request, "--keys", keys],
    );
    assert_eq!(code, Some(0), "{said}");
}
