//! From the command line and the configuration file to what the gateway runs with.
//!
//! Two levels: [`Args`] is what was typed, the types of `wsgateway_crds::config` are what was written;
//! [`BootConfig`] and [`LiveConfig`] are what has been checked against each other and resolved.

mod live;
mod rules;

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use wsgateway_crds::{config as file, report};

pub use self::live::{LiveConfig, Route, RouteQueue, RouteSubject};

/// The shards where no number is given: beyond some eight cores more pods serve better than more
/// threads.
const SHARDS_DEFAULT_MAX: usize = 8;

/// What was typed.
#[derive(Debug, clap::Parser)]
#[command(name = "wsgateway", version, about = "Serves WebSockets from NATS")]
pub struct Args {
    /// The configuration file: its part `boot`, and its part `live` unless --live names another file.
    #[arg(long, env = "WSGATEWAY_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// A file with the part `live` alone. It is read again whenever it changes.
    #[arg(long, env = "WSGATEWAY_LIVE", value_name = "FILE")]
    pub live: Option<PathBuf>,
    /// How logs are written.
    #[arg(long, env = "WSGATEWAY_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Read the configuration, say what is wrong with it, and end.
    #[arg(long)]
    pub check: bool,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not of the right form.
    #[error("{path}: {message}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        message: String,
    },
    /// Values contradict each other.
    #[error("{0}")]
    Rule(String),
    /// A field that keeps somebody out is not known: its author is a newer version.
    #[error(
        "{path}: {field} is not known to this version, which would let in whom it is to keep out"
    )]
    Restriction {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
    },
    /// The part `live` is in neither file.
    #[error("{0} has no part `live`, and --live names no other file")]
    NoLive(PathBuf),
}

impl ConfigError {
    /// A stable name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Unreadable",
            Self::Form { .. } => "Malformed",
            Self::Rule(_) => "Contradictory",
            Self::Restriction { .. } => "UnknownRestriction",
            Self::NoLive(_) => "NoLive",
        }
    }
}

/// What is wrong with a file, and which text that was.
#[derive(Debug)]
pub struct Refusal {
    /// The hash of the text. Empty when it could not be read.
    pub hash: String,
    /// What is wrong.
    pub error: ConfigError,
}

/// The files that the configuration comes from, read anew at each call.
#[derive(Debug, Clone)]
pub struct ConfigFiles {
    config: PathBuf,
    live: Option<PathBuf>,
}

/// What the files say: the parts, the hashes of their texts, and the fields that are not known.
#[derive(Debug)]
pub struct ReadConfig {
    /// What only a restart changes.
    pub boot: file::Boot,
    /// What a reload changes.
    pub live: file::Live,
    /// The hash of the text of the file with the part `boot`.
    pub boot_hash: String,
    /// The hash of the text of the file with the part `live`: often the same file.
    pub live_hash: String,
    /// The paths of fields that this version does not know.
    pub unknown: Vec<String>,
}

impl ConfigFiles {
    /// The files that the arguments name.
    pub fn new(args: &Args) -> Self {
        Self {
            config: args.config.clone(),
            live: args.live.clone(),
        }
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.config.as_path()).chain(self.live.as_deref())
    }

    /// Reads them.
    ///
    /// # Errors
    /// When one cannot be read, or is not of the right form.
    pub fn read(&self) -> Result<ReadConfig, Refusal> {
        let (config, mut unknown, boot_hash) = parse(&self.config, file::Config::read)?;
        let refuse = |error| Refusal {
            hash: boot_hash.clone(),
            error,
        };
        let (live, live_hash) = match (&self.live, config.live) {
            (Some(path), _) => {
                let (live, more, hash) = parse(path, file::Live::read)?;
                unknown.extend(more);
                (live, hash)
            }
            (None, Some(live)) => (live, boot_hash.clone()),
            (None, None) => return Err(refuse(ConfigError::NoLive(self.config.clone()))),
        };
        rules::check_boot(&config.boot).map_err(refuse)?;
        Ok(ReadConfig {
            boot: config.boot,
            live,
            boot_hash,
            live_hash,
            unknown,
        })
    }
}

/// What a file says, the fields in it that are not known, and the hash of its text.
fn parse<T>(
    path: &Path,
    read: impl FnOnce(&str) -> Result<(T, Vec<String>), file::ConfigError>,
) -> Result<(T, Vec<String>, String), Refusal> {
    let path = || path.to_owned();
    let text = fs::read_to_string(path()).map_err(|source| Refusal {
        hash: String::new(),
        error: ConfigError::Read {
            path: path(),
            source,
        },
    })?;
    let hash = report::hash(&text);
    let (value, unknown) = match read(&text) {
        Ok(read) => read,
        Err(error) => {
            let message = error.to_string();
            let error = ConfigError::Form {
                path: path(),
                message,
            };
            return Err(Refusal { hash, error });
        }
    };
    match unknown.iter().find(|field| restricts(field)) {
        None => Ok((value, unknown, hash)),
        Some(field) => Err(Refusal {
            hash,
            error: ConfigError::Restriction {
                path: path(),
                field: field.clone(),
            },
        }),
    }
}

/// Whether a field that is not known may be one that keeps somebody out: it is, or is part of, what has to do with
/// authorization, as `auth`, `authorization` and `publishAuthorization` do. Fields of later versions that do so have names
/// like these. Of any other field it is better to run without it than not at all.
fn restricts(field: &str) -> bool {
    field.to_ascii_lowercase().contains("auth")
}

/// The shards that a part `boot` asks for: its number, else the CPU limit or the cores, at most eight.
pub fn shards(boot: &file::Boot) -> u16 {
    let cores = || {
        thread::available_parallelism()
            .map_or(1, usize::from)
            .min(SHARDS_DEFAULT_MAX)
    };
    boot.listen.shards.unwrap_or_else(|| cores() as u16).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_keep_somebody_out_is_never_passed_over() {
        let folder = std::env::temp_dir().join(format!("wsgateway-config-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let check = |line: &str, expected: Option<&str>| {
            let file = folder.join("gateway.yaml");
            let text = format!(
                "boot:\n  listen: {{clients: 127.0.0.1:1, admin: 127.0.0.1:2}}\n  nats: {{servers: ['nats://127.0.0.1:3']}}\n\
                 live:\n  websocket: {{}}\n  limits: {{color: red}}\n  drain: {{}}\n{line}"
            );
            fs::write(&file, text).unwrap();
            let read = |path| parse(path, file::Config::read);
            let reason = read(&file).err().map(|refusal| refusal.error.reason());
            assert_eq!(reason, expected, "{line}");
        };
        let route = |more: &str| {
            format!("  routes: [{{name: a, path: /a, fromClient: {{type: Echo}}{more}}}]\n")
        };
        check(&route(""), None);
        check(&route(", newFeature: 1"), None);
        for more in [
            ", readAuthorization: {anyRole: [x]}",
            ", authorization: {access: Token, anyDevice: [x]}",
        ] {
            check(&route(more), Some("UnknownRestriction"));
        }
        let auth = "  auth: {tokenSources: [{type: Header}], expiryJitter: 0s, providers: [], proofOfPossession: {}}\n";
        check(&format!("{auth}{}", route("")), Some("UnknownRestriction"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
