//! All that this project knows of nginx, as pure functions: one [`Exposure`] in; annotations in
//! each controller's dialect, Gateway API objects, or a standalone `nginx.conf` out. No IO, no
//! clock, no client.
//!
//! The modules stand in the order that data flows:
//!
//! 1. [`value`]: the only words that may reach a proxy's configuration. Each constructor refuses
//!    what could break out of it, and `Display` writes what nginx reads.
//! 2. [`exposure`]: [`ExposureSettings`] is filled from `spec.exposure` and the routes;
//!    [`Exposure::new`] checks the rules between its fields. Nothing after that can fail.
//! 3. [`conf`]: [`conf::render`] writes the `nginx.conf` of a [`conf::Standalone`], for
//!    `wsgw local`.
//! 4. [`dialect`]: [`Dialect::annotations`] writes the annotations of an Ingress, for F5's
//!    controller and for the community's.
//! 5. [`gateway_api`]: [`gateway_api::objects`] writes the `HTTPRoute`, and the policies of NGINX
//!    Gateway Fabric.
//!
//! What a target cannot express comes back as [`NotExpressed`], never silently dropped.

pub mod value;

pub mod exposure;

pub mod conf;

pub mod dialect;
pub mod gateway_api;

pub use dialect::{Dialect, NotExpressed, Rendered};
pub use exposure::{Exposure, ExposureError, ExposureSettings};
pub use value::ValueError;
