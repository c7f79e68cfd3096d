//! The validated model: last on the path. Whoever holds a [`Gateway`] need not ask whether it is right.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use wsgateway_crds::{
    config::{self, JetStreamApi, KeySource, Live},
    v1alpha1::{DashboardMode, IssuerKind, MetricsMode, RulesMode, Upgrade},
    value::Duration,
};
use wsgateway_nginx_ingress::{Exposure, gateway_api::ParentRef, value::ObjectName};

/// The container of a pod that runs the gateway.
pub const CONTAINER: &str = "gateway";

/// Labels by which the workers' pods and the operator's objects are found: no user may set them.
pub const OWN_LABELS: [&str; 5] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
    "wsgateway.io/boot",
];

/// The prefix of the operator's own annotations, likewise.
pub const OWN_PREFIX: &str = "wsgateway.io/";

/// A `WsGateway` with nothing left to check.
#[derive(Debug, Clone, PartialEq)]
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
    ///
    /// The files that its part `auth` names have no directory yet: [`live_in`](Self::live_in) gives them one. Without
    /// it the workers would find no keys, and let nobody in.
    pub live: Live,
    /// The files that `live` names, likewise.
    pub auth_files: Vec<SecretFile>,
    /// What the proxy in front of the workers must know.
    pub exposure: Exposure,
    /// Where the certificate comes from that clients see.
    pub tls: Tls,
    /// What is made in a cluster for clients to come in by.
    pub entrance: Entrance,
    /// The controller behind the Ingress or Gateway, where the user names it.
    pub controller: Option<String>,
    /// Whether the operator leaves everything as it is.
    pub paused: bool,
    /// The workers' image, where it is not the operator's own.
    pub image: Option<String>,
    /// Whether a newer operator may replace the workers.
    pub upgrade: Upgrade,
    /// What changes the number of workers by load.
    pub scaling: Option<Scaling>,
    /// What is made for Prometheus and Grafana.
    pub monitoring: Monitoring,
    /// Who alone may reach the workers' pods; everyone where there is none.
    pub network_policy: Option<NetworkPolicy>,
    /// How many workers may be missing when nodes are drained.
    pub max_unavailable: u32,
    /// What is merged into the workers' pods last. It names nothing that the operator derives.
    pub pod_template: PodTemplateSpec,
}

/// What is made in a cluster for clients to come in by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entrance {
    /// An Ingress.
    Ingress {
        /// Its class; the cluster's default where there is none.
        class: Option<ObjectName>,
        /// Annotations to add to those of the dialect, and to put in their place.
        annotations: BTreeMap<String, String>,
    },
    /// A route of the Gateway API.
    HttpRoute {
        /// The Gateways that it attaches to; never empty.
        parents: Vec<ParentRef>,
    },
    /// A Service of type `LoadBalancer`.
    LoadBalancer {
        /// Who makes it; the cloud's own where there is none.
        class: Option<String>,
        /// The Service's annotations.
        annotations: BTreeMap<String, String>,
    },
    /// A Service inside the cluster alone.
    None,
}

/// What changes the number of workers by load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaling {
    /// Who does it.
    pub by: Autoscaler,
    /// The fewest workers.
    pub min_replicas: u32,
    /// The most; not fewer than the fewest.
    pub max_replicas: u32,
    /// What is measured: one or two of different kinds.
    pub metrics: Vec<Metric>,
}

/// Who changes the number of workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Autoscaler {
    /// A `HorizontalPodAutoscaler`.
    Hpa,
    /// KEDA's `ScaledObject`.
    Keda {
        /// The address of Prometheus.
        prometheus: String,
    },
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// So many open connections for each worker.
    Connections(u32),
    /// So many percent of the requested CPU.
    Cpu(u32),
}

/// What is made for Prometheus and Grafana.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitoring {
    /// What tells Prometheus to scrape.
    pub metrics: MetricsMode,
    /// Whether there are alerts.
    pub rules: RulesMode,
    /// Whether there is a dashboard.
    pub dashboard: DashboardMode,
    /// Labels of these objects.
    pub labels: BTreeMap<String, String>,
}

/// Who alone may reach the workers' pods, beside the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// The namespaces of clients; the workers' own where there is none.
    pub clients: Vec<ObjectName>,
    /// The namespaces of who reads metrics; the workers' own where there is none.
    pub metrics: Vec<ObjectName>,
}

