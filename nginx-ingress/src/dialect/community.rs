//! The community's ingress-nginx. It says nothing of a value that it cannot read: a timeout of
//! `90s` silently becomes its default of 60 seconds.

use crate::dialect::{Dialect, Draft, Rendered};
use crate::exposure::{Affinity, Buffering, Exposure, PROXY_CONNECT_TIMEOUT, UpstreamMode};
use crate::value::NginxDuration;

pub(super) fn annotations(exposure: &Exposure) -> Rendered {
    let mut out = Draft::new(Dialect::Community);
    out.set(
        "proxy-connect-timeout",
        PROXY_CONNECT_TIMEOUT.as_secs_rounded_up(),
    );
    let read = whole_seconds(
        &mut out,
        "exposure.proxyReadTimeout",
        exposure.proxy_read_timeout,
    );
    out.set("proxy-read-timeout", read);
    let send = whole_seconds(
        &mut out,
        "exposure.proxySendTimeout",
        exposure.proxy_send_timeout,
    );
    out.set("proxy-send-timeout", send);
    let buffering = match exposure.proxy_buffering {
        Buffering::Enabled => "on",
        Buffering::Disabled => "off",
    };
    out.set("proxy-buffering", buffering);
    out.set("proxy-http-version", "1.1");
    out.set("proxy-body-size", exposure.body_size);
    out.set("client-body-buffer-size", exposure.client_body_buffer_size);
    // A pod that drains or is full refuses or answers 503.
    out.set("proxy-next-upstream", "error timeout http_503");
    balancing(exposure, &mut out);
    out.report_paths(exposure);
    out.report_status_page(exposure);
    if exposure.hosts.is_empty() && exposure.tls_secret.is_some() {
        out.report(
            "exposure.hosts",
            "where no host is named, ingress-nginx shows its own default certificate, not that of \
             exposure.tls",
        );
    }
    out.rendered
}

/// Rounds up: a proxy that gives up early ends connections, one that waits a little longer harms
/// nobody.
fn whole_seconds(out: &mut Draft, field: &'static str, asked: NginxDuration) -> u64 {
    let secs = asked.as_secs_rounded_up();
    if !asked.is_whole_secs() {
        let why = format!("ingress-nginx takes whole seconds; {asked} becomes {secs} s");
        out.report(field, why);
    }
    secs
}

fn balancing(exposure: &Exposure, out: &mut Draft) {
    match (exposure.upstream, exposure.affinity) {
        (UpstreamMode::ServiceIp, _) => {
            out.set("service-upstream", true);
            out.report_affinity_behind_service(exposure);
        }
        (UpstreamMode::Endpoints, Affinity::ClientIp) => {
            out.set("upstream-hash-by", "$remote_addr");
        }
        (UpstreamMode::Endpoints, Affinity::Cookie) => out.set("affinity", "cookie"),
        (UpstreamMode::Endpoints, Affinity::None) => out.report(
            "exposure.affinity",
            "ingress-nginx has no least_conn; clients go to the pods in turn",
        ),
    }
}
