//! Nothing that is secret stands in what a gateway says, however much it is told to say and whatever goes wrong.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::fs;

use serde_json::json;
use wsgateway_e2e::{
    certificate::{Authority, Leaf},
    directory::Directory,
    frame::Frame,
    gateway::Gateway,
    http,
    issuer::{Issuer, encode},
    nats::NatsServer,
    needs,
    row::row,
    secure::{SecureSocket, trusting},
    socket::{Endpoint, request},
    wait::{SOON, until, until_true},
};

/// A password that NATS knows, and one that it does not.
const PASSWORD: &str = "pw-5up3r-s3cret-good";
const WRONG_PASSWORD: &str = "pw-5up3r-s3cret-wrong";

/// The shared secret of an issuer.
const SHARED_SECRET: &str = "hmac-5up3r-s3cret-0123456789abcdef";

struct Secrets {
    directory: Directory,
    issuer: Issuer,
    authority: Authority,
    leaf: Leaf,
}

impl Secrets {
    fn make() -> Self {
        let authority = Authority::make();
        let leaf = authority.sign(&["localhost"]);
        let directory = Directory::make();
        directory.write("tls.crt", &leaf.certificate);
        directory.write("tls.key", &leaf.key);
        directory.write("hmac", SHARED_SECRET);
        directory.write("user", "gateway");
        Self {
            issuer: Issuer::start(),
            authority,
            leaf,
            directory,
        }
    }

