//! The gateway's own program, `wsgateway`.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    directory::Directory,
    http::{self, Metrics},
    port::Port,
    process::{Process, command},
    program::Program,
    wait::{SOON, until, until_true},
};

/// A gateway that listens on two ports of its own.
#[derive(Debug)]
pub struct Gateway {
    clients: Port,
    admin: Port,
    directory: Directory,
    boot: String,
    /// The running one, of those that had these ports one after the other.
    pub process: Process,
}

impl Gateway {
    /// Starts one with the `live` part of its configuration, and awaits its readiness.
    pub fn start(nats_url: &str, live: &str) -> Self {
        Self::configured(&format!("nats: {{servers: [\"{nats_url}\"]}}"), live)
    }

    /// Starts one with the lines of `boot` that are not about ports, and awaits its readiness.
    pub fn configured(boot: &str, live: &str) -> Self {
        Self::launch(boot, live).await_ready()
    }

    /// Starts one whose `live` part comes from another file, as on a cluster, and awaits its readiness.
    pub fn with_live_file(nats_url: &str, live: &Path) -> Self {
        let boot = format!("nats: {{servers: [\"{nats_url}\"]}}");
        let config = |boot: &str| format!("boot:\n  {}\n", inner(boot));
        let arguments = ["--live".as_ref(), live.as_os_str()];
        let program = command(Program::Gateway.expect());
        Self::launch_with(&boot, config, program, &arguments).await_ready()
    }

    /// Starts one that may open so many files, and awaits its readiness.
    pub fn with_descriptors(nats_url: &str, live: &str, descriptors: usize) -> Self {
        let boot = format!("nats: {{servers: [\"{nats_url}\"]}}");
        let mut program = command("prlimit");
        program
            .arg(format!("--nofile={descriptors}:{descriptors}"))
            .arg(Program::Gateway.expect());
        Self::launch_with(&boot, |boot| whole(boot, live), program, &[]).await_ready()
    }

    /// Starts one that ends TLS itself, with the files of a certificate and its key, and awaits its readiness.
    pub fn secured(nats_url: &str, live: &str, pair: &[PathBuf; 2]) -> Self {
        Self::launch_secured(nats_url, live, pair).await_ready()
    }

    /// The same, ready or not.
    pub fn launch_secured(nats_url: &str, live: &str, pair: &[PathBuf; 2]) -> Self {
        let boot = format!("nats: {{servers: [\"{nats_url}\"]}}");
        Self::launch_secured_by(command(Program::Gateway.expect()), &boot, live, pair)
    }

    fn launch_secured_by(program: Command, boot: &str, live: &str, pair: &[PathBuf; 2]) -> Self {
        let [certificate, key] = pair.each_ref().map(|path| path.display());
        let tls = format!(", tls: {{certificateFile: \"{certificate}\", keyFile: \"{key}\"}}");
        let config = |boot: &str| {
            whole(
                &boot.replacen("shards: 2", &format!("shards: 2{tls}"), 1),
                live,
            )
        };
        Self::launch_with(boot, config, program, &[])
    }

    /// The same with further lines of `boot` and all that it can log, ready or not.
    pub fn launch_verbose(boot: &str, live: &str, pair: &[PathBuf; 2]) -> Self {
        let mut program = command(Program::Gateway.expect());
        program.env("RUST_LOG", "trace");
        Self::launch_secured_by(program, boot, live, pair)
    }

    fn await_ready(mut self) -> Self {
        until_true("the gateway is ready", SOON, || {
            assert!(self.process.is_running(), "the gateway has ended");
            self.is_ready()
        });
        self
    }

    /// Starts one, ready or not.
    pub fn launch(boot: &str, live: &str) -> Self {
        let program = command(Program::Gateway.expect());
        Self::launch_with(boot, |boot| whole(boot, live), program, &[])
    }

    fn launch_with(
        boot: &str,
        config: impl FnOnce(&str) -> String,
        mut program: Command,
        arguments: &[&OsStr],
    ) -> Self {
        let (clients, admin) = (Port::lease(), Port::lease());
        let directory = Directory::make();
        let boot = format!(
            "listen: {{clients: \"{}\", admin: \"{}\", shards: 2}}\n{boot}",
            clients.address(),
            admin.address()
        );
        let config = directory.write("gateway.yaml", config(&boot));
        let process = Process::start(
            "wsgateway",
            program.arg("--config").arg(config).args(arguments),
        );
        Self {
            clients,
            admin,
            directory,
            boot,
            process,
        }
    }

    /// Writes another `live` part, which the gateway reads a moment later.
    pub fn reload(&mut self, live: &str) {
        self.directory
            .write("gateway.yaml", whole(&self.boot, live));
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.clients.address()
    }

    /// Its configuration file.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("gateway.yaml")
    }

    /// Where `/livez`, `/readyz`, `/metrics` and `/status` are.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it says that it is ready.
    pub fn is_ready(&self) -> bool {
        http::try_get(self.admin(), "/readyz").is_ok_and(|response| response.status == 200)
    }

    /// Its metrics now.
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&http::get(self.admin(), "/metrics").text())
    }

    /// Awaits that a sum of metrics has a value.
    pub fn await_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name}{labels:?} is {value}");
        until(&what, SOON, || {
            ((self.metrics().sum(name, labels) - value).abs() < 0.5).then_some(())
        });
    }
}

/// The file's text. Each line goes in one level deeper, and the parts that a test does not care about
/// get their defaults.
fn whole(boot: &str, live: &str) -> String {
    let defaults = ["websocket", "limits", "drain"]
        .into_iter()
        .filter(|part| !live.lines().any(|line| line.starts_with(part)))
        .map(|part| format!("\n{part}: {{}}"));
    let live = defaults.fold(live.trim_end().to_owned(), |live, part| live + &part);
    format!("boot:\n  {}\nlive:\n  {}\n", inner(boot), inner(&live))
}

/// A part's lines, one level deeper.
fn inner(part: &str) -> String {
    part.trim_end().replace('\n', "\n  ")
}
