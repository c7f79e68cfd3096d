//! Certificates and keys that somebody wrote, read: what they say, and whether they belong together.

use std::{collections::BTreeSet, fmt, net::IpAddr, time::SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    InconsistentKeys,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, prelude::*};

use crate::inspection::covers;

/// A text, and what the user calls it: a file's name, or `tls.crt of Secret ws-tls`.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// What the user calls it.
    pub name: &'a str,
    /// What it holds.
    pub bytes: &'a [u8],
}

/// It may be a key.
impl fmt::Debug for Pem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({})", self.name)
    }
}

/// Why a certificate is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is nothing to read.
    #[error("{name} does not exist")]
    NotFound {
        /// What was looked for.
        name: String,
    },
    /// It holds no certificate.
    #[error("{name} holds no PEM certificate: {why}")]
    NoCertificate {
        /// The text.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// It holds no key.
    #[error("{name} holds no usable private key in PEM: {why}")]
    NoKey {
        /// The text.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// They do not belong together.
    #[error("{key} is not the key of the certificate in {certificate}")]
    Mismatch {
        /// Where the certificate is.
        certificate: String,
        /// Where the key is.
        key: String,
    },
    /// Clients would refuse it.
    #[error("the certificate in {name} has ended on {ended}")]
    Expired {
        /// The text.
        name: String,
        /// Its end.
        ended: String,
    },
    /// Clients would refuse it yet.
    #[error("the certificate in {name} begins on {begins} only")]
    NotYetValid {
        /// The text.
        name: String,
        /// Its begin.
        begins: String,
    },
    /// Clients would refuse it for this host.
    #[error("the certificate in {name} is not for host {host}; it is for {names}")]
    HostNotCovered {
        /// The text.
        name: String,
        /// The host that clients ask for.
        host: String,
        /// What it holds instead.
        names: String,
    },
    /// It cannot sign others.
    #[error("the certificate in {name} is not that of an authority")]
    NoAuthority {
        /// The text.
        name: String,
    },
}

impl Fault {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "SecretKeyNotFound",
            Self::NoCertificate { .. } => "NoCertificate",
            Self::NoKey { .. } => "NoPrivateKey",
            Self::Mismatch { .. } => "KeyMismatch",
            Self::Expired { .. } => "CertificateExpired",
            Self::NotYetValid { .. } => "CertificateNotYetValid",
            Self::HostNotCovered { .. } => "HostNotCovered",
            Self::NoAuthority { .. } => "NoAuthority",
        }
    }
}

/// Certificates, of which the first is the one that is shown: its facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// What the user calls it.
    pub name: String,
    /// Its begin.
    pub not_before: SystemTime,
    /// Its end.
    pub not_after: SystemTime,
    /// The host names and addresses that it is for.
    pub names: BTreeSet<String>,
    /// Whom it was made for, as its subject says: for people alone.
    pub common_name: Option<String>,
    /// Whether it may sign others.
    pub is_authority: bool,
    first: CertificateDer<'static>,
    rest: Vec<CertificateDer<'static>>,
}

impl Chain {
    /// Reads it.
    pub fn read(pem: Pem<'_>) -> Result<Self, Fault> {
        let fault = |why| Fault::NoCertificate {
            name: pem.name.to_owned(),
            why,
        };
        let mut all = CertificateDer::pem_slice_iter(pem.bytes);
        let first = all
            .next()
            .ok_or_else(|| fault("there is no such section".to_owned()))?
            .map_err(|error| fault(error.to_string()))?;
        let rest = all
            .collect::<Result<_, _>>()
            .map_err(|error| fault(error.to_string()))?;
        Self::of(pem.name, first, rest)
    }

    /// Reads the one that a server presented first in a TLS handshake.
    pub fn presented(der: &[u8]) -> Result<Self, Fault> {
        let first = CertificateDer::from(der.to_vec());
        Self::of("the presented certificate", first, Vec::new())
    }

