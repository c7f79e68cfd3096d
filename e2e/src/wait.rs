//! Waiting for what another process does.

use std::time::{Duration, Instant};

/// How often a state is looked at that cannot be awaited as an event.
const POLL_PERIOD: Duration = Duration::from_millis(10);

/// How long something may take that takes milliseconds on an idle machine: long, since this one may
/// be busy, and nobody waits for it where all is well.
pub const SOON: Duration = Duration::from_secs(20);

/// Asks `probe` until it answers, and panics with `what` when it has not `within` that time.
pub fn until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "after {within:?} still not: {what}"
        );
        pause(POLL_PERIOD);
    }
}

/// As [`until`], for a condition.
pub fn until_true(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    until(what, within, || condition().then_some(()));
}

/// Lets time pass where the passing of time is the event itself, as for a silence.
#[allow(clippy::disallowed_methods)] // A silence has no event to await.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
