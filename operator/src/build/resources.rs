//! What a gateway's container asks of its node, where the user's template names nothing.
//!
//! It is the same for every gateway, whatever `spec.limits` says: those are read again while it runs, and a limit that
//! changed the pod would replace it, and close its clients. An idle client takes 1.0 to 1.6 KB of a gateway's memory,
//! and some 5 KB of the kernel's for its socket, which the container is charged for too: 6.5 KB in all. So the limit
//! holds 40,000 clients and as much again for messages that wait; the gateway derives from it how many bytes may wait
//! (`limits.bytesPerPod`). Who admits more names more in `spec.podTemplate`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity,
};

/// The process, and the 10,000 idle clients that it admits unless told otherwise.
const MEMORY_REQUEST: &str = "128Mi";
/// See above.
const MEMORY_LIMIT: &str = "512Mi";
/// Some 10,000 deliveries a second, at 7 to 10 µs each. There is no limit: throttled in the middle of a round, a
/// gateway would hold up every client at once.
const CPU_REQUEST: &str = "100m";

const CPU: &str = "cpu";
const MEMORY: &str = "memory";

/// What a gateway asks for.
pub(super) fn resources() -> ResourceRequirements {
    let quantity = |name: &str, text: &str| (name.to_owned(), Quantity(text.to_owned()));
    ResourceRequirements {
        requests: Some(BTreeMap::from([
            quantity(CPU, CPU_REQUEST),
            quantity(MEMORY, MEMORY_REQUEST),
        ])),
        limits: Some(BTreeMap::from([quantity(MEMORY, MEMORY_LIMIT)])),
        ..ResourceRequirements::default()
    }
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
