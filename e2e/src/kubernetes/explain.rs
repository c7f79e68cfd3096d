//! What helps to understand why a test has failed.

use crate::cluster::Access;

/// How much of each log is shown.
const TAIL: &str = "--tail=60";

/// Shows a namespace's state, and what those said who look after it.
pub(super) fn explain(admin: &Access, namespace: &str) {
    for (what, arguments) in [
        (
            "WsGateways",
            &[
                "get",
                "wsgateways",
                "--output",
                "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{range .status.conditions[*]}  \
                 {.type}={.status}/{.reason}: {.message}{\"\\n\"}{end}{end}",
            ][..],
        ),
        (
            "objects",
            &["get", "ingress,deployment,pod", "--output=wide"],
        ),
        ("events", &["get", "events", "--sort-by=.lastTimestamp"]),
        (
            "gateways",
            &[
                "logs",
                "--selector=app.kubernetes.io/managed-by=wsgateway-operator",
                "--all-containers",
                "--prefix",
                "--ignore-errors",
                "--max-log-requests=10",
                TAIL,
            ],
        ),
    ] {
        show(
            admin,
            &format!("{what} of {namespace}"),
            namespace,
            arguments,
        );
    }
    let of_all = [
        (
            "the operator",
            "wsgateway-system",
            "deployment/wsgateway-operator",
        ),
        (
            "the ingress controller",
            "ingress-nginx",
            "deployment/ingress-nginx-controller",
        ),
    ];
    for (what, namespace, object) in of_all {
        show(admin, what, namespace, &["logs", object, TAIL]);
    }
}

fn show(admin: &Access, what: &str, namespace: &str, arguments: &[&str]) {
    let own = ["--namespace", namespace, "--request-timeout=10s"];
    let output = admin.try_kubectl(&[arguments, &own].concat(), "");
    // To where the test's own output goes, so that it stands beside its failure.
    eprintln!(
        "--- {what}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
