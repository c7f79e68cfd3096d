//! From a bearer token to what it allows, and why. Pure: no IO, no runtime, and the time is an argument.
//!
//! # Layout
//!
//! The modules stand in the order in which a token passes them.
//!
//! - [`json`]: JSON in which no member stands twice: what one reader takes for a claim and another for its opposite is
//!   refused.
//! - [`token`]: the compact form, taken apart. Nothing in it is believed yet.
//! - [`key`]: the keys of an issuer. Each verifies with the algorithms of its own kind and no others.
//! - [`trust`]: whose tokens are believed: issuer, audience, time and kind first, the signature last.
//! - [`logout`]: a logout token, by which the issuer says that a session is over.
//! - [`claims`]: what a verified token says of its bearer.
//! - [`authorization`]: whether that is what a route asks for.
//!
//! Signatures are verified by `ring`, which the workspace has for TLS anyway, and those of ES512, which it lacks, by
//! `p521`. Verifying has no secrets, so that nothing of them can leak by the time that it takes.

pub mod json;

pub mod token;

pub mod key;

pub mod trust;

pub mod logout;

pub mod claims;

pub mod authorization;

pub use authorization::{Denial, judge};
pub use claims::{Claims, RequestValues};
pub use key::{KeySet, KeySetError};
pub use logout::{Logout, LogoutError};
pub use token::{TOKEN_BYTES_MAX, Token, TokenError};
pub use trust::{Trust, Verified};
