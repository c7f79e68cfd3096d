//! `wsgw simulate`: what a token may do with a `WsGateway`, and why.
//!
//! The token is judged by the code by which the gateways judge it, and subjects are made of it by the same.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

mod ask;
mod verdict;

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::jiff::Timestamp;
use wsgateway_auth::TOKEN_BYTES_MAX;
use wsgateway_issuer::FetchError;

use self::verdict::Session;
use crate::manifest::{self, ManifestError};

/// Whose token, and for what.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// The file that holds the token, or - for standard input. As an argument everybody on the machine could read it.
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
    /// The manifest: a WsGateway, and the Secrets and ConfigMaps that it names.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// A JSON Web Key Set to verify it with. Default: the issuer's own, from where the manifest says that it is.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// A path with its query, such as /rooms/lobby?user=ann. Default: every route, with what its path and query would
    /// give left open.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// When, such as 2027-01-02T03:04:05Z. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

/// Why nothing can be said of a token.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file with keys holds none.
    #[error("{}: {source}", .file.display())]
    Keys {
        /// The file.
        file: PathBuf,
        /// Why.
        source: wsgateway_auth::KeySetError,
    },
    /// The issuer's keys cannot be had.
    #[error("the keys of {provider} cannot be had: {}; --keys FILE names others", chain(.source))]
    Fetch {
        /// The issuer's name in the manifest.
        provider: String,
        /// Why.
        source: FetchError,
    },
    /// The time is before 1970.
    #[error("--at must be after 1970")]
    Time,
    /// Nobody reads the output.
    #[error("cannot write: {0}")]
    Write(io::Error),
}

impl SimulateError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Manifest(error) => error.reason(),
            Self::Unreadable { .. } => "FileUnreadable",
            Self::Keys { source, .. } => source.reason(),
            Self::Fetch { source, .. } => source.reason(),
            Self::Time => "InvalidTime",
            Self::Write(_) => "NotWritten",
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Says what the token may do. Whether any of the routes asked about would let it in.
///
/// # Errors
/// When that cannot be said.
pub async fn simulate(args: SimulateArgs) -> Result<bool, SimulateError> {
    let SimulateArgs {
        token,
        file,
        keys,
        path,
        at,
    } = args;
    let gateway = manifest::gateway(&file, &manifest::text(&file)?)?;
    let token = read_token(&token)?;
    let now = at.map_or_else(|| Ok(now()), since_1970)?;
    let identity = ask::identify(&gateway, &token, keys.as_deref(), now).await?;
    let session = Session {
        live: &gateway.live,
        identity: identity.as_ref(),
        now,
    };
    let (text, is_let_in) = match &path {
        Some(path) => session.of_path(path),
        None => session.of_all_routes(),
    };
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(SimulateError::Write)?;
    Ok(is_let_in)
}

fn read_token(file: &Path) -> Result<String, SimulateError> {
    let unreadable = |source| SimulateError::Unreadable {
        file: file.to_owned(),
        source,
    };
    // One byte more than what is refused for its length, and what an editor leaves at the end.
    let limit = TOKEN_BYTES_MAX as u64 + 1_024;
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().take(limit).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(file).map_err(unreadable)?;
        file.take(limit).read_to_string(&mut text)
    };
    read.map_err(unreadable)?;
    let text = text.trim();
    // As it stands in a header, which is what people copy.
    let bare = text.split_once(' ').map_or(text, |(scheme, token)| {
        if scheme.eq_ignore_ascii_case("Bearer") {
            token.trim_start()
        } else {
            text
        }
    });
    Ok(bare.to_owned())
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn since_1970(at: Timestamp) -> Result<Duration, SimulateError> {
    let millis = u64::try_from(at.as_millisecond());
    millis
        .map(Duration::from_millis)
        .map_err(|_| SimulateError::Time)
}
