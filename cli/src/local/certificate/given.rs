//! A certificate that the user brings, looked at before nginx is.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustls::{
    InconsistentKeys,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use x509_parser::prelude::*;

use super::{Certificate, CertificateError};
use crate::local::state::{StateDir, StateError};

/// The files that the user gives, once it is sure that nginx and clients can work with them.
pub fn given(
    certificate: &Path,
    key: &Path,
    now: SystemTime,
) -> Result<Certificate, CertificateError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable_or(certificate, error, no_certificate))?;
    let leaf = chain
        .first()
        .ok_or_else(|| no_certificate(certificate.to_owned(), "there is no section".to_owned()))?;
    let (_, parsed) = X509Certificate::from_der(leaf)
        .map_err(|error| no_certificate(certificate.to_owned(), error.to_string()))?;
    if SystemTime::from(parsed.validity().not_after.to_datetime()) < now {
        let ended = parsed.validity().not_after.to_string();
        return Err(CertificateError::Expired {
            path: certificate.to_owned(),
            ended,
        });
    }
    let der =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable_or(key, error, no_key))?;
    match CertifiedKey::from_der(chain, der, &rustls::crypto::ring::default_provider()) {
        Ok(_) => {}
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            return Err(CertificateError::Mismatch {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            });
        }
        Err(error) => return Err(no_key(key.to_owned(), error.to_string())),
    }
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|source| CertificateError::Unreadable {
            path: path.to_owned(),
            source,
        })
    };
    Ok(Certificate {
        certificate: absolute(certificate)?,
        key: absolute(key)?,
        authority: None,
    })
}

/// The same of what a Secret holds, which is written into the state folder once it is known to be usable. Also says
/// whether it is new.
pub fn written(
    state: &StateDir,
    chain: &[u8],
    key: &[u8],
    now: SystemTime,
) -> Result<(Certificate, bool), CertificateError> {
    let paths = |folder: &str| ["tls.crt", "tls.key"].map(|file| format!("{folder}/{file}"));
    let put = |[chain_file, key_file]: &[String; 2]| {
        let is_new = state.write(key_file, key)?;
        Ok::<_, StateError>(state.write(chain_file, chain)? || is_new)
    };
    let (tried, used) = (paths("secret/next"), paths("secret"));
    put(&tried)?;
    let [chain_file, key_file] = tried.each_ref().map(|file| state.path(file));
    given(&chain_file, &key_file, now)?;
    for file in &tried {
        state.remove(file);
    }
    let is_new = put(&used)?;
    let [certificate, key] = used.each_ref().map(|file| state.path(file));
    Ok((
        Certificate {
            certificate,
            key,
            authority: None,
        },
        is_new,
    ))
}

fn no_certificate(path: PathBuf, why: String) -> CertificateError {
    CertificateError::NoCertificate { path, why }
}

fn no_key(path: PathBuf, why: String) -> CertificateError {
    CertificateError::NoKey { path, why }
}

fn unreadable_or(
    path: &Path,
    error: pem::Error,
    otherwise: fn(PathBuf, String) -> CertificateError,
) -> CertificateError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => CertificateError::Unreadable { path, source },
        pem::Error::NoItemsFound => otherwise(path, "there is no such section".to_owned()),
        other => otherwise(path, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::{
        certificate::{AUTHORITY_KEY, DAY, LEAF, local, names},
        state::tests::Scratch,
    };

    #[tokio::test]
    async fn given_files_are_refused_with_the_reason() {
        let scratch = Scratch::new("given");
        let state = StateDir::open(&scratch.0).await.unwrap();
        let now = SystemTime::now();
        let (files, _) = local(&state, &names([], &[]), LEAF, now).unwrap();
        state.write("garbage", "no PEM").unwrap();
        state
            .write(
                "broken",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            )
            .unwrap();
        let (certificate, key) = (files.certificate.clone(), files.key.clone());
        let check = |certificate: &Path, key: &Path, now, reason| {
            let error = given(certificate, key, now).unwrap_err();
            assert_eq!(error.reason(), reason, "{error}");
        };
        given(&certificate, &key, now).unwrap();
        check(&state.path("missing"), &key, now, "CertificateUnreadable");
        check(
            &certificate,
            &state.path("missing"),
            now,
            "CertificateUnreadable",
        );
        check(&state.path("garbage"), &key, now, "NoCertificate");
        check(&state.path("broken"), &key, now, "NoCertificate");
        check(&key, &key, now, "NoCertificate");
        check(&certificate, &certificate, now, "NoPrivateKey");
        check(&certificate, &state.path(AUTHORITY_KEY), now, "KeyMismatch");
        check(&certificate, &key, now + 91 * DAY, "CertificateExpired");
    }

    #[tokio::test]
    async fn a_secret_that_is_of_no_use_leaves_the_last_good_one() {
        let scratch = Scratch::new("written");
        let state = StateDir::open(&scratch.0).await.unwrap();
        let now = SystemTime::now();
        let (files, _) = local(&state, &names([], &[]), LEAF, now).unwrap();
        let (chain, key) = (
            std::fs::read(files.certificate).unwrap(),
            std::fs::read(files.key).unwrap(),
        );
        let (first, is_new) = written(&state, &chain, &key, now).unwrap();
        assert!(is_new);
        assert!(!written(&state, &chain, &key, now).unwrap().1);
        let other = std::fs::read(state.path(AUTHORITY_KEY)).unwrap();
        let error = written(&state, &chain, &other, now).unwrap_err();
        assert_eq!(error.reason(), "KeyMismatch");
        given(&first.certificate, &first.key, now).unwrap();
    }
}
