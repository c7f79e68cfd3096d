//! Who a client says it is to NATS, by keys and by the JSON web tokens that they sign.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use nkeys::KeyPair;

/// A user's key.
#[derive(Debug, Clone)]
pub struct NKey {
    /// What the server is told.
    pub public: String,
    /// What the user keeps.
    pub seed: String,
}

impl NKey {
    /// Makes one.
    pub fn make() -> Self {
        let key = KeyPair::new_user();
        Self {
            public: key.public_key(),
            seed: key.seed().unwrap(),
        }
    }
}

/// An operator with one account and one user in it, as `nsc` would make them.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Lines of a server's configuration that let in the operator's accounts.
    pub server: String,
    /// The user's `.creds` file.
    pub user: String,
}

impl Credentials {
    /// Makes them.
    pub fn make() -> Self {
        let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
        let user = KeyPair::new_user();
        let operator_token = token(&operator, &operator, r#"{"type":"operator","version":2}"#);
        let account_token = token(
            &operator,
            &account,
            r#"{"type":"account","version":2,"limits":{"subs":-1,"data":-1,"payload":-1,
               "imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1}}"#,
        );
        let user_token = token(
            &account,
            &user,
            r#"{"type":"user","version":2,"pub":{},"sub":{},"subs":-1,"data":-1,"payload":-1}"#,
        );
        Self {
            server: format!(
                "operator: {operator_token}\nresolver: MEMORY\n\
                 resolver_preload: {{ {}: {account_token} }}\n",
                account.public_key()
            ),
            user: format!(
                "-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
                user.seed().unwrap()
            ),
        }
    }
}

/// A token about `subject`, signed by `issuer`.
fn token(issuer: &KeyPair, subject: &KeyPair, claims: &str) -> String {
    let header = BASE64.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let (issuer_key, subject_key) = (issuer.public_key(), subject.public_key());
    let body = BASE64.encode(format!(
        r#"{{"jti":"{subject_key}","iat":1,"iss":"{issuer_key}","sub":"{subject_key}",
        "name":"test","nats":{claims}}}"#
    ));
    let signed = format!("{header}.{body}");
    let signature = BASE64.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}
