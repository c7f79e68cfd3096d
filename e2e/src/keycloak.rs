//! Keycloak: a realm with clients, roles and users, and tokens from it by its own API.

use std::{
    path::PathBuf,
    process::Output,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    certificate::Authority,
    directory::Directory,
    http,
    port::Port,
    process::{Process, command},
    program::Program,
    wait::{SOON, until_true},
};

/// The realm of tests.
pub const REALM: &str = "shop";

/// Who may do anything.
const ADMIN: (&str, &str) = ("admin", "a password of a test");

/// How long it may take to start: some seconds where nothing else runs.
const START: Duration = Duration::from_secs(240);

/// How long a request may take: a realm is made in a second, on a machine that does nothing else.
const REQUEST_SECS: &str = "120";

/// What a client's logout token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogoutToken {
    /// Which session is over.
    OfSession,
    /// Whose sessions are over.
    OfUser,
}

/// A claim of a token that Keycloak has just given.
fn claim(token: &str, name: &str) -> String {
    let claims = token.split('.').nth(1).unwrap_or_default();
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let claim = claims[name].as_str();
    claim
        .unwrap_or_else(|| panic!("no claim {name}: {claims}"))
        .to_owned()
}

/// A Keycloak with TLS on a port of its own, and its data in memory.
#[derive(Debug)]
pub struct Keycloak {
    port: Port,
    directory: Directory,
    process: Process,
}

impl Keycloak {
    /// Starts one with the realm of a test.
    pub fn start(realm: &Value) -> Self {
        let (port, directory) = (Port::lease(), Directory::make());
        let authority = Authority::make();
        let leaf = authority.sign(&["localhost"]);
        directory.write("ca.crt", authority.certificate());
        let certificate = directory.write("tls.crt", leaf.certificate);
        let key = directory.write("tls.key", leaf.key);
        let mut start = command(Program::Keycloak.expect());
        start
            .args([
                "start",
                "--optimized",
                "--http-host=127.0.0.1",
                "--cache=local",
            ])
            .arg(format!("--https-port={}", port.number()))
            .arg(format!("--hostname=https://localhost:{}", port.number()))
            .arg(format!(
                "--https-certificate-file={}",
                certificate.display()
            ))
            .arg(format!("--https-certificate-key-file={}", key.display()))
            .env("KC_BOOTSTRAP_ADMIN_USERNAME", ADMIN.0)
            .env("KC_BOOTSTRAP_ADMIN_PASSWORD", ADMIN.1)
            .env("JAVA_OPTS_KC_HEAP", "-Xms64m -Xmx512m");
        let process = Process::start("keycloak", &mut start);
        let mut keycloak = Self {
            port,
            directory,
            process,
        };
        until_true("Keycloak answers", START, || {
            assert!(keycloak.process.is_running(), "Keycloak has ended");
            keycloak.curl("/realms/master", &[]).status.success()
        });
        keycloak.administer("POST", "", realm);
        keycloak
    }

    /// The realm's issuer.
    pub fn issuer(&self) -> String {
        format!("https://localhost:{}/realms/{REALM}", self.port.number())
    }

    /// The certificate to trust it by.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A token by the password grant of the realm's client `web`.
    pub fn token(&self, user: &str) -> String {
        let password = format!("password={user}");
        let user = format!("username={user}");
        let form = ["grant_type=password", "client_id=web", &user, &password];
        self.granted(REALM, &form)
    }

    /// Makes a new key, with which tokens are signed from now on. The old ones go on verifying.
    pub fn rotate(&self, algorithm: &str) {
        let (provider, setting, curve) = match algorithm {
            "ES256" => ("ecdsa-generated", "ecdsaEllipticCurveKey", "P-256"),
            "ES384" => ("ecdsa-generated", "ecdsaEllipticCurveKey", "P-384"),
            "ES512" => ("ecdsa-generated", "ecdsaEllipticCurveKey", "P-521"),
            "EdDSA" => ("eddsa-generated", "eddsaEllipticCurveKey", "Ed25519"),
            _ => ("rsa-generated", "algorithm", algorithm),
        };
        let realm: Value = self.administer("GET", &format!("/{REALM}"), &Value::Null);
        let key = json!({
            "name": format!("new-{algorithm}"), "providerId": provider, "providerType": "org.keycloak.keys.KeyProvider",
            "parentId": realm["id"],
            "config": {"priority": ["1000"], setting: [curve], "enabled": ["true"], "active": ["true"]},
        });
        self.administer("POST", &format!("/{REALM}/components"), &key);
        self.change_realm(&json!({"defaultSignatureAlgorithm": algorithm}));
    }