    fn of(
        name: &str,
        first: CertificateDer<'static>,
        rest: Vec<CertificateDer<'static>>,
    ) -> Result<Self, Fault> {
        let (_, parsed) =
            X509Certificate::from_der(&first).map_err(|error| Fault::NoCertificate {
                name: name.to_owned(),
                why: error.to_string(),
            })?;
        let common_name = parsed
            .subject()
            .iter_common_name()
            .find_map(|name| name.as_str().ok())
            .map(str::to_owned);
        Ok(Self {
            name: name.to_owned(),
            common_name,
            not_before: parsed.validity().not_before.to_datetime().into(),
            not_after: parsed.validity().not_after.to_datetime().into(),
            names: alternative_names(&parsed),
            is_authority: parsed.is_ca(),
            first,
            rest,
        })
    }

    /// Whether clients of a host accept its names.
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| covers(name, host))
    }

    /// Whether this is the key of the first certificate.
    pub fn check_key(&self, key: Pem<'_>) -> Result<(), Fault> {
        self.certified(key).map(drop)
    }

    /// The chain with its key, as a server shows it.
    ///
    /// # Errors
    /// When it is no key, or not that of the first certificate.
    pub fn certified(&self, key: Pem<'_>) -> Result<CertifiedKey, Fault> {
        let fault = |why| Fault::NoKey {
            name: key.name.to_owned(),
            why,
        };
        let der = PrivateKeyDer::from_pem_slice(key.bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => fault("there is no such section".to_owned()),
            other => fault(other.to_string()),
        })?;
        let chain = std::iter::once(&self.first).chain(&self.rest).cloned();
        let provider = rustls::crypto::ring::default_provider();
        match CertifiedKey::from_der(chain.collect(), der, &provider) {
            Ok(certified) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(Fault::Mismatch {
                    certificate: self.name.clone(),
                    key: key.name.to_owned(),
                })
            }
            Err(error) => Err(fault(error.to_string())),
        }
    }

    /// Whether it has not ended.
    pub fn check_end(&self, now: SystemTime) -> Result<(), Fault> {
        if self.not_after >= now {
            return Ok(());
        }
        Err(Fault::Expired {
            name: self.name.clone(),
            ended: date(self.not_after),
        })
    }

    /// Whether it has begun.
    pub fn check_begin(&self, now: SystemTime) -> Result<(), Fault> {
        if self.not_before <= now {
            return Ok(());
        }
        Err(Fault::NotYetValid {
            name: self.name.clone(),
            begins: date(self.not_before),
        })
    }

    /// Whether the first certificate carries the signature of this authority.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let (Ok((_, leaf)), Ok((_, authority))) = (
            X509Certificate::from_der(&self.first),
            X509Certificate::from_der(&authority.first),
        ) else {
            return false;
        };
        leaf.issuer() == authority.subject()
            && leaf.verify_signature(Some(authority.public_key())).is_ok()
    }

    /// Whether the first certificate stands alone.
    pub fn is_single(&self) -> bool {
        self.rest.is_empty()
    }

    /// The first certificate, DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.first
    }

    /// The first certificate, PEM, and nothing else that the text may have held.
    pub fn pem(&self) -> String {
        const LINE: usize = 64; // RFC 7468, section 2.
        let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for line in STANDARD.encode(&self.first).as_bytes().chunks(LINE) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text + "-----END CERTIFICATE-----\n"
    }
}

/// As people write it.
fn date(time: SystemTime) -> String {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
        .map_or_else(
            || format!("{seconds} s after 1970"),
            |time| time.to_string(),
        )
}

fn alternative_names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension
        .iter()
        .flat_map(|extension| &extension.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes)
                    .ok()
                    .map(|b| IpAddr::from(b).to_string()),
                _ => <[u8; 16]>::try_from(*bytes)
                    .ok()
                    .map(|b| IpAddr::from(b).to_string()),
            },
            _ => None,
        })
        .collect()
}
