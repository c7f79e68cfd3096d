//! The end of everything that runs.

use super::Site;
use crate::local::{child::Child, http, signals::Signals, stub_status::StubStatus};

impl Site {
    /// Stops everything in order: workers say goodbye to their clients through nginx, and talk to NATS until then.
    pub async fn stop(self, signals: &mut Signals) {
        let console = self.context.console;
        self.say_who_drains().await;
        let workers = || {
            self.workers
                .iter()
                .chain(&self.leaving)
                .map(|worker| &worker.child)
        };
        workers().for_each(Child::tell_to_stop);
        tokio::select! {
            () = stopped(workers()) => {}
            () = signals.next() => console.say("stopping at once"),
        }
        workers().for_each(Child::tell_to_die);
        stopped(workers()).await;
        let nats = self.nats.as_ref().map(|(child, _)| child);
        for child in self.nginx.iter().chain(nats) {
            child.tell_to_stop();
            tokio::select! {
                () = child.stopped() => {}
                () = signals.next() => child.tell_to_die(),
            }
            child.stopped().await;
        }
        if let Some((_, task)) = self.metrics {
            task.abort();
        }
        if let Some(guard) = &self.context.guard {
            guard.dismiss();
        }
        if self.nats.is_some() || self.nginx.is_some() || workers().next().is_some() {
            console.say("all is stopped");
        }
    }

    async fn say_who_drains(&self) {
        let Some(page) = self.targets.borrow().nginx.clone() else {
            return;
        };
        let Ok((_, text)) = http::get(page.address, &page.path).await else {
            return;
        };
        // This question is itself a connection that is being written to.
        let sockets = StubStatus::parse(&text).map_or(0, |status| status.writing.saturating_sub(1));
        if sockets > 0 {
            let drain = self.gateway.live.drain.period;
            self.context.console.say(format_args!(
                "draining {sockets} sockets over {drain} at most; Ctrl-C again stops at once"
            ));
        }
    }
}

async fn stopped(children: impl Iterator<Item = &Child>) {
    for child in children {
        child.stopped().await;
    }
}
