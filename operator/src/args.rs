//! From the command line and the environment to what the operator runs with.
//!
//! Two levels: [`Args`] is what was typed; [`Config`] is what has been checked and resolved.

use std::{collections::BTreeSet, fs, net::SocketAddr, time::Duration};

use wsgateway_crds::value;
use wsgateway_model::check_server;

use crate::entrance::Via;

/// Where the kubelet writes the namespace of a pod's service account.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The namespace where nothing else names one: the operator runs outside of a cluster.
const NAMESPACE_DEFAULT: &str = "default";

/// How long reconciles that still run are given to end after the lease's renewal failed, at least: between
/// the renew deadline and the end of the lease.
pub const STOP_MARGIN_MIN: Duration = Duration::from_secs(2);

/// What was typed.
#[derive(Debug, clap::Parser)]
#[command(
    name = "wsgateway-operator",
    version,
    about = "Makes WebSocket gateways of WsGateways"
)]
pub struct Args {
    /// Read and write in this namespace alone; may be given several times. Without it, the whole cluster.
    #[arg(
        long = "watch-namespace",
        env = "WSGATEWAY_WATCH_NAMESPACE",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,
    /// The image of gateways whose `WsGateway` names none.
    #[arg(
        long,
        env = "WSGATEWAY_IMAGE",
        value_name = "IMAGE",
        default_value = concat!("ghcr.io/wsgateway/wsgateway:", env!("CARGO_PKG_VERSION"))
    )]
    pub image: String,
    /// A NATS server of gateways whose `WsGateway` names none, such as `nats://nats.nats.svc:4222`; may be
    /// given several times. Without it, such a `WsGateway` is refused.
    #[arg(
        long = "nats-server",
        env = "WSGATEWAY_NATS_SERVER",
        value_name = "URL",
        value_delimiter = ','
    )]
    pub nats_servers: Vec<String>,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(
        long,
        env = "WSGATEWAY_ADMIN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub admin: SocketAddr,
    /// Whether several operators agree on which of them works. Disable it only where there is one.
    #[arg(
        long,
        env = "WSGATEWAY_LEADER_ELECTION",
        value_enum,
        default_value = "Enabled"
    )]
    pub leader_election: LeaderElection,
    /// The namespace of the lease. Default: the operator's own.
    #[arg(long, env = "WSGATEWAY_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// The name of the lease.
    #[arg(
        long,
        env = "WSGATEWAY_LEASE_NAME",
        value_name = "NAME",
        default_value = "wsgateway-operator"
    )]
    pub lease_name: String,
    /// What this operator calls itself in the lease. Default: the pod's name and a random part.
    #[arg(long, env = "WSGATEWAY_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// How long others wait for a leader that has fallen silent.
    #[arg(
        long,
        env = "WSGATEWAY_LEASE_DURATION",
        value_name = "DURATION",
        default_value = "15s"
    )]
    pub lease_duration: value::Duration,
    /// How long a leader works on without having renewed its lease.
    #[arg(
        long,
        env = "WSGATEWAY_RENEW_DEADLINE",
        value_name = "DURATION",
        default_value = "10s"
    )]
    pub renew_deadline: value::Duration,
    /// How long lies between two renewals.
    #[arg(
        long,
        env = "WSGATEWAY_RETRY_PERIOD",
        value_name = "DURATION",
        default_value = "2s"
    )]
    pub retry_period: value::Duration,
    /// How many `WsGateways` are reconciled at once.
    #[arg(
        long,
        env = "WSGATEWAY_CONCURRENCY",
        value_name = "NUMBER",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub concurrency: u16,
    /// How many gateways may roll at once because the operator itself was upgraded.
    #[arg(
        long,
        env = "WSGATEWAY_MAX_CONCURRENT_ROLLOUTS",
        value_name = "NUMBER",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub max_concurrent_rollouts: u16,
    /// How long a `WsGateway` for which nothing happens goes unvisited.
    #[arg(
        long,
        env = "WSGATEWAY_RESYNC",
        value_name = "DURATION",
        default_value = "5m"
    )]
    pub resync: value::Duration,
    /// How often each gateway is asked for its connections, and for its link to NATS.
    #[arg(
        long,
        env = "WSGATEWAY_SAMPLE_PERIOD",
        value_name = "DURATION",
        default_value = "60s"
    )]
    pub sample_period: value::Duration,
    /// Where ingress controllers and Gateways are reached, in place of the addresses in their status: for where these
    /// are not reached from inside the cluster. `ADDRESS[:PORT]`, such as `ingress-nginx-controller.ingress-nginx.svc`.
    #[arg(long, env = "WSGATEWAY_PROBE_VIA", value_name = "ADDRESS[:PORT]")]
    pub probe_via: Option<Via>,
    /// How often a way in that works is proven again.
    #[arg(
        long,
        env = "WSGATEWAY_PROBE_PERIOD",
        value_name = "DURATION",
        default_value = "60s"
    )]
    pub probe_period: value::Duration,
    /// How logs are written.
    #[arg(long, env = "WSGATEWAY_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// The namespace that the operator runs in. Default: the pod's, by `POD_NAMESPACE` or its service account.
    #[arg(long, env = "WSGATEWAY_OPERATOR_NAMESPACE", value_name = "NAMESPACE")]
    pub operator_namespace: Option<String>,
    /// For tests of upgrades: the revision of the pod template that this operator claims to make.
    #[arg(
        long,
        env = "WSGATEWAY_POD_TEMPLATE_REVISION",
        value_name = "TEXT",
        hide = true
    )]
    pub pod_template_revision: Option<String>,
    /// For tests of connections that lose their other end: how long a watch may be silent before it is begun anew.
    /// The API server sends a bookmark a minute.
    #[arg(
        long,
        env = "WSGATEWAY_WATCH_SILENCE",
        value_name = "DURATION",
        default_value = "150s",
        hide = true
    )]
    pub watch_silence: value::Duration,
    /// The pod's name, which the manifests set by the downward API.
    #[arg(long, env = "POD_NAME", value_name = "NAME", hide = true)]
    pub pod_name: Option<String>,
    /// The pod's namespace, which the manifests set by the downward API.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", hide = true)]
    pub pod_namespace: Option<String>,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Whether operators agree on a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum LeaderElection {
    /// Only the one that holds the lease works.
    Enabled,
    /// This one works, whatever others do.
    Disabled,
}

