//! Whether a token is believed: by the issuer's keys, from wherever they come.

use std::{path::Path, time::Duration};

use wsgateway_auth::{KeySet, KeySetError, Token, TokenError, Trust, Verified};
use wsgateway_crds::config::{KeySource, Provider};
use wsgateway_issuer::{FetchError, Fetcher};
use wsgateway_model::Gateway;

use super::SimulateError;

/// How long an issuer may take to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// A token that is believed, or why it is not.
pub(super) type Identity = Result<Believed, TokenError>;

/// Who believes it, and what it says.
#[derive(Debug)]
pub(super) struct Believed {
    pub(super) provider: Provider,
    pub(super) verified: Verified,
}

/// Holds a token against the issuers of a gateway. `None` where it believes nobody, since it asks nobody.
pub(super) async fn identify(
    gateway: &Gateway,
    token: &str,
    keys: Option<&Path>,
    now: Duration,
) -> Result<Option<Identity>, SimulateError> {
    let Some(auth) = &gateway.live.auth else {
        return Ok(None);
    };
    let token = match Token::parse(token) {
        Ok(token) => token,
        Err(error) => return Ok(Some(Err(error))),
    };
    let mut providers = auth.providers.iter();
    let Some(provider) = providers.find(|provider| provider.issuer == token.issuer()) else {
        return Ok(Some(Err(TokenError::Issuer)));
    };
    let trust = Trust::new(provider);
    // As the gateway does it: nobody's keys are fetched for a token that is of no use.
    if let Err(error) = trust.check(&token, now) {
        return Ok(Some(Err(error)));
    }
    let keys = match keys {
        Some(file) => read(file)?,
        None => of_issuer(gateway, provider).await?,
    };
    let verified = trust.verify(&token, &keys, now);
    Ok(Some(verified.map(|verified| Believed {
        provider: provider.clone(),
        verified,
    })))
}

fn read(file: &Path) -> Result<KeySet, SimulateError> {
    let text = std::fs::read(file).map_err(|source| SimulateError::Unreadable {
        file: file.to_owned(),
        source,
    })?;
    KeySet::read(&text).map_err(|source| SimulateError::Keys {
        file: file.to_owned(),
        source,
    })
}

/// What the gateways would fetch, or have in a file.
async fn of_issuer(gateway: &Gateway, provider: &Provider) -> Result<KeySet, SimulateError> {
    let failed = |source: FetchError| SimulateError::Fetch {
        provider: provider.name.clone(),
        source,
    };
    let content = |path: &Path| {
        let mut files = gateway.auth_files.iter();
        let file = files.find(|file| file.path == path);
        let missing = KeySetError::Form("it is not in the manifest");
        file.map(|file| file.content.bytes.expose())
            .ok_or_else(|| failed(missing.into()))
    };
    match &provider.keys {
        KeySource::File { file } => {
            KeySet::read(content(file)?).map_err(|error| failed(error.into()))
        }
        KeySource::Hmac { file, algorithm } => {
            let secret = content(file)?.trim_ascii();
            KeySet::secret(secret, *algorithm).map_err(|error| failed(error.into()))
        }
        KeySource::Discovery { ca_file } | KeySource::Url { ca_file, .. } => {
            // The authorities stand in the manifest; what fetches reads them from a file.
            let authorities = ca_file.as_deref().map(content).transpose()?;
            let written = authorities.map(Authorities::write).transpose();
            let written = written.map_err(|source| SimulateError::Unreadable {
                file: std::env::temp_dir(),
                source,
            })?;
            let mut source = provider.keys.clone();
            if let KeySource::Discovery { ca_file } | KeySource::Url { ca_file, .. } = &mut source {
                *ca_file = written.as_ref().map(|file| file.0.clone());
            }
            let fetcher = Fetcher::new(&provider.issuer, &source);
            let answer = tokio::time::timeout(FETCH_TIMEOUT, fetcher.fetch()).await;
            let answer = answer.unwrap_or(Err(FetchError::Timeout));
            answer.map(|fetched| fetched.keys).map_err(failed)
        }
    }
}

/// A file with certificates, for as long as it is needed.
struct Authorities(std::path::PathBuf);

impl Authorities {
    fn write(text: &[u8]) -> std::io::Result<Self> {
        use std::io::Write;
        let name = format!("wsgw-simulate-{}.crt", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = std::fs::File::create_new(&path)?;
        let written = Self(path);
        file.write_all(text)?;
        Ok(written)
    }
}

impl Drop for Authorities {
    fn drop(&mut self) {
        // What is left of it is a public certificate.
        let _ = std::fs::remove_file(&self.0);
    }
}
