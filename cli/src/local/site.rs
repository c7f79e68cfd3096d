//! Everything that runs: nats-server, workers, nginx, and the steps that change it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{net::TcpListener, sync::watch, task::AbortHandle};
use wsgateway_crds::config::{self, Boot};
use wsgateway_model::{Gateway, gateway::Tls};

use super::{
    LocalError,
    banner::{self, Banner, Tools},
    certificate::{self, Certificate, Lifetime},
    child::{Child, ChildError, Context},
    guard::Guard,
    leftover,
    metrics::{Metrics, Restarts, StatusPage},
    nats, nginx,
    nginx::Sockets,
    plan::{Change, plan},
    port,
    programs::Program,
    settings::{Addresses, Settings},
    signals::Signals,
    state::{self, StateDir},
    stub_status::StubStatus,
    worker::{self, Worker},
};

/// How long a child may take until it is ready.
const READY_PATIENCE: Duration = Duration::from_secs(20);

/// Where Prometheus expects an exporter of nginx, <https://github.com/prometheus/prometheus/wiki/Default-port-allocations>.
const METRICS_PORT: u16 = 9113;

/// What runs.
#[derive(Debug)]
pub struct Site {
    settings: Settings,
    programs: Programs,
    gateway: Gateway,
    context: Context,
    sockets: Sockets,
    certificate: Option<Certificate>,
    nats: Option<(Child, u16)>,
    workers: Vec<Worker>,
    nginx: Option<Child>,
    status_page: watch::Sender<Option<StatusPage>>,
    metrics: Option<(SocketAddr, AbortHandle)>,
    guard: Option<Guard>,
}

/// The programs that the manifest needs.
#[derive(Debug)]
struct Programs {
    gateway: PathBuf,
    nginx: PathBuf,
    /// Looked for when the manifest first needs it.
    nats_server: Option<PathBuf>,
}

impl Site {
    /// Makes sure that everything needed is there and nothing else is in the way. Nothing is started yet.
    pub async fn prepare(
        settings: Settings,
        gateway: Gateway,
        console: super::console::Console,
    ) -> Result<Self, LocalError> {
        let programs = Programs {
            gateway: Program::Gateway.find(settings.gateway.as_deref())?,
            nginx: Program::Nginx.find(settings.nginx.as_deref())?,
            nats_server: match gateway.nats.servers.as_slice() {
                [] => Some(Program::NatsServer.find(settings.nats_server.as_deref())?),
                _ => None,
            },
        };
        let root = match &settings.state_dir {
            Some(named) => named.clone(),
            None => state::default_path(gateway.name.as_str())?,
        };
        let state = StateDir::open(&root).await?;
        let left = leftover::end(&state).await;
        if !left.is_empty() {
            console.say(format_args!(
                "ended what an earlier run had left: {}",
                left.join(", ")
            ));
        }
        nginx::forget(&state);
        let sockets = sockets(&settings, &gateway)?;
        let context = Context {
            console,
            state: Arc::new(state),
            restarts: Restarts::default(),
        };
        Ok(Self {
            settings,
            programs,
            gateway,
            context,
            sockets,
            certificate: None,
            nats: None,
            workers: Vec::new(),
            nginx: None,
            status_page: watch::Sender::new(None),
            metrics: None,
            guard: None,
        })
    }

    /// Starts the guard, who ends what runs should this process be killed.
    pub fn post_guard(&mut self) {
        match Guard::start(self.context.state.root()) {
            Ok(guard) => self.guard = Some(guard),
            Err(error) => self.context.console.problem(format_args!(
                "no guard is started ({error}): what runs would outlive a kill -9 of wsgw"
            )),
        }
    }

    /// Provides nginx's certificate. Says whether it is another than before.
    pub fn provide_certificate(&mut self) -> Result<bool, LocalError> {
        let now = SystemTime::now();
        let state = &self.context.state;
        let (certificate, is_new) = match (&self.gateway.tls, &self.settings.certificate) {
            (Tls::None, None) => (None, false),
            (_, Some((certificate, key))) => {
                (Some(certificate::given(certificate, key, now)?), false)
            }
            (
                Tls::Secret {
                    certificate: given, ..
                },
                None,
            ) => {
                let key_is_new = state.write("secret/tls.key", given.key.expose())?;
                let is_new = state.write("secret/tls.crt", given.chain.expose())? || key_is_new;
                let (chain, key) = (state.path("secret/tls.crt"), state.path("secret/tls.key"));
                (Some(certificate::given(&chain, &key, now)?), is_new)
            }
            (
                Tls::SelfSigned {
                    duration,
                    renew_before,
                },
                None,
            ) => {
                let lifetime = Lifetime {
                    life: duration.get(),
                    renew_before: renew_before.get(),
                };
                let hosts = self.gateway.exposure.hosts.iter().map(|host| host.as_str());
                let listen: Vec<_> = self.sockets.https.iter().map(SocketAddr::ip).collect();
                let names = certificate::names(hosts, &listen);
                let (certificate, is_new) = certificate::local(state, &names, lifetime, now)?;
                (Some(certificate), is_new)
            }
        };
        let is_another = is_new || certificate != self.certificate;
        self.certificate = certificate;
        Ok(is_another)
    }

