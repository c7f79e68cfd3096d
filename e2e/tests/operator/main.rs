//! The operator, and what it stands on, against a real Kubernetes control plane.
//!
//! Each module holds the tests of one subject. Tests share one control plane and have a namespace each; who restarts
//! it, or touches what belongs to the whole cluster, starts one of its own.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

mod adoption;
mod api;
mod auth;
mod certificates;
mod chaos;
mod children;
mod cli;
mod exposure;
mod goldens;
mod harness;
mod leader;
mod lifecycle;
mod objects;
mod optional;
mod own;
mod partial;
mod propagation;
mod running;
mod scale;
mod stage;
mod upgrade;
