//! Users log in at Keycloak with headless Chromium, by authorization code with PKCE, and their pages open `WebSockets`
//! through a real nginx with TLS.

use wsgateway_e2e::{
    chromium::Chromium,
    keycloak::Keycloak,
    local::{Local, UP, manifest},
    page::Page,
};

/// Three workers behind nginx that believe Keycloak, and let in this page alone.
pub(crate) fn gateways(keycloak: &Keycloak, page: &Page) -> Local {
    let spec = format!(
        r#"
auth:
  providers:
    - name: keycloak
      type: OIDC
      oidc:
        issuer: "{}"
        audiences: [wsgateway]
        authorizedParties: [web]
        backchannelLogout: Enabled
        caRef: {{kind: ConfigMap, name: sso-ca, key: ca.crt}}
websocket: {{allowedOrigins: ["{}"]}}
routes:
  - name: own
    path: /own
    fromClient: {{type: Echo}}
    toClient: [{{name: mine, type: Core, core: {{subjects: ["users.{{claims.preferred_username}}.>"]}}}}]
  - name: staff
    path: /staff
    authorization: {{anyRole: ["realm:viewer"]}}
    fromClient: {{type: Echo}}
"#,
        keycloak.issuer(),
        page.origin()
    );
    let authority = std::fs::read_to_string(keycloak.ca_file()).unwrap();
    let authority = authority.trim().replace('\n', "\n    ");
    let text = manifest(&spec)
        + "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: sso-ca}\ndata:\n  ca.crt: |\n    "
        + &authority;
    let mut local = Local::launch(&text, &[]);
    local.process.line("wscat", UP);
    local
}

pub(crate) fn logs_in_and_connects(local: &Local, keycloak: &Keycloak, page: &Page) {
    let document = include_str!("page.html")
        .replace("ISSUER", &keycloak.issuer())
        .replace("GATEWAY", &local.wss(""));
    page.serve(&document);
    let (mut ann, mut bob) = (log_in("ann", page), log_in("bob", page));
    let nats = local.nats();
    nats.publish("users.bob.mail", "for bob");
    nats.publish("users.ann.mail", "for ann");
    assert_eq!(ann.awaits("messages[0]"), "for ann");
    assert_eq!(bob.awaits("messages[0]"), "for bob");
    // What comes after shows that nothing of another's came before.
    for browser in [&mut ann, &mut bob] {
        browser.evaluate("socket.send('still here')");
        assert_eq!(browser.awaits("messages[1]"), "still here");
    }
    for (browser, expected) in [
        (&mut ann, "open wsgateway.plain"),
        (&mut bob, "closed 1006"),
    ] {
        // A browser tells a page of every refusal that it is 1006, and no more.
        browser.evaluate("state = ''; open_socket('/staff')");
        assert_eq!(browser.awaits("state"), expected);
    }
    let refused = local.metrics().sum(
        "wsgateway_handshakes_refused_total",
        &[("reason", "MissingRole")],
    );
    assert!((refused - 1.0).abs() < 0.5, "{refused}");
}

/// A browser whose user has logged in, and whose page has connected.
fn log_in(user: &str, page: &Page) -> Chromium {
    let mut browser = Chromium::open(&page.origin());
    browser.awaits("document.querySelector('#kc-form-login #password') !== null");
    let fill = format!(
        "username.value = '{user}'; password.value = '{user}'; document.querySelector('#kc-form-login').submit()"
    );
    browser.evaluate(&fill);
    let state = browser.awaits("['arriving', undefined].includes(window.state) ? '' : state");
    assert_eq!(state, "open wsgateway.plain");
    browser
}
