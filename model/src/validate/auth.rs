//! `spec.auth` and the objects that it names, and what a route asks of a token.

use std::{ops::RangeInclusive, path::PathBuf};

use wsgateway_auth::KeySet;
use wsgateway_crds::{
    config::{self, KeySource},
    v1alpha1::{
        self, Access, BackchannelLogout, CaRef, CookieSource, Hmac, HmacAlgorithm, Jwks, KeysRef,
        Oidc, OnExpiry, ProviderType, PublishAuthorization, SecretKeyRef, TokenSourceType,
    },
    value::Duration,
};

use super::{
    findings::Findings,
    nats::{authority, key_of, reference},
};
use crate::gateway::{Content, ReferenceKind, SecretFile};

/// By how much clocks may differ. Beyond it a token's times mean little.
const LEEWAY: RangeInclusive<Duration> = Duration::from_secs(0)..=Duration::from_secs(300);

/// How long before its token expires a connection may end.
const JITTER: RangeInclusive<Duration> = Duration::from_secs(0)..=Duration::from_secs(3_600);

/// How long before its connection ends a client may be told. Connections are looked at once a second.
const WARN_BEFORE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

/// What it is told where nothing else is asked for.
const WARNING: &str = r#"{"type":"token-expiring"}"#;

/// The part `auth` of a worker's configuration, and the files that it names. They have no directory yet.
pub(super) fn auth(
    spec: v1alpha1::Auth,
    logout_subject: &str,
    findings: &mut Findings<'_>,
) -> Option<(config::Auth, Vec<SecretFile>)> {
    let v1alpha1::Auth {
        token_sources,
        providers,
        on_expiry,
    } = spec;
    let OnExpiry {
        jitter,
        warn_before,
        warning,
    } = on_expiry;
    let mut files = Vec::new();
    let providers: Vec<_> = providers
        .into_iter()
        .enumerate()
        .map(|(index, spec)| {
            provider(
                &format!("spec.auth.providers[{index}]"),
                spec,
                &mut files,
                findings,
            )
        })
        .collect();
    check_issuers(&providers, findings);
    let jitter = findings.duration("spec.auth.onExpiry.jitter", &jitter, &JITTER);
    let expiry_warning = warn_before
        .map(|before| {
            let before = findings.duration("spec.auth.onExpiry.warnBefore", &before, &WARN_BEFORE);
            let message = warning.unwrap_or_else(|| WARNING.to_owned());
            before
                .map(|before| config::ExpiryWarning { before, message })
                .ok_or(())
        })
        .transpose();
    let mut auth = config::Auth {
        token_sources: token_sources.into_iter().map(token_source).collect(),
        providers: providers.into_iter().collect::<Option<_>>()?,
        expiry_jitter: jitter?,
        expiry_warning: expiry_warning.ok()?,
        logout_subject: None,
    };
    if auth.that_log_out().next().is_some() {
        // A name that makes no subject makes no object either, and is refused by its own sentence.
        auth.logout_subject = logout_subject.parse().ok();
    }
    Some((auth, files))
}

fn token_source(spec: v1alpha1::TokenSource) -> config::TokenSource {
    let v1alpha1::TokenSource { type_, cookie } = spec;
    match (type_, cookie) {
        (TokenSourceType::Cookie, cookie) => config::TokenSource::Cookie {
            // The CRD's rule asks for it. A cookie without a name cannot be sent, so nobody is let in by it.
            name: cookie.map(|CookieSource { name }| name).unwrap_or_default(),
        },
        (TokenSourceType::Header, _) => config::TokenSource::Header,
        (TokenSourceType::Subprotocol, _) => config::TokenSource::Subprotocol,
        (TokenSourceType::Query, _) => config::TokenSource::Query,
    }
}

/// The files of one provider, under its name.
struct Files<'a> {
    provider: &'a str,
    files: &'a mut Vec<SecretFile>,
}

impl Files<'_> {
    fn put(&mut self, name: &str, content: Content) -> PathBuf {
        let path = PathBuf::from(format!("{}-{name}", self.provider));
        self.files.push(SecretFile {
            path: path.clone(),
            content,
        });
        path
    }
}

