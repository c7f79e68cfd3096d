//! Where nginx listens.

use serde::{Deserialize, Serialize};

use crate::value::{FilePath, ListenAddress};

/// Where nginx listens: at least one address, none twice.
///
/// Whether an address is free is the caller's to find out, by binding it without `SO_REUSEPORT`
/// first: with several processes nginx sets that option, and two nginx of one user would then share
/// a port in silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ListenerSettings", into = "ListenerSettings")]
pub struct Listeners(ListenerSettings);

/// The fields of [`Listeners`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerSettings {
    /// The addresses for plain HTTP, which serve the same paths.
    #[serde(default)]
    pub http: Vec<ListenAddress>,
    /// The addresses for TLS, with their certificate.
    #[serde(default)]
    pub https: Option<Https>,
}

/// Listening with TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Https {
    /// The addresses.
    pub listen: Vec<ListenAddress>,
    /// The certificate and its chain, PEM.
    pub certificate: FilePath,
    /// The private key, PEM. Only nginx's master process reads it.
    pub key: FilePath,
}

/// Listeners that nginx would refuse, or replace by port 80.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenersError {
    /// nginx would listen on port 80 or 8000 of all addresses.
    #[error("nginx must be given at least one address to listen on")]
    None,
    /// nginx refuses an address that is named twice.
    #[error("{0} is listed twice")]
    Twice(ListenAddress),
}

impl ListenersError {
    /// A stable word for logs and metric labels.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::None => "NoListener",
            Self::Twice(_) => "DuplicateListener",
        }
    }
}

impl Listeners {
    /// Checks that there is an address and that none is named twice.
    pub fn new(settings: ListenerSettings) -> Result<Self, ListenersError> {
        let https = settings.https.iter().flat_map(|https| &https.listen);
        let all: Vec<_> = settings.http.iter().chain(https).collect();
        if all.is_empty() {
            return Err(ListenersError::None);
        }
        for (index, address) in all.iter().enumerate() {
            if all.iter().take(index).any(|earlier| earlier == address) {
                return Err(ListenersError::Twice(**address));
            }
        }
        Ok(Self(settings))
    }

    /// The addresses for plain HTTP.
    pub fn http(&self) -> &[ListenAddress] {
        &self.0.http
    }

    /// The addresses for TLS, with their certificate.
    pub fn https(&self) -> Option<&Https> {
        self.0.https.as_ref()
    }
}

impl TryFrom<ListenerSettings> for Listeners {
    type Error = ListenersError;

    fn try_from(settings: ListenerSettings) -> Result<Self, ListenersError> {
        Self::new(settings)
    }
}

impl From<Listeners> for ListenerSettings {
    fn from(listeners: Listeners) -> Self {
        listeners.0
    }
}
