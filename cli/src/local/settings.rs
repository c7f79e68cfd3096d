//! The command line of `wsgw local`, as a person gives it and as it is meant.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

/// What a person gives.
#[derive(Debug, clap::Args)]
pub struct LocalArgs {
    /// The manifest: a WsGateway, and the Secrets and ConfigMaps that it names. It is watched.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Where nginx takes TLS connections.
    #[arg(long, value_name = "PORT", default_value_t = 8443, value_parser = port())]
    https_port: u16,
    /// Where nginx takes plain connections.
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = port())]
    http_port: u16,
    /// The addresses on which nginx listens, such as 0.0.0.0. Default: this machine alone, 127.0.0.1 and ::1.
    #[arg(long, value_name = "IP")]
    listen: Vec<IpAddr>,
    /// A certificate chain (PEM), such as mkcert makes, in place of the manifest's.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The nats-server program. Default: what WSGW_NATS_SERVER names, or the one in PATH.
    #[arg(long, value_name = "PATH")]
    nats_server: Option<PathBuf>,
    /// The nginx program. Default: what WSGW_NGINX names, or the one in PATH or in /usr/sbin.
    #[arg(long, value_name = "PATH")]
    nginx: Option<PathBuf>,
    /// The gateway program. Default: wsgateway beside wsgw.
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// The folder for certificates, written configuration and what NATS stores. Default:
    /// ~/.local/state/wsgateway/local/NAME
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

/// A path in the environment. An empty one is as good as none.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// What is meant.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The manifest's file.
    pub file: PathBuf,
    /// nginx's port for TLS.
    pub https_port: u16,
    /// nginx's port without.
    pub http_port: u16,
    /// Where nginx listens.
    pub listen: Addresses,
    /// A certificate's and a key's file in place of the manifest's.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// A named nats-server.
    pub nats_server: Option<PathBuf>,
    /// A named nginx.
    pub nginx: Option<PathBuf>,
    /// A named gateway.
    pub gateway: Option<PathBuf>,
    /// A named state folder.
    pub state_dir: Option<PathBuf>,
}

/// The addresses on which nginx listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// Both loopback addresses, as far as this machine has them.
    Loopback,
    /// Exactly these.
    Named(Vec<IpAddr>),
}

impl Addresses {
    /// The addresses to try.
    pub fn all(&self) -> Vec<IpAddr> {
        match self {
            Self::Loopback => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Self::Named(all) => all.clone(),
        }
    }
}

impl From<LocalArgs> for Settings {
    fn from(args: LocalArgs) -> Self {
        let LocalArgs {
            file,
            https_port,
            http_port,
            mut listen,
            tls_cert,
            tls_key,
            nats_server,
            nginx,
            gateway,
            state_dir,
        } = args;
        listen.sort();
        listen.dedup();
        let listen = match listen.as_slice() {
            [] => Addresses::Loopback,
            _ => Addresses::Named(listen),
        };
        let certificate = tls_cert.zip(tls_key);
        Self {
            file,
            https_port,
            http_port,
            listen,
            certificate,
            nats_server: nats_server.or_else(|| variable("WSGW_NATS_SERVER")),
            nginx: nginx.or_else(|| variable("WSGW_NGINX")),
            gateway,
            state_dir,
        }
    }
}
