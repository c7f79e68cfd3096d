//! Who the gateway says it is to NATS: secrets from files, and signatures made with them.

use std::{fs, path::Path};

use async_nats::Auth;
use nkeys::KeyPair;
use wsgateway_crds::config::NatsCredentials;

use super::NatsConfigError;

/// What the server is told. It signs the server's nonce where the kind of credentials asks for that.
///
/// No error shows what a file holds.
pub(super) fn authenticate(
    credentials: &NatsCredentials,
    nonce: &[u8],
) -> Result<Auth, NatsConfigError> {
    let mut auth = Auth::new();
    match credentials {
        NatsCredentials::Creds { file } => {
            let text = read(file)?;
            let jwt = armoured(&text, "NATS USER JWT");
            auth.jwt = Some(jwt.ok_or_else(|| invalid(file, "user JWT"))?.to_owned());
            let seed = armoured(&text, "USER NKEY SEED");
            let key = key_pair(file, seed.ok_or_else(|| invalid(file, "nkey seed"))?)?;
            auth.signature = Some(sign(file, &key, nonce)?);
        }
        NatsCredentials::NKey { file } => {
            let text = read(file)?;
            // A seed alone, or armoured, as the tools write it.
            let key = key_pair(file, armoured(&text, "USER NKEY SEED").unwrap_or(&text))?;
            auth.nkey = Some(key.public_key());
            auth.signature = Some(sign(file, &key, nonce)?);
        }
        NatsCredentials::UserPassword {
            user_file,
            password_file,
        } => {
            auth.username = Some(read(user_file)?);
            auth.password = Some(read(password_file)?);
        }
        NatsCredentials::Token { file } => auth.token = Some(read(file)?),
    }
    Ok(auth)
}

/// A file's text without the white space around it.
pub(super) fn read(path: &Path) -> Result<String, NatsConfigError> {
    let text = fs::read_to_string(path).map_err(|source| NatsConfigError::File {
        path: path.to_owned(),
        source,
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(invalid(path, "text"));
    }
    Ok(text.to_owned())
}

/// The line between `-----BEGIN label-----` and `------END label------`.
fn armoured<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| {
        let name = line.trim_matches('-').trim();
        !(line.starts_with("---") && name.strip_prefix("BEGIN ") == Some(label))
    });
    lines.next()?;
    lines
        .find(|line| !line.is_empty())
        .filter(|line| !line.starts_with("---"))
}

fn key_pair(path: &Path, seed: &str) -> Result<KeyPair, NatsConfigError> {
    // The library's error may quote the seed: it is not kept.
    KeyPair::from_seed(seed).map_err(|_| invalid(path, "nkey seed"))
}

fn sign(path: &Path, key: &KeyPair, nonce: &[u8]) -> Result<Vec<u8>, NatsConfigError> {
    key.sign(nonce)
        .map_err(|_| invalid(path, "nkey seed that can sign"))
}

pub(super) fn invalid(path: &Path, expected: &'static str) -> NatsConfigError {
    NatsConfigError::Content {
        path: path.to_owned(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(name: &str, text: &str) -> std::path::PathBuf {
        let path =
            std::env::temp_dir().join(format!("wsgateway-identity-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn each_kind_of_credentials_is_read_from_its_files() {
        let key = KeyPair::new_user();
        let seed = key.seed().unwrap();
        let creds = write(
            "creds",
            &format!(
                "-----BEGIN NATS USER JWT-----\r\neyJ0.e30.x_y-z\r\n------END NATS USER JWT------\r\n\n\
                 ****** IMPORTANT ******\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n\
                 ------END USER NKEY SEED------\n"
            ),
        );
        let auth = authenticate(
            &NatsCredentials::Creds {
                file: creds.clone(),
            },
            b"nonce",
        )
        .unwrap();
        assert_eq!(auth.jwt.as_deref(), Some("eyJ0.e30.x_y-z"));
        key.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        assert!(auth.nkey.is_none());

        let plain = write("seed", &format!("  {seed}\n"));
        for file in [plain.clone(), creds.clone()] {
            let auth = authenticate(&NatsCredentials::NKey { file }, b"n").unwrap();
            assert_eq!(auth.nkey, Some(key.public_key()));
            key.verify(b"n", &auth.signature.unwrap()).unwrap();
        }

        let (user, password) = (write("user", "ann\n"), write("password", " s3 cret\n\n"));
        let (user_file, password_file) = (user.clone(), password.clone());
        let both = NatsCredentials::UserPassword {
            user_file,
            password_file,
        };
        let auth = authenticate(&both, b"").unwrap();
        assert_eq!(
            (auth.username.as_deref(), auth.password.as_deref()),
            (Some("ann"), Some("s3 cret"))
        );
        let auth = authenticate(&NatsCredentials::Token { file: user.clone() }, b"").unwrap();
        assert_eq!(auth.token.as_deref(), Some("ann"));
        for file in [creds, plain, user, password] {
            fs::remove_file(file).unwrap();
        }
    }

    #[test]
    fn an_error_names_the_file_and_not_what_it_holds() {
        let check = |credentials: NatsCredentials, expected: &str| {
            let error = authenticate(&credentials, b"").err().unwrap();
            let shown = format!("{error} {error:?}");
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!shown.contains("secret-in-file"), "{shown}");
        };
        let wrong = write("wrong", "secret-in-file");
        check(
            NatsCredentials::NKey {
                file: wrong.clone(),
            },
            "wrong holds no nkey seed",
        );
        check(
            NatsCredentials::Creds {
                file: wrong.clone(),
            },
            "wrong holds no user JWT",
        );
        let empty = write("empty", " \n");
        check(
            NatsCredentials::Token {
                file: empty.clone(),
            },
            "empty holds no text",
        );
        check(
            NatsCredentials::Token {
                file: "/nonexistent".into(),
            },
            "cannot read /nonexistent",
        );
        for file in [wrong, empty] {
            fs::remove_file(file).unwrap();
        }
    }
}