    fn start(&self, nats: &NatsServer, password: &str) -> Gateway {
        let path = |name: &str| self.directory.path().join(name);
        let shown = |name: &str| path(name).display().to_string();
        self.directory.write("password", password);
        let boot = format!(
            "nats: {{servers: [\"{}\"], credentials: {{type: UserPassword, userFile: \"{}\", passwordFile: \"{}\"}}}}",
            nats.url(),
            shown("user"),
            shown("password")
        );
        let live = format!(
            "
websocket: {{allowedOrigins: [SameHost]}}
auth:
  tokenSources: [{{type: Header}}, {{type: Subprotocol}}, {{type: Cookie, name: token}}, {{type: Query}}]
  expiryJitter: 0s
  providers:
    - {{name: test, issuer: \"{}\", audiences: [wsgateway], leeway: 2s, keys: {{type: Discovery}}}}
    - {{name: jobs, issuer: jobs, audiences: [wsgateway], leeway: 2s, keys: {{type: Hmac, file: \"{}\", algorithm: HS256}}}}
routes:
  - {{name: ws, path: /ws, fromClient: {{type: Echo}}}}
",
            self.issuer.url(),
            shown("hmac")
        );
        Gateway::launch_verbose(&boot, &live, &[path("tls.crt"), path("tls.key")])
    }

    /// What must never show, by what it is.
    fn values<'a>(&'a self, tokens: &'a [String]) -> Vec<(&'static str, String)> {
        let mut values = vec![
            ("a password", PASSWORD.to_owned()),
            ("a wrong password", WRONG_PASSWORD.to_owned()),
            ("a shared secret", SHARED_SECRET.to_owned()),
            ("a shared secret in base64", encode(SHARED_SECRET)),
        ];
        let lines = self.leaf.key.lines().filter(|line| !line.starts_with('-'));
        values.extend(lines.map(|line| ("a private key", line.to_owned())));
        for token in tokens {
            let parts = token.split('.').skip(1).filter(|part| part.len() > 16);
            values.extend(parts.map(|part| ("a part of a token", part.to_owned())));
        }
        values
    }
}

fn assert_silent(what: &str, text: &str, values: &[(&'static str, String)]) {
    for (kind, value) in values {
        if let Some(at) = text.find(value.as_str()) {
            let begin = text[..at].rfind('\n').map_or(0, |at| at + 1);
            panic!("{what} shows {kind}: {}", &text[begin..at]);
        }
    }
}

#[test]
fn a_gateway_that_logs_all_it_can_shows_no_secret() {
    needs!(NatsServer);
    let user = format!("authorization {{users: [{{user: gateway, password: \"{PASSWORD}\"}}]}}");
    let (secrets, nats) = (Secrets::make(), NatsServer::configured(&user));
    let gateway = secrets.start(&nats, PASSWORD);
    until_true("the gateway is ready", SOON, || gateway.is_ready());
    let good = secrets.issuer.token(&json!({}));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{head}.{other}{}", &signature[1..]);
    let expired = secrets.issuer.token(&json!({"exp": 1_000_000_000}));
    let malformed = format!("{good}.{}", encode("some more that is no part of a token"));
    let tokens = [good.clone(), forged, expired, malformed];
    let values = secrets.values(&tokens);

    let trust = trusting(&secrets.authority.certificate());
    let address = gateway.address();
    let mut answers = Vec::new();
    for token in &tokens {
        for (path, headers) in [
            (
                "/ws".to_owned(),
                format!("Authorization: Bearer {token}\r\n"),
            ),
            ("/ws".to_owned(), format!("Cookie: token={token}\r\n")),
            (
                "/ws".to_owned(),
                format!("Sec-WebSocket-Protocol: wsgateway.plain, wsgateway.bearer.{token}\r\n"),
            ),
            (format!("/ws?access_token={token}"), String::new()),
            // Where they are of no use.
            (format!("/nothing?access_token={token}"), String::new()),
            (
                "/ws".to_owned(),
                format!("X-Token: {token}\r\nOrigin: https://evil.test\r\n"),
            ),
        ] {
            let mut socket =
                SecureSocket::try_connect(Endpoint::default(), &trust, address).unwrap();
            socket.send(request(&path, &headers));
            let answer = socket.head();
            answers.push(format!("{answer:?}"));
        }
    }
    let answers = answers.join("\n");
    assert!(
        answers.contains("101") && answers.contains("401"),
        "{answers}"
    );
    let mut open = SecureSocket::try_connect(Endpoint::default(), &trust, address).unwrap();
    open.send(request("/ws", &format!("Authorization: Bearer {good}\r\n")));
    assert_eq!(open.head().status, 101);
    open.send_frame(&Frame::text("hello"));
    assert_eq!(open.message(SOON), b"hello");

    row("answers", || assert_silent("an answer", &answers, &values));
    for page in ["/metrics", "/status", "/readyz"] {
        let text = http::get(gateway.admin(), page).text();
        row(page, || assert_silent(page, &text, &values));
    }
    let log = gateway.process.lines().join("\n");
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "it should say a lot"
    );
    for reason in ["TokenSignature", "TokenExpired", "TokenMalformed"] {
        assert!(log.contains(reason), "the log should name {reason}");
    }
    row("the log", || assert_silent("the log", &log, &values));
    // Whoever may look at processes sees these.
    for file in ["cmdline", "environ"] {
        let text = fs::read(format!("/proc/{}/{file}", gateway.pid())).unwrap();
        let text = String::from_utf8_lossy(&text);
        row(file, || assert_silent(file, &text, &values));
    }
}

#[test]
fn credentials_that_nats_refuses_are_not_shown_either() {
    needs!(NatsServer);
    let user = format!("authorization {{users: [{{user: gateway, password: \"{PASSWORD}\"}}]}}");
    let (secrets, nats) = (Secrets::make(), NatsServer::configured(&user));
    let gateway = secrets.start(&nats, WRONG_PASSWORD);
    let report = until("it says that it is refused", SOON, || {
        let report = http::try_get(gateway.admin(), "/status").ok()?.text();
        report.contains("Unauthorized").then_some(report)
    });
    let values = secrets.values(&[]);
    row("the report", || {
        assert_silent("the report", &report, &values);
    });
    let log = gateway.process.lines().join("\n");
    assert!(log.contains("Unauthorized"), "{log}");
    row("the log", || assert_silent("the log", &log, &values));
}
