//! The whole of it on a real cluster: kubelets, containerd, ingress-nginx, NATS, Prometheus, and the operator from its
//! chart.
//!
//! Each module holds the tests of one subject. Tests share one cluster and have a namespace each; who disturbs others has
//! the cluster alone.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

mod changes;
mod drains;
mod exposure;
mod f5;
mod first_use;
mod fleet;
mod helm;
mod life;
mod monitoring;
mod nginx_conf;
mod security;
