//! nginx: its configuration, tried before it is used, and reloads that close no socket.

use std::{
    io,
    net::SocketAddr,
    num::NonZeroU16,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{Resource, getrlimit},
    signal::Signal,
};
use wsgateway_model::Gateway;
use wsgateway_nginx_ingress::{
    ValueError,
    conf::{
        Capacity, ErrorLog, Https, ListenerSettings, Listeners, ListenersError, Standalone, render,
    },
    value::{FilePath, ListenAddress, UpstreamAddress},
};

use super::{
    certificate::Certificate,
    child::{Child, Program, Ready},
    leftover,
    sockets::Sockets,
    state::{StateDir, StateError},
};

const CONF: &str = "nginx.conf";
const CONF_TO_TRY: &str = "nginx.next.conf";
const DIRECTORY: &str = "nginx";

/// nginx's workers end when their last socket does, which may be never: after this they are killed.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// How long nginx may take to replace its workers after a reload.
const RELOAD_PATIENCE: Duration = Duration::from_secs(10);

/// How often that is looked for.
const RELOAD_POLL: Duration = Duration::from_millis(10);

/// Processes for which more would not help on one person's machine.
const PROCESSES_MAX: u16 = 8;

/// Why nginx does not run as gateway.
#[derive(Debug, thiserror::Error)]
pub enum NginxError {
    /// A path or an address that nginx cannot take.
    #[error("nginx cannot be configured: {0}")]
    Value(#[from] ValueError),
    /// Addresses that nginx cannot listen on together.
    #[error("nginx cannot listen: {0}; choose with --https-port, --http-port and --listen")]
    Listeners(#[from] ListenersError),
    /// nginx refuses the configuration.
    #[error("nginx refuses its configuration {}: {why}", .conf.display())]
    Refused {
        /// The file, left for a look.
        conf: PathBuf,
        /// What it says.
        why: String,
    },
    /// nginx cannot be asked.
    #[error("cannot start {}: {source}", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The configuration cannot be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The old workers go on.
    #[error("nginx has not taken its new configuration within {} s", RELOAD_PATIENCE.as_secs())]
    NotReloaded,
}

impl NginxError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Value(error) => error.reason(),
            Self::Listeners(_) => "NginxListeners",
            Self::Refused { .. } => "NginxRefused",
            Self::Start { .. } => "NginxNotStarted",
            Self::State(error) => error.reason(),
            Self::NotReloaded => "NginxNotReloaded",
        }
    }
}

/// Writes the configuration, once nginx has found nothing wrong in it. Says whether it is another than before.
pub async fn configure(
    program: &Path,
    state: &StateDir,
    gateway: &Gateway,
    sockets: &Sockets,
    certificate: Option<&Certificate>,
    workers: &[SocketAddr],
) -> Result<bool, NginxError> {
    let directory = state.dir_to_enter(DIRECTORY)?;
    let text = render(&standalone(
        &directory,
        gateway,
        sockets,
        certificate,
        workers,
    )?);
    if state.read(CONF).is_some_and(|old| old == text) {
        return Ok(false);
    }
    state.write(CONF_TO_TRY, &text)?;
    let conf = state.path(CONF_TO_TRY);
    let output = tokio::process::Command::new(program)
        .arg("-t")
        .args(args(&conf, &directory))
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|source| NginxError::Start {
            program: program.to_owned(),
            source,
        })?;
    if !output.status.success() {
        let why = complaint(&String::from_utf8_lossy(&output.stderr));
        return Err(NginxError::Refused { conf, why });
    }
    state.remove(CONF_TO_TRY);
    state.write(CONF, &text)?;
    Ok(true)
}

/// What a run before has left says nothing about the nginx that is started now.
pub fn forget(state: &StateDir) {
    state.remove(CONF);
}

/// The process, after [`configure`].
pub fn program(path: &Path, state: &StateDir, ask: SocketAddr, status: &str) -> Program {
    Program {
        name: "nginx".to_owned(),
        path: path.to_owned(),
        args: args(&state.path(CONF), &state.path(DIRECTORY)),
        ready: Ready::Answers(ask, status.to_owned()),
        stop_signal: Signal::SIGQUIT,
        stop_patience: STOP_PATIENCE,
        unshown: None,
    }
}

/// `-e` because nginx opens its built-in error log before it reads a configuration.
fn args(conf: &Path, directory: &Path) -> Vec<std::ffi::OsString> {
    vec![
        "-c".into(),
        conf.into(),
        "-p".into(),
        directory.into(),
        "-e".into(),
        "stderr".into(),
    ]
}

