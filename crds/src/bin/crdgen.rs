//! Prints the CRD, as kept in `manifests/crd/wsgateways.yaml`; with `docs`, its reference, as kept in `docs/api.md`.

fn main() {
    let docs = std::env::args()
        .nth(1)
        .is_some_and(|argument| argument == "docs");
    let print = if docs {
        wsgateway_crds::v1alpha1::reference
    } else {
        wsgateway_crds::v1alpha1::crd_yaml
    };
    print!("{}", print());
}
