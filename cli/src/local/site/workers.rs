//! The workers: each with its place, its configuration file and its process.

use wsgateway_crds::config::{self, Boot};

use super::{READY_PATIENCE, Site};
use crate::local::{
    LocalError,
    child::{Child, ChildError},
    nats,
    worker::{self, Place, Worker},
};

impl Site {
    /// Starts the workers that the manifest asks for.
    pub async fn start_workers(&mut self) -> Result<(), LocalError> {
        self.start_worker_numbers(1, self.gateway.replicas).await
    }

    pub(super) async fn start_worker_numbers(
        &mut self,
        from: u32,
        to: u32,
    ) -> Result<(), LocalError> {
        for number in from..=to {
            let place = worker::place(number, self.gateway.replicas)?;
            let child = self.start_worker(number, &place)?;
            self.workers.push(Worker {
                number,
                place,
                child,
            });
        }
        for number in from..=to {
            self.await_worker(number).await?;
        }
        Ok(())
    }

    fn start_worker(&self, number: u32, place: &Place) -> Result<Child, LocalError> {
        self.write_worker_config(number, place)?;
        let file = self.context.state.path(&worker::file(number));
        let live = &self.gateway.live;
        let program = worker::program(&self.programs.gateway, number, place, &file, live);
        Ok(self.start(program))
    }

    /// A worker waits for NATS, however long that takes: with servers that the manifest names, so may we.
    async fn await_worker(&self, number: u32) -> Result<(), LocalError> {
        let Some(worker) = self.workers.iter().find(|worker| worker.number == number) else {
            return Ok(());
        };
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
        self.workers
            .iter()
            .filter(|worker| worker.number <= self.gateway.replicas)
            .try_for_each(|worker| self.write_worker_config(worker.number, &worker.place))
    }

    fn write_worker_config(&self, number: u32, place: &Place) -> Result<(), LocalError> {
        let state = &self.context.state;
        let (_, files) = self.gateway.nats.config(&state.path("nats-client"));
        for file in files {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            state.write(&format!("nats-client/{name}"), file.bytes.expose())?;
        }
        let boot = Boot {
            listen: place.listen(),
            nats: self.nats_connection(),
        };
        let live = Some(worker::live(&self.gateway.live));
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

    pub(super) async fn restart_workers(&mut self, to: u32) -> Result<(), LocalError> {
        for number in 1..=to {
            let Some(worker) = self.workers.iter().find(|worker| worker.number == number) else {
                continue;
            };
            worker.child.tell_to_stop();
            worker.child.stopped().await;
            let child = self.start_worker(number, &worker.place)?;
            let Some(worker) = self
                .workers
                .iter_mut()
                .find(|worker| worker.number == number)
            else {
                continue;
            };
            worker.child = child;
            self.await_worker(number).await?;
        }
        Ok(())
    }

    pub(super) async fn stop_workers(&mut self, from: u32) {
        let leaving = || self.workers.iter().filter(|worker| worker.number >= from);
        leaving().for_each(|worker| worker.child.tell_to_stop());
        for worker in leaving() {
            worker.child.stopped().await;
        }
        self.workers.retain(|worker| worker.number < from);
    }
}
