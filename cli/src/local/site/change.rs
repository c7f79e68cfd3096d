//! What a changed manifest does to what runs, and a certificate that nears its end.

use wsgateway_model::Gateway;

use super::Site;
use crate::local::{
    LocalError,
    plan::{Change, plan},
    sockets::Sockets,
};

impl Site {
    /// Brings what runs to what a changed manifest asks for. Where a step fails the later ones are not taken, and
    /// what runs goes on running. May be dropped at any point: every child is among ours before it is awaited, so
    /// that [`Site::stop`] finds it.
    pub async fn apply(&mut self, new: Gateway) -> Result<(), LocalError> {
        let sockets = Sockets::claim(&self.settings, &new, &self.sockets)?;
        let steps = plan(&self.gateway, &new);
        let is_tried_otherwise = self.gateway.live.routes != new.live.routes
            || self.gateway.tls != new.tls
            || self.gateway.nats.servers != new.nats.servers
            || self.gateway.exposure.status != new.exposure.status;
        self.gateway = new;
        self.sockets = sockets;
        for step in steps {
            self.take(step).await?;
        }
        if is_tried_otherwise {
            self.context.console.block(&self.banner());
        }
        Ok(())
    }

    async fn take(&mut self, step: Change) -> Result<(), LocalError> {
        let console = self.context.console;
        match step {
            Change::StartNats => self.start_nats().await,
            Change::ConfigureWorkers => {
                console.say(
                    "the workers are given their new configuration, and read it by themselves",
                );
                self.configure_workers()
            }
            Change::StartWorkers(count) => self.start_more_workers(count).await,
            Change::RestartWorkers(count) => {
                console.say(
                    "how NATS is reached is read at the start: the workers start again, one by one, and their \
                     clients are told to come back",
                );
                self.restart_workers(count).await
            }
            Change::ProvideCertificate => {
                self.must_reload |= self.provide_certificate()?;
                Ok(())
            }
            Change::ConfigureNginx => {
                let is_new = self.configure_nginx().await?;
                if is_new || self.must_reload {
                    self.reload_nginx().await?;
                }
                Ok(())
            }
            Change::StopWorkers(count) => {
                self.let_workers_go(count);
                Ok(())
            }
            Change::StopNats => {
                // Whoever still drains still delivers.
                for worker in &self.leaving {
                    worker.child.stopped().await;
                }
                console.say("stopping the nats-server of wsgw: the manifest names others");
                if let Some((child, _)) = &self.nats {
                    child.tell_to_stop();
                    child.stopped().await;
                }
                self.nats = None;
                Ok(())
            }
        }
    }

    /// Renews the certificate when it nears its end, however long this runs.
    pub async fn renew_certificate(&mut self) -> Result<(), LocalError> {
        if self.provide_certificate()? {
            self.context.console.say("the certificate is renewed");
            self.reload_nginx().await?;
        }
        Ok(())
    }
}
