//! `ci/release`: what it refuses, and, in a heavier test, that it makes the same bytes twice and that they can be
//! installed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::recorder::executable;
use crate::{has, read, root};

/// A repository with the script in it, at the tag `tag`.
fn repository(changelog: &str, tag: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::create_dir(path.join("ci")).unwrap();
    executable(&path.join("ci/release"), &read("ci/release"));
    fs::write(path.join("Cargo.toml"), "[package]\nname = \"imgbuild\"\nversion = \"0.3.0\"\n")
        .unwrap();
    fs::write(path.join("CHANGELOG.md"), changelog).unwrap();
    for arguments in [
        &["init", "--quiet"][..],
        &["add", "."],
        &[
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.org",
            "commit",
            "--quiet",
            "--message=a",
        ],
        &["tag", tag],
    ] {
        let git = Command::new("git").arg("-C").arg(path).args(arguments).output().unwrap();
        assert!(git.status.success(), "{git:?}");
    }
    directory
}

fn release(project: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(project.join("ci/release"));
    command.current_dir(project).args(arguments).output().unwrap()
}

#[test]
fn what_is_no_release_is_refused_before_anything_is_compiled() {
    if !has("git") {
        return;
    }
    const KNOWN: &str = "# Changelog\n\n## Unreleased\n\n## 0.3.0 (2026-11-26)\n";
    for (changelog, tag, arguments, expected, code) in [
        (KNOWN, "v0.4.0", &["--tag", "v0.4.0"][..], "the version in Cargo.toml 0.3.0", 1),
        ("## Unreleased\n", "v0.3.0", &["--tag", "v0.3.0"], "no section '## 0.3.0 (DATE)'", 1),
        (KNOWN, "v0.3.0", &["--tag", "v9"], "there is no revision v9", 1),
        (KNOWN, "v0.3.0", &["--tag"], "usage: ci/release", 2),
        (KNOWN, "v0.3.0", &["deb"], "usage: ci/release", 2),
    ] {
        let project = repository(changelog, tag);
        let output = release(project.path(), arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(!project.path().join("out").exists(), "{arguments:?}");
    }
}

/// Minutes: compiles imgbuild twice. Needs root, mmdebstrap and what `ci/release --tools` installs.
#[test]
#[ignore = "compiles imgbuild twice for musl, and installs it in a chroot"]
fn a_release_is_made_twice_with_the_same_bytes_and_can_be_installed() {
    let directory = tempfile::tempdir().unwrap();
    let sums = ["one", "another/and deeper"].map(|name| {
        let out = directory.path().join(name).join("out");
        let scratch = directory.path().join(name).join("scratch");
        let output = Command::new(root().join("ci/release"))
            .arg("--scratch")
            .arg(&scratch)
            .arg("--out")
            .arg(&out)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (fs::read_to_string(out.join("SHA256SUMS")).unwrap(), out)
    });
    assert_eq!(sums[0].0, sums[1].0, "two builds differ");
    let out = &sums[0].1;
    let package = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    let package = package.into_iter().find(|path| path.extension().is_some_and(|it| it == "deb"));
    let hook = "cp \"$PACKAGE\" \"$1\"/imgbuild.deb && \
                chroot \"$1\" dpkg --install /imgbuild.deb && \
                chroot \"$1\" imgbuild --version && \
                chroot \"$1\" man imgbuild-build | grep -q 'Build' && \
                chroot \"$1\" bash -c '. /usr/share/bash-completion/completions/imgbuild && complete -p imgbuild' && \
                chroot \"$1\" dpkg --verify imgbuild && \
                chroot \"$1\" dpkg --purge imgbuild";
    let output = Command::new("mmdebstrap")
        .args(["--variant=minbase", "--include=man-db,bash-completion"])
        // Man pages are left out of small systems by this.
        .arg("--dpkgopt=path-include=/usr/share/man/*")
        .arg(format!("--customize-hook={hook}"))
        .args(["trixie", "/dev/null"])
        .env("PACKAGE", package.unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
