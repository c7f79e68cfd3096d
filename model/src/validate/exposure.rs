//! `spec.exposure`: what the proxy must know, and where its certificate comes from.

use std::ops::RangeInclusive;

use wsgateway_crds::{
    v1alpha1::{self, SecretTls, SelfSignedTls, SizeText, TlsType},
    value::Duration,
};
use wsgateway_nginx_ingress::{
    Exposure, ExposureError, ExposureSettings,
    exposure::{Affinity, Buffering, StatusPage, UpstreamMode},
    value::{LocationPath, NginxDuration, NginxSize, ObjectName},
};

use super::{findings::Findings, nats::certificate};
use crate::gateway::Tls;

/// How long a certificate lasts. Apple's systems refuse those of more than 825 days, whoever signed them.
const CERTIFICATE: RangeInclusive<Duration> =
    Duration::from_secs(3_600)..=Duration::from_secs(825 * 86_400);

/// How long before its end it is renewed.
const RENEWAL: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(825 * 86_400);

pub(super) fn exposure(
    name: &str,
    spec: v1alpha1::Exposure,
    paths: Option<Vec<LocationPath>>,
    findings: &mut Findings<'_>,
) -> Option<(Exposure, Tls)> {
    let v1alpha1::Exposure {
        hosts,
        tls,
        proxy_read_timeout,
        proxy_send_timeout,
        proxy_buffering,
        body_size,
        client_body_buffer_size,
        affinity,
        status,
    } = spec;
    let v1alpha1::StatusPage { path, allow } = status;
    let hosts = findings.parse_all("spec.exposure.hosts", &hosts, "InvalidHost");
    let read = proxy_duration(
        "spec.exposure.proxyReadTimeout",
        &proxy_read_timeout,
        findings,
    );
    let send = proxy_duration(
        "spec.exposure.proxySendTimeout",
        &proxy_send_timeout,
        findings,
    );
    let body_size = proxy_size("spec.exposure.bodySize", &body_size, findings);
    let buffer = proxy_size(
        "spec.exposure.clientBodyBufferSize",
        &client_body_buffer_size,
        findings,
    );
    let status_path = findings.parse("spec.exposure.status.path", &path, "InvalidPath");
    let allow = findings.parse_all("spec.exposure.status.allow", &allow, "InvalidNetwork");
    let tls = tls_of(tls, findings);
    let tls_secret = match &tls {
        Some(Tls::SelfSigned { .. }) => ObjectName::new(&format!("{name}-tls")).ok(),
        Some(Tls::Secret { name, .. }) => Some(name.clone()),
        Some(Tls::None) | None => None,
    };
    let settings = ExposureSettings {
        hosts: hosts?,
        paths: paths?,
        proxy_read_timeout: read?,
        proxy_send_timeout: send?,
        proxy_buffering: match proxy_buffering {
            v1alpha1::Buffering::Enabled => Buffering::Enabled,
            v1alpha1::Buffering::Disabled => Buffering::Disabled,
        },
        body_size: body_size?,
        client_body_buffer_size: buffer?,
        affinity: match affinity {
            v1alpha1::Affinity::ClientIp => Affinity::ClientIp,
            v1alpha1::Affinity::None => Affinity::None,
        },
        upstream: UpstreamMode::Endpoints,
        status: Some(StatusPage {
            path: status_path?,
            allow: allow?,
        }),
        tls_secret,
    };
    let exposure = Exposure::new(settings)
        .map_err(|error| refuse(&error, findings))
        .ok()?;
    Some((exposure, tls?))
}

/// Says which field of the spec breaks a rule of the proxy's model.
fn refuse(error: &ExposureError, findings: &mut Findings<'_>) {
    let path = match error {
        // It has been said of the route that overlaps.
        ExposureError::AmbiguousPaths { .. } if !findings.is_empty() => return,
        ExposureError::NoPath | ExposureError::AmbiguousPaths { .. } => "spec.routes",
        ExposureError::StatusPathHasParameters(_) | ExposureError::StatusPathIsRoute { .. } => {
            "spec.exposure.status.path"
        }
        ExposureError::NoBodyBuffer => "spec.exposure.clientBodyBufferSize",
    };
    findings.refuse(path, error.reason(), error.to_string());
}

fn proxy_duration(path: &str, text: &str, findings: &mut Findings<'_>) -> Option<NginxDuration> {
    findings.parse(path, text, "InvalidDuration")
}

/// `128Ki` is nginx's `128k`.
fn proxy_size(path: &str, text: &SizeText, findings: &mut Findings<'_>) -> Option<NginxSize> {
    let text = text.to_string();
    findings.parse(path, text.strip_suffix('i').unwrap_or(&text), "InvalidSize")
}

fn tls_of(spec: v1alpha1::Tls, findings: &mut Findings<'_>) -> Option<Tls> {
    let v1alpha1::Tls {
        type_,
        self_signed,
        secret,
    } = spec;
    match (type_, secret) {
        (TlsType::None, _) => Some(Tls::None),
        (TlsType::SelfSigned, _) => {
            let SelfSignedTls {
                duration,
                renew_before,
            } = self_signed.unwrap_or_default();
            let path = "spec.exposure.tls.selfSigned";
            let duration = findings.duration(&format!("{path}.duration"), &duration, &CERTIFICATE);
            let renew_before =
                findings.duration(&format!("{path}.renewBefore"), &renew_before, &RENEWAL);
            Some(Tls::SelfSigned {
                duration: duration?,
                renew_before: renew_before?,
            })
        }
        (TlsType::Secret, Some(SecretTls { name })) => {
            let path = "spec.exposure.tls.secret.name";
            let certificate = certificate(path, &name, findings);
            let name = findings.parse(path, &name, "InvalidName");
            Some(Tls::Secret {
                name: name?,
                certificate: certificate?,
            })
        }
        (TlsType::Secret, None) => {
            let path = "spec.exposure.tls.secret";
            findings.refuse(path, "MemberMissing", "must be set for this type");
            None
        }
    }
}