    /// Starts a nats-server where the manifest names none.
    pub async fn start_nats(&mut self) -> Result<(), LocalError> {
        if !self.gateway.nats.servers.is_empty() || self.nats.is_some() {
            return Ok(());
        }
        let console = self.context.console;
        if self.gateway.nats.tls.is_some() || self.gateway.nats.credentials.is_some() {
            console.problem(
                "spec.nats.tls and spec.nats.credentials are not used: spec.nats.servers names no server, \
                 and the one that wsgw starts asks for neither",
            );
        }
        let path = match &self.programs.nats_server {
            Some(path) => path.clone(),
            None => Program::NatsServer.find(self.settings.nats_server.as_deref())?,
        };
        self.programs.nats_server = Some(path.clone());
        let port = port::free(nats::PORT, &[])?;
        if port != nats::PORT {
            console.say(format_args!(
                "port {} is taken: NATS is on {port} instead",
                nats::PORT
            ));
        }
        let program = nats::program(&path, &self.context.state, port)?;
        let child = self.start(program);
        let is_ready = child.ready(READY_PATIENCE).await;
        self.nats = Some((child, port));
        Ok(is_ready?)
    }

    /// Starts the workers that the manifest asks for.
    pub async fn start_workers(&mut self) -> Result<(), LocalError> {
        self.start_worker_numbers(1, self.gateway.replicas).await
    }

    /// Starts nginx in front of the workers.
    pub async fn start_nginx(&mut self) -> Result<(), LocalError> {
        self.configure_nginx().await?;
        let ask = self
            .sockets
            .to_ask()
            .unwrap_or((Ipv4Addr::LOCALHOST, self.settings.http_port).into());
        let status = self.status_path();
        let program = nginx::program(&self.programs.nginx, &self.context.state, ask, &status);
        let child = self.start(program);
        let is_ready = child.ready(READY_PATIENCE).await;
        self.nginx = Some(child);
        Ok(is_ready?)
    }

