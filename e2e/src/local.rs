//! `wsgw local`: a whole `WsGateway` on this machine.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    directory::Directory,
    http::{self, Metrics},
    nats::Nats,
    port::Port,
    process::{Process, command},
    program::Program,
    resources::{command_line, descendants},
    wait::until,
};

/// How long everything may take to be up: three workers, a nats-server, an nginx and certificates.
pub const UP: Duration = Duration::from_secs(60);

/// A `wsgw local` and what it started.
#[derive(Debug)]
pub struct Local {
    https: Port,
    http: Port,
    directory: Directory,
    manifest: PathBuf,
    /// `wsgw` itself.
    pub process: Process,
}

/// A manifest from lines of its `spec`.
pub fn manifest(spec: &str) -> String {
    let spec = spec.trim().replace('\n', "\n  ");
    format!(
        "apiVersion: wsgateway.io/v1alpha1\nkind: WsGateway\nmetadata: {{name: e2e}}\n\
         spec:\n  {spec}\n"
    )
}

impl Local {
    /// Starts one from lines of the `spec`, and awaits that it says what to try.
    pub fn start(spec: &str) -> Self {
        Self::start_with(spec, &[])
    }

    /// As [`start`](Self::start), with further options.
    pub fn start_with(spec: &str, options: &[&str]) -> Self {
        Self::launch(&manifest(spec), options).up()
    }

    /// Starts one from a file, and awaits that it says what to try.
    pub fn start_file(file: &Path) -> Self {
        Self::launch(&std::fs::read_to_string(file).unwrap(), &[]).up()
    }

    /// Starts one from a manifest, come what may. Options replace those of the same name that it
    /// would be started with.
    pub fn launch(manifest: &str, options: &[&str]) -> Self {
        let (https, http, directory) = (Port::lease(), Port::lease(), Directory::make());
        let file = directory.write("gateway.yaml", manifest);
        let mut command = command(Program::Wsgw.expect());
        let state = directory.path().join("state");
        let defaults = [
            ("-f", file.display().to_string()),
            ("--https-port", https.number().to_string()),
            ("--http-port", http.number().to_string()),
            ("--state-dir", state.display().to_string()),
        ];
        let left_out = defaults.iter().filter(|(flag, _)| !options.contains(flag));
        command.arg("local").args(options);
        command.args(left_out.flat_map(|(flag, value)| [*flag, value.as_str()]));
        for (variable, program) in [
            ("WSGW_NGINX", Program::Nginx),
            ("WSGW_NATS_SERVER", Program::NatsServer),
        ] {
            command.envs(program.path().map(|path| (variable, path)));
        }
        let process = Process::start("wsgw", &mut command);
        Self {
            https,
            http,
            directory,
            manifest: file,
            process,
        }
    }

    fn up(mut self) -> Self {
        self.process.line("wscat", UP);
        self
    }

    /// Where nginx takes TLS.
    pub fn https(&self) -> SocketAddr {
        self.https.address()
    }

    /// Where nginx takes plain connections.
    pub fn http(&self) -> SocketAddr {
        self.http.address()
    }

    /// A path of the gateway, as users write it.
    pub fn wss(&self, path: &str) -> String {
        format!("wss://localhost:{}{path}", self.https.number())
    }

    /// Its folder.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Connects to the nats-server that it says it uses.
    pub fn nats(&self) -> Nats {
        let lines = self.process.lines();
        let url = lines.iter().find_map(|line| {
            let url = &line[line.find("nats://")?..];
            Some(
                url.split(|c: char| c.is_whitespace() || "\"',)".contains(c))
                    .next()?
                    .to_owned(),
            )
        });
        Nats::connect(&url.expect("it should say where NATS is"))
    }

    /// The metrics of nginx and all workers, where it says that they are.
    pub fn metrics(&self) -> Metrics {
        let lines = self.process.lines();
        let addresses = lines
            .iter()
            .filter_map(|line| line.split("http://").nth(1)?.split_once('/'));
        let address = addresses
            .filter(|(_, path)| path.starts_with("metrics"))
            .find_map(|(address, _)| address.parse().ok());
        let address = address.expect("it should say where the metrics are");
        Metrics::parse(&http::get(address, "/metrics").text())
    }

    /// Writes another `spec` into the file that it watches.
    pub fn rewrite(&self, spec: &str) {
        let name = self.manifest.file_name().unwrap().to_str().unwrap();
        self.directory.write(name, manifest(spec));
    }

    /// The process ids of what runs under it whose program has this name: `wsgateway`, `nginx` (its
    /// master and its workers) or `nats-server`.
    pub fn running(&self, program: &str) -> Vec<u32> {
        let mut found = descendants(self.process.pid());
        found.retain(|&pid| {
            let words = command_line(pid);
            words.first().is_some_and(|word| {
                let word = word.split(':').next().unwrap_or(word);
                word.rsplit('/').next() == Some(program)
            })
        });
        found.sort_unstable();
        found
    }

    /// Awaits that so many of a program run, and tells which.
    pub fn await_running(&self, program: &str, count: usize) -> Vec<u32> {
        until(&format!("{count} {program} run"), UP, || {
            Some(self.running(program)).filter(|pids| pids.len() == count)
        })
    }

    /// Stops it as Ctrl-C does, and tells its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.process.signal(Signal::SIGINT);
        self.process.exit(UP).code()
    }
}
