//! Where the programs are, and what happens when one is missing.

use std::{
    env,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// A program that tests start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The gateway, `wsgateway`.
    Gateway,
    /// What a person runs, `wsgw`.
    Wsgw,
    /// The operator, `wsgateway-operator`.
    Operator,
    /// `nats-server`.
    NatsServer,
    /// `nginx` with `stub_status` and TLS.
    Nginx,
    /// The npm client.
    Wscat,
    /// The Rust client.
    Websocat,
    /// `kosoku`, the Autobahn cases.
    Kosoku,
    /// Python with the client library `websockets`.
    PythonWebsockets,
    /// Keycloak's `kc.sh`.
    Keycloak,
    /// Chromium, or a build of it without a screen.
    Chromium,
    /// `curl`.
    Curl,
    /// `openssl`, for certificates of tests.
    Openssl,
    /// etcd, the programs of a Kubernetes control plane, and kubectl, all in one: its first argument
    /// picks the program.
    Kubernetes,
    /// `helm`.
    Helm,
    /// `kubeconform`, which holds manifests against schemas.
    Kubeconform,
    /// Not a program but a folder: the CRDs of other projects.
    Crds,
    /// Not a program but a folder: what `kubeconform` is to be told with
    /// `-schema-location '…/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json'`.
    Schemas,
    /// Not a program but a right: root and namespaces, which a cluster with nodes takes.
    Cluster,
}

impl Program {
    /// Its file, if it is there: ours in `WSGATEWAY_BIN_DIR` (`target/release` unless set), others
    /// where the variable that `hack/obtain --env` prints says, else on the `PATH`.
    pub fn path(self) -> Option<PathBuf> {
        let (variable, name) = match self {
            Self::Gateway => return Some(ours("wsgateway")),
            Self::Wsgw => return Some(ours("wsgw")),
            Self::Operator => return Some(ours("wsgateway-operator")),
            Self::NatsServer => ("WSGW_NATS_SERVER", "nats-server"),
            Self::Nginx => ("WSGW_NGINX", "nginx"),
            Self::Wscat => ("WSGW_WSCAT", "wscat"),
            Self::Websocat => ("WSGW_WEBSOCAT", "websocat"),
            Self::Kosoku => ("WSGW_KOSOKU", "kosoku"),
            Self::PythonWebsockets => ("WSGW_PYTHON_WEBSOCKETS", "python-websockets"),
            Self::Keycloak => ("WSGW_KEYCLOAK", "kc.sh"),
            Self::Chromium => ("WSGW_CHROMIUM", "chromium"),
            Self::Curl => ("WSGW_CURL", "curl"),
            Self::Openssl => ("WSGW_OPENSSL", "openssl"),
            Self::Kubernetes => ("WSGW_KUBERNETES", "kubernetes"),
            Self::Helm => ("WSGW_HELM", "helm"),
            Self::Kubeconform => ("WSGW_KUBECONFORM", "kubeconform"),
            Self::Crds => ("WSGW_CRDS", "wsgateway-crds"),
            Self::Schemas => ("WSGW_SCHEMAS", "wsgateway-schemas"),
            Self::Cluster => return cluster(),
        };
        env::var_os(variable)
            .map(PathBuf::from)
            .or_else(|| on_path(name))
    }

    /// Its file.
    pub fn expect(self) -> PathBuf {
        self.path()
            .unwrap_or_else(|| panic!("{self:?} is not there: the test lacks needs!"))
    }
}

/// Where `make build` puts our programs. That one is missing is a failure, never a skip.
fn ours(name: &str) -> PathBuf {
    let folder = env::var_os("WSGATEWAY_BIN_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"),
        PathBuf::from,
    );
    let file = folder.join(name);
    assert!(
        file.is_file(),
        "{} is not there: run `make build`",
        file.display()
    );
    file
}

/// The script that makes a cluster with nodes, where it says that this machine can.
fn cluster() -> Option<PathBuf> {
    static ANSWER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let ask = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/cluster/up");
        let output = Command::new(&script).arg("check").output().unwrap();
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        output.status.success().then_some(script)
    };
    ANSWER.get_or_init(ask).clone()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Returns from a test, counting it as skipped, unless all the named [`Program`]s are there.
#[macro_export]
macro_rules! needs {
    ($($program:ident),+ $(,)?) => {
        $(
            if $crate::program::Program::$program.path().is_none() {
                return $crate::program::skip($crate::program::Program::$program);
            }
        )+
    };
}

/// Counts the running test as skipped. With `CI=true` that is a failure.
pub fn skip(missing: Program) {
    let thread = std::thread::current();
    let line = format!(
        "{}: {missing:?} is not there",
        thread.name().unwrap_or("a test")
    );
    assert!(
        env::var("CI").as_deref() != Ok("true"),
        "{line}; nothing may be skipped here"
    );
    eprintln!("skipped {line}");
    if let Some(file) = env::var_os("WSGATEWAY_E2E_SKIPS") {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(file)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
}
