//! A real nginx, asked whether it accepts a configuration.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use wsgateway_nginx_ingress::conf::{self, ErrorLog, ListenerSettings, Listeners, Standalone};
use wsgateway_nginx_ingress::value::FilePath;

pub(crate) struct Nginx {
    program: PathBuf,
    /// Named so that a path without its quotes and escapes would end in a syntax error.
    directory: PathBuf,
}

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

impl Nginx {
    /// The program that `WSGW_NGINX` names, or the first on `PATH` or in /usr/sbin. Without one the
    /// test is skipped and says so past the test harness's capture; in CI that is a failure.
    pub(crate) fn find() -> Option<Self> {
        let named = env::var_os("WSGW_NGINX").map(PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        let found = named.into_iter().chain(
            env::split_paths(&path)
                .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
                .map(|folder| folder.join("nginx")),
        );
        let Some(program) = found.into_iter().find(|program| program.is_file()) else {
            assert!(
                env::var("CI").as_deref() != Ok("true"),
                "nginx was not found, and this is CI"
            );
            tell("skipped: nginx not found");
            return None;
        };
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("wsgw \"{}\" {number};{{}}'\\#", process::id());
        let directory = env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(hosts).unwrap();
        fs::write(directory.join("tls.crt"), made.cert.pem()).unwrap();
        fs::write(directory.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        Some(Self { program, directory })
    }

    /// Has nginx read the configuration, with its files in a directory that exists. A warning
    /// counts as a refusal.
    pub(crate) fn accepts(&self, standalone: &Standalone) -> Result<(), String> {
        let output = self
            .command(standalone)
            .args(["-t", "-q"])
            .output()
            .unwrap();
        let says = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() || !says.is_empty() {
            return Err(says);
        }
        assert!(
            self.directory.join("proxy_temp").is_dir(),
            "nginx should spool into the directory that it was given"
        );
        Ok(())
    }

    /// Starts it, without awaiting that it listens. It ends with what is returned.
    pub(crate) fn start(&self, standalone: &Standalone) -> Running {
        Running(self.command(standalone).spawn().unwrap())
    }

    fn command(&self, standalone: &Standalone) -> Command {
        let file = self.directory.join("nginx.conf");
        fs::write(&file, conf::render(&self.placed_here(standalone))).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["-e", "stderr", "-p"]).arg(&self.directory);
        command.arg("-c").arg(&file);
        command
    }

    fn placed_here(&self, standalone: &Standalone) -> Standalone {
        let here = |name: &str| FilePath::from_path(&self.directory.join(name)).unwrap();
        let mut listeners = ListenerSettings::from(standalone.listeners.clone());
        if let Some(https) = &mut listeners.https {
            https.certificate = here("tls.crt");
            https.key = here("tls.key");
        }
        Standalone {
            listeners: Listeners::new(listeners).unwrap(),
            directory: FilePath::from_path(&self.directory).unwrap(),
            error_log: match standalone.error_log {
                ErrorLog::Stderr => ErrorLog::Stderr,
                ErrorLog::File(_) => ErrorLog::File(here("error.log")),
            },
            access_log: standalone.access_log.as_ref().map(|_| here("access.log")),
            ..standalone.clone()
        }
    }
}

/// A running nginx.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM, since nginx killed outright would leave its workers behind.
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        signal::kill(pid, Signal::SIGTERM).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        tell(&format!("{} stays: {error}", directory.display()));
    }
}

/// Past the capture of the test harness, which would hide it when the test passes.
fn tell(line: &str) {
    let mut stderr = std::io::stderr();
    stderr.write_all(format!("{line}\n").as_bytes()).unwrap();
}
