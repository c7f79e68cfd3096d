//! The certificate that nginx shows: from a local authority that is kept across runs, or from files the user gives.
//!
//! The authority's certificate is what a person trusts once, so it stays; leaves come and go.

mod given;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{extensions::GeneralName, prelude::*};

use super::state::{StateDir, StateError};
pub use given::{given, written};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Life of the authority: a person should have to trust it once.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * DAY.as_secs());

/// The life and the renewal of a leaf where the manifest says nothing, as in the cluster.
pub const LEAF: Lifetime = Lifetime {
    life: Duration::from_secs(90 * DAY.as_secs()),
    renew_before: Duration::from_secs(30 * DAY.as_secs()),
};

/// Certificates begin this much before now, for clients whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

const AUTHORITY: &str = "tls/ca.crt";
const AUTHORITY_KEY: &str = "tls/ca.key";
const LEAF_CERTIFICATE: &str = "tls/tls.crt";
const LEAF_KEY: &str = "tls/tls.key";

/// How long a leaf lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// From now to its end.
    pub life: Duration,
    /// How long before its end it is renewed.
    pub renew_before: Duration,
}

/// The files for nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM, leaf first.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// The local authority's, which a client can be told to trust; none with given files.
    pub authority: Option<PathBuf>,
}

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be opened.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file holds no certificate.
    #[error("{name} holds no PEM certificate: {why}")]
    NoCertificate {
        /// The file, or the key of a Secret.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The file holds no key.
    #[error("{name} holds no usable private key in PEM: {why}")]
    NoKey {
        /// The file, or the key of a Secret.
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
        /// The file, or the key of a Secret.
        name: String,
        /// Its end.
        ended: String,
    },
    /// The state folder cannot be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

impl CertificateError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "CertificateUnreadable",
            Self::NoCertificate { .. } => "NoCertificate",
            Self::NoKey { .. } => "NoPrivateKey",
            Self::Mismatch { .. } => "KeyMismatch",
            Self::Expired { .. } => "CertificateExpired",
            Self::State(error) => error.reason(),
            Self::Make(_) => "CertificateNotMade",
        }
    }
}

/// The names of a local certificate: this machine's, and those that clients ask for.
pub fn names<'a>(hosts: impl IntoIterator<Item = &'a str>, listen: &[IpAddr]) -> BTreeSet<String> {
    let specified = listen
        .iter()
        .filter(|ip| !ip.is_unspecified())
        .map(ToString::to_string);
    ["localhost", "127.0.0.1", "::1"]
        .into_iter()
        .chain(hosts)
        .map(str::to_owned)
        .chain(specified)
        .collect()
}

/// A certificate of the local authority for exactly these names. What an earlier run made is kept, as long as it
/// holds them and does not near its end. Also says whether the leaf is new.
pub fn local(
    state: &StateDir,
    names: &BTreeSet<String>,
    lifetime: Lifetime,
    now: SystemTime,
) -> Result<(Certificate, bool), CertificateError> {
    let (authority, issuer) = authority(state, lifetime, now)?;
    let files = Certificate {
        certificate: state.path(LEAF_CERTIFICATE),
        key: state.path(LEAF_KEY),
        authority: Some(state.path(AUTHORITY)),
    };
    let kept = given(&files.certificate, &files.key, now).is_ok()
        && state.read(LEAF_CERTIFICATE).is_some_and(|pem| {
            is_current_leaf(&pem, &authority, names, now + lifetime.renew_before)
        });
    if !kept {
        let key = KeyPair::generate()?;
        let leaf = leaf_params(names, lifetime, now)?.signed_by(&key, &issuer)?;
        state.write(LEAF_KEY, key.serialize_pem())?;
        state.write(LEAF_CERTIFICATE, leaf.pem())?;
    }
    Ok((files, !kept))
}

/// The kept authority, or a new one where there is none that outlives the leaves it signs. Its certificate is DER.
fn authority(
    state: &StateDir,
    lifetime: Lifetime,
    now: SystemTime,
) -> Result<(Vec<u8>, Issuer<'static, KeyPair>), CertificateError> {
    if let (Some(certificate), Some(key)) = (state.read(AUTHORITY), state.read(AUTHORITY_KEY))
        && given(
            &state.path(AUTHORITY),
            &state.path(AUTHORITY_KEY),
            now + lifetime.life,
        )
        .is_ok()
        && let Ok(der) = CertificateDer::from_pem_slice(certificate.as_bytes())
        && let Ok(issuer) = Issuer::from_ca_cert_der(&der, KeyPair::from_pem(&key)?)
    {
        return Ok((der.to_vec(), issuer));
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + AUTHORITY_LIFE).into();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "wsgateway");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("wsgw local CA of {}", user()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    state.write(AUTHORITY_KEY, key.serialize_pem())?;
    state.write(AUTHORITY, certificate.pem())?;
    Ok((certificate.der().to_vec(), Issuer::new(params, key)))
}

/// So that a person who trusts several authorities can tell them apart.
fn user() -> String {
    std::env::var("USER")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "nobody".to_owned())
}

fn leaf_params(
    names: &BTreeSet<String>,
    lifetime: Lifetime,
    now: SystemTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + lifetime.life).into();
    params
        .distinguished_name
        .push(DnType::CommonName, "wsgateway");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Whether a leaf is the authority's, holds exactly these names, and is valid beyond `until`.
fn is_current_leaf(
    pem: &str,
    authority: &[u8],
    names: &BTreeSet<String>,
    until: SystemTime,
) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return false;
    };
    let (Ok((_, leaf)), Ok((_, authority))) = (
        X509Certificate::from_der(&der),
        X509Certificate::from_der(authority),
    ) else {
        return false;
    };
    SystemTime::from(leaf.validity().not_after.to_datetime()) > until
        && leaf.verify_signature(Some(authority.public_key())).is_ok()
        && alternative_names(&leaf) == *names
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;
    use crate::local::state::tests::Scratch;

    #[tokio::test]
    async fn the_authority_stays_and_the_leaf_follows_names_and_time() {
        let scratch = Scratch::new("certificate");
        let state = StateDir::open(&scratch.0).await.unwrap();
        let now = SystemTime::now();
        let provide = |hosts: &[&str], now| {
            let names = names(hosts.iter().copied(), &["10.1.2.3".parse().unwrap()]);
            let (files, new) = local(&state, &names, LEAF, now).unwrap();
            let read = |path: &Path| fs::read_to_string(path).unwrap();
            (
                read(&files.certificate),
                read(&files.authority.unwrap()),
                new,
            )
        };
        let (leaf, authority, new) = provide(&["ws.example.com"], now);
        assert!(new);
        assert_eq!(
            provide(&["ws.example.com"], now),
            (leaf.clone(), authority.clone(), false)
        );

        let (other, same, new) = provide(&["*.example.com"], now);
        assert!(new && other != leaf && same == authority);
        // Two thirds of its life later it is renewed, not before.
        assert!(!provide(&["*.example.com"], now + 59 * DAY).2);
        assert!(provide(&["*.example.com"], now + 61 * DAY).2);
        // An authority that would end before its leaves is replaced, and so are they.
        let (_, later, new) = provide(&["*.example.com"], now + 3_600 * DAY);
        assert!(new && later != authority);

        for file in [AUTHORITY_KEY, LEAF_KEY] {
            let mode = fs::metadata(state.path(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }
}
