//! A small issuer of tokens, whose keys and failures a test decides, and which counts who asks for its keys.
//!
//! What a real one does is Keycloak's to show; this one also does what no real one should.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

use crate::port::Port;

/// An issuer on a port of its own, with one key at a time that signs.
#[derive(Debug)]
pub struct Issuer {
    port: Port,
    published: Arc<Published>,
    key: SigningKey,
}

#[derive(Debug, Default)]
struct Published {
    keys: Mutex<Vec<Value>>,
    /// None while it is away.
    listener: Mutex<Option<TcpListener>>,
    fetches: AtomicU64,
}

/// A key that signs with ES256.
#[derive(Debug)]
pub struct SigningKey {
    id: String,
    pair: EcdsaKeyPair,
}

impl SigningKey {
    /// A new key of this id.
    pub fn make(id: &str) -> Self {
        let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self {
            id: id.to_owned(),
            pair: EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).unwrap(),
        }
    }

    /// Its public half.
    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
            "x": encode(&point[1..33]), "y": encode(&point[33..65]),
        })
    }

    /// A token of a header and claims, as they are.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", encode(signature))
    }
}

/// As parts of a token are written.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

impl Issuer {
    /// Starts one.
    pub fn start() -> Self {
        let key = SigningKey::make("first");
        let mut issuer = Self {
            port: Port::lease(),
            published: Arc::default(),
            key,
        };
        issuer.published.keys.lock().unwrap().push(issuer.key.jwk());
        issuer.come_back();
        issuer
    }

    /// The claim `iss` of its tokens, below which it answers.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// How often its keys have been fetched.
    pub fn fetches(&self) -> u64 {
        self.published.fetches.load(Ordering::SeqCst)
    }

    /// Goes away: connections are refused from now on.
    pub fn go_away(&mut self) {
        *self.published.listener.lock().unwrap() = None;
        // The thread that accepts has a listener of its own: it looks whether it still should after each connection.
        drop(TcpStream::connect(self.port.address()));
        crate::wait::until_true("the issuer is away", crate::wait::SOON, || {
            TcpStream::connect(self.port.address()).is_err()
        });
    }

    /// Comes back.
    pub fn come_back(&mut self) {
        let listener = TcpListener::bind(self.port.address()).unwrap();
        let accepting = listener.try_clone().unwrap();
        *self.published.listener.lock().unwrap() = Some(listener);
        let (published, url) = (self.published.clone(), self.url());
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                if published.listener.lock().unwrap().is_none() {
                    return;
                }
                published.answer(stream, &url);
            }
        });
    }

    /// Signs with another key from now on. The ones before stay published, as they do where keys are rotated.
    pub fn rotate(&mut self, id: &str) {
        self.key = SigningKey::make(id);
        self.published.keys.lock().unwrap().push(self.key.jwk());
    }

    /// The key that signs now.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Claims that hold for five minutes for audience `wsgateway`, with these changes; `null` takes one away.
    pub fn claims(&self, changes: &Value) -> Value {
        let base = json!({"iss": self.url(), "aud": "wsgateway", "sub": "ann", "exp": now() + 300});
        changed(base, changes)
    }

    /// A header that names the key, with these changes.
    pub fn header(&self, changes: &Value) -> Value {
        changed(
            json!({"alg": "ES256", "typ": "JWT", "kid": self.key.id}),
            changes,
        )
    }

    /// A token with these changes of its claims.
    pub fn token(&self, changes: &Value) -> String {
        self.key.sign(
            &self.header(&json!({})).to_string(),
            &self.claims(changes).to_string(),
        )
    }

    /// A token with these changes of its header.
    pub fn headed(&self, changes: &Value) -> String {
        self.key.sign(
            &self.header(changes).to_string(),
            &self.claims(&json!({})).to_string(),
        )
    }
}

impl Published {
    fn answer(&self, mut stream: TcpStream, url: &str) {
        let mut line = String::new();
        let mut head = BufReader::new(stream.try_clone().unwrap());
        let _ = head.read_line(&mut line);
        let body = match line.split(' ').nth(1) {
            Some("/.well-known/openid-configuration") => {
                json!({"issuer": url, "jwks_uri": format!("{url}/keys")})
            }
            Some("/keys") => {
                self.fetches.fetch_add(1, Ordering::SeqCst);
                json!({"keys": *self.keys.lock().unwrap()})
            }
            _ => return,
        };
        // Up to the empty line: a socket that is closed with unread bytes is reset.
        while head.read_line(&mut line).is_ok_and(|length| length > 2) {}
        let body = body.to_string();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
}

fn changed(mut object: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => _ = object.as_object_mut().unwrap().remove(name),
            value => object[name] = value.clone(),
        }
    }
    object
}