impl Gateway {
    /// Whether the workers end TLS themselves in a cluster: no proxy that is told of the certificate stands in front of
    /// them.
    pub fn ends_tls(&self) -> bool {
        let has_no_proxy = matches!(
            self.entrance,
            Entrance::LoadBalancer { .. } | Entrance::None
        );
        has_no_proxy && self.tls != Tls::None
    }

    /// The certificate that workers show which end TLS themselves, in files of this directory, and those files.
    pub fn tls_in(&self, directory: &Path) -> Option<(config::CertificateFiles, Vec<SecretFile>)> {
        let secret = self
            .exposure
            .tls_secret
            .as_ref()
            .filter(|_| self.ends_tls())?;
        let file = |key: &str| SecretFile {
            path: directory.join(key),
            content: Content {
                at: KeyOf {
                    kind: ReferenceKind::Secret,
                    name: secret.to_string(),
                    key: key.to_owned(),
                },
                bytes: SecretBytes::new(Vec::new()),
            },
        };
        let (certificate, key) = (file("tls.crt"), file("tls.key"));
        let files = config::CertificateFiles {
            certificate_file: certificate.path.clone(),
            key_file: key.path.clone(),
        };
        Some((files, vec![certificate, key]))
    }

    /// What a worker's configuration says beside where it listens and how it reaches NATS, with every file that it
    /// names in this directory, and those files.
    pub fn live_in(&self, directory: &Path) -> (Live, Vec<SecretFile>) {
        let mut live = self.live.clone();
        let providers = live.auth.iter_mut().flat_map(|auth| &mut auth.providers);
        for provider in providers {
            match &mut provider.keys {
                KeySource::Discovery { ca_file } | KeySource::Url { ca_file, .. } => {
                    *ca_file = ca_file.take().map(|file| directory.join(file));
                }
                KeySource::File { file } | KeySource::Hmac { file, .. } => {
                    *file = directory.join(&*file);
                }
            }
        }
        let files = self.auth_files.iter().map(|file| SecretFile {
            path: directory.join(&file.path),
            content: file.content.clone(),
        });
        (live, files.collect())
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
    pub ca: Option<Content>,
    /// What the worker shows to a server that asks.
    pub client_certificate: Option<Certificate>,
}

/// A certificate chain and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, leaf first.
    pub chain: Content,
    /// The private key.
    pub key: Content,
}

/// What a key of a Secret or `ConfigMap` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The key.
    pub at: KeyOf,
    /// What it holds. Empty where the contents were not given, since the kubelet mounts them.
    pub bytes: SecretBytes,
}

/// A key of a Secret or `ConfigMap` of the gateway's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOf {
    /// Which of the two.
    pub kind: ReferenceKind,
    /// The object's name.
    pub name: String,
    /// The key.
    pub key: String,
}

impl fmt::Display for KeyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, key } = self;
        write!(f, "key {key} of {kind} {name}")
    }
}

impl fmt::Display for ReferenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        })
    }
}

/// What may be referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceKind {
    /// A Secret.
    Secret,
    /// A `ConfigMap`.
    ConfigMap,
}

/// Who the workers say they are to NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// The content of a `.creds` file.
    Creds(Content),
    /// An nkey seed.
    NKey(Content),
    /// A user and a password.
    UserPassword {
        /// The user.
        user: Content,
        /// The password.
        password: Content,
    },
    /// A token.
    Token(Content),
}

/// Where the certificate comes from that clients see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// From an authority that is made for this `WsGateway`.
    SelfSigned {
        /// How long a certificate lasts.
        duration: Duration,
        /// How long before its end it is renewed.
        renew_before: Duration,
    },
    /// From cert-manager.
    CertManager {
        /// The kind of issuer.
        kind: IssuerKind,
        /// The issuer's name.
        issuer: ObjectName,
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

/// A file that must exist, readable by the worker alone, before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Where.
    pub path: PathBuf,
    /// What it holds.
    pub content: Content,
}

impl Nats {
    /// The part of a worker's configuration, with every secret in a file of this directory, and those files. Its
    /// `servers` are those of the manifest: the runner that provides a server names it there.
    pub fn config(&self, directory: &Path) -> (config::Nats, Vec<SecretFile>) {
        let mut files = Vec::new();
        let mut put = |name: &str, content: &Content| {
            let path = directory.join(name);
            files.push(SecretFile {
                path: path.clone(),
                content: content.clone(),
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
