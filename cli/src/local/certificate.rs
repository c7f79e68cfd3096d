//! The certificate that nginx shows: from a local authority that is kept across runs, or from files the user gives.
//!
//! The authority's certificate is what a person trusts once, so it stays; leaves come and go.

mod given;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, time::SystemTime};

use wsgateway_certificate::{Authority, Chain, Fault, MakeError, Pem};

use super::state::{StateDir, StateError};
pub use given::{given, written};
pub use wsgateway_certificate::{LEAF, Lifetime};

const AUTHORITY: &str = "tls/ca.crt";
const AUTHORITY_KEY: &str = "tls/ca.key";
const LEAF_CERTIFICATE: &str = "tls/tls.crt";
const LEAF_KEY: &str = "tls/tls.key";

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
    /// nginx or clients would refuse it.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The state folder cannot be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// A certificate could not be made.
    #[error(transparent)]
    Make(#[from] MakeError),
}

impl CertificateError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "CertificateUnreadable",
            Self::Fault(fault) => fault.reason(),
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
    let authority = authority(state, lifetime, now)?;
    let is_kept = is_leaf_current(state, &authority, names, now + lifetime.renew_before);
    if !is_kept {
        let leaf = authority.issue(names, lifetime.life, now)?;
        state.write(LEAF_KEY, leaf.key)?;
        state.write(LEAF_CERTIFICATE, leaf.certificate)?;
    }
    let files = Certificate {
        certificate: state.path(LEAF_CERTIFICATE),
        key: state.path(LEAF_KEY),
        authority: Some(state.path(AUTHORITY)),
    };
    Ok((files, !is_kept))
}

/// The kept authority, or a new one where there is none that outlives the leaves it signs. Who runs this trusts it on
/// this machine alone, and is told of a new one, so it is not announced as in a cluster.
fn authority(
    state: &StateDir,
    lifetime: Lifetime,
    now: SystemTime,
) -> Result<Authority, CertificateError> {
    if let (Some(certificate), Some(key)) = (state.read(AUTHORITY), state.read(AUTHORITY_KEY))
        && let Ok(authority) =
            Authority::read(pem(AUTHORITY, &certificate), pem(AUTHORITY_KEY, &key))
        && authority.chain().not_after >= now + lifetime.life
    {
        return Ok(authority);
    }
    let authority = Authority::make(&format!("wsgw local CA of {}", user()), now)?;
    state.write(AUTHORITY_KEY, &authority.pair().key)?;
    state.write(AUTHORITY, &authority.pair().certificate)?;
    Ok(authority)
}

fn pem<'a>(name: &'a str, text: &'a str) -> Pem<'a> {
    Pem {
        name,
        bytes: text.as_bytes(),
    }
}

/// So that a person who trusts several authorities can tell them apart.
fn user() -> String {
    std::env::var("USER")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "nobody".to_owned())
}

/// Whether the leaf of an earlier run is the authority's, holds exactly these names, and is valid beyond `until`.
fn is_leaf_current(
    state: &StateDir,
    authority: &Authority,
    names: &BTreeSet<String>,
    until: SystemTime,
) -> bool {
    let (Some(certificate), Some(key)) = (state.read(LEAF_CERTIFICATE), state.read(LEAF_KEY))
    else {
        return false;
    };
    Chain::read(pem(LEAF_CERTIFICATE, &certificate)).is_ok_and(|leaf| {
        leaf.not_after > until
            && leaf.names == *names
            && leaf.is_signed_by(authority.chain())
            && leaf.check_key(pem(LEAF_KEY, &key)).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use wsgateway_certificate::DAY;

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
