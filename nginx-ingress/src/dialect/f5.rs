//! F5's NGINX Ingress Controller. It checks each value by a grammar
//! (`internal/configs/parsing_helpers.go` there) and rejects the whole Ingress over a bad one, with
//! an Event that says so.

use crate::dialect::{Dialect, Draft, Rendered};
use crate::exposure::{Affinity, Buffering, Exposure, PROXY_CONNECT_TIMEOUT, UpstreamMode};
use crate::value::{LocationPath, ObjectName};

pub(super) fn annotations(exposure: &Exposure, service: &ObjectName) -> Rendered {
    let mut out = Draft::new(Dialect::F5);
    // Upgrade headers are sent to the named services only. The Ingress must route to each of them.
    out.set("websocket-services", service);
    out.set("proxy-connect-timeout", PROXY_CONNECT_TIMEOUT);
    out.set("proxy-read-timeout", exposure.proxy_read_timeout);
    out.set("proxy-send-timeout", exposure.proxy_send_timeout);
    out.set(
        "proxy-buffering",
        exposure.proxy_buffering == Buffering::Enabled,
    );
    out.set("client-max-body-size", exposure.body_size);
    out.set("client-body-buffer-size", exposure.client_body_buffer_size);
    // The default of 1 ejects a healthy pod after one socket that timed out.
    out.set("max-fails", 0);
    // A pod that drains or is full refuses or answers 503. Controllers before 5.4 take no notice of
    // it.
    out.set("proxy-next-upstream", "error timeout http_503");
    balancing(exposure, &mut out);
    out.report_paths(exposure);
    report_refused_paths(exposure, &mut out);
    out.report_status_page(exposure);
    if exposure.hosts.is_empty() {
        out.report(
            "exposure.hosts",
            "F5's controller rejects an Ingress rule without a host, unless it is 5.5 or newer and \
             runs with -allow-empty-ingress-host; then it shows its own default certificate",
        );
    }
    out.rendered
}

/// Whole words are not what the controller looks for: `/variables` is rejected, `/my-root` is not.
fn report_refused_paths(exposure: &Exposure, out: &mut Draft) {
    let prefixes = exposure.paths.iter().map(LocationPath::literal_prefix);
    let refused = prefixes.filter(|path| {
        path.starts_with("/etc/") || path.contains("/root") || path.contains("/var")
    });
    for path in refused {
        out.report(
            "routes.path",
            format!(
                "F5's controller rejects an Ingress with {path}, as with each path that begins \
                 with /etc/ or holds /root or /var"
            ),
        );
    }
}

fn balancing(exposure: &Exposure, out: &mut Draft) {
    match exposure.upstream {
        UpstreamMode::Endpoints => {
            let method = match exposure.affinity {
                Affinity::ClientIp => "ip_hash",
                Affinity::None => "least_conn",
                Affinity::Cookie => {
                    out.report(
                        "exposure.affinity",
                        "F5's controller sets affinity cookies only in its newest releases or with \
                         NGINX Plus; ip_hash stands in",
                    );
                    "ip_hash"
                }
            };
            out.set("lb-method", method);
        }
        UpstreamMode::ServiceIp => {
            out.set("use-cluster-ip", true);
            out.report_affinity_behind_service(exposure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_the_controller_rejects_is_told() {
        let check = |path: &str, is_refused: bool| {
            let exposure = serde_json::json!({"hosts": ["ws.example.com"], "paths": [path]});
            let exposure: Exposure = serde_json::from_value(exposure).unwrap();
            let rendered = annotations(&exposure, &ObjectName::new("chat").unwrap());
            let told = rendered.not_expressed.iter();
            let told = told.filter(|it| it.field == "routes.path").count();
            assert_eq!(
                told == 1,
                is_refused,
                "{path}: {:?}",
                rendered.not_expressed
            );
        };
        // As 5.5.4 answered for each.
        check("/variables", true);
        check("/rooted", true);
        check("/etc/x", true);
        check("/a..b", false);
        check("/x/y-z_1/~", false);
        check("/etc", false);
    }
}
