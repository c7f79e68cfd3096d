//! The validated model: last on the path. Whoever holds a [`Gateway`] need not ask whether it is right.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use wsgateway_crds::{
    config::{self, Boot, Config, JetStreamApi, Live},
    value::Duration,
};
use wsgateway_nginx_ingress::{Exposure, value::ObjectName};

/// A `WsGateway` with nothing left to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its name.
    pub name: ObjectName,
    /// Its namespace.
    pub namespace: ObjectName,
    /// How many workers serve it.
    pub replicas: u32,
    /// How the workers reach NATS.
    pub nats: Nats,
    /// What a worker's configuration file says beside where it listens and how it reaches NATS. The same for all
    /// workers, and changed without a restart.
    pub live: Live,
    /// What the proxy in front of the workers must know.
    pub exposure: Exposure,
    /// Where the proxy's certificate comes from.
    pub tls: Tls,
}

impl Gateway {
    /// The configuration file of a worker.
    pub fn config(&self, boot: Boot) -> Config {
        Config {
            boot,
            live: Some(self.live.clone()),
        }
    }
}

/// How the workers reach NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nats {
    /// `nats://host:port` or `tls://host:port`, at most 16. None: the runner provides a server.
    pub servers: Vec<String>,
    /// TLS, where a server asks for more than the system's roots.
    pub tls: Option<NatsTls>,
    /// Who the workers say they are.
    pub credentials: Option<Credentials>,
    /// Where JetStream's API is found.
    pub jet_stream: JetStreamApi,
}

/// TLS to NATS. All PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsTls {
    /// The roots to trust beside the system's.
    pub ca: Option<SecretBytes>,
    /// What the worker shows to a server that asks.
    pub client_certificate: Option<Certificate>,
}

/// A certificate chain and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, leaf first.
    pub chain: SecretBytes,
    /// The private key.
    pub key: SecretBytes,
}

/// Who the workers say they are to NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// The content of a `.creds` file.
    Creds(SecretBytes),
    /// An nkey seed.
    NKey(SecretBytes),
    /// A user and a password.
    UserPassword {
        /// The user.
        user: SecretBytes,
        /// The password.
        password: SecretBytes,
    },
    /// A token.
    Token(SecretBytes),
}

/// Where the proxy's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// From an authority that is made for this `WsGateway`.
    SelfSigned {
        /// How long a certificate lasts.
        duration: Duration,
        /// How long before its end it is renewed.
        renew_before: Duration,
    },
    /// From a Secret of the user.
    Secret {
        /// The Secret's name.
        name: ObjectName,
        /// What it holds.
        certificate: Certificate,
    },
    /// There is none: plain HTTP alone.
    None,
}

/// Bytes that no log may show.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Arc<[u8]>);

impl SecretBytes {
    /// Takes the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// Gives them to whoever has a reason to ask.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

/// A file that must exist, readable by its owner alone, before a worker starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Where.
    pub path: PathBuf,
    /// What it holds.
    pub bytes: SecretBytes,
}

impl Nats {
    /// The part of a worker's configuration, with every secret in a file of this directory, and those files. Its
    /// `servers` are those of the manifest: the runner that provides a server names it there.
    pub fn config(&self, directory: &Path) -> (config::Nats, Vec<SecretFile>) {
        let mut files = Vec::new();
        let mut put = |name: &str, bytes: &SecretBytes| {
            let path = directory.join(name);
            files.push(SecretFile {
                path: path.clone(),
                bytes: bytes.clone(),
            });
            path
        };
        let tls = self.tls.as_ref().map(|tls| config::NatsTls {
            ca_file: tls.ca.as_ref().map(|ca| put("nats-ca.crt", ca)),
            client_certificate: tls.client_certificate.as_ref().map(|certificate| {
                config::CertificateFiles {
                    certificate_file: put("nats-client.crt", &certificate.chain),
                    key_file: put("nats-client.key", &certificate.key),
                }
            }),
        });
        let credentials = self
            .credentials
            .as_ref()
            .map(|credentials| match credentials {
                Credentials::Creds(creds) => config::NatsCredentials::Creds {
                    file: put("nats.creds", creds),
                },
                Credentials::NKey(seed) => config::NatsCredentials::NKey {
                    file: put("nats.nkey", seed),
                },
                Credentials::UserPassword { user, password } => {
                    config::NatsCredentials::UserPassword {
                        user_file: put("nats-user", user),
                        password_file: put("nats-password", password),
                    }
                }
                Credentials::Token(token) => config::NatsCredentials::Token {
                    file: put("nats-token", token),
                },
            });
        let servers = self.servers.clone();
        let nats = config::Nats {
            servers,
            tls,
            credentials,
            jet_stream: self.jet_stream.clone(),
        };
        (nats, files)
    }
}
