//! The seed's Keycloak row, with a real one: its tokens, its roles, its keys, and what happens without it.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use wsgateway_e2e::{
    gateway::Gateway,
    keycloak::{Keycloak, REALM},
    nats::NatsServer,
    needs,
    page::Page,
    row::row,
    socket::{Endpoint, RawSocket, bearer},
    wait::{SOON, until},
};

#[path = "keycloak/browser.rs"]
mod browser;
#[path = "keycloak/logout.rs"]
mod logout;

/// Users whose passwords are their names: ann has every role, bob has none. A page of this origin may ask for tokens.
fn realm(page: &str) -> Value {
    let user = |name: &str, realm_roles: &[&str], client_roles: &[&str]| {
        json!({
            "username": name, "enabled": true, "email": format!("{name}@example.com"), "emailVerified": true,
            "firstName": name, "lastName": name,
            "credentials": [{"type": "password", "value": name, "temporary": false}],
            "realmRoles": realm_roles, "clientRoles": {"api": client_roles},
        })
    };
    let audience = json!({
        "name": "audience", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
        "config": {"included.custom.audience": "wsgateway", "access.token.claim": "true", "id.token.claim": "false"},
    });
    json!({
        "realm": REALM, "enabled": true, "sslRequired": "none", "accessTokenLifespan": 1_800,
        "roles": {"realm": [{"name": "viewer"}], "client": {"api": [{"name": "reader"}]}},
        "clients": [
            {"clientId": "api", "bearerOnly": true},
            {
                "clientId": "web", "publicClient": true, "directAccessGrantsEnabled": true, "fullScopeAllowed": true,
                "redirectUris": [format!("{page}/*")], "webOrigins": [page], "protocolMappers": [audience],
                "attributes": {"pkce.code.challenge.method": "S256"},
            },
        ],
        "users": [user("ann", &["viewer"], &["reader"]), user("bob", &[], &[])],
    })
}

fn live(keycloak: &Keycloak) -> String {
    format!(
        r#"
auth:
  tokenSources: [{{type: Header}}, {{type: Subprotocol}}]
  expiryJitter: 0s
  providers:
    - name: keycloak
      issuer: "{}"
      audiences: [wsgateway]
      authorizedParties: [web]
      leeway: 2s
      keys: {{type: Discovery, caFile: "{}"}}
routes:
  - {{name: any, path: /any, fromClient: {{type: Echo}}}}
  - {{name: realm, path: /realm, authorization: {{anyRole: ["realm:viewer"]}}, fromClient: {{type: Echo}}}}
  - {{name: client, path: /client, authorization: {{anyRole: ["client:api:reader"]}}, fromClient: {{type: Echo}}}}
  - name: own
    path: /own
    fromClient: {{type: Discard}}
    toClient: [{{name: live, type: Core, subjects: ["users.{{claims.preferred_username}}.>"]}}]
"#,
        keycloak.issuer(),
        keycloak.ca_file().display()
    )
}

fn open(gateway: &Gateway, path: &str, token: &str) -> RawSocket {
    RawSocket::open_with(Endpoint::default(), gateway.address(), path, &bearer(token))
}

fn refused(gateway: &Gateway, path: &str, token: &str) -> (u16, String) {
    let mut socket = RawSocket::connect(gateway.address());
    let answer = socket.upgrade(path, &bearer(token));
    (
        answer.status,
        answer
            .header("wsgateway-reason")
            .unwrap_or_default()
            .to_owned(),
    )
}

/// Tokens go on being made and used, by several clients at once, while the realm's key becomes another one.
fn rotate_under_load(keycloak: &Keycloak, gateway: &Gateway) {
    let (stop, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    let used = |more: usize| {
        let until_then = connected.load(Ordering::SeqCst) + more;
        until("tokens are used", SOON, || {
            (connected.load(Ordering::SeqCst) >= until_then).then_some(())
        });
    };
    let old = keycloak.token("ann");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    open(gateway, "/realm", &keycloak.token("ann"));
                    open(gateway, "/realm", &old);
                    connected.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        used(5);
        keycloak.rotate("RS256");
        used(20);
        stop.store(true, Ordering::SeqCst);
    });
    println!("{} tokens, none refused", connected.load(Ordering::SeqCst));
}

/// One Keycloak for all of it: it takes longer to start than all of this takes.
#[test]
fn a_realm_of_keycloak_decides_who_connects_and_may_go_away_afterwards() {
    needs!(NatsServer, Nginx, Keycloak, Curl, Chromium);
    let page = Page::prepare();
    let mut keycloak = Keycloak::start(&realm(&page.origin()));
    let nats = NatsServer::start();
    let gateway = Gateway::start(&nats.url(), &live(&keycloak));
    let (ann, bob) = (keycloak.token("ann"), keycloak.token("bob"));

    row("a role opens its routes, and a missing one is 403", || {
        for path in ["/any", "/realm", "/client"] {
            open(&gateway, path, &ann);
        }
        open(&gateway, "/any", &bob);
        for path in ["/realm", "/client"] {
            assert_eq!(
                refused(&gateway, path, &bob),
                (403, "MissingRole".to_owned())
            );
        }
    });

    row("nobody gets another's messages", || {
        let mut ann = open(&gateway, "/own", &ann);
        let mut bob = open(&gateway, "/own", &bob);
        let client = nats.client();
        client.publish("users.bob.mail", "for bob");
        client.publish("users.ann.mail", "for ann");
        assert_eq!(ann.message(SOON), "for ann");
        assert_eq!(bob.message(SOON), "for bob");
    });

    let local = browser::gateways(&keycloak, &page);
    row(
        "users log in with their browsers and connect through nginx",
        || browser::logs_in_and_connects(&local, &keycloak, &page),
    );
    row(
        "a logout in Keycloak closes the session's sockets on all workers",
        || logout::closes_sockets_on_all_workers(&local, &keycloak),
    );
    drop(local);

    row("keys are rotated without one valid token refused", || {
        rotate_under_load(&keycloak, &Gateway::start(&nats.url(), &live(&keycloak)));
    });

    row(
        "every algorithm that Keycloak signs with, each with a key made this moment",
        || {
            // The first unknown key is looked up at once, and the next a minute later at the earliest: so a gateway each.
            for algorithm in [
                "RS256", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA",
            ] {
                row(algorithm, || {
                    let gateway = Gateway::start(&nats.url(), &live(&keycloak));
                    keycloak.rotate(algorithm);
                    let token = keycloak.token("ann");
                    open(&gateway, "/realm", &token);
                    // What was signed before goes on.
                    open(&gateway, "/realm", &ann);
                });
            }
        },
    );

    row("a connection ends with its token", || {
        keycloak.change_realm(&json!({"accessTokenLifespan": 4}));
        let gateway = Gateway::start(&nats.url(), &live(&keycloak));
        let mut socket = open(&gateway, "/any", &keycloak.token("ann"));
        assert_eq!(socket.closed(SOON), Some(4401));
        keycloak.change_realm(&json!({"accessTokenLifespan": 1_800}));
    });

    row("without Keycloak connects go on", || {
        let gateway = Gateway::start(&nats.url(), &live(&keycloak));
        let late = keycloak.token("ann");
        keycloak.kill();
        for path in ["/any", "/realm", "/client"] {
            open(&gateway, path, &late);
        }
        assert_eq!(
            refused(&gateway, "/realm", &bob),
            (403, "MissingRole".to_owned())
        );
    });
}
