//! The command lines of the control plane's programs.

use std::{ffi::OsString, path::Path, process::Command};

use super::{ControlPlane, Identity};
use crate::{process::command, program::Program};

/// A part of no network that exists, for the addresses of Services.
const SERVICE_ADDRESSES: &str = "10.96.0.0/16";

/// All but those that have no place here. The ones that take note of nodes would delete the pods of a node that does not
/// exist, or has no kubelet. The ones that list a Service's pods would try for ever to write the loopback addresses of
/// [`super::FakeNode`], which the API refuses there, and so keep an idle API server busy.
const CONTROLLERS: &str = "*,-node-lifecycle-controller,-taint-eviction-controller,\
    -pod-garbage-collector-controller,-endpoints-controller,-endpointslice-controller,\
    -endpointslice-mirroring-controller";

fn program(name: &str) -> Command {
    let mut command = command(Program::Kubernetes.expect());
    command.arg(name);
    command
}

fn with_file(flag: &str, file: impl AsRef<Path>) -> OsString {
    let mut argument = OsString::from(flag);
    argument.push("=");
    argument.push(file.as_ref());
    argument
}

pub(super) fn etcd(cluster: &ControlPlane) -> Command {
    let ports = &cluster.ports;
    let client = format!("http://{}", ports.etcd.address());
    let peer = format!("http://{}", ports.etcd_peer.address());
    let mut command = program("etcd");
    command
        .arg(with_file(
            "--data-dir",
            cluster.directory.path().join("etcd"),
        ))
        .args(["--name=test", "--log-level=warn"])
        .args([
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=test={peer}"),
        ])
        // No test outlives a loss of power.
        .arg("--unsafe-no-fsync");
    command
}

pub(super) fn api_server(cluster: &ControlPlane) -> Command {
    let (pki, ports) = (&cluster.pki, &cluster.ports);
    let mut command = program("kube-apiserver");
    command
        .args([
            format!("--etcd-servers=http://{}", ports.etcd.address()),
            format!("--secure-port={}", ports.api_server.number()),
            format!("--service-cluster-ip-range={SERVICE_ADDRESSES}"),
        ])
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        // The Service `kubernetes` would have a loopback address behind it, which the API itself refuses.
        .arg("--endpoint-reconciler-type=none")
        .args([
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
        ])
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(with_file("--cert-dir", cluster.directory.path()))
        .arg(with_file("--client-ca-file", pki.file("ca.crt")))
        .arg(with_file("--tls-cert-file", pki.file("server.crt")))
        .arg(with_file("--tls-private-key-file", pki.file("server.key")))
        .arg(with_file(
            "--service-account-key-file",
            pki.file("accounts.pub"),
        ))
        .arg(with_file(
            "--service-account-signing-key-file",
            pki.file("accounts.key"),
        ))
        .args(&cluster.options.api_server);
    command
}

pub(super) fn controller_manager(cluster: &ControlPlane) -> Command {
    let pki = &cluster.pki;
    let mut command = program("kube-controller-manager");
    command
        .arg(with_file(
            "--kubeconfig",
            user(cluster, "controller-manager"),
        ))
        .arg(with_file("--root-ca-file", pki.file("ca.crt")))
        .arg(with_file(
            "--service-account-private-key-file",
            pki.file("accounts.key"),
        ))
        .args([
            "--use-service-account-credentials=true",
            "--leader-elect=false",
        ])
        .arg(format!("--controllers={CONTROLLERS}"))
        // By its defaults it would hold itself back for seconds.
        .args(["--kube-api-qps=300", "--kube-api-burst=600"])
        // Nobody asks for its metrics.
        .arg("--secure-port=0");
    command
}

pub(super) fn scheduler(cluster: &ControlPlane) -> Command {
    let mut command = program("kube-scheduler");
    command
        .arg(with_file("--kubeconfig", user(cluster, "scheduler")))
        .args(["--leader-elect=false", "--secure-port=0"]);
    command
}

/// The kubeconfig of one of the users to whom Kubernetes itself gives the rights that they need.
fn user(cluster: &ControlPlane, name: &str) -> std::path::PathBuf {
    cluster.kubeconfig(&Identity::user(&format!("system:kube-{name}")))
}
