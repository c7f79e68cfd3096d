//! The community's ingress-nginx.

use crate::dialect::Rendered;
use crate::exposure::Exposure;

pub(super) fn annotations(_exposure: &Exposure) -> Rendered {
    Rendered::default()
}
