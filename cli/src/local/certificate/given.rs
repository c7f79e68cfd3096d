//! A certificate that the user brings, looked at before nginx is.

use std::{path::Path, time::SystemTime};

use wsgateway_certificate::{Chain, Fault, Pem};

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
    let read = |path: &Path| std::fs::read(path).map_err(unreadable(path));
    let (certificate_name, key_name) = (certificate.display(), key.display());
    check(
        Pem {
            name: &certificate_name.to_string(),
            bytes: &read(certificate)?,
        },
        Pem {
            name: &key_name.to_string(),
            bytes: &read(key)?,
        },
        now,
    )?;
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
    check(
        Pem {
            name: &format!("tls.crt of Secret {secret}"),
            bytes: chain,
        },
        Pem {
            name: &format!("tls.key of Secret {secret}"),
            bytes: key,
        },
        now,
    )?;
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

fn check(certificate: Pem<'_>, key: Pem<'_>, now: SystemTime) -> Result<(), Fault> {
    let chain = Chain::read(certificate)?;
    chain.check_end(now)?;
    chain.check_key(key)
}

#[cfg(test)]
mod tests {
    use wsgateway_certificate::DAY;

    use super::*;
    use crate::local::{
        certificate::{AUTHORITY_KEY, LEAF, local, names},
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
