//! The certificate that clients are shown where the gateway itself ends TLS. Its files are read again when they change:
//! new handshakes get what they hold then, and no open connection notices. A pair that is of no use leaves the one before
//! in place.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicU64},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use rustls::{
    ServerConfig,
    crypto::ring::{Ticketer, default_provider},
    server::{NoServerSessionStorage, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
};
use wsgateway_certificate::{Chain, Fault, Pem};
use wsgateway_crds::{
    config::CertificateFiles,
    report::{CertificateRejected, TlsReport},
};

use crate::{metrics::ResultLabel, telemetry::chain};

/// What is spoken within TLS. HTTP/2 can carry them too (RFC 8441), but no client needs it to.
const ALPN: &[u8] = b"http/1.1";

/// The largest file: a chain of some ten certificates.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Why there is no certificate. No variant shows what a file holds.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file is longer than a certificate chain can be.
    #[error("{0} is longer than {FILE_BYTES_MAX} bytes")]
    TooLong(String),
    /// What they hold is of no use.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// They cannot be served with.
    #[error("the certificate cannot be served with")]
    Unusable(#[source] rustls::Error),
}

impl CertificateError {
    /// A stable name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Unreadable",
            Self::TooLong(_) => "TooLong",
            Self::Fault(fault) => fault.reason(),
            Self::Unusable(_) => "Unusable",
        }
    }
}

/// What is counted of it.
#[derive(Debug, Clone, Default)]
struct TlsMetrics {
    not_after: Gauge<f64, AtomicU64>,
    reloads: Family<ResultLabel, Counter>,
}

/// A pair as it was read.
#[derive(Debug)]
struct Pair {
    certified: Arc<CertifiedKey>,
    not_after: SystemTime,
}

impl Pair {
    fn read(files: &CertificateFiles) -> Result<Self, CertificateError> {
        let CertificateFiles {
            certificate_file,
            key_file,
        } = files;
        let (certificate, key) = (read(certificate_file)?, read(key_file)?);
        let names = [certificate_file, key_file].map(|path| path.display().to_string());
        let [certificate_name, key_name] = &names;
        let chain = Chain::read(Pem {
            name: certificate_name,
            bytes: &certificate,
        })?;
        let certified = chain.certified(Pem {
            name: key_name,
            bytes: &key,
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            not_after: chain.not_after,
        })
    }

    /// What connections are made with from now on. Tickets of one pair are of no use with the next, so that whoever
    /// comes back sees the newer one.
    fn config(&self) -> Result<ServerConfig, CertificateError> {
        let resolver: Arc<dyn ResolvesServerCert> =
            Arc::new(SingleCertAndKey::from((*self.certified).clone()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Unusable)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new().map_err(CertificateError::Unusable)?;
        // One is enough for a client that comes back.
        config.send_tls13_tickets = 1;
        Ok(config)
    }
}

/// The certificate that clients are shown.
#[derive(Debug)]
pub struct Certificates {
    files: CertificateFiles,
    metrics: TlsMetrics,
    current: RwLock<Arc<ServerConfig>>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    pair: Pair,
    rejected: Option<CertificateRejected>,
}

impl Certificates {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// When they are of no use: there is nothing to go on with.
    pub fn open(
        files: &CertificateFiles,
        registry: &mut Registry,
    ) -> Result<Self, CertificateError> {
        let pair = Pair::read(files)?;
        let config = pair.config()?;
        let metrics = TlsMetrics::default();
        let m = metrics.clone();
        let registry = registry.sub_registry_with_prefix("wsgateway_tls");
        registry.register(
            "certificate_not_after_timestamp_seconds",
            "When the certificate that clients are shown ends",
            m.not_after,
        );
        registry.register("certificate_reloads", "Certificates read again", m.reloads);
        metrics.not_after.set(seconds(pair.not_after));
        warn_of_end(&pair);
        Ok(Self {
            files: files.clone(),
            metrics,
            current: RwLock::new(Arc::new(config)),
            known: Mutex::new(Known {
                pair,
                rejected: None,
            }),
        })
    }

    /// Whether they could be served with.
    ///
    /// # Errors
    /// When they could not.
    pub fn check(files: &CertificateFiles) -> Result<(), CertificateError> {
        Pair::read(files)?.config().map(drop)
    }

    /// What a handshake that begins now is made with.
    pub fn current(&self) -> Arc<ServerConfig> {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Their files.
    pub fn paths(files: &CertificateFiles) -> [&Path; 2] {
        [&files.certificate_file, &files.key_file]
    }

    /// Reads them again, and goes over to them where they are others and of use.
    pub fn reload(&self) {
        let result = match self.take_over() {
            Ok(true) => "applied",
            Ok(false) => "unchanged",
            Err(error) => {
                let (reason, message) = (error.reason(), chain(&error));
                tracing::error!(reason, "{message}; the certificate before stays");
                self.known().rejected = Some(CertificateRejected {
                    reason: reason.to_owned(),
                    message,
                });
                "rejected"
            }
        };
        let label = ResultLabel { result };
        self.metrics.reloads.get_or_create(&label).inc();
    }

    fn take_over(&self) -> Result<bool, CertificateError> {
        let pair = Pair::read(&self.files)?;
        let mut known = self.known();
        if pair.certified.cert == known.pair.certified.cert {
            known.rejected = None;
            return Ok(false);
        }
        let config = pair.config()?;
        known.rejected = None;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        self.metrics.not_after.set(seconds(pair.not_after));
        tracing::info!("the certificate has changed");
        warn_of_end(&pair);
        known.pair = pair;
        Ok(true)
    }

    /// What the admin port tells of it.
    pub fn report(&self) -> TlsReport {
        let known = self.known();
        TlsReport {
            not_after: seconds(known.pair.not_after) as u64,
            rejected: known.rejected.clone(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that has ended is served all the same: clients say best what they think of it, and without it nobody comes in.
fn warn_of_end(pair: &Pair) {
    if pair.not_after < SystemTime::now() {
        tracing::warn!("the certificate that clients are shown has ended");
    }
}

fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs_f64()
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let name = || path.display().to_string();
    let failed = |source| CertificateError::Read {
        path: name(),
        source,
    };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(CertificateError::TooLong(name()));
    }
    fs::read(path).map_err(failed)
}
