//! Debian's real archives, and gpgv as the judge of signatures.
//!
//! Needs the network, gpgv and Debian's keyrings: `cargo test --test archive -- --ignored`

#![expect(clippy::print_stdout, reason = "the numbers are what one runs it for")]

#[path = "support/debian.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use imgbuild::debian::openpgp::Keyring;
use imgbuild::debian::packages::Universe;
use imgbuild::debian::repository::{Certificates, Transport as _};
use support::{DEBIAN, Network, SECURITY, repository};

const SUITES: [(&str, &str); 3] =
    [(DEBIAN, "trixie"), (DEBIAN, "trixie-updates"), (SECURITY, "trixie-security")];

#[test]
#[ignore = "needs the network and gpgv"]
fn signed_text_is_what_gpgv_says_it_is() {
    let network = Network::new();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gpgv");
    fs::create_dir_all(&directory).unwrap();
    for (url, suite) in SUITES {
        let repository = repository(url, suite);
        let message = network.get(&format!("{url}/dists/{suite}/InRelease"), 1 << 24).unwrap();
        let (file, ring) = (directory.join(suite), directory.join("keyring.gpg"));
        fs::write(&file, &message).unwrap();
        let Certificates::Here(certificates) = &repository.keyring else { unreachable!() };
        fs::write(&ring, certificates).unwrap();
        let keyring = Keyring::parse(certificates).unwrap();
        let now = SystemTime::now().into();
        let verified = keyring.verify(&message, &repository.signed_by, now).unwrap();
        let gpgv = Command::new("gpgv")
            .args(["--quiet", "--output", "-", "--keyring"])
            .args([&ring, &file])
            .output()
            .unwrap();
        // It fails if it does not know every signer, so its words have to do.
        let verdict = String::from_utf8_lossy(&gpgv.stderr);
        assert!(verdict.contains("Good signature"), "{verdict}");
        let text = String::from_utf8(gpgv.stdout).unwrap();
        assert_eq!(verified.text, text.trim_end_matches('\n'), "{suite}");
    }
}

#[test]
#[ignore = "needs the network"]
fn every_package_of_the_archive_can_be_read() {
    let network = Network::new();
    for (url, suite) in SUITES {
        let contents =
            repository(url, suite).read(&network, "amd64", None, SystemTime::now().into()).unwrap();
        let mut universe = Universe::new();
        for index in &contents.indexes {
            universe.add(0, index, "amd64", &[]).unwrap();
        }
        for (_, package) in universe.packages() {
            package.requirements().unwrap();
            package.conflicts().unwrap();
        }
        println!("{suite} of {}: {} packages", contents.date, universe.packages().count());
        assert!(universe.packages().next().is_some());
    }
}