/// What the operator runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is read and written.
    pub scope: Scope,
    /// The image of gateways whose `WsGateway` names none.
    pub image: String,
    /// The NATS servers of gateways whose `WsGateway` names none.
    pub nats_servers: Vec<String>,
    /// Where the admin port listens.
    pub admin: SocketAddr,
    /// The lease; `None` where this operator works without one.
    pub lease: Option<LeaseConfig>,
    /// How many `WsGateways` are reconciled at once.
    pub concurrency: usize,
    /// How many gateways may roll at once because the operator itself was upgraded.
    pub max_concurrent_rollouts: usize,
    /// How long a `WsGateway` for which nothing happens goes unvisited.
    pub resync: Duration,
    /// How often each gateway is asked how it fares.
    pub sample_period: Duration,
    /// Where proxies are reached, in place of the addresses in a status.
    pub probe_via: Option<Via>,
    /// How often a way in that works is proven again.
    pub probe_period: Duration,
    /// The namespace that the operator runs in.
    pub operator_namespace: String,
    /// A revision of the pod template to claim instead of the true one.
    pub pod_template_revision: Option<String>,
    /// How long a watch may be silent before it is begun anew where it stood. A connection that lost its other end says
    /// nothing at all.
    pub watch_silence: Duration,
}

/// What the operator reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every namespace, and cluster-scoped kinds.
    Cluster,
    /// These namespaces, of which there is at least one, and nothing outside of them.
    Namespaces(BTreeSet<String>),
}

/// The lease and its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseConfig {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// What this operator calls itself.
    pub identity: String,
    /// How long others wait for a leader that has fallen silent.
    pub duration: Duration,
    /// How long a leader works on without having renewed; less than `duration`.
    pub renew_deadline: Duration,
    /// How long lies between two renewals; less than `renew_deadline`.
    pub retry_period: Duration,
}

impl LeaseConfig {
    /// How long lies between the end of a leader's work and the beginning of another's.
    pub fn rest(&self) -> Duration {
        self.duration.saturating_sub(self.renew_deadline)
    }
}

