//! Where nothing is wrong, nothing is sent, by the API server's own count.

use std::time::Duration;

use wsgateway_e2e::{
    cluster::Requests,
    operator::Operator,
    wait::{SOON, pause, until_true},
};

use super::{Place, table::GATEWAYS};

/// So long nothing happens, where nothing shall.
const SILENCE: Duration = Duration::from_secs(2);

/// After `act`, the operator reconciles at least so many times, and writes nothing.
pub(super) async fn nothing_is_sent<F: Future<Output = ()>>(
    place: &Place<'_>,
    operator: &Operator,
    reconciles: f64,
    act: impl FnOnce() -> F,
) {
    let count = || {
        let metrics = operator.metrics();
        let sum = |name: &str| metrics.sum(&format!("wsgateway_operator_{name}"), &[]);
        let waiting = sum("queue_depth") + sum("queue_running") + sum("queue_backoff");
        (sum("reconciles_total"), waiting)
    };
    let enough =
        |least: f64| move || matches!(count(), (done, waiting) if done >= least && waiting < 0.5);
    until_true("the operator is done", SOON, enough(reconciles));
    // A moment for what the last writes before this bring about.
    pause(SILENCE);
    let (done, _) = count();
    let before = Requests::count(&place.client).await;
    act().await;
    if reconciles < 0.5 {
        let all = done + GATEWAYS.len() as f64;
        until_true("all are reconciled again", SOON, enough(all));
    }
    pause(SILENCE);
    let sent = Requests::count(&place.client).await.since(&before);
    // The test's own touch is a patch of the WsGateway itself, which the operator never writes.
    let sent = sent
        .mutating()
        .filter(|request| request.resource != "wsgateways");
    assert_eq!(sent.total(), 0, "{sent}");
}
