//! As whom a program speaks to the API server.

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use serde_json::{Value, json};

use super::{ControlPlane, blocking, pki::Pki};

/// How long a service account's token is good for: longer than any test.
const TOKEN_SECONDS: i64 = 24 * 60 * 60;

/// As whom a program speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Who may do everything.
    Admin,
    /// A user that is in at most one group, by a certificate.
    User {
        /// The user's name.
        name: String,
        /// The group's.
        group: Option<String>,
    },
    /// A service account that is there, by a token of its own, as in a pod of it.
    ServiceAccount {
        /// The account's namespace, which is also the one that the client uses by default.
        namespace: String,
        /// The account's name.
        name: String,
    },
}

impl Identity {
    /// A user without rights, unless the test gives it some.
    pub fn user(name: &str) -> Self {
        Self::User {
            name: name.to_owned(),
            group: None,
        }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The text of a kubeconfig.
    pub(super) fn kubeconfig(&self, cluster: &ControlPlane, pki: &Pki) -> String {
        let (namespace, user) = match self {
            Self::Admin => ("default", by_certificate(pki, "admin", &["system:masters"])),
            Self::User { name, group } => {
                let group: Vec<&str> = group.as_deref().into_iter().collect();
                ("default", by_certificate(pki, name, &group))
            }
            Self::ServiceAccount { namespace, name } => {
                let token = token(cluster, namespace, name);
                (namespace.as_str(), json!({"token": token}))
            }
        };
        // JSON is YAML.
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": cluster.url(),
                "certificate-authority-data": BASE64_STANDARD.encode(pki.certificate()),
            }}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {
                "cluster": "test", "user": "test", "namespace": namespace,
            }}],
            "current-context": "test",
        })
        .to_string()
    }
}

fn by_certificate(pki: &Pki, user: &str, group: &[&str]) -> Value {
    let leaf = pki.sign(user, group, &[]);
    json!({
        "client-certificate-data": BASE64_STANDARD.encode(leaf.certificate),
        "client-key-data": BASE64_STANDARD.encode(leaf.key),
    })
}

fn token(cluster: &ControlPlane, namespace: &str, name: &str) -> String {
    let config = cluster.config(&Identity::Admin);
    blocking(async move {
        let client = Client::try_from(config).unwrap();
        let api: Api<ServiceAccount> = Api::namespaced(client, namespace);
        let request = TokenRequest {
            metadata: ObjectMeta::default(),
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            }),
            status: None,
        };
        let answer = api
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .unwrap_or_else(|error| panic!("{namespace}/{name}: {error}"));
        answer.status.unwrap().token.unwrap()
    })
}
