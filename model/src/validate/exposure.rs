//! `spec.exposure`: what the proxy must know, and where its certificate comes from.

use std::ops::RangeInclusive;

use wsgateway_crds::{
    config::ClientAddress,
    config::{Auth, Live},
    report::LOGOUT_PATH,
    v1alpha1::{
        self, CertManagerTls, ExposureType, IssuerRef, SecretTls, SelfSignedTls, SizeText, TlsType,
    },
    value::Duration,
};
use wsgateway_nginx_ingress::{
    Exposure, ExposureError, ExposureSettings,
    exposure::{Affinity, Buffering, StatusPage, UpstreamMode},
    gateway_api::ParentRef,
    value::{LocationPath, NginxDuration, NginxSize, ObjectName},
};

use super::{admission, findings::Findings, nats::certificate, pods};
use crate::gateway::{Entrance, Tls};

/// What `spec.exposure` comes to.
pub(super) struct Exposed {
    pub(super) exposure: Exposure,
    pub(super) tls: Tls,
    pub(super) entrance: Entrance,
    pub(super) controller: Option<String>,
    pub(super) client_address: ClientAddress,
}

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
) -> Option<Exposed> {
    let v1alpha1::Exposure {
        type_,
        hosts,
        tls,
        proxy_read_timeout,
        proxy_send_timeout,
        proxy_buffering,
        body_size,
        client_body_buffer_size,
        affinity,
        upstream,
        client_address,
        status,
        controller,
        ingress,
        http_route,
        load_balancer,
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
    let client_address = admission::client_address(client_address, findings);
    let tls = tls_of(tls, findings);
    let tls_secret = match &tls {
        Some(Tls::SelfSigned { .. } | Tls::CertManager { .. }) => {
            ObjectName::new(&format!("{name}-tls")).ok()
        }
        Some(Tls::Secret { name, .. }) => Some(name.clone()),
        Some(Tls::None) | None => None,
    };
    let entrance = match type_ {
        ExposureType::Ingress => self::ingress(ingress.unwrap_or_default(), findings),
        ExposureType::HttpRoute => self::http_route(http_route, findings),
        ExposureType::LoadBalancer => {
            self::load_balancer(load_balancer.unwrap_or_default(), findings)
        }
        ExposureType::None => Some(Entrance::None),
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
        upstream: match upstream {
            v1alpha1::Upstream::Endpoints => UpstreamMode::Endpoints,
            v1alpha1::Upstream::ServiceIp => UpstreamMode::ServiceIp,
        },
        status: Some(StatusPage {
            path: status_path?,
            allow: allow?,
        }),
        tls_secret,
    };
    let exposure = Exposure::new(settings)
        .map_err(|error| refuse(&error, findings))
        .ok()?;
    Some(Exposed {
        exposure,
        tls: tls?,
        entrance: entrance?,
        controller,
        client_address: client_address?,
    })
}

/// Where issuers send logout tokens: behind the routes, which come first wherever one path is shown.
pub(super) fn logout_paths(live: &Live) -> impl Iterator<Item = LocationPath> {
    let issuers = live.auth.iter().flat_map(Auth::that_log_out);
    issuers.filter_map(|issuer| LocationPath::new(&format!("{LOGOUT_PATH}{}", issuer.name)).ok())
}

fn ingress(spec: v1alpha1::Ingress, findings: &mut Findings<'_>) -> Option<Entrance> {
    let v1alpha1::Ingress {
        class_name,
        annotations,
    } = spec;
    let path = "spec.exposure.ingress";
    let class = class_name
        .map(|name| {
            findings
                .parse(&format!("{path}.className"), &name, "InvalidName")
                .ok_or(())
        })
        .transpose();
    let annotations = pods::annotations(&format!("{path}.annotations"), annotations, findings);
    Some(Entrance::Ingress {
        class: class.ok()?,
        annotations: annotations?,
    })
}

fn http_route(spec: Option<v1alpha1::HttpRoute>, findings: &mut Findings<'_>) -> Option<Entrance> {
    let path = "spec.exposure.httpRoute";
    let Some(v1alpha1::HttpRoute { parent_refs }) = spec else {
        findings.refuse(path, "MemberMissing", "must be set for this type");
        return None;
    };
    let parents: Vec<Option<ParentRef>> = parent_refs
        .into_iter()
        .enumerate()
        .map(|(index, parent)| {
            let v1alpha1::ParentRef { name, section_name } = parent;
            let path = format!("{path}.parentRefs[{index}]");
            let name = findings.parse(&format!("{path}.name"), &name, "InvalidName");
            let section = section_name
                .map(|name| {
                    findings
                        .parse(&format!("{path}.sectionName"), &name, "InvalidName")
                        .ok_or(())
                })
                .transpose();
            Some(ParentRef {
                name: name?,
                section_name: section.ok()?,
            })
        })
        .collect();
    let parents: Option<Vec<_>> = parents.into_iter().collect();
    Some(Entrance::HttpRoute { parents: parents? })
}

fn load_balancer(spec: v1alpha1::LoadBalancer, findings: &mut Findings<'_>) -> Option<Entrance> {
    let v1alpha1::LoadBalancer {
        load_balancer_class,
        annotations,
    } = spec;
    let path = "spec.exposure.loadBalancer.annotations";
    Some(Entrance::LoadBalancer {
        class: load_balancer_class,
        annotations: pods::annotations(path, annotations, findings)?,
    })
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
        cert_manager,
        secret,
    } = spec;
    match type_ {
        TlsType::None => Some(Tls::None),
        TlsType::SelfSigned => {
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
        TlsType::CertManager => {
            let path = "spec.exposure.tls.certManager";
            let Some(CertManagerTls { issuer_ref }) = cert_manager else {
                findings.refuse(path, "MemberMissing", "must be set for this type");
                return None;
            };
            let IssuerRef { kind, name } = issuer_ref;
            let path = format!("{path}.issuerRef.name");
            let issuer = findings.parse(&path, &name, "InvalidName")?;
            Some(Tls::CertManager { kind, issuer })
        }
        TlsType::Secret => {
            let path = "spec.exposure.tls.secret";
            let Some(SecretTls { name }) = secret else {
                findings.refuse(path, "MemberMissing", "must be set for this type");
                return None;
            };
            let path = "spec.exposure.tls.secret.name";
            let certificate = certificate(path, &name, findings);
            let name = findings.parse(path, &name, "InvalidName");
            Some(Tls::Secret {
                name: name?,
                certificate: certificate?,
            })
        }
    }
}
