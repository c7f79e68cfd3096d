//! Who trusts whom in a control plane: one authority, the API server's certificate, and the key that signs the
//! tokens of service accounts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::certificate::Leaf;

/// The authority of one control plane, and its files.
pub struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Pki {
    /// Makes one, and writes what the control plane's programs read into `folder`.
    pub(super) fn write(folder: &Path) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "control plane of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let authority_key = key.serialize_pem();
        let pki = Self {
            authority: CertifiedIssuer::self_signed(params, key).unwrap(),
            folder: folder.to_owned(),
        };
        let server = pki.sign("kube-apiserver", &[], &["localhost", "127.0.0.1"]);
        let accounts = KeyPair::generate().unwrap();
        for (name, text) in [
            ("ca.crt", pki.certificate()),
            ("ca.key", authority_key),
            ("server.crt", server.certificate),
            ("server.key", server.key),
            // The tokens of service accounts are signed by the one and checked by the other.
            ("accounts.key", accounts.serialize_pem()),
            ("accounts.pub", accounts.public_key_pem()),
        ] {
            fs::write(pki.file(name), text).unwrap();
        }
        pki
    }

    /// One of the files.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The authority's certificate, PEM.
    pub fn certificate(&self) -> String {
        self.authority.pem()
    }

    /// What a client shows to be a user in at most one group, or a server to be `names`.
    pub fn sign(&self, user: &str, group: &[&str], names: &[&str]) -> Leaf {
        assert!(group.len() <= 1, "rcgen writes one organization");
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        for group in group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, *group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        Leaf {
            certificate: params.signed_by(&key, &self.authority).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}