/// Has nginx read its configuration again, and awaits that its old workers accept no more. They keep their sockets.
pub async fn reload(nginx: &Child) -> Result<(), NginxError> {
    // While nginx is down there is nothing to reload: it starts with what is written.
    let Some(master) = nginx.pid() else {
        return Ok(());
    };
    let is_serving = |stat: &leftover::Stat| stat.parent == master && !is_shutting_down(stat.pid);
    let serving = || leftover::members(master).into_iter().filter(is_serving);
    let old: Vec<_> = serving().map(|stat| stat.pid).collect();
    nginx.signal(Signal::SIGHUP);
    let begin = Instant::now();
    while begin.elapsed() < RELOAD_PATIENCE {
        let now: Vec<_> = serving().map(|stat| stat.pid).collect();
        let is_replaced = !now.is_empty() && !now.iter().any(|pid| old.contains(pid));
        if is_replaced || nginx.pid() != Some(master) {
            return Ok(());
        }
        tokio::time::sleep(RELOAD_POLL).await;
    }
    Err(NginxError::NotReloaded)
}

/// nginx writes over its command line: `nginx: worker process is shutting down`.
fn is_shutting_down(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains("shutting down"))
}

fn standalone(
    directory: &Path,
    gateway: &Gateway,
    sockets: &Sockets,
    certificate: Option<&Certificate>,
    workers: &[SocketAddr],
) -> Result<Standalone, NginxError> {
    let https = match certificate {
        Some(files) => Some(Https {
            listen: listen(&sockets.https)?,
            certificate: FilePath::from_path(&files.certificate)?,
            key: FilePath::from_path(&files.key)?,
        }),
        None => None,
    };
    let http = listen(&sockets.http)?;
    let workers: Result<Vec<_>, _> = workers
        .iter()
        .map(|address| UpstreamAddress::try_from(*address))
        .collect();
    Ok(Standalone {
        exposure: gateway.exposure.clone(),
        listeners: Listeners::new(ListenerSettings { http, https })?,
        workers: workers?,
        capacity: capacity(gateway),
        directory: FilePath::from_path(directory)?,
        error_log: ErrorLog::Stderr,
        access_log: None,
        worker_shutdown_timeout: None,
    })
}

/// A sentence where nginx cannot hold the sockets that the workers may have together.
pub fn shortage(gateway: &Gateway) -> Option<String> {
    shortage_of(sockets(gateway), capacity(gateway), descriptors_max())
}

fn shortage_of(wanted: u32, capacity: Capacity, descriptors_max: u32) -> Option<String> {
    let held = capacity.sockets_max();
    (held < wanted).then(|| {
        format!(
            "nginx holds {held} of the {wanted} sockets that spec.limits.connectionsPerPod allows the workers \
             together: a socket takes two files, and a process may open {descriptors_max} here (ulimit -Hn)"
        )
    })
}

fn capacity(gateway: &Gateway) -> Capacity {
    Capacity::for_sockets(sockets(gateway), processes(), descriptors_max())
}

/// What the workers take together.
fn sockets(gateway: &Gateway) -> u32 {
    let each = gateway.live.limits.connections;
    each.saturating_mul(gateway.replicas)
}

fn listen(addresses: &[SocketAddr]) -> Result<Vec<ListenAddress>, ValueError> {
    addresses
        .iter()
        .map(|address| ListenAddress::try_from(*address))
        .collect()
}

fn processes() -> NonZeroU16 {
    let cores = std::thread::available_parallelism().ok();
    let cores = cores.and_then(|cores| NonZeroU16::try_from(cores).ok());
    let most = NonZeroU16::new(PROCESSES_MAX).unwrap_or(NonZeroU16::MIN);
    cores.unwrap_or(NonZeroU16::MIN).min(most)
}

/// What the kernel lets a process of this user open; 1024 is what every system grants.
fn descriptors_max() -> u32 {
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard);
    u32::try_from(hard).unwrap_or(u32::MAX)
}

/// The line that says what is wrong, without nginx's timestamp.
fn complaint(text: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.contains("[emerg]"))
        .or_else(|| text.lines().rfind(|line| !line.trim().is_empty()))
        .unwrap_or("it says nothing");
    line.split_once("[emerg] ")
        .map_or(line, |(_, rest)| rest)
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaint_is_the_line_that_says_what_is_wrong() {
        let text = "nginx: [warn] something\nnginx: [emerg] unknown directive \"x\" in /c:3\n\
            nginx: configuration file /c test failed\n";
        assert_eq!(complaint(text), "unknown directive \"x\" in /c:3");
        assert_eq!(complaint("no such option\n"), "no such option");
        assert_eq!(complaint(""), "it says nothing");
    }

    #[test]
    fn what_nginx_cannot_hold_is_told_and_nothing_else() {
        let told = |sockets| {
            let capacity = Capacity::for_sockets(sockets, NonZeroU16::MIN, 20_000);
            shortage_of(sockets, capacity, 20_000)
        };
        assert_eq!(told(9_712), None);
        let told = told(9_713).unwrap();
        assert!(
            told.starts_with("nginx holds 9712 of the 9713 sockets "),
            "{told}"
        );
    }
}