    /// Has the realm's client `web` tell of logouts at this address: of which session, or of whom alone.
    pub fn announce_logouts_to(&self, url: &str, told: LogoutToken) {
        let found = self.administer(
            "GET",
            &format!("/{REALM}/clients?clientId=web"),
            &Value::Null,
        );
        let mut client = found[0].clone();
        let is_of_session = told == LogoutToken::OfSession;
        client["attributes"]["backchannel.logout.url"] = json!(url);
        client["attributes"]["backchannel.logout.session.required"] =
            json!(is_of_session.to_string());
        let id = client["id"]
            .as_str()
            .unwrap_or_else(|| panic!("no client: {found}"));
        self.administer("PUT", &format!("/{REALM}/clients/{id}"), &client);
    }

    /// What ends the session of a token, as an administrator does, and returns when it was told to. What it takes
    /// beforehand has been done.
    pub fn end_session(&self, token: &str) -> impl FnOnce() -> Instant + '_ {
        let session = claim(token, "sid");
        self.prepared(
            "DELETE",
            format!("/admin/realms/{REALM}/sessions/{session}"),
        )
    }

    /// The same of all sessions of a token's user.
    pub fn log_out(&self, token: &str) -> impl FnOnce() -> Instant + '_ {
        let user = claim(token, "sub");
        self.prepared("POST", format!("/admin/realms/{REALM}/users/{user}/logout"))
    }

    fn prepared(&self, method: &'static str, path: String) -> impl FnOnce() -> Instant + '_ {
        let bearer = self.administrator();
        move || {
            let told = Instant::now();
            self.said(&path, &["--request", method, "--header", &bearer]);
            told
        }
    }

    /// Changes the realm.
    pub fn change_realm(&self, changes: &Value) {
        self.administer("PUT", &format!("/{REALM}"), changes);
    }

    /// Ends it, and awaits that nobody answers any more.
    pub fn kill(&mut self) {
        self.process.kill();
        until_true("Keycloak is away", SOON, || {
            std::net::TcpStream::connect(self.port.address()).is_err()
        });
    }

    /// Asks the API for administrators; what it answers, where that is JSON.
    fn administer(&self, method: &str, path: &str, body: &Value) -> Value {
        let bearer = self.administrator();
        let body = body.to_string();
        let mut arguments = vec!["--request", method, "--header", &bearer];
        if method != "GET" {
            arguments.extend([
                "--header",
                "Content-Type: application/json",
                "--data",
                &body,
            ]);
        }
        let said = self.said(&format!("/admin/realms{path}"), &arguments);
        serde_json::from_slice(&said).unwrap_or_default()
    }

    /// A header line with the token of who may do anything. It lasts for a minute.
    fn administrator(&self) -> String {
        let (user, password) = (
            format!("username={}", ADMIN.0),
            format!("password={}", ADMIN.1),
        );
        let form = [
            "grant_type=password",
            "client_id=admin-cli",
            &user,
            &password,
        ];
        format!("Authorization: Bearer {}", self.granted("master", &form))
    }

    fn granted(&self, realm: &str, form: &[&str]) -> String {
        let form = form.iter().flat_map(|field| ["--data-urlencode", field]);
        let path = format!("/realms/{realm}/protocol/openid-connect/token");
        let said = self.said(&path, &form.collect::<Vec<_>>());
        let said: Value = serde_json::from_slice(&said).unwrap();
        said["access_token"]
            .as_str()
            .unwrap_or_else(|| panic!("no token, but {said}"))
            .to_owned()
    }

    fn said(&self, path: &str, arguments: &[&str]) -> Vec<u8> {
        let output = self.curl(path, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}: {error}");
        output.stdout
    }

    fn curl(&self, path: &str, arguments: &[&str]) -> Output {
        let url = format!("https://localhost:{}{path}", self.port.number());
        let ca_file = self.ca_file();
        let mut all = vec![
            "--fail-with-body",
            "--max-time",
            REQUEST_SECS,
            "--cacert",
            ca_file.to_str().unwrap(),
        ];
        all.extend(arguments);
        all.push(&url);
        http::curl(&all)
    }
}
