//! Which Rust it takes.
//!
//! That the code itself takes no newer one says clippy: `incompatible_msrv` knows since when each function of the standard
//! library is there.

use std::process::Command;

use serde_json::Value;

use crate::read;

/// `1.89`, `1.89.0`
fn version(text: &str) -> Vec<u64> {
    let mut parts: Vec<u64> = text.split('.').map(|part| part.parse().unwrap()).collect();
    parts.resize(3, 0);
    parts
}

fn metadata() -> Value {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        // What is for other systems is not here.
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn no_dependency_takes_a_newer_rust_than_is_said() {
    let ours = env!("CARGO_PKG_RUST_VERSION");
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let newer = packages.iter().filter_map(|package| {
        let wanted = package["rust_version"].as_str()?;
        (version(wanted) > version(ours)).then(|| format!("{} takes {wanted}", package["name"]))
    });
    let newer: Vec<String> = newer.collect();
    assert!(newer.is_empty(), "Cargo.toml says {ours}: {newer:#?}");
    assert!(packages.len() > 100, "{}", packages.len());
}

#[test]
fn every_page_says_the_same_rust() {
    let ours = env!("CARGO_PKG_RUST_VERSION");
    for page in ["README.md", "docs/ci.md"] {
        let text = read(page);
        let said: Vec<&str> = text
            .split("Rust ")
            .skip(1)
            .filter_map(|rest| rest.split([' ', ',', '.']).next().map(|it| (rest, it)))
            .filter(|(_, major)| *major == "1")
            .map(|(rest, _)| rest.split([' ', ',']).next().unwrap_or_default())
            .collect();
        assert_eq!(said, [ours], "{page}");
    }
}
