//! Alerts on who is let in: keys of issuers, tokens, and the certificate that the gateways show themselves. Each is there
//! where the spec asks for what it is about.

use std::time::Duration;

use wsgateway_model::{Gateway, gateway::Tls};

use super::{Alert, CRITICAL, WARNING};

/// How long before its end a certificate that nobody has renewed is told of: cert-manager renews at a third of its life,
/// which is a month for the usual ones.
const CERTIFICATE_WARNING: Duration = Duration::from_secs(7 * 86_400);

const AUTH: [Alert; 3] = [
    Alert {
        name: "WsGatewayKeysUnavailable",
        // What was never loaded has no series.
        expression: "sum by (pod, provider) (rate(wsgateway_auth_key_fetches_total{$of,result!=\"loaded\"}[10m])) > 0 \
                     unless on (pod, provider) sum by (pod, provider) (wsgateway_auth_keys{$of}) > 0",
        lasting: "5m",
        severity: CRITICAL,
        summary: "A gateway has no keys of an issuer",
        description: "Gateway {{ $labels.pod }} cannot verify tokens of provider {{ $labels.provider }}. The condition \
                      AuthReady of the WsGateway says why; look whether the issuer answers, and whether its address, \
                      its certificate and a NetworkPolicy let the gateways reach it.",
    },
    Alert {
        name: "WsGatewayKeysOld",
        // They are fetched at least once an hour.
        expression: "time() - max by (pod, provider) (wsgateway_auth_keys_loaded_timestamp_seconds{$of}) > 7200",
        lasting: "10m",
        severity: WARNING,
        summary: "A gateway's keys of an issuer are old",
        description: "Gateway {{ $labels.pod }} has had no answer from provider {{ $labels.provider }} for \
                      {{ $value | humanizeDuration }}. Tokens of known keys are accepted; once the issuer changes its \
                      keys, nobody comes in. The condition AuthReady of the WsGateway says why.",
    },
    Alert {
        name: "WsGatewayTokensRefused",
        expression: "sum(rate(wsgateway_handshakes_refused_total{$of,reason=~\"TokenExpired|TokenSignature|TokenUnknownKey|TokenIssuer|TokenAudience|TokenAlgorithm|TokenMalformed\"}[10m])) \
                     > 0.1 + 0.5 * sum(rate(wsgateway_connections_opened_total{$of}[10m]))",
        lasting: "10m",
        severity: WARNING,
        summary: "Many tokens are refused",
        description: "{{ $value | humanize }} handshakes a second are refused for their token, more than one for two that \
                      succeed. Label `reason` of wsgateway_handshakes_refused_total says why: clients that do not renew \
                      their token, an issuer or audience that changed, a clock that is wrong, or somebody who tries.",
    },
];

const TLS: [Alert; 2] = [
    Alert {
        name: "WsGatewayCertificateEnds",
        expression: "min by (pod) (wsgateway_tls_certificate_not_after_timestamp_seconds{$of}) - time() < $warning",
        lasting: "5m",
        severity: WARNING,
        summary: "A gateway's certificate is about to end",
        description: "Nobody has renewed what gateway {{ $labels.pod }} shows to clients, and it ends in \
                      {{ $value | humanizeDuration }}. The condition TLSReady of the WsGateway says where it comes from.",
    },
    Alert {
        name: "WsGatewayCertificateRejected",
        // The series begins with the first rejection, which `increase` would not see.
        expression: "(sum by (pod) (wsgateway_tls_certificate_reloads_total{$of,result=\"rejected\"}) \
                     - (sum by (pod) (wsgateway_tls_certificate_reloads_total{$of,result=\"rejected\"} offset 15m) \
                     or 0 * sum by (pod) (wsgateway_connections_max{$of}))) > 0",
        lasting: "0s",
        severity: WARNING,
        summary: "A gateway has rejected a new certificate",
        description: "Gateway {{ $labels.pod }} goes on with the certificate before. The condition TLSReady of the \
                      WsGateway says what is wrong with the new one.",
    },
];

const LIMITS: Alert = Alert {
    name: "WsGatewayLimitsReached",
    expression: "sum by (reason) (rate(wsgateway_handshakes_refused_total{$of,reason=~\"TooManyHandshakes|TooManyFromAddress|TooManyForUser\"}[10m])) > 0.1",
    lasting: "10m",
    severity: WARNING,
    summary: "Clients are refused by a limit",
    description: "{{ $value | humanize }} handshakes a second are answered 429 ({{ $labels.reason }}). Either somebody floods the \
                  gateways, and the limit does its work, or it is too low: see spec.limits.handshakesPerSecond, perAddress and \
                  perUser. Where all clients seem to have one address, name the proxies in spec.exposure.clientAddress.",
};

/// Those that a gateway asks for.
pub(super) fn alerts(gateway: &Gateway) -> impl Iterator<Item = &'static Alert> {
    let auth: &[Alert] = if gateway.live.auth.is_some() {
        &AUTH
    } else {
        &[]
    };
    let tls: &[Alert] = if gateway.ends_tls() { &TLS } else { &[] };
    auth.iter().chain(tls).chain([&LIMITS])
}

/// An expression with the time at which a certificate should have been renewed: for one of a short life, halfway between
/// its renewal and its end.
pub(super) fn with_warning(expression: &str, gateway: &Gateway) -> String {
    let warning = match gateway.tls {
        Tls::SelfSigned { renew_before, .. } => CERTIFICATE_WARNING.min(renew_before.get() / 2),
        _ => CERTIFICATE_WARNING,
    };
    expression.replace("$warning", &warning.as_secs().to_string())
}
