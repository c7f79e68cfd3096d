//! What the operator tells of the keys that gateways verify tokens with.

use serde_json::json;
use wsgateway_e2e::{issuer::Issuer, needs};

use crate::{
    running::{Gateway, Running},
    stage::says,
};

#[tokio::test(flavor = "multi_thread")]
async fn whether_gateways_have_an_issuers_keys_stands_in_the_status() {
    needs!(Kubernetes, Helm, NatsServer);
    let mut issuer = Issuer::start();
    issuer.go_away();
    let mut running = Running::start(2).await;
    running.until("AuthReady=True/NotConfigured").await;

    let oidc = json!({"issuer": issuer.url(), "audiences": ["wsgateway"]});
    let providers = json!([{"name": "sso", "type": "OIDC", "oidc": oidc}]);
    running.patch(&json!({"auth": {"providers": providers}}));
    running.until("ConfigPropagated=False/Propagating").await;
    let live = running.live_file().await;
    for gateway in running.gateways.values_mut() {
        Gateway::bring(gateway, &live);
    }
    // The issuer is not there, and every route asks for a token.
    let status = running.until("AuthReady=False/NoKeys").await;
    assert!(says(&status, "Ready=False/NoKeys"));
    let conditions = status.status.unwrap().conditions;
    let auth = conditions
        .iter()
        .find(|it| it.type_ == "AuthReady")
        .unwrap();
    for part in [
        "provider sso: ",
        "without keys; pod chat-",
        "(Unreachable): ",
    ] {
        assert!(auth.message.contains(part), "{}", auth.message);
    }

    issuer.come_back();
    let status = running.until("AuthReady=True/KeysLoaded").await;
    let conditions = status.status.unwrap().conditions;
    let auth = conditions
        .iter()
        .find(|it| it.type_ == "AuthReady")
        .unwrap();
    assert_eq!(auth.message, "keys are loaded and not old: 1 of sso");
    running.until("Ready=True").await;
}
