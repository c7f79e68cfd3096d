//! The control plane itself: that it is real, that a test has a place of its own on it, and that it leaves nothing behind.

use std::{env, fs, path::Path, process::Command, time::Duration};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod, Service, ServiceAccount},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
    runtime::watcher,
};
use wsgateway_e2e::{
    cluster::{
        ControlPlane, FakeNode, Identity, Optional, Options, PodState, Requests, wait_for,
        wait_for_all, wait_gone,
    },
    http, needs,
    operator::{Launch, Operator},
    process::{Process, lasting},
    resources::is_alive,
    wait::{SOON, pause, until_true},
};

/// Set in the process that a test starts and kills.
const CHILD: &str = "WSGATEWAY_E2E_CHILD";

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 300
      containers: [{name: web, image: test.local/web}]
";

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

fn available(deployment: &Deployment) -> i32 {
    let status = deployment.status.as_ref();
    status
        .and_then(|status| status.available_replicas)
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_share_a_control_plane_and_have_a_namespace_each() {
    needs!(Kubernetes);
    let cluster = ControlPlane::shared();
    println!("a control plane is ready after {:?}", cluster.ready_after());
    assert!(std::ptr::eq(cluster, ControlPlane::shared()));
    let (one, other) = (cluster.namespace(), cluster.namespace());
    assert_ne!(one.name(), other.name());
    let params = PostParams::default();
    one.api().create(&params, &config_map("a")).await.unwrap();
    let there: Api<ConfigMap> = other.api();
    assert!(there.get_opt("a").await.unwrap().is_none());
    // The account that pods need is there from the first moment on.
    let accounts: Api<ServiceAccount> = one.api();
    accounts.get("default").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_deleted_with_its_test() {
    needs!(Kubernetes);
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace();
    let name = namespace.name().to_owned();
    drop(namespace);
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(cluster.client());
    wait_gone(&api, &name, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_may_do_what_its_role_says_and_no_more() {
    needs!(Kubernetes);
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace();
    namespace.apply(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader}]
",
    );
    let reader = Identity::service_account(namespace.name(), "reader");
    // The namespace is its kubeconfig's own.
    let api: Api<ConfigMap> = Api::default_namespaced(cluster.client_as(&reader));
    // The authorizer learns of a new role by a watch.
    let until_bound = || {
        cluster
            .try_kubectl(&reader, &["get", "configmaps"], "")
            .status
            .success()
    };
    until_true("the role counts", SOON, until_bound);
    api.list(&ListParams::default()).await.unwrap();
    let refused = [
        api.create(&PostParams::default(), &config_map("a"))
            .await
            .unwrap_err(),
        Api::<Service>::default_namespaced(cluster.client_as(&reader))
            .list(&ListParams::default())
            .await
            .unwrap_err(),
        Api::<ConfigMap>::all(cluster.client_as(&reader))
            .list(&ListParams::default())
            .await
            .unwrap_err(),
    ];
    let account = format!("system:serviceaccount:{}:reader", namespace.name());
    for error in refused {
        let kube::Error::Api(status) = error else {
            panic!("{error}")
        };
        assert_eq!(status.code, 403);
        assert!(status.message.contains(&account), "{}", status.message);
    }
    let nobody = cluster.client_as(&Identity::user("nobody"));
    let api: Api<ConfigMap> = Api::namespaced(nobody, namespace.name());
    assert!(api.list(&ListParams::default()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_becomes_pods_that_run_and_go() {
    needs!(Kubernetes);
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace();
    let node = FakeNode::start(&cluster.client(), namespace.name());
    node.set(PodState::NotReady);
    namespace.apply(DEPLOYMENT);

    let pods: Api<Pod> = namespace.api();
    let all = watcher::Config::default();
    let runs = |pod: &Pod| {
        let status = pod.status.as_ref();
        status.and_then(|status| status.phase.as_deref()) == Some("Running")
    };
    let seen = wait_for_all(&pods, all.clone(), "two pods run", SOON, |pods| {
        pods.len() == 2 && pods.iter().all(runs)
    })
    .await;
    for pod in &seen {
        let address = pod.status.as_ref().unwrap().pod_ip.as_deref();
        let expected = node.address(&pod.name_any()).to_string();
        assert_eq!(address, Some(expected.as_str()));
    }
    let deployments: Api<Deployment> = namespace.api();
    assert_eq!(available(&deployments.get("web").await.unwrap()), 0);

    // One of them becomes ready, then both.
    let first = seen[0].name_any();
    node.set_rule(move |pod| {
        if pod.name_any() == first {
            PodState::Ready
        } else {
            PodState::Crashing
        }
    });
    let one = |deployment: &Deployment| available(deployment) == 1;
    wait_for(&deployments, "web", "one pod is available", SOON, one).await;
    node.set(PodState::Ready);
    let both = |deployment: &Deployment| available(deployment) == 2;
    wait_for(&deployments, "web", "both pods are available", SOON, both).await;

    // A pod that drains is there until it has drained.
    node.terminate_after(Duration::from_secs(1));
    pods.delete(&seen[0].name_any(), &DeleteParams::default())
        .await
        .unwrap();
    wait_for(
        &pods,
        &seen[0].name_any(),
        "it is on its way out",
        SOON,
        |pod| pod.metadata.deletion_timestamp.is_some(),
    )
    .await;
    wait_gone(&pods, &seen[0].name_any(), SOON).await;

    node.terminate_after(Duration::ZERO);
    deployments
        .delete("web", &DeleteParams::background())
        .await
        .unwrap();
    wait_for_all(&pods, all, "no pod is left", SOON, <[Pod]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_projects_crds_come_and_go() {
    needs!(Kubernetes, Crds);
    let cluster = ControlPlane::start_with(Options {
        controller_manager: false,
        ..Options::default()
    });
    let groups = [
        Optional::Prometheus,
        Optional::CertManager,
        Optional::Keda,
        Optional::GatewayApi,
        Optional::NginxGatewayFabric,
    ];
    cluster.install_crd();
    cluster.install_optional(&groups);
    let namespace = cluster.namespace();
    namespace.apply(
        "
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: a}
spec: {selector: {}, podMetricsEndpoints: [{port: admin}]}
---
apiVersion: gateway.nginx.org/v1alpha1
kind: ProxySettingsPolicy
metadata: {name: a}
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: a}]}
",
    );
    let kinds = ["certificate", "scaledobject", "httproute", "wsgateway"];
    namespace.kubectl(&["get", &kinds.join(",")]);
    cluster.uninstall_optional(&[Optional::Prometheus]);
    let gone = namespace.try_kubectl(&["get", "podmonitors"], "");
    assert!(!gone.status.success());
    cluster.install_optional(&[Optional::Prometheus]);
    assert_eq!(
        namespace.kubectl(&["get", "podmonitors", "--output=name"]),
        ""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_counts_its_requests_and_may_be_restarted() {
    needs!(Kubernetes);
    let cluster = ControlPlane::start();
    let namespace = cluster.namespace();
    let client = cluster.client();
    let api: Api<ConfigMap> = namespace.api();
    let params = PostParams::default();

    let before = Requests::count(&client).await;
    for name in ["a", "b", "c"] {
        api.create(&params, &config_map(name)).await.unwrap();
    }
    let new = Requests::count(&client).await.since(&before);
    assert!(new.by_verb()["POST"] >= 3, "{new}");
    let created = new.filter(|request| request.resource == "configmaps" && request.verb == "POST");
    assert_eq!(created.total(), 3, "{new}");
    assert!(new.mutating().total() >= 3);

    let waiting = tokio::spawn({
        let api = api.clone();
        async move { wait_for(&api, "d", "it is there", SOON, |_| true).await }
    });
    cluster.stop_api_server();
    assert!(api.get("a").await.is_err());
    cluster.start_api_server();
    // What was there is there, and a watch of before sees what comes.
    assert_eq!(
        api.list(&ListParams::default()).await.unwrap().items.len(),
        4
    );
    api.create(&params, &config_map("d")).await.unwrap();
    waiting.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_on_which_all_has_settled_changes_nothing() {
    needs!(Kubernetes);
    let cluster = ControlPlane::start();
    let client = cluster.client();
    let namespace = cluster.namespace();
    let _node = FakeNode::start(&client, namespace.name());
    namespace.apply(DEPLOYMENT);
    namespace.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
",
    );
    let deployments: Api<Deployment> = namespace.api();
    let both = |deployment: &Deployment| available(deployment) == 2;
    wait_for(&deployments, "web", "both pods are available", SOON, both).await;
    // What was set going by then has ended when a whole second is silent.
    let mut before = Requests::count(&client).await;
    for _ in 0..10 {
        pause(Duration::from_secs(1));
        let now = Requests::count(&client).await;
        let new = now.since(&before).mutating();
        if new.total() == 0 {
            return;
        }
        println!("{new}");
        before = now;
    }
    panic!("no second of ten was silent");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_starts_becomes_ready_and_stops_politely() {
    needs!(Kubernetes);
    let cluster = ControlPlane::shared();
    cluster.install_crd();
    let namespace = cluster.namespace();
    let launch = Launch::on(cluster, &Identity::Admin).watching(&[namespace.name()]);
    let mut operator = Operator::start(&launch);
    let alive = http::get(operator.admin(), "/livez");
    assert_eq!(alive.status, 200, "{alive:?}");
    assert!(operator.stop(SOON).success());
}

#[test]
fn nothing_is_left_of_a_control_plane_that_is_dropped() {
    needs!(Kubernetes);
    let cluster = ControlPlane::start();
    let (pids, folder) = (cluster.pids(), cluster.folder().to_owned());
    assert_eq!(pids.len(), 3);
    assert!(folder.is_dir() && pids.iter().all(|&pid| is_alive(pid)));
    drop(cluster);
    until_true("its programs are gone", SOON, || {
        !pids.iter().any(|&pid| is_alive(pid))
    });
    assert!(!folder.exists());
}

#[test]
fn nothing_is_left_of_the_shared_one_when_the_test_process_is_killed() {
    needs!(Kubernetes);
    if env::var_os(CHILD).is_some() {
        let cluster = ControlPlane::shared();
        println!("{} {:?}", cluster.folder().display(), cluster.pids());
        // Until it is killed.
        pause(Duration::from_secs(600));
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(CHILD, "1").args([
        "--exact",
        "--nocapture",
        "harness::nothing_is_left_of_the_shared_one_when_the_test_process_is_killed",
    ]);
    let mut child = lasting(move || Process::start("a test", &mut command));
    let line = child.line("[", Duration::from_secs(120)).text;
    let (folder, pids) = line.split_once(" [").unwrap();
    let pids: Vec<u32> = pids
        .trim_end_matches(']')
        .split(", ")
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert!(Path::new(folder).is_dir() && pids.iter().all(|&pid| is_alive(pid)));
    child.kill();
    until_true("its programs are gone", SOON, || {
        !pids.iter().any(|&pid| is_alive(pid))
    });
    until_true("its folder is gone", SOON, || fs::metadata(folder).is_err());
}
