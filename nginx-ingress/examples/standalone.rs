//! Prints the nginx.conf of a [`Standalone`] that is given as JSON: what `bench/run nginx` measures.
//!
//!     cargo run -p wsgateway-nginx-ingress --example standalone < standalone.json

use std::io;

use wsgateway_nginx_ingress::conf::{Standalone, render};

fn main() -> Result<(), serde_json::Error> {
    let standalone: Standalone = serde_json::from_reader(io::stdin())?;
    print!("{}", render(&standalone));
    Ok(())
}