fn provider(
    at: &str,
    spec: v1alpha1::Provider,
    files: &mut Vec<SecretFile>,
    findings: &mut Findings<'_>,
) -> Option<config::Provider> {
    let v1alpha1::Provider {
        name,
        type_,
        oidc,
        jwks,
        hmac,
    } = spec;
    let mut files = Files {
        provider: &name,
        files,
    };
    let mut backchannel_logout = config::BackchannelLogout::Disabled;
    let (issuer, audiences, authorized_parties, leeway, keys, at) = match (type_, oidc, jwks, hmac)
    {
        (ProviderType::OIDC, Some(oidc), _, _) => {
            let at = format!("{at}.oidc");
            let Oidc {
                issuer,
                audiences,
                authorized_parties,
                leeway,
                ca_ref,
                backchannel_logout: logout,
            } = oidc;
            backchannel_logout = match logout {
                BackchannelLogout::Disabled => config::BackchannelLogout::Disabled,
                BackchannelLogout::Enabled => config::BackchannelLogout::Enabled,
            };
            let keys = ca_file(&at, ca_ref, &mut files, findings)
                .map(|ca_file| KeySource::Discovery { ca_file });
            (issuer, audiences, authorized_parties, leeway, keys, at)
        }
        (ProviderType::JWKS, _, Some(jwks), _) => {
            let at = format!("{at}.jwks");
            let Jwks {
                issuer,
                audiences,
                authorized_parties,
                leeway,
                url,
                keys_ref,
                ca_ref,
            } = jwks;
            let keys = match (url, keys_ref) {
                (Some(url), _) => ca_file(&at, ca_ref, &mut files, findings)
                    .map(|ca_file| KeySource::Url { url, ca_file }),
                (None, Some(keys_ref)) => key_set(&at, &keys_ref, &mut files, findings),
                (None, None) => missing(&format!("{at}.url"), findings),
            };
            (issuer, audiences, authorized_parties, leeway, keys, at)
        }
        (ProviderType::HMAC, _, _, Some(hmac)) => {
            let at = format!("{at}.hmac");
            let Hmac {
                issuer,
                audiences,
                authorized_parties,
                leeway,
                algorithm,
                secret_ref,
            } = hmac;
            let keys = secret(&at, &secret_ref, algorithm, &mut files, findings);
            (issuer, audiences, authorized_parties, leeway, keys, at)
        }
        _ => return missing(at, findings),
    };
    let leeway = findings.duration(&format!("{at}.leeway"), &leeway, &LEEWAY);
    Some(config::Provider {
        name,
        issuer,
        audiences,
        authorized_parties,
        leeway: leeway?,
        keys: keys?,
        backchannel_logout,
    })
}

/// The CRD's rule says so first; this keeps the step total.
fn missing<T>(at: &str, findings: &mut Findings<'_>) -> Option<T> {
    findings.refuse(at, "MemberMissing", "must be set for this type");
    None
}

/// The file with the authorities to trust, where there is one. `None` where it is wrong.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether nothing is wrong"
)]
fn ca_file(
    at: &str,
    ca_ref: Option<CaRef>,
    files: &mut Files<'_>,
    findings: &mut Findings<'_>,
) -> Option<Option<PathBuf>> {
    let Some(ca_ref) = ca_ref else {
        return Some(None);
    };
    let content = authority(&format!("{at}.caRef"), &ca_ref, findings)?;
    Some(Some(files.put("ca.crt", content)))
}

fn key_set(
    at: &str,
    KeysRef { kind, name, key }: &KeysRef,
    files: &mut Files<'_>,
    findings: &mut Findings<'_>,
) -> Option<KeySource> {
    let at = format!("{at}.keysRef");
    let content = findings.content(&at, key_of(reference(*kind), name, key))?;
    if !findings.is_mounted() {
        let read = KeySet::read(content.bytes.expose());
        findings.take(&at, read, "UnexpectedContent")?;
    }
    let file = files.put("jwks.json", content);
    Some(KeySource::File { file })
}

fn secret(
    at: &str,
    SecretKeyRef { name, key }: &SecretKeyRef,
    algorithm: HmacAlgorithm,
    files: &mut Files<'_>,
    findings: &mut Findings<'_>,
) -> Option<KeySource> {
    let at = format!("{at}.secretRef");
    let algorithm = match algorithm {
        HmacAlgorithm::HS256 => config::HmacAlgorithm::HS256,
        HmacAlgorithm::HS384 => config::HmacAlgorithm::HS384,
        HmacAlgorithm::HS512 => config::HmacAlgorithm::HS512,
    };
    let content = findings.content(&at, key_of(ReferenceKind::Secret, name, key))?;
    if !findings.is_mounted() {
        let read = KeySet::secret(content.bytes.expose().trim_ascii(), algorithm);
        findings.take(&at, read, "WeakSecret")?;
    }
    let file = files.put("hmac", content);
    Some(KeySource::Hmac { file, algorithm })
}

/// A token's claim `iss` says whose keys it is verified with, so no two may have one.
fn check_issuers(providers: &[Option<config::Provider>], findings: &mut Findings<'_>) {
    for (index, provider) in providers.iter().enumerate() {
        let Some(provider) = provider else { continue };
        let mut earlier = providers.iter().take(index).flatten();
        if let Some(other) = earlier.find(|other| other.issuer == provider.issuer) {
            let message = format!("has the same issuer as {}: {}", other.name, other.issuer);
            findings.refuse(
                &format!("spec.auth.providers[{index}]"),
                "DuplicateIssuer",
                message,
            );
        }
    }
}

/// What a route asks of a token.
pub(super) fn authorization(
    at: &str,
    spec: v1alpha1::Authorization,
    findings: &mut Findings<'_>,
) -> Option<config::Authorization> {
    let v1alpha1::Authorization {
        access,
        any_role,
        groups,
        scopes,
    } = spec;
    let any_role = findings.parse_all(
        &format!("{at}.authorization.anyRole"),
        &any_role,
        "InvalidRole",
    );
    Some(config::Authorization {
        access: match access {
            Access::Token => config::Access::Token,
            Access::Anonymous => config::Access::Anonymous,
        },
        any_role: any_role?,
        groups,
        scopes,
    })
}

/// What publishing asks of a token beside what the route does.
pub(super) fn publish_authorization(
    at: &str,
    spec: PublishAuthorization,
    findings: &mut Findings<'_>,
) -> Option<config::Authorization> {
    let PublishAuthorization {
        any_role,
        groups,
        scopes,
    } = spec;
    let spec = v1alpha1::Authorization {
        access: Access::Token,
        any_role,
        groups,
        scopes,
    };
    authorization(at, spec, findings)
}
