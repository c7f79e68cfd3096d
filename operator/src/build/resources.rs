//! What a gateway's container asks of its node. Nobody names it: it follows from how many clients a pod admits.
//!
//! An idle client takes 1.0 to 1.6 KB of a gateway's memory, and some 5 KB of the kernel's for its socket, which the
//! container is charged for too: 6.5 KB in all. So the request holds every admitted client idle, and the limit holds
//! 16 KiB for each of them, which leaves more than half of it to messages that wait. From the limit the gateway derives
//! how many bytes may wait (`limits.bytesPerPod`), unless the user says so; then they are added.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity,
};
use wsgateway_crds::{config::Limits, value::Size};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The process without a client, with its NATS connection and metrics, and room for what its allocator keeps.
const PROCESS_REQUEST_BYTES: u64 = 32 * MIB;
/// An idle client, rounded up.
const CONNECTION_REQUEST_BYTES: u64 = 8 * KIB;
/// The process with full buffers from NATS.
const PROCESS_LIMIT_BYTES: u64 = 128 * MIB;
/// A client with what waits for it on average: at 10,000 clients some 110 MiB may wait.
const CONNECTION_LIMIT_BYTES: u64 = 16 * KIB;
/// Some 10,000 deliveries a second, at 7 to 10 µs each. There is no limit: throttled in the middle of a round, a
/// gateway would hold up every client at once.
const CPU_REQUEST: &str = "100m";

const CPU: &str = "cpu";
const MEMORY: &str = "memory";

const _: () = assert!(
    PROCESS_REQUEST_BYTES <= PROCESS_LIMIT_BYTES
        && CONNECTION_REQUEST_BYTES <= CONNECTION_LIMIT_BYTES,
    "a request above its limit is refused"
);

/// What a gateway of these limits asks for.
pub(super) fn resources(limits: &Limits) -> ResourceRequirements {
    let connections = u64::from(limits.connections);
    let request = PROCESS_REQUEST_BYTES + CONNECTION_REQUEST_BYTES * connections;
    let waiting = limits.total_bytes.map_or(0, Size::bytes);
    let limit = PROCESS_LIMIT_BYTES + CONNECTION_LIMIT_BYTES * connections + waiting;
    ResourceRequirements {
        requests: Some(BTreeMap::from([
            (CPU.to_owned(), Quantity(CPU_REQUEST.to_owned())),
            (MEMORY.to_owned(), mebibytes(request)),
        ])),
        limits: Some(BTreeMap::from([(MEMORY.to_owned(), mebibytes(limit))])),
        ..ResourceRequirements::default()
    }
}

fn mebibytes(bytes: u64) -> Quantity {
    Quantity(format!("{}Mi", bytes.div_ceil(MIB)))
}

/// After a merge, what the user named goes before what was derived: a request above the user's limit comes down to it,
/// and a limit below the user's request goes up to it. The API server would refuse them.
pub(super) fn settle(merged: &mut ResourceRequirements, of_user: &ResourceRequirements) {
    let named = |map: &Option<BTreeMap<String, Quantity>>, resource: &str| {
        map.as_ref().is_some_and(|map| map.contains_key(resource))
    };
    let requests = merged.requests.iter_mut().flatten();
    for (resource, request) in requests {
        let limits = merged.limits.as_mut();
        let Some(limit) = limits.and_then(|limits| limits.get_mut(resource)) else {
            continue;
        };
        let (Some(asked), Some(most)) = (amount(request), amount(limit)) else {
            continue;
        };
        if asked <= most {
            continue;
        }
        if !named(&of_user.requests, resource) {
            *request = limit.clone();
        } else if !named(&of_user.limits, resource) {
            *limit = request.clone();
        }
    }
}

/// How much a quantity is, near enough to compare; none for what the API server will refuse.
fn amount(quantity: &Quantity) -> Option<f64> {
    let text = quantity.0.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let scale = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 2_f64.powi(10),
        "Mi" => 2_f64.powi(20),
        "Gi" => 2_f64.powi(30),
        "Ti" => 2_f64.powi(40),
        "Pi" => 2_f64.powi(50),
        "Ei" => 2_f64.powi(60),
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> ResourceRequirements {
        let map = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            let pairs =
                pairs.map(|(name, text)| ((*name).to_owned(), Quantity((*text).to_owned())));
            Some(pairs.collect()).filter(|map: &BTreeMap<_, _>| !map.is_empty())
        };
        ResourceRequirements {
            requests: map(requests),
            limits: map(limits),
            ..ResourceRequirements::default()
        }
    }

    #[test]
    fn memory_follows_the_clients_that_a_pod_admits() {
        let check = |connections, total_bytes: Option<u64>, request, limit| {
            let limits = Limits {
                connections,
                total_bytes: total_bytes.map(Size::from_bytes),
                ..Limits::default()
            };
            let expected = of(&[(CPU, "100m"), (MEMORY, request)], &[(MEMORY, limit)]);
            assert_eq!(resources(&limits), expected, "{connections}");
        };
        check(1, None, "33Mi", "129Mi");
        check(10_000, None, "111Mi", "285Mi");
        check(10_000, Some(1 << 30), "111Mi", "1309Mi");
        check(1_000_000, None, "7845Mi", "15753Mi");
    }

    #[test]
    fn what_the_user_names_goes_before_what_was_derived() {
        let check = |user: ResourceRequirements, expected: ResourceRequirements| {
            let mut merged = of(&[(CPU, "100m"), (MEMORY, "111Mi")], &[(MEMORY, "285Mi")]);
            k8s_openapi::DeepMerge::merge_from(&mut merged, user.clone());
            settle(&mut merged, &user);
            assert_eq!(merged, expected);
        };
        check(
            of(&[], &[(MEMORY, "64Mi"), (CPU, "0.05")]),
            of(
                &[(CPU, "0.05"), (MEMORY, "64Mi")],
                &[(MEMORY, "64Mi"), (CPU, "0.05")],
            ),
        );
        check(
            of(&[(MEMORY, "1G"), (CPU, "2")], &[]),
            of(&[(CPU, "2"), (MEMORY, "1G")], &[(MEMORY, "1G")]),
        );
        check(
            of(&[], &[(MEMORY, "1Gi"), ("example.com/card", "1")]),
            of(
                &[(CPU, "100m"), (MEMORY, "111Mi")],
                &[(MEMORY, "1Gi"), ("example.com/card", "1")],
            ),
        );
        // Both are the user's: the API server says what is wrong with them.
        check(
            of(&[(MEMORY, "2Gi")], &[(MEMORY, "1Gi")]),
            of(&[(CPU, "100m"), (MEMORY, "2Gi")], &[(MEMORY, "1Gi")]),
        );
    }

    #[test]
    fn quantities_compare_by_their_amount() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(amount(&Quantity(text.to_owned())), expected, "{text}");
        };
        check("1Ki", Some(1024.0));
        check("1500m", Some(1.5));
        check("1E", Some(1e18));
        check("1e3", Some(1e3));
        check("1E3", Some(1e3));
        check("x", None);
        check("1 Mi", None);
    }
}
