//! `wsgw local`: a whole `WsGateway` on this machine.