    /// Serves nginx's connections in Prometheus form.
    pub async fn serve_metrics(&mut self) -> Result<(), LocalError> {
        let taken: Vec<_> = self.worker_ports();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free(METRICS_PORT, &taken)?));
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| LocalError::Metrics { address, source })?;
        let metrics = Metrics::new(&self.context.restarts, self.status_page.subscribe());
        let task = tokio::spawn(metrics.serve(listener));
        self.metrics = Some((address, task.abort_handle()));
        Ok(())
    }

    /// What to try.
    pub fn banner(&self) -> String {
        let authority = self
            .certificate
            .as_ref()
            .map(|files| files.authority.as_deref());
        banner::banner(&Banner {
            name: self.gateway.name.as_str(),
            routes: &self.gateway.live.routes,
            file: &self.settings.file,
            tls: authority.map(|authority| (self.settings.https_port, authority)),
            http_port: self.settings.http_port,
            status_path: &self.status_path(),
            nats_url: self
                .nats_connection()
                .servers
                .first()
                .map_or("", String::as_str),
            workers: self
                .workers
                .iter()
                .map(|worker| (worker::name(worker.number), worker.listen.admin))
                .collect(),
            metrics: self
                .metrics
                .as_ref()
                .map_or((Ipv4Addr::LOCALHOST, 0).into(), |m| m.0),
            tools: Tools::find(),
        })
    }

    /// Brings what runs to what a changed manifest asks for. Where a step fails the later ones are not taken, and
    /// what runs goes on running.
    pub async fn apply(&mut self, new: Gateway) -> Result<(), LocalError> {
        let sockets = self.sockets_for(&new)?;
        let steps = plan(&self.gateway, &new);
        self.gateway = new;
        self.sockets = sockets;
        for step in steps {
            self.take(step).await?;
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
            Change::StartWorkers { from, to } => {
                console.say(format_args!("starting {}", span(from, to)));
                self.start_worker_numbers(from, to).await
            }
            Change::RestartWorkers { to } => {
                console.say(format_args!(
                    "how NATS is reached is read at the start: {} start again, one by one, and their clients \
                     are told to come back",
                    span(1, to)
                ));
                self.restart_workers(to).await
            }
            Change::ProvideCertificate => {
                if self.provide_certificate()? {
                    nginx::forget(&self.context.state);
                }
                Ok(())
            }
            Change::ConfigureNginx => {
                if self.configure_nginx().await? {
                    self.reload_nginx().await?;
                }
                Ok(())
            }
            Change::StopWorkers { from } => {
                let to = self
                    .workers
                    .iter()
                    .map(|worker| worker.number)
                    .max()
                    .unwrap_or(from);
                console.say(format_args!("draining and stopping {}", span(from, to)));
                self.stop_workers(from).await;
                Ok(())
            }
            Change::StopNats => {
                console.say("stopping the nats-server of wsgw: the manifest names others");
                if let Some((mut child, _)) = self.nats.take() {
                    child.tell_to_stop();
                    child.stopped().await;
                }
                Ok(())
            }
        }
    }

    /// Renews the certificate when it nears its end, however long this runs.
    pub async fn renew_certificate(&mut self) -> Result<(), LocalError> {
        if self.provide_certificate()? {
            self.context.console.say("the certificate is renewed");
            nginx::forget(&self.context.state);
            self.configure_nginx().await?;
            self.reload_nginx().await?;
        }
        Ok(())
    }

    /// Stops everything in order: workers say goodbye to their clients through nginx, and talk to NATS until then.
    pub async fn stop(mut self, signals: &mut Signals) {
        let console = self.context.console;
        self.say_who_drains().await;
        for worker in &self.workers {
            worker.child.tell_to_stop();
        }
        tokio::select! {
            () = stopped(self.workers.iter_mut().map(|worker| &mut worker.child)) => {}
            () = signals.next() => console.say("stopping at once"),
        }
        for worker in &mut self.workers {
            worker.child.tell_to_die();
            worker.child.stopped().await;
        }
        let nats = self.nats.as_mut().map(|(child, _)| child);
        for child in self.nginx.as_mut().into_iter().chain(nats) {
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
        if let Some(guard) = self.guard {
            guard.dismiss();
        }
        console.say("all is stopped");
    }

    async fn say_who_drains(&self) {
        let page = self.status_page.borrow().clone();
        let Some(page) = page.filter(|_| self.nginx.is_some()) else {
            return;
        };
        let Ok((_, text)) = super::http::get(page.address, &page.path).await else {
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

    fn start(&self, program: super::child::Program) -> Child {
        self.context.restarts.expect(&program.name);
        Child::start(program, &self.context)
    }

    async fn start_worker_numbers(&mut self, from: u32, to: u32) -> Result<(), LocalError> {
        let shards = worker::shards(self.gateway.replicas);
        for number in from..=to {
            let listen = worker::listen(number, shards, &self.worker_ports())?;
            let child = self.start_worker(number, &listen)?;
            self.workers.push(Worker {
                number,
                listen,
                child,
            });
        }
        for worker in self.workers.iter().filter(|worker| worker.number >= from) {
            self.await_worker(&worker.child).await?;
        }
        Ok(())
    }

    fn start_worker(&self, number: u32, listen: &config::Listen) -> Result<Child, LocalError> {
        self.write_worker_config(number, listen)?;
        let file = self.context.state.path(&worker::file(number));
        let live = &self.gateway.live;
        let program = worker::program(&self.programs.gateway, number, listen, &file, live);
        Ok(self.start(program))
    }

    /// A worker waits for NATS, however long that takes: with servers that the manifest names, so may we.
    async fn await_worker(&self, child: &Child) -> Result<(), LocalError> {
        match child.ready(READY_PATIENCE).await {
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

    fn configure_workers(&self) -> Result<(), LocalError> {
        self.workers
            .iter()
            .filter(|worker| worker.number <= self.gateway.replicas)
            .try_for_each(|worker| self.write_worker_config(worker.number, &worker.listen))
    }

    fn write_worker_config(&self, number: u32, listen: &config::Listen) -> Result<(), LocalError> {
        let state = &self.context.state;
        let (_, files) = self.gateway.nats.config(&state.path("nats-client"));
        for file in files {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            state.write(&format!("nats-client/{name}"), file.bytes.expose())?;
        }
        let boot = Boot {
            listen: listen.clone(),
            nats: self.nats_connection(),
        };
        let live = Some(worker::live(&self.gateway.live));
        let text = config::Config { boot, live }.write()?;
        state.write(&worker::file(number), text)?;
        Ok(())
    }

    fn nats_connection(&self) -> config::Nats {
        match &self.nats {
            Some((_, port)) if self.gateway.nats.servers.is_empty() => nats::connection(*port),
            _ => {
                self.gateway
                    .nats
                    .config(&self.context.state.path("nats-client"))
                    .0
            }
        }
    }

    async fn restart_workers(&mut self, to: u32) -> Result<(), LocalError> {
        for index in 0..self.workers.len() {
            let Some(worker) = self
                .workers
                .get_mut(index)
                .filter(|worker| worker.number <= to)
            else {
                continue;
            };
            worker.child.tell_to_stop();
            worker.child.stopped().await;
            let (number, listen) = (worker.number, worker.listen.clone());
            let child = self.start_worker(number, &listen)?;
            let is_ready = self.await_worker(&child).await;
            if let Some(worker) = self.workers.get_mut(index) {
                worker.child = child;
            }
            is_ready?;
        }
        Ok(())
    }

    async fn stop_workers(&mut self, from: u32) {
        let (kept, mut leaving): (Vec<_>, Vec<_>) = std::mem::take(&mut self.workers)
            .into_iter()
            .partition(|w| w.number < from);
        self.workers = kept;
        for worker in &leaving {
            worker.child.tell_to_stop();
        }
        stopped(leaving.iter_mut().map(|worker| &mut worker.child)).await;
    }

    /// Says whether nginx must read it.
    async fn configure_nginx(&mut self) -> Result<bool, LocalError> {
        let replicas = self.gateway.replicas;
        let served = self
            .workers
            .iter()
            .filter(|worker| worker.number <= replicas);
        let workers: Vec<_> = served.map(|worker| worker.listen.clients).collect();
        let is_new = nginx::configure(
            &self.programs.nginx,
            &self.context.state,
            &self.gateway,
            &self.sockets,
            self.certificate.as_ref(),
            &workers,
        )
        .await?;
        let path = self.status_path();
        let page = self
            .sockets
            .to_ask()
            .map(|address| StatusPage { address, path });
        self.status_page.send_replace(page);
        Ok(is_new)
    }

    async fn reload_nginx(&self) -> Result<(), LocalError> {
        let Some(nginx) = &self.nginx else {
            return Ok(());
        };
        nginx::reload(nginx).await?;
        self.context
            .console
            .say("nginx has taken its new configuration; open sockets stay");
        Ok(())
    }

    fn status_path(&self) -> String {
        let status = self.gateway.exposure.status.as_ref();
        status.map_or_else(|| "/".to_owned(), |status| status.path.to_string())
    }

    fn worker_ports(&self) -> Vec<u16> {
        let listen = self.workers.iter().map(|worker| &worker.listen);
        listen
            .flat_map(|listen| [listen.clients.port(), listen.admin.port()])
            .collect()
    }

    /// nginx's addresses; those that it does not listen on yet must be free.
    fn sockets_for(&self, new: &Gateway) -> Result<Sockets, LocalError> {
        let is_same = matches!(new.tls, Tls::None) == matches!(self.gateway.tls, Tls::None);
        if is_same {
            return Ok(self.sockets.clone());
        }
        let https = match new.tls {
            Tls::None => Vec::new(),
            _ => addresses(&self.settings, self.settings.https_port, "--https-port")?,
        };
        Ok(Sockets {
            https,
            ..self.sockets.clone()
        })
    }
}

fn sockets(settings: &Settings, gateway: &Gateway) -> Result<Sockets, LocalError> {
    let http = addresses(settings, settings.http_port, "--http-port")?;
    let https = match gateway.tls {
        Tls::None => Vec::new(),
        _ => addresses(settings, settings.https_port, "--https-port")?,
    };
    Ok(Sockets { http, https })
}

/// The addresses with this port, each of which can be listened on.
fn addresses(
    settings: &Settings,
    port: u16,
    flag: &'static str,
) -> Result<Vec<SocketAddr>, LocalError> {
    let mut usable = Vec::new();
    for ip in settings.listen.all() {
        let address = SocketAddr::new(ip, port);
        if port::check(address, flag)? {
            usable.push(address);
        } else if settings.listen != Addresses::Loopback {
            return Err(LocalError::NoAddress(ip));
        }
    }
    Ok(usable)
}

fn span(from: u32, to: u32) -> String {
    if from == to {
        worker::name(from)
    } else {
        format!("worker-{from} to worker-{to}")
    }
}

async fn stopped(children: impl Iterator<Item = &mut Child>) {
    for child in children {
        child.stopped().await;
    }
}
