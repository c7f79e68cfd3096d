//! What a `WsGateway` means once nothing about it can be wrong. Pure: no IO, no runtime, no client.
//!
//! The modules stand in the order that data flows:
//!
//! 1. [`read`]: [`documents`] reads a file of `WsGateways` with the Secrets and `ConfigMaps` that they name, as `wsgw`
//!    gets it. The operator has them from the API server instead.
//! 2. [`lint`]: [`lint()`] holds a `WsGateway` against the CRD: its schema, then its own CEL rules, so that a user
//!    reads the same sentence here and from the API server.
//! 3. [`validate`]: [`check`] is lint and then all that CEL cannot say. It gives a [`Gateway`] or the [`Reasons`]
//!    why there is none, each with the path of a field and a stable word. [`validate()`] is the same of a typed
//!    `WsGateway`.
//! 4. [`gateway`]: the validated [`Gateway`]: what each worker's configuration file, the proxy and the certificate
//!    are made from. No later step can say "invalid".
//!
//! ```
//! # let text = "{apiVersion: wsgateway.io/v1alpha1, kind: WsGateway, metadata: {name: a},
//! #              spec: {routes: [{name: chat, path: /chat}]}}";
//! let documents = wsgateway_model::documents(text)?;
//! for document in &documents.gateways {
//!     let referenced = documents.referenced(&document.namespace);
//!     let gateway = wsgateway_model::check(&document.value, &referenced)?;
//!     assert_eq!(gateway.replicas, 3);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod read;

pub mod lint;

pub mod validate;

pub mod gateway;

pub use gateway::{Gateway, SecretBytes};
pub use lint::{Violation, lint};
pub use read::{Document, Documents, ReadError, documents};
pub use validate::{Contents, Reason, Reasons, Referenced, check, check_server, validate};
