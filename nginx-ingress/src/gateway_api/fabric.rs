//! The policies of NGINX Gateway Fabric, from 2.6 on: `ProxySettingsPolicy` and
//! `ClientSettingsPolicy` on the `HTTPRoute`, `UpstreamSettingsPolicy` on the Service. Their
//! durations and sizes hold at most four digits and a unit (`apis/v1alpha1/shared_types.go` there),
//! so that a value may have to be rounded up.

use serde_json::{Value, json};

use super::{COOKIE_IS_EXPERIMENTAL, RouteTarget};
use crate::dialect::NotExpressed;
use crate::exposure::{Affinity, Buffering, Exposure, PROXY_CONNECT_TIMEOUT, UpstreamMode};
use crate::value::{NginxDuration, NginxSize};

pub(super) fn policies(
    exposure: &Exposure,
    target: &RouteTarget,
    not_expressed: &mut Vec<NotExpressed>,
) -> Vec<Value> {
    let proxy = proxy_settings(exposure, target, not_expressed);
    let client = client_settings(exposure, target, not_expressed);
    let upstream = upstream_settings(exposure, target, not_expressed);
    vec![
        policy("ProxySettingsPolicy", target, &proxy),
        policy("ClientSettingsPolicy", target, &client),
        policy("UpstreamSettingsPolicy", target, &upstream),
    ]
}

fn policy(kind: &str, target: &RouteTarget, spec: &Value) -> Value {
    json!({
        "apiVersion": "gateway.nginx.org/v1alpha1",
        "kind": kind,
        "metadata": {"name": target.name},
        "spec": spec,
    })
}

fn http_route_ref(target: &RouteTarget) -> Value {
    json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": target.name})
}

fn proxy_settings(
    exposure: &Exposure,
    target: &RouteTarget,
    not_expressed: &mut Vec<NotExpressed>,
) -> Value {
    let mut fitted = |field, asked| fitted_duration(field, asked, not_expressed);
    let read = fitted("exposure.proxyReadTimeout", exposure.proxy_read_timeout);
    let send = fitted("exposure.proxySendTimeout", exposure.proxy_send_timeout);
    json!({
        "targetRefs": [http_route_ref(target)],
        "timeout": {"connect": PROXY_CONNECT_TIMEOUT, "read": read, "send": send},
        "buffering": {"disable": exposure.proxy_buffering == Buffering::Disabled},
    })
}

fn client_settings(
    exposure: &Exposure,
    target: &RouteTarget,
    not_expressed: &mut Vec<NotExpressed>,
) -> Value {
    not_expressed.push(NotExpressed::new(
        "exposure.clientBodyBufferSize",
        "NGINX Gateway Fabric has no field for it",
    ));
    let max_size = fitted_size("exposure.bodySize", exposure.body_size, not_expressed);
    json!({"targetRef": http_route_ref(target), "body": {"maxSize": max_size}})
}

fn upstream_settings(
    exposure: &Exposure,
    target: &RouteTarget,
    not_expressed: &mut Vec<NotExpressed>,
) -> Value {
    let mut report = |field, why: &str| not_expressed.push(NotExpressed::new(field, why));
    if exposure.upstream == UpstreamMode::ServiceIp {
        // `useClusterIP` is in no release up to 2.6.7, and the API server refuses what a CRD does
        // not have.
        report(
            "exposure.upstream",
            "NGINX Gateway Fabric 2.6 connects to the pods themselves",
        );
    }
    let method = match exposure.affinity {
        Affinity::ClientIp => "ip_hash",
        Affinity::None => "least_conn",
        Affinity::Cookie => {
            report(
                "exposure.affinity",
                &format!("{COOKIE_IS_EXPERIMENTAL}; ip_hash stands in"),
            );
            "ip_hash"
        }
    };
    json!({
        "targetRefs": [{"group": "core", "kind": "Service", "name": target.service}],
        "loadBalancingMethod": method,
    })
}

/// The largest number that fits the policies' grammar.
const NUMBER_MAX: u64 = 9999;

/// Each unit's name and its length, the finest first.
type Units = [(&'static str, u64)];

const DURATION_UNITS_MILLIS: &Units = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", HOUR_MILLIS)];
const SIZE_UNITS_BYTES: &Units = &[("", 1), ("k", 1 << 10), ("m", 1 << 20), ("g", GIB_BYTES)];
const HOUR_MILLIS: u64 = 3_600_000;
const GIB_BYTES: u64 = 1 << 30;

const _: () = assert!(
    NginxDuration::MILLIS_MAX <= NUMBER_MAX * HOUR_MILLIS
        && NginxSize::BYTES_MAX <= NUMBER_MAX * GIB_BYTES,
    "the coarsest unit must hold every value"
);

fn fitted_duration(
    field: &'static str,
    asked: NginxDuration,
    not_expressed: &mut Vec<NotExpressed>,
) -> String {
    let (text, exact) = fitted(asked.as_millis(), DURATION_UNITS_MILLIS);
    if !exact {
        not_expressed.push(rounded(field, &asked.to_string(), &text));
    }
    text
}

fn fitted_size(
    field: &'static str,
    asked: NginxSize,
    not_expressed: &mut Vec<NotExpressed>,
) -> String {
    let (text, exact) = fitted(asked.as_bytes(), SIZE_UNITS_BYTES);
    if !exact {
        not_expressed.push(rounded(field, &asked.to_string(), &text));
    }
    text
}

fn rounded(field: &'static str, asked: &str, written: &str) -> NotExpressed {
    let why = format!("the policy takes four digits and a unit; {asked} becomes {written}");
    NotExpressed::new(field, why)
}

/// The value in the finest unit that holds it exactly, or else rounded up in the finest that holds
/// it at all; and whether it is exact.
fn fitted(value: u64, units: &Units) -> (String, bool) {
    let fits = |length: u64| value.div_ceil(length) <= NUMBER_MAX;
    let mut fitting = units.iter().filter(|(_, length)| fits(*length));
    let exact = fitting
        .clone()
        .find(|(_, length)| value.is_multiple_of(*length));
    let (unit, length) = exact.or_else(|| fitting.next()).copied().unwrap_or(("", 1));
    (format!("{}{unit}", value.div_ceil(length)), exact.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_needs_more_than_four_digits_is_rounded_up_and_said_so() {
        let check = |value, units, expected: (&str, bool)| {
            let (text, exact) = fitted(value, units);
            assert_eq!((text.as_str(), exact), expected);
        };
        check(90_000, DURATION_UNITS_MILLIS, ("90s", true));
        check(1_500, DURATION_UNITS_MILLIS, ("1500ms", true));
        check(10_001, DURATION_UNITS_MILLIS, ("11s", false));
        check(36_000_000, DURATION_UNITS_MILLIS, ("600m", true));
        check(
            NginxDuration::MILLIS_MAX,
            DURATION_UNITS_MILLIS,
            ("8760h", true),
        );
        check(0, SIZE_UNITS_BYTES, ("0", true));
        check(128 << 10, SIZE_UNITS_BYTES, ("128k", true));
        check(65_537, SIZE_UNITS_BYTES, ("65k", false));
        check(NginxSize::BYTES_MAX, SIZE_UNITS_BYTES, ("1024g", true));
    }
}
