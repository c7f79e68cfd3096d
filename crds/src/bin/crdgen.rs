//! Prints the CRD: `cargo run -p wsgateway-crds --bin crdgen > manifests/crd/wsgateways.yaml`.

fn main() {
    print!("{}", wsgateway_crds::v1alpha1::crd_yaml());
}
