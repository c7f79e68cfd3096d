//! An authority of our own: made once, kept for years, and it signs leaves.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::{AUTHORITY_LIFE, CLOCK_SKEW, Chain, Fault, Pem};

/// X.520's ub-common-name: some clients refuse what is longer.
const COMMON_NAME_MAX: usize = 64;

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate: {0}")]
pub struct MakeError(#[from] rcgen::Error);

impl MakeError {
    /// What was just made cannot be read.
    pub(crate) fn unreadable() -> Self {
        Self(rcgen::Error::CouldNotParseCertificate)
    }
}

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS #8.
    pub key: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair(…)")
    }
}

/// An authority that can sign.
#[derive(Debug)]
pub struct Authority {
    chain: Chain,
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, for ten years.
    pub fn make(common_name: &str, now: SystemTime) -> Result<Self, MakeError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + AUTHORITY_LIFE).into();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "wsgateway");
        let common_name: String = common_name.chars().take(COMMON_NAME_MAX).collect();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        let read = Chain::read(Pem {
            name: "the new authority",
            bytes: certificate.as_bytes(),
        });
        Ok(Self {
            chain: read.map_err(|_| MakeError::unreadable())?,
            pair: Pair {
                certificate,
                key: key.serialize_pem(),
            },
            issuer: Issuer::new(params, key),
        })
    }

    /// One that was made before.
    pub fn read(certificate: Pem<'_>, key: Pem<'_>) -> Result<Self, Fault> {
        let chain = Chain::read(certificate)?;
        chain.check_key(key)?;
        if !chain.is_authority {
            let name = chain.name;
            return Err(Fault::NoAuthority { name });
        }
        let no_key = |why: String| Fault::NoKey {
            name: key.name.to_owned(),
            why,
        };
        let text = std::str::from_utf8(key.bytes).map_err(|error| no_key(error.to_string()))?;
        let signing = KeyPair::from_pem(text).map_err(|error| no_key(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(chain.der(), signing).map_err(|error| {
            Fault::NoCertificate {
                name: chain.name.clone(),
                why: error.to_string(),
            }
        })?;
        let pair = Pair {
            certificate: String::from_utf8_lossy(certificate.bytes).into_owned(),
            key: text.to_owned(),
        };
        Ok(Self {
            chain,
            pair,
            issuer,
        })
    }

    /// What its certificate says.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Its certificate and key as they were read or made.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// A new leaf for exactly these names, which ends no later than the authority.
    pub fn issue(
        &self,
        names: &BTreeSet<String>,
        life: Duration,
        now: SystemTime,
    ) -> Result<Pair, MakeError> {
        let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + life).min(self.chain.not_after).into();
        params
            .distinguished_name
            .push(DnType::CommonName, "wsgateway");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok(Pair {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}
