//! Whether the certificate that a proxy presents is the one that clients should see: pure but for the TLS handshake's
//! own checks.

use std::{sync::Arc, time::SystemTime};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use wsgateway_certificate::Chain;

use super::target::Expected;

/// The name in the certificate that the community's controller presents where it has none.
const FAKE: &str = "Kubernetes Ingress Controller Fake Certificate";

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// None was presented, or one that cannot be read.
    Unreadable(String),
    /// The one that the community's controller presents where it has none.
    Fake,
    /// It is not the one of the Secret.
    Another {
        /// Who it is for.
        names: String,
    },
    /// It is for others.
    NotForHost {
        /// Who it is for.
        names: String,
    },
    /// It has expired, or is not valid yet.
    NotValidNow,
}

/// Compares what was presented.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(
    presented: Option<&[u8]>,
    expected: &Expected,
    host: Option<&str>,
    now: SystemTime,
) -> Result<(), Fault> {
    let presented = presented.ok_or_else(|| Fault::Unreadable("none was presented".to_owned()))?;
    if expected.leaf.as_deref() == Some(presented) {
        return Ok(());
    }
    let chain =
        Chain::presented(presented).map_err(|fault| Fault::Unreadable(fault.to_string()))?;
    if chain.common_name.as_deref() == Some(FAKE) {
        return Err(Fault::Fake);
    }
    let names: Vec<&str> = chain.names.iter().map(String::as_str).collect();
    let names = if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(", ")
    };
    if expected.leaf.is_some() {
        return Err(Fault::Another { names });
    }
    if host.is_some_and(|host| !chain.covers(host)) {
        return Err(Fault::NotForHost { names });
    }
    if chain.check_end(now).is_err() || chain.check_begin(now).is_err() {
        return Err(Fault::NotValidNow);
    }
    Ok(())
}

/// TLS that takes every certificate whose key the other side holds: [`check`] says what it is worth.
pub(super) fn client_config() -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    // A WebSocket begins with HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session shows no certificate: what is compared would be the one of long ago.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Takes every certificate, and no signature that is not its key's.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use wsgateway_certificate::{Authority, DAY, LEAF, Pem};

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn leaf(name: &str) -> Vec<u8> {
        let names = BTreeSet::from([name.to_owned()]);
        let authority = Authority::make("test", now()).unwrap();
        let pair = authority.issue(&names, LEAF.life, now()).unwrap();
        let bytes = pair.certificate.as_bytes();
        let chain = Chain::read(Pem {
            name: "leaf",
            bytes,
        })
        .unwrap();
        chain.der().to_vec()
    }

    #[test]
    fn a_certificate_is_the_one_that_is_known_or_at_least_one_for_the_host() {
        let (ours, same_name, other) = (leaf("a.test"), leaf("a.test"), leaf("b.test"));
        let expecting = |leaf: Option<&Vec<u8>>| Expected {
            leaf: leaf.map(|leaf| leaf.as_slice().into()),
            secret: None,
        };
        let names = |name: &str| name.to_owned();
        let later = now() + 200 * DAY;
        for (what, presented, known, when, expected) in [
            ("it is ours", &ours, true, now(), Ok(())),
            ("it is ours, whatever its end", &ours, true, later, Ok(())),
            (
                "another one of that name",
                &same_name,
                true,
                now(),
                Err(Fault::Another {
                    names: names("a.test"),
                }),
            ),
            (
                "one that cannot be compared",
                &same_name,
                false,
                now(),
                Ok(()),
            ),
            (
                "one that has ended",
                &same_name,
                false,
                later,
                Err(Fault::NotValidNow),
            ),
            (
                "one for somebody else",
                &other,
                false,
                now(),
                Err(Fault::NotForHost {
                    names: names("b.test"),
                }),
            ),
        ] {
            let expecting = expecting(known.then_some(&ours));
            let checked = check(Some(presented), &expecting, Some("a.test"), when);
            assert_eq!(checked, expected, "{what}");
        }
        let nothing = check(None, &expecting(None), None, now());
        assert!(matches!(nothing, Err(Fault::Unreadable(_))));
    }
}
