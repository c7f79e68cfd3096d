//! The controller. Its reconciler is not in this version; see `main.rs`.
