//! The images, as they are made without Docker: of the content that the Dockerfile's have.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use wsgateway_e2e::{directory::Directory, process::command, program::Program};

/// The version of all that is in this workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A pull of an image should never be what a rollout waits for.
const BYTES_MAX: u64 = 40_000_000;

#[test]
fn images_hold_a_program_what_it_loads_and_the_list_of_its_crates() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/image/build");
    let folder = Directory::make();
    let gateway = Program::Gateway.expect().canonicalize().unwrap();
    let mut build = command(script);
    build
        .arg(folder.path())
        .env("WSGATEWAY_BIN_DIR", gateway.parent().unwrap());
    println!("{}", succeeded(&build.output().unwrap()));
    for (program, package) in [
        ("wsgateway", "wsgateway-gateway"),
        ("wsgateway-operator", "wsgateway-operator"),
    ] {
        let image = Image::open(&folder.path().join(format!("{program}.tar")), folder.path());
        image.is_described(program);
        image.holds_nothing_else(program);
        image.lists_crates(program, package);
    }
}

/// What a tar file says of the image in it, and its one layer, unpacked.
struct Image {
    config: Value,
    /// Mode and path of each entry.
    entries: Vec<(String, String)>,
    layer: Directory,
}

impl Image {
    fn open(file: &Path, folder: &Path) -> Self {
        assert!(fs::metadata(file).unwrap().len() < BYTES_MAX);
        let unpacked = folder.join(file.file_stem().unwrap());
        fs::create_dir(&unpacked).unwrap();
        tar(&["--extract", "--directory"], &unpacked, file);
        let json = |path: &str| -> Value {
            serde_json::from_slice(&fs::read(unpacked.join(path)).unwrap()).unwrap()
        };
        let manifest = json("manifest.json")[0].clone();
        let [layer] = &manifest["Layers"].as_array().unwrap()[..] else {
            panic!("{manifest}")
        };
        let packed = unpacked.join(layer.as_str().unwrap());
        let layer = Directory::make();
        tar(
            &["--extract", "--gzip", "--directory"],
            layer.path(),
            &packed,
        );
        let listed = command("tar")
            .args(["--list", "--verbose", "--gzip", "--file"])
            .arg(&packed)
            .output()
            .unwrap();
        let entries = succeeded(&listed)
            .lines()
            .map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                (words[0].to_owned(), words[5].to_owned())
            })
            .collect();
        Self {
            config: json(manifest["Config"].as_str().unwrap()),
            entries,
            layer,
        }
    }

    fn is_described(&self, program: &str) {
        let config = &self.config["config"];
        assert_eq!(config["User"], "65532:65532");
        assert_eq!(
            config["Entrypoint"],
            serde_json::json!([format!("/usr/local/bin/{program}")])
        );
        let label = |name: &str| {
            config["Labels"][format!("org.opencontainers.image.{name}")]
                .as_str()
                .unwrap_or_default()
        };
        assert_eq!(label("version"), VERSION);
        assert_eq!(label("licenses"), "Apache-2.0");
        assert!(
            label("source").starts_with("https://") && !label("title").is_empty(),
            "{config}"
        );
    }

    fn holds_nothing_else(&self, program: &str) {
        for (mode, path) in &self.entries {
            assert!(
                !mode.contains(['s', 'S', 't', 'T', 'l']) && mode.as_bytes()[8] != b'w',
                "{mode} {path}"
            );
            let is_known = path.ends_with('/')
                || path.starts_with("lib/") && path.contains(".so")
                || path.starts_with("lib64/ld-linux")
                || *path == format!("usr/local/bin/{program}")
                || *path == format!("usr/share/sbom/{program}.cdx.json")
                || [
                    "etc/passwd",
                    "etc/group",
                    "etc/nsswitch.conf",
                    "etc/ssl/certs/ca-certificates.crt",
                ]
                .contains(&path.as_str());
            assert!(is_known, "{path}");
        }
    }

    fn lists_crates(&self, program: &str, package: &str) {
        let file = self
            .layer
            .path()
            .join(format!("usr/share/sbom/{program}.cdx.json"));
        let bom: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let component = &bom["metadata"]["component"];
        assert_eq!(bom["bomFormat"], "CycloneDX");
        assert_eq!(
            (&component["name"], &component["version"]),
            (&package.into(), &VERSION.into())
        );
        let components = bom["components"].as_array().unwrap();
        let tokio = components.iter().find(|it| it["name"] == "tokio").unwrap();
        assert_eq!(tokio["licenses"][0]["expression"], "MIT");
        assert_eq!(tokio["hashes"][0]["alg"], "SHA-256");
    }
}

fn tar(arguments: &[&str], folder: &Path, file: &Path) {
    let mut tar: Command = command("tar");
    succeeded(
        &tar.args(arguments)
            .arg(folder)
            .arg("--file")
            .arg(file)
            .output()
            .unwrap(),
    );
}

fn succeeded(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
