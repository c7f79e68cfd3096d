//! The workers: each with its place, its configuration file and its process.

use wsgateway_crds::config::{self, Boot};

use super::{READY_PATIENCE, Site};
use crate::local::{
    LocalError,
    child::{Child, ChildError},
    nats,
    worker::{self, Place, Worker},
};

/// What tokens are verified with, in the state folder.
const AUTH_DIRECTORY: &str = "auth";

impl Site {
    /// Starts the workers that the manifest asks for.
    pub async fn start_workers(&mut self) -> Result<(), LocalError> {
        self.start_more_workers(self.gateway.replicas).await
    }

    pub(super) async fn start_more_workers(&mut self, count: u32) -> Result<(), LocalError> {
        self.leaving.retain(|worker| !worker.child.has_stopped());
        for _ in 0..count {
            let number = self.free_number();
            let place = worker::place(number, self.gateway.replicas)?;
            let child = self.start_worker(number, &place)?;
            self.workers.push(Worker {
                number,
                place,
                child,
            });
        }
        let first = self.workers.len().saturating_sub(count as usize);
        for worker in self.workers.iter().skip(first) {
            self.await_worker(worker).await?;
            if self.nginx.is_some() {
                let (name, admin) = (worker::name(worker.number), worker.place.admin.address());
                self.context
                    .console
                    .say(format_args!("{name} runs: http://{admin}/metrics"));
            }
        }
        Ok(())
    }

    /// The lowest that no worker has, also none that drains: its file and its place are still its own.
    fn free_number(&self) -> u32 {
        let is_taken = |number| {
            self.workers
                .iter()
                .chain(&self.leaving)
                .any(|worker| worker.number == number)
        };
        (1..u32::MAX)
            .find(|number| !is_taken(*number))
            .unwrap_or(u32::MAX)
    }

    /// The workers that the manifest asks for. Later ones are about to leave.
    pub(super) fn wanted_workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().take(self.gateway.replicas as usize)
    }

    fn start_worker(&self, number: u32, place: &Place) -> Result<Child, LocalError> {
        self.write_worker_config(number, place)?;
        let file = self.context.state.path(&worker::file(number));
        let live = &self.gateway.live;
        let program = worker::program(&self.programs.gateway, number, place, &file, live);
        Ok(self.start(program))
    }

    /// A worker waits for NATS, however long that takes: with servers that the manifest names, so may we.
    async fn await_worker(&self, worker: &Worker) -> Result<(), LocalError> {
        match worker.child.ready(READY_PATIENCE).await {
            Err(error @ ChildError::NotReady { .. }) if self.nats.is_none() => {
                let servers = self.gateway.nats.servers.join(", ");
                let console = self.context.console;
                console.problem(format_args!(
                    "{error}: does NATS answer at {servers}? Going on"
                ));
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    pub(super) fn configure_workers(&self) -> Result<(), LocalError> {
        self.wanted_workers()
            .try_for_each(|worker| self.write_worker_config(worker.number, &worker.place))
    }

    fn write_worker_config(&self, number: u32, place: &Place) -> Result<(), LocalError> {
        let state = &self.context.state;
        let (_, files) = self.gateway.nats.config(&state.path("nats-client"));
        for file in files {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            state.write(&format!("nats-client/{name}"), file.content.bytes.expose())?;
        }
        let boot = Boot {
            listen: place.listen(),
            nats: self.nats_connection(),
        };
        let (live, files) = self.gateway.live_in(&state.path(AUTH_DIRECTORY));
        for file in files {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            let text = file.content.bytes.expose();
            state.write(&format!("{AUTH_DIRECTORY}/{name}"), text)?;
        }
        let live = Some(worker::live(&live));
        let text = config::Config { boot, live }.write()?;
        state.write(&worker::file(number), text)?;
        Ok(())
    }

    pub(super) fn nats_connection(&self) -> config::Nats {
        match &self.nats {
            Some((_, port)) if self.gateway.nats.servers.is_empty() => {
                nats::connection(port.number)
            }
            _ => {
                self.gateway
                    .nats
                    .config(&self.context.state.path("nats-client"))
                    .0
            }
        }
    }

    pub(super) async fn restart_workers(&mut self, count: u32) -> Result<(), LocalError> {
        for index in 0..count as usize {
            let Some(worker) = self.workers.get(index) else {
                break;
            };
            worker.child.tell_to_stop();
            worker.child.stopped().await;
            let child = self.start_worker(worker.number, &worker.place)?;
            let Some(worker) = self.workers.get_mut(index) else {
                break;
            };
            worker.child = child;
            let Some(worker) = self.workers.get(index) else {
                break;
            };
            self.await_worker(worker).await?;
        }
        Ok(())
    }

    /// Tells the last workers to drain, which takes its time: further changes need not wait for it.
    pub(super) fn let_workers_go(&mut self, count: u32) {
        let kept = self.workers.len().saturating_sub(count as usize);
        let leaving = self.workers.split_off(kept);
        let names: Vec<_> = leaving
            .iter()
            .map(|worker| worker::name(worker.number))
            .collect();
        let verb = if names.len() == 1 {
            "drains and stops"
        } else {
            "drain and stop"
        };
        self.context
            .console
            .say(format_args!("{} {verb}", names.join(", ")));
        for worker in &leaving {
            worker.child.tell_to_stop();
        }
        self.leaving.retain(|worker| !worker.child.has_stopped());
        self.leaving.extend(leaving);
    }
}
