//! A certificate that the user brings, looked at before nginx is.

use std::{path::Path, time::SystemTime};

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
use crate::local::state::StateDir;

/// The files that the user gives, once it is sure that nginx and clients can work with them.
pub fn given(
    certificate: &Path,
    key: &Path,
    now: SystemTime,
) -> Result<Certificate, CertificateError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificateError::Unreadable { path, source }
    };
    let absolute = |path: &Path| std::path::absolute(path).map_err(unreadable(path));
    let read = |path: &Path| {
        let bytes = std::fs::read(path).map_err(unreadable(path))?;
        Ok::<_, CertificateError>(Pem {
            name: path.display().to_string(),
            bytes,
        })
    };
    check(&read(certificate)?, &read(key)?, now)?;
    Ok(Certificate {
        certificate: absolute(certificate)?,
        key: absolute(key)?,
        authority: None,
    })
}

/// What a Secret holds, written into the state folder once it is sure likewise. Also says whether it is new.
pub fn written(
    state: &StateDir,
    secret: &str,
    chain: &[u8],
    key: &[u8],
    now: SystemTime,
) -> Result<(Certificate, bool), CertificateError> {
    let pem = |name: &str, bytes: &[u8]| Pem {
        name: format!("{name} of Secret {secret}"),
        bytes: bytes.to_owned(),
    };
    check(&pem("tls.crt", chain), &pem("tls.key", key), now)?;
    let key_is_new = state.write(SECRET_KEY, key)?;
    let is_new = state.write(SECRET_CERTIFICATE, chain)? || key_is_new;
    let (certificate, key) = (state.path(SECRET_CERTIFICATE), state.path(SECRET_KEY));
    Ok((
        Certificate {
            certificate,
            key,
            authority: None,
        },
        is_new,
    ))
}

const SECRET_CERTIFICATE: &str = "secret/tls.crt";
const SECRET_KEY: &str = "secret/tls.key";

/// A text, and what the user calls it.
struct Pem {
    name: String,
    bytes: Vec<u8>,
}

fn check(certificate: &Pem, key: &Pem, now: SystemTime) -> Result<(), CertificateError> {
    let no_certificate = |why| CertificateError::NoCertificate {
        name: certificate.name.clone(),
        why,
    };
    let no_key = |why| CertificateError::NoKey {
        name: key.name.clone(),
        why,
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&certificate.bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| no_certificate(error.to_string()))?;
    let leaf = chain
        .first()
        .ok_or_else(|| no_certificate("there is no such section".to_owned()))?;
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|error| no_certificate(error.to_string()))?;
    let end = parsed.validity().not_after;
    if SystemTime::from(end.to_datetime()) < now {
        let name = certificate.name.clone();
        return Err(CertificateError::Expired {
            name,
            ended: end.to_string(),
        });
    }
    let der = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => no_key("there is no such section".to_owned()),
        other => no_key(other.to_string()),
    })?;
    match CertifiedKey::from_der(chain, der, &rustls::crypto::ring::default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let (certificate, key) = (certificate.name.clone(), key.name.clone());
            Err(CertificateError::Mismatch { certificate, key })
        }
        Err(error) => Err(no_key(error.to_string())),
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
        let (first, is_new) = written(&state, "ws-tls", &chain, &key, now).unwrap();
        assert!(is_new);
        assert!(!written(&state, "ws-tls", &chain, &key, now).unwrap().1);
        let other = std::fs::read(state.path(AUTHORITY_KEY)).unwrap();
        let error = written(&state, "ws-tls", &chain, &other, now).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tls.key of Secret ws-tls is not the key of the certificate in tls.crt of Secret ws-tls"
        );
        given(&first.certificate, &first.key, now).unwrap();
    }
}
