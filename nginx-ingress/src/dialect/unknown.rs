//! A controller that this project does not know: it gets an Ingress without annotations, and the
//! user what is missing.

use crate::dialect::{NotExpressed, Rendered, path_reports};
use crate::exposure::{Affinity, Exposure, UpstreamMode};

/// What an Ingress says by its paths alone. Which annotations the controller takes, only its user
/// knows.
pub fn without_words(exposure: &Exposure) -> Rendered {
    let mut not_expressed = Vec::new();
    let mut report = |field, why: &str| not_expressed.push(NotExpressed::new(field, why));
    let idle = "the controller's annotations are not known; how long an idle socket lives must be \
                set there, and must exceed pongWait";
    report("exposure.proxyReadTimeout", idle);
    report("exposure.proxySendTimeout", idle);
    let own = "the controller's annotations are not known; its own default holds";
    report("exposure.proxyBuffering", own);
    report("exposure.bodySize", own);
    report("exposure.clientBodyBufferSize", own);
    match exposure.affinity {
        Affinity::ClientIp | Affinity::Cookie => report("exposure.affinity", own),
        Affinity::None => {}
    }
    match exposure.upstream {
        UpstreamMode::ServiceIp => report("exposure.upstream", own),
        UpstreamMode::Endpoints => {}
    }
    if exposure.status.is_some() {
        report("exposure.status", own);
    }
    not_expressed.extend(path_reports(exposure));
    Rendered {
        annotations: std::collections::BTreeMap::new(),
        not_expressed,
    }
}
