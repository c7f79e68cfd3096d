//! F5's NGINX Ingress Controller.

use crate::dialect::Rendered;
use crate::exposure::Exposure;
use crate::value::ObjectName;

pub(super) fn annotations(_exposure: &Exposure, _service: &ObjectName) -> Rendered {
    Rendered::default()
}