/// What is wrong with what was typed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The lease's times contradict each other.
    #[error(
        "--renew-deadline {renew_deadline} must be at least {} s shorter than --lease-duration \
         {lease_duration}, so that reconciles have ended before another operator begins",
        STOP_MARGIN_MIN.as_secs()
    )]
    RenewDeadline {
        /// As typed.
        renew_deadline: value::Duration,
        /// As typed.
        lease_duration: value::Duration,
    },
    /// The lease's times contradict each other.
    #[error(
        "--retry-period {retry_period} must be longer than 0 and at most half of --renew-deadline \
         {renew_deadline}, so that one failed renewal is not yet a lost lease"
    )]
    RetryPeriod {
        /// As typed.
        retry_period: value::Duration,
        /// As typed.
        renew_deadline: value::Duration,
    },
    /// The API counts leases in whole seconds.
    #[error("--lease-duration {0} must be in whole seconds: the API has no smaller unit for it")]
    LeaseDuration(value::Duration),
    /// The operator would do nothing else.
    #[error("--resync {0} must be at least 10s")]
    Resync(value::Duration),
    /// Gateways would do nothing but answer.
    #[error("--sample-period {0} must be at least 1s")]
    SamplePeriod(value::Duration),
    /// Proxies would do little else.
    #[error("--probe-period {0} must be at least 1s")]
    ProbePeriod(value::Duration),
    /// A server that no gateway could connect to.
    #[error("--nats-server {server:?} {expected}")]
    NatsServer {
        /// As typed.
        server: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A namespace's name cannot be one.
    #[error("--watch-namespace {0:?} is not the name of a namespace")]
    Namespace(String),
}

impl Config {
    /// Checks and resolves what was typed. `namespace` is the one of the client's own configuration, where
    /// it has one.
    pub fn new(args: Args, namespace: Option<&str>) -> Result<Self, ConfigError> {
        let Args {
            watch_namespaces,
            image,
            nats_servers,
            admin,
            leader_election,
            lease_namespace,
            lease_name,
            identity,
            lease_duration,
            renew_deadline,
            retry_period,
            concurrency,
            max_concurrent_rollouts,
            resync,
            sample_period,
            probe_via,
            probe_period,
            log_format: _, // Logging begins before there is a configuration, so that its faults are logged.
            operator_namespace,
            pod_template_revision,
            watch_silence,
            pod_name,
            pod_namespace,
        } = args;
        let own_namespace = operator_namespace
            .or(pod_namespace)
            .or_else(service_account_namespace)
            .or_else(|| namespace.map(ToOwned::to_owned))
            .unwrap_or_else(|| NAMESPACE_DEFAULT.to_owned());
        if resync.get() < Duration::from_secs(10) {
            return Err(ConfigError::Resync(resync));
        }
        if sample_period.get() < Duration::from_secs(1) {
            return Err(ConfigError::SamplePeriod(sample_period));
        }
        if probe_period.get() < Duration::from_secs(1) {
            return Err(ConfigError::ProbePeriod(probe_period));
        }
        let times = LeaseTimes {
            lease_duration,
            renew_deadline,
            retry_period,
        };
        times.check()?;
        let lease = (leader_election == LeaderElection::Enabled).then(|| LeaseConfig {
            namespace: lease_namespace.unwrap_or_else(|| own_namespace.clone()),
            name: lease_name,
            identity: identity.unwrap_or_else(|| default_identity(pod_name)),
            duration: lease_duration.get(),
            renew_deadline: renew_deadline.get(),
            retry_period: retry_period.get(),
        });
        Ok(Self {
            scope: scope(watch_namespaces)?,
            image,
            nats_servers: servers(nats_servers)?,
            admin,
            lease,
            concurrency: usize::from(concurrency),
            max_concurrent_rollouts: usize::from(max_concurrent_rollouts),
            resync: resync.get(),
            sample_period: sample_period.get(),
            probe_via,
            probe_period: probe_period.get(),
            operator_namespace: own_namespace,
            pod_template_revision,
            watch_silence: watch_silence.get(),
        })
    }
}

/// The lease's times, as typed.
struct LeaseTimes {
    lease_duration: value::Duration,
    renew_deadline: value::Duration,
    retry_period: value::Duration,
}

impl LeaseTimes {
    fn check(&self) -> Result<(), ConfigError> {
        let &Self {
            lease_duration,
            renew_deadline,
            retry_period,
        } = self;
        if lease_duration.get().subsec_nanos() != 0 {
            return Err(ConfigError::LeaseDuration(lease_duration));
        }
        if renew_deadline.get() + STOP_MARGIN_MIN > lease_duration.get() {
            return Err(ConfigError::RenewDeadline {
                renew_deadline,
                lease_duration,
            });
        }
        if retry_period.get().is_zero() || retry_period.get() * 2 > renew_deadline.get() {
            return Err(ConfigError::RetryPeriod {
                retry_period,
                renew_deadline,
            });
        }
        Ok(())
    }
}

