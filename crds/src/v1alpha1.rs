//! The `WsGateway` resource, version `v1alpha1`.
