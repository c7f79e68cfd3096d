//! Everything that runs: nats-server, workers, nginx.
//!
//! What is here starts it, in the order of [`super::run`]. The steps of a change are in `change`, those of the end in
//! `stop`, and `workers` is what both do with workers.

mod change;
mod stop;
mod workers;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{net::TcpListener, sync::watch, task::AbortHandle};
use wsgateway_model::{Gateway, gateway::Tls};
use wsgateway_nginx_ingress::value::HostName;

use super::{
    LocalError,
    banner::{self, Banner, Tools},
    certificate::{self, Certificate, Lifetime},
    child::{Child, Context},
    guard::Guard,
    leftover,
    metrics::{Metrics, Restarts, StatusPage, Targets},
    nats, nginx,
    port::{self, Port},
    programs::Program,
    settings::Settings,
    sockets::Sockets,
    state::{self, StateDir},
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
    /// nginx has not read the certificate yet.
    must_reload: bool,
    nats: Option<(Child, Port)>,
    workers: Vec<Worker>,
    /// Those that drain.
    leaving: Vec<Worker>,
    nginx: Option<Child>,
    targets: watch::Sender<Targets>,
    metrics: Option<(Port, AbortHandle)>,
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
        let sockets = Sockets::claim(&settings, &gateway, &Sockets::default())?;
        let context = Context {
            console,
            state: Arc::new(state),
            restarts: Restarts::default(),
            guard: None,
        };
        Ok(Self {
            settings,
            programs,
            gateway,
            context,
            sockets,
            certificate: None,
            must_reload: false,
            nats: None,
            workers: Vec::new(),
            leaving: Vec::new(),
            nginx: None,
            targets: watch::Sender::default(),
            metrics: None,
        })
    }

    /// Starts the guard, who ends what runs should this process be killed.
    pub fn post_guard(&mut self) {
        match Guard::start() {
            Ok(guard) => self.context.guard = Some(Arc::new(guard)),
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
                    name,
                    certificate: given,
                },
                None,
            ) => {
                let (chain, key) = (given.chain.bytes.expose(), given.key.bytes.expose());
                let (files, is_new) = certificate::written(state, name.as_str(), chain, key, now)?;
                (Some(files), is_new)
            }
            (tls @ (Tls::SelfSigned { .. } | Tls::CertManager { .. }), None) => {
                let lifetime = lifetime(tls);
                let hosts = self.gateway.exposure.hosts.iter().map(HostName::as_str);
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
        let port = port::free(nats::PORT)?;
        if port.number != nats::PORT {
            console.say(format_args!(
                "port {} is taken: NATS is on {} instead",
                nats::PORT,
                port.number
            ));
        }
        let program = nats::program(&path, &self.context.state, port.number)?;
        let child = self.start(program);
        let (child, _) = self.nats.insert((child, port));
        Ok(child.ready(READY_PATIENCE).await?)
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
        Ok(self.nginx.insert(child).ready(READY_PATIENCE).await?)
    }

    /// Serves nginx's connections in Prometheus form.
    pub async fn serve_metrics(&mut self) -> Result<(), LocalError> {
        let port = port::free(METRICS_PORT)?;
        let address = port.address();
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| LocalError::Metrics { address, source })?;
        let metrics = Metrics::new(&self.context.restarts, self.targets.subscribe());
        let task = tokio::spawn(metrics.serve(listener));
        self.metrics = Some((port, task.abort_handle()));
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
            auth: self.gateway.live.auth.as_ref(),
            max_message_size: self.gateway.live.websocket.max_message_size,
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
                .map(|worker| (worker::name(worker.number), worker.place.admin.address()))
                .collect(),
            metrics: self
                .metrics
                .as_ref()
                .map_or((Ipv4Addr::LOCALHOST, 0).into(), |(port, _)| port.address()),
            tools: Tools::find(),
        })
    }

    fn start(&self, program: super::child::Program) -> Child {
        self.context.restarts.expect(&program.name);
        Child::start(program, &self.context)
    }

    /// Says whether nginx must read it.
    async fn configure_nginx(&self) -> Result<bool, LocalError> {
        let workers: Vec<_> = self
            .wanted_workers()
            .map(|worker| worker.place.clients.address())
            .collect();
        let is_new = nginx::configure(
            &self.programs.nginx,
            &self.context.state,
            &self.gateway,
            &self.sockets,
            self.certificate.as_ref(),
            &workers,
        )
        .await?;
        if is_new && let Some(shortage) = nginx::shortage(&self.gateway) {
            self.context.console.say(shortage);
        }
        let path = self.status_path();
        let page = self
            .sockets
            .to_ask()
            .map(|address| StatusPage { address, path });
        let admin = |worker: &Worker| (worker::name(worker.number), worker.place.admin.address());
        let workers = self.wanted_workers().map(admin).collect();
        self.targets.send_replace(Targets {
            nginx: page,
            workers,
        });
        Ok(is_new)
    }

    async fn reload_nginx(&mut self) -> Result<(), LocalError> {
        let Some(nginx) = &self.nginx else {
            return Ok(());
        };
        nginx::reload(nginx).await?;
        self.must_reload = false;
        self.context
            .console
            .say("nginx has taken its new configuration; open sockets stay");
        Ok(())
    }

    fn status_path(&self) -> String {
        let status = self.gateway.exposure.status.as_ref();
        status.map_or_else(|| "/".to_owned(), |status| status.path.to_string())
    }
}

/// How long a certificate lasts that is made here, also where cert-manager would get one in a cluster.
fn lifetime(tls: &Tls) -> Lifetime {
    match tls {
        Tls::SelfSigned {
            duration,
            renew_before,
        } => Lifetime {
            life: duration.get(),
            renew_before: renew_before.get(),
        },
        Tls::CertManager { .. } | Tls::Secret { .. } | Tls::None => certificate::LEAF,
    }
}
