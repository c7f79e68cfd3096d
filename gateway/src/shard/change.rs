//! What changes under open connections: a new configuration, and the end.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::spawn_local;

use super::{Shard, ShardRoute, State};
use crate::{
    config::{LiveConfig, Route},
    drain::{Pace, retry_hint},
    exchange::ConnectionKey,
    metrics::RouteMetrics,
    page::Page,
    session::CloseCause,
    socket::{Connection, Counts},
};

/// How often a paced ending looks at the clock.
const DRAIN_STEP: Duration = Duration::from_millis(20);

impl Shard {
    /// Goes over to a new configuration. Connections go on under it, save those of a page that it does not
    /// allow, and of a route that is no longer there in their form: they are closed, paced as a drain.
    pub(super) fn reload(self: &Rc<Self>, live: Arc<LiveConfig>) {
        let mut leaving = Vec::new();
        let mut timed_anew = Vec::new();
        let mut metered_anew = Vec::new();
        let now = self.now();
        let mut state = self.state.borrow_mut();
        if live.allowed_origins != state.live.allowed_origins {
            let forbidden = state.pages.forbidden(&live.allowed_origins);
            let of_those = |c: &Connection| c.page.is_some_and(|page| forbidden.contains(&page));
            let connections = state.connections.iter().filter(|(_, c)| of_those(c));
            let keys = connections.map(|(slot, c)| (c.key(slot as u32), CloseCause::ConfigChanged));
            leaving.extend(keys);
        }
        for at in 0..state.routes.len() {
            let Some(route) = state.routes.get_mut(at).filter(|route| !route.is_retired) else {
                continue;
            };
            let new = live.routes.iter().find(|new| new.name == route.config.name);
            match new {
                Some(new) if new.continues(&route.config) => {
                    if new.session != route.config.session {
                        timed_anew.push(at);
                    }
                    if new.rates != route.config.rates {
                        metered_anew.push(at);
                    }
                    route.config = new.clone();
                }
                changed => {
                    route.is_retired = true;
                    let cause = match changed {
                        Some(_) => CloseCause::RouteChanged,
                        None => CloseCause::ConfigChanged,
                    };
                    let of_route = |c: &(usize, &Connection)| usize::from(c.1.route) == at;
                    let connections = state.connections.iter().filter(of_route);
                    leaving.extend(connections.map(|(slot, c)| (c.key(slot as u32), cause)));
                }
            }
        }
        for config in &live.routes {
            let is_there = |r: &ShardRoute| !r.is_retired && r.config.name == config.name;
            if !state.routes.iter().any(is_there) {
                state.add_route(config, self.metrics.route(&config.name));
            }
        }
        state.outbox = live.outbox;
        state.live = live;
        for key in state.keys_of(&timed_anew) {
            state.with(self, key, now, |connection, around| {
                connection.handle_new_limits(around);
            });
        }
        for key in state.keys_of(&metered_anew) {
            state.with(self, key, now, |connection, around| {
                connection.handle_new_rates(around);
            });
        }
        drop(state);
        if !leaving.is_empty() {
            spawn_local(self.clone().close_paced(leaving));
        }
    }

    /// Stops accepting, closes every connection at its pace, and returns when the last is gone.
    pub(super) async fn drain(self: Rc<Self>) {
        self.draining.cancel();
        loop {
            let keys = |(slot, c): (usize, &Connection)| (c.key(slot as u32), CloseCause::Draining);
            let leaving: Vec<_> = self.state.borrow().connections.iter().map(keys).collect();
            if leaving.is_empty() {
                return;
            }
            self.clone().close_paced(leaving).await;
            // The last handshakes may have become connections meanwhile, and closes take a round trip.
            tokio::time::sleep(DRAIN_STEP).await;
        }
    }

    async fn close_paced(self: Rc<Self>, leaving: Vec<(ConnectionKey, CloseCause)>) {
        let drain = self.state.borrow().live.drain.clone();
        let pace = Pace::new(leaving.len(), &drain, self.shards);
        let started = Instant::now();
        let mut told = 0;
        let mut random = fastrand(started);
        while told < leaving.len() {
            let due = pace.due(started.elapsed());
            for (key, cause) in leaving.get(told..due).unwrap_or_default() {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let hint = match cause {
                    CloseCause::ConfigChanged => String::new(),
                    _ => retry_hint(&drain, random),
                };
                self.close(*key, *cause, &hint);
            }
            told = told.max(due);
            if told < leaving.len() {
                tokio::time::sleep(DRAIN_STEP).await;
            }
        }
    }

    fn close(&self, key: ConnectionKey, cause: CloseCause, hint: &str) {
        let now = self.now();
        let mut state = self.state.borrow_mut();
        state.with(self, key, now, |connection, _| {
            connection.close(cause, hint, now);
        });
    }
}

impl State {
    /// The connections to routes, by index.
    fn keys_of(&self, routes: &[usize]) -> Vec<ConnectionKey> {
        let connections = self.connections.iter();
        let of_those = connections.filter(|(_, c)| routes.contains(&usize::from(c.route)));
        of_those.map(|(slot, c)| c.key(slot as u32)).collect()
    }

    /// Why a connection to a route, by index, is to be closed at once: the configuration may have changed since its
    /// request was looked at.
    pub(super) fn outdated(
        &self,
        at: usize,
        route: &Route,
        page: Option<&Page>,
    ) -> Option<CloseCause> {
        if page.is_some_and(|page| !page.is_allowed(&self.live.allowed_origins)) {
            return Some(CloseCause::ConfigChanged);
        }
        let now = self.routes.get(at)?;
        (!now.config.continues(route)).then_some(CloseCause::RouteChanged)
    }

    /// A retired route without connections gives its place to a new one.
    fn add_route(&mut self, config: &Arc<Route>, metrics: RouteMetrics) {
        let route = ShardRoute {
            config: config.clone(),
            counts: Counts::default(),
            metrics,
            open: 0,
            is_retired: false,
        };
        match self.routes.iter_mut().find(|r| r.is_retired && r.open == 0) {
            Some(place) => *place = route,
            None => self.routes.push(route),
        }
    }
}

/// A number to start a jitter with; it need not be hard to guess.
fn fastrand(now: Instant) -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(now) as u32
}
