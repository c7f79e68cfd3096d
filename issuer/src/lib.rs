//! The only IO of authentication: an issuer's keys, from its address or from a file. The gateway asks by it, and
//! `wsgw simulate`, which so finds what the gateway would.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::Incoming,
    client::conn::http1,
    header::{self, HeaderValue},
    http::uri::Scheme,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use wsgateway_auth::{KeySet, KeySetError, json, key::KEY_SET_BYTES_MAX};
use wsgateway_crds::config::KeySource;

/// Where an issuer says where its keys are (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// The largest file of keys, which is also the largest answer.
const FILE_BYTES_MAX: usize = KEY_SET_BYTES_MAX;

/// Keys, and how long they may be kept.
#[derive(Debug)]
pub struct Fetched {
    /// The keys.
    pub keys: KeySet,
    /// How long the answer says that they hold.
    pub max_age: Option<Duration>,
}

/// Why keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It takes too long. Who asks has the clock.
    #[error("no answer in time")]
    Timeout,
    /// An address is malformed.
    #[error("`{0}` is no address that begins with https:// or http://")]
    Address(String),
    /// Nobody listens.
    #[error("cannot connect to {0}")]
    Connect(String, #[source] io::Error),
    /// There is no TLS, or none that is trusted.
    #[error("no TLS connection to {0}")]
    Tls(String, #[source] io::Error),
    /// TLS needs a name or address.
    #[error("`{0}` is no name of a server")]
    ServerName(String, #[source] InvalidDnsNameError),
    /// A file holds no certificates.
    #[error("there are no certificates to trust in {0}")]
    Roots(PathBuf),
    /// Nor does the system.
    #[error("the system has no certificates to trust")]
    NoSystemRoots,
    /// What answers speaks no HTTP.
    #[error("no HTTP from {0}")]
    Http(String, #[source] hyper::Error),
    /// It answers with an error.
    #[error("{0} answers {1}")]
    Status(String, StatusCode),
    /// The answer does not come whole.
    #[error("the answer of {0} is broken off or too long")]
    Body(String),
    /// It does not say where the keys are.
    #[error("{0} is no discovery document")]
    Discovery(String),
    /// It is the document of somebody else.
    #[error("{url} is of issuer `{found}`, not of `{wanted}`")]
    IssuerMismatch {
        /// Where.
        url: String,
        /// Of whom.
        found: String,
        /// Who was asked for.
        wanted: String,
    },
    /// The keys would come without TLS, though the issuer has it.
    #[error("the issuer has TLS, but its keys are at {0}")]
    Downgrade(String),
    /// A file cannot be read.
    #[error("cannot read {0}")]
    File(PathBuf, #[source] io::Error),
    /// What comes holds no keys.
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

impl FetchError {
    /// A stable name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "Timeout",
            Self::Address(_) | Self::ServerName(..) => "InvalidAddress",
            Self::Connect(..) => "Unreachable",
            Self::Tls(..) => "TlsFailed",
            Self::Roots(_) | Self::NoSystemRoots => "NoRoots",
            Self::Http(..) | Self::Body(_) => "BrokenAnswer",
            Self::Status(..) => "ErrorAnswer",
            Self::Discovery(_) => "DiscoveryMalformed",
            Self::IssuerMismatch { .. } => "IssuerMismatch",
            Self::Downgrade(_) => "KeysWithoutTls",
            Self::File(..) => "FileUnreadable",
            Self::Keys(error) => error.reason(),
        }
    }
}

/// Fetches the keys of an issuer.
#[derive(Debug)]
pub struct Fetcher {
    issuer: String,
    source: KeySource,
}

impl Fetcher {
    /// Of an issuer, whose keys come from there.
    pub fn new(issuer: &str, source: &KeySource) -> Self {
        Self {
            issuer: issuer.to_owned(),
            source: source.clone(),
        }
    }

    /// Whether it costs nobody anything.
    pub fn is_file(&self) -> bool {
        matches!(self.source, KeySource::File { .. } | KeySource::Hmac { .. })
    }

    /// Fetches them once.
    ///
    /// # Errors
    /// When they cannot be had.
    pub async fn fetch(&self) -> Result<Fetched, FetchError> {
        let kept = |keys| Fetched {
            keys,
            max_age: None,
        };
        match &self.source {
            KeySource::Discovery { ca_file } => {
                let url = self.discover(ca_file.as_deref()).await?;
                fetch_keys(&url, ca_file.as_deref()).await
            }
            KeySource::Url { url, ca_file } => fetch_keys(url, ca_file.as_deref()).await,
            KeySource::File { file } => Ok(kept(KeySet::read(&read(file).await?)?)),
            KeySource::Hmac { file, algorithm } => {
                let secret = read(file).await?;
                Ok(kept(KeySet::secret(secret.trim_ascii(), *algorithm)?))
            }
        }
    }

    /// Where the issuer says that its keys are.
    async fn discover(&self, ca_file: Option<&Path>) -> Result<String, FetchError> {
        let url = format!("{}{DISCOVERY_PATH}", self.issuer.trim_end_matches('/'));
        let answer = get(&url, ca_file).await?;
        let document =
            json::object(&answer.body).map_err(|_| FetchError::Discovery(url.clone()))?;
        let text = |name| document.get(name).and_then(Value::as_str);
        let found = text("issuer").ok_or_else(|| FetchError::Discovery(url.clone()))?;
        if found != self.issuer {
            return Err(FetchError::IssuerMismatch {
                url,
                found: found.chars().take(200).collect(),
                wanted: self.issuer.clone(),
            });
        }
        let keys = text("jwks_uri").ok_or_else(|| FetchError::Discovery(url.clone()))?;
        if self.issuer.starts_with("https://") && !keys.starts_with("https://") {
            return Err(FetchError::Downgrade(keys.to_owned()));
        }
        Ok(keys.to_owned())
    }
}

async fn read(file: &Path) -> Result<Vec<u8>, FetchError> {
    let read = tokio::fs::read(file).await;
    let bytes = read.map_err(|error| FetchError::File(file.to_owned(), error))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(KeySetError::Form("it is too long").into());
    }
    Ok(bytes)
}

async fn fetch_keys(url: &str, ca_file: Option<&Path>) -> Result<Fetched, FetchError> {
    let answer = get(url, ca_file).await?;
    Ok(Fetched {
        keys: KeySet::read(&answer.body)?,
        max_age: answer.max_age,
    })
}

struct Answer {
    body: Bytes,
    max_age: Option<Duration>,
}

/// Asks once. Redirects are not followed: who configures an issuer says where it is.
async fn get(url: &str, ca_file: Option<&Path>) -> Result<Answer, FetchError> {
    let uri: Uri = url
        .parse()
        .map_err(|_| FetchError::Address(url.to_owned()))?;
    let with_tls = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(FetchError::Address(url.to_owned())),
    };
    let authority = uri
        .authority()
        .ok_or_else(|| FetchError::Address(url.to_owned()))?;
    let port = authority
        .port_u16()
        .unwrap_or(if with_tls { 443 } else { 80 });
    let host = authority.host().trim_matches(['[', ']']);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let at = format!("{host}:{port}");
    let request = Request::get(path)
        .header(header::HOST, authority.as_str())
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .header(header::USER_AGENT, HeaderValue::from_static("wsgateway"))
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::Address(url.to_owned()))?;
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(|error| FetchError::Connect(at.clone(), error))?;
    let response = if with_tls {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| FetchError::ServerName(host.to_owned(), error))?;
        let connector = TlsConnector::from(Arc::new(tls(ca_file)?));
        let stream = connector.connect(name, stream).await;
        ask(
            stream.map_err(|error| FetchError::Tls(at.clone(), error))?,
            request,
        )
        .await
    } else {
        ask(stream, request).await
    };
    let response = response.map_err(|error| FetchError::Http(at.clone(), error))?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(url.to_owned(), response.status()));
    }
    let max_age = response
        .headers()
        .get(header::CACHE_CONTROL)
        .and_then(max_age);
    let body = Limited::new(response.into_body(), KEY_SET_BYTES_MAX)
        .collect()
        .await;
    let body = body
        .map_err(|_| FetchError::Body(url.to_owned()))?
        .to_bytes();
    Ok(Answer { body, max_age })
}

async fn ask<S>(stream: S, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender and the answer; what breaks it shows in the answer.
    tokio::spawn(async move { drop(connection.await) });
    sender.send_request(request).await
}

/// The roots are read anew each time, since files change; it is a matter of minutes between two times.
fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, FetchError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = ca_file {
        let certificates = CertificateDer::pem_file_iter(file);
        let certificates = certificates.map_err(|_| FetchError::Roots(file.to_owned()))?;
        roots.add_parsable_certificates(certificates.flatten());
        if roots.is_empty() {
            return Err(FetchError::Roots(file.to_owned()));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(FetchError::NoSystemRoots);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("ring should have what the safe protocol versions need");
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Seconds of `max-age`. Where the answer must not be kept at all, what is done by default is done: keys are kept in
/// any case, or nobody could connect while the issuer is away.
fn max_age(value: &HeaderValue) -> Option<Duration> {
    let mut directives = value.to_str().ok()?.split(',').map(str::trim);
    let seconds = directives.find_map(|directive| directive.strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}
