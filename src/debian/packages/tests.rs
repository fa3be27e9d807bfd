//! Entries of `Packages` files, right and wrong.

use super::*;
use crate::debian::testing::packages;

#[test]
fn entries_are_read_whatever_the_case_of_their_fields() {
    let text = packages("a 1:2-3; Essential: yes; Multi-Arch: allowed; Priority: required")
        .replace("Version", "version");
    let mut universe = Universe::new();
    universe.add(7, &text, "amd64", &[]).unwrap();
    let package = universe.package(universe.versions("a")[0]);
    assert_eq!((package.origin, package.version), (Origin::Repository(7), "1:2-3"));
    assert_eq!((package.size, package.path), (1, "pool/a_1:2-3_amd64.deb"));
    assert!(package.essential && package.multi_arch_allowed && !package.departed);
}

#[test]
fn packages_of_other_architectures_are_passed_over() {
    let text = packages("a 1\n b 1\n c 1")
        .replacen("Architecture: amd64", "Architecture: all", 1)
        .replacen("Architecture: amd64", "Architecture: arm64", 1);
    let mut universe = Universe::new();
    universe.add(0, &text, "amd64", &[]).unwrap();
    let names: Vec<_> = universe.packages().map(|(_, package)| package.name).collect();
    assert_eq!(names, ["a", "c"]);
}

#[test]
fn malformed_entries_are_refused() {
    for (from, to) in [
        ("Package: a", "Package: a/b"),
        ("Package: a\n", ""),
        ("Version: 1", "Version: x"),
        ("Architecture: amd64", "Architecture: a md64"),
        ("Filename: pool", "Filename: /pool"),
        ("Filename: pool", "Filename: ../pool"),
        ("Filename: pool/", "Filename: pool/../../"),
        ("Filename: pool/", "Filename: pool//"),
        ("Filename: pool/", "Filename: http://evil.test/?"),
        ("Size: 1", "Size: -1"),
        ("SHA256: ", "SHA256: 00"),
        ("SHA256: ", "MD5sum: "),
        ("Size: 1", "Size: 1\nSize: 2"),
        ("Size: 1", "Size 1"),
    ] {
        let text = packages("a 1");
        assert!(text.contains(from), "{from}");
        let result = Universe::new().add(0, &text.replacen(from, to, 1), "amd64", &[]).map(drop);
        assert!(result.is_err(), "{to}");
    }
}

#[test]
fn the_first_repository_wins_among_equal_versions() {
    let text = packages("a 1");
    let mut universe = Universe::new();
    universe.add(0, &text, "amd64", &[]).unwrap();
    universe.add(1, &text, "amd64", &[]).unwrap();
    assert_eq!(universe.packages().count(), 1);
    assert_eq!(universe.package(universe.versions("a")[0]).origin, Origin::Repository(0));
}
