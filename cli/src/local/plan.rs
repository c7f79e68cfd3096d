//! What a changed manifest means for what runs: two wishes in, steps out. Pure.
//!
//! The order of the steps keeps clients: what is added runs before nginx is told of it, and nginx no longer knows
//! what is taken away.

use wsgateway_model::Gateway;

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Start a nats-server.
    StartNats,
    /// Give the workers that stay their new live configuration, which they read by themselves.
    ConfigureWorkers,
    /// Start so many more workers.
    StartWorkers(u32),
    /// Start the first so many workers again, one after the other: what has changed is read once, at the start.
    RestartWorkers(u32),
    /// Provide a certificate anew.
    ProvideCertificate,
    /// Write nginx's configuration, and reload it where that has changed.
    ConfigureNginx,
    /// Drain and stop the last so many workers.
    StopWorkers(u32),
    /// Stop the nats-server, which nobody uses any more.
    StopNats,
}

/// The steps from one validated manifest to the next; none where they are equal.
pub fn plan(old: &Gateway, new: &Gateway) -> Vec<Change> {
    let kept = old.replicas.min(new.replicas);
    let is_own = |gateway: &Gateway| gateway.nats.servers.is_empty();
    let capacity = |gateway: &Gateway| (gateway.replicas, gateway.live.limits.connections);
    let is_exposed_otherwise =
        old.tls != new.tls || old.exposure != new.exposure || capacity(old) != capacity(new);
    let steps = [
        (is_own(new) && !is_own(old), Change::StartNats),
        (
            kept > 0 && (old.live != new.live || old.auth_files != new.auth_files),
            Change::ConfigureWorkers,
        ),
        (
            new.replicas > kept,
            Change::StartWorkers(new.replicas - kept),
        ),
        (
            kept > 0 && old.nats != new.nats,
            Change::RestartWorkers(kept),
        ),
        (
            old.tls != new.tls || old.exposure.hosts != new.exposure.hosts,
            Change::ProvideCertificate,
        ),
        (is_exposed_otherwise, Change::ConfigureNginx),
        (
            old.replicas > kept,
            Change::StopWorkers(old.replicas - kept),
        ),
        (is_own(old) && !is_own(new), Change::StopNats),
    ];
    steps
        .into_iter()
        .filter_map(|(is_needed, change)| is_needed.then_some(change))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::gateway;

    #[test]
    fn each_change_takes_the_steps_that_it_needs_and_no_others() {
        use Change::*;
        let seed = "{routes: [{name: a, path: /a}]}";
        let table: &[(&str, &str, &[Change])] = &[
            (seed, seed, &[]),
            (
                seed,
                "{replicas: 5, routes: [{name: a, path: /a}]}",
                &[StartWorkers(2), ConfigureNginx],
            ),
            (
                seed,
                "{replicas: 1, routes: [{name: a, path: /a}]}",
                &[ConfigureNginx, StopWorkers(2)],
            ),
            (
                seed,
                "{replicas: 0, routes: [{name: a, path: /a}]}",
                &[ConfigureNginx, StopWorkers(3)],
            ),
            (
                "{replicas: 0, routes: [{name: a, path: /a}]}",
                seed,
                &[StartWorkers(3), ConfigureNginx],
            ),
            (
                seed,
                "{websocket: {writeWait: 5s}, routes: [{name: a, path: /a}]}",
                &[ConfigureWorkers],
            ),
            (
                seed,
                "{limits: {connectionsPerPod: 5}, routes: [{name: a, path: /a}]}",
                &[ConfigureWorkers, ConfigureNginx],
            ),
            (
                seed,
                "{routes: [{name: a, path: /b}]}",
                &[ConfigureWorkers, ConfigureNginx],
            ),
            (
                seed,
                "{exposure: {hosts: [a.example.com]}, routes: [{name: a, path: /a}]}",
                &[ProvideCertificate, ConfigureNginx],
            ),
            (
                seed,
                "{exposure: {proxyReadTimeout: 5m}, routes: [{name: a, path: /a}]}",
                &[ConfigureNginx],
            ),
            (
                seed,
                "{exposure: {tls: {type: None}}, routes: [{name: a, path: /a}]}",
                &[ProvideCertificate, ConfigureNginx],
            ),
            (
                seed,
                "{nats: {servers: ['nats://b:4222']}, routes: [{name: a, path: /a}]}",
                &[RestartWorkers(3), StopNats],
            ),
            (
                "{nats: {servers: ['nats://b:4222']}, routes: [{name: a, path: /a}]}",
                seed,
                &[StartNats, RestartWorkers(3)],
            ),
            (
                seed,
                "{replicas: 4, websocket: {writeWait: 5s}, nats: {servers: ['nats://b:4222']}, \
                 routes: [{name: a, path: /a}]}",
                &[
                    ConfigureWorkers,
                    StartWorkers(1),
                    RestartWorkers(3),
                    ConfigureNginx,
                    StopNats,
                ],
            ),
        ];
        for (old, new, steps) in table {
            assert_eq!(plan(&gateway(old), &gateway(new)), *steps, "{new}");
        }
    }
}