fn scope(namespaces: Vec<String>) -> Result<Scope, ConfigError> {
    // An empty variable in a manifest means the same as none.
    let namespaces: BTreeSet<_> = namespaces
        .into_iter()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    // The names become part of request paths, so nothing else may get through.
    let is_label = |name: &str| {
        name.len() <= 63
            && !name.starts_with('-')
            && !name.ends_with('-')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if let Some(wrong) = namespaces.iter().find(|name| !is_label(name)) {
        return Err(ConfigError::Namespace(wrong.clone()));
    }
    Ok(if namespaces.is_empty() {
        Scope::Cluster
    } else {
        Scope::Namespaces(namespaces)
    })
}

fn servers(typed: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let servers: Vec<_> = typed
        .into_iter()
        .map(|server| server.trim().to_owned())
        .filter(|server| !server.is_empty())
        .collect();
    for server in &servers {
        check_server(server).map_err(|expected| ConfigError::NatsServer {
            server: server.clone(),
            expected,
        })?;
    }
    Ok(servers)
}

fn service_account_namespace() -> Option<String> {
    let text = fs::read_to_string(NAMESPACE_FILE).ok()?;
    let name = text.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The random part keeps a restarted container from taking its predecessor's lease for its own.
fn default_identity(pod_name: Option<String>) -> String {
    let host = || {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(name.trim().to_owned())
    };
    let name = pod_name
        .or_else(host)
        .unwrap_or_else(|| "wsgateway-operator".to_owned());
    format!("{name}_{:08x}", fastrand::u32(..))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn config(args: &[&str]) -> Result<Config, ConfigError> {
        let args = ["wsgateway-operator", "--operator-namespace", "system"]
            .iter()
            .chain(args);
        Config::new(Args::try_parse_from(args).unwrap(), None)
    }

    #[test]
    fn the_defaults_agree_with_each_other() {
        let config = config(&[]).unwrap();
        assert_eq!(config.scope, Scope::Cluster);
        let lease = config.lease.unwrap();
        assert_eq!(lease.namespace, "system");
        assert_eq!(lease.name, "wsgateway-operator");
        assert_eq!(lease.duration, Duration::from_secs(15));
        assert_eq!(lease.renew_deadline, Duration::from_secs(10));
        assert_eq!(lease.retry_period, Duration::from_secs(2));
    }

    #[test]
    fn namespaces_are_listed_or_repeated() {
        let namespaces =
            |names: &[&str]| Scope::Namespaces(names.iter().map(|&name| name.to_owned()).collect());
        for (args, scope) in [
            (
                &["--watch-namespace", "a,b", "--watch-namespace=c"][..],
                namespaces(&["a", "b", "c"]),
            ),
            (&["--watch-namespace=a, a"], namespaces(&["a"])),
            (&["--watch-namespace="], Scope::Cluster),
        ] {
            assert_eq!(config(args).unwrap().scope, scope, "{args:?}");
        }
    }

    #[test]
    fn what_contradicts_is_refused() {
        for (args, said) in [
            (&["--renew-deadline=14s"][..], "--renew-deadline 14s must"),
            (&["--retry-period=6s"], "--retry-period 6s must"),
            (&["--retry-period=0s"], "--retry-period 0s must"),
            (
                &["--lease-duration=15s500ms"],
                "--lease-duration 15s500ms must",
            ),
            (&["--resync=1s"], "--resync 1s must"),
            (&["--sample-period=0s"], "--sample-period 0s must"),
            (&["--probe-period=0s"], "--probe-period 0s must"),
            (
                &["--nats-server=nats://a:1,nats://user@b"],
                "--nats-server \"nats://user@b\" must not hold a user",
            ),
            (
                &["--watch-namespace=../x"],
                "--watch-namespace \"../x\" is not",
            ),
        ] {
            let error = config(args).unwrap_err().to_string();
            assert!(error.starts_with(said), "{args:?}: {error}");
        }
    }

    #[test]
    fn two_operators_of_one_pod_differ() {
        let pod = || Some("pod".to_owned());
        assert_ne!(default_identity(pod()), default_identity(pod()));
    }
}
