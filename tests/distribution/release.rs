//! `ci/release`: what it refuses, and, in a heavier test, that it makes the same bytes twice and that they can be
//! installed.

use std::fs;
use std::path::{Path, PathBuf};
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
        (
            KNOWN,
            "v0.3.0",
            &["--target", "aarch64-unknown-linux-gnu"],
            "the package is for amd64",
            1,
        ),
    ] {
        let project = repository(changelog, tag);
        let output = release(project.path(), arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(!project.path().join("out").exists(), "{arguments:?}");
    }
}

#[test]
fn what_it_takes_is_missed_before_anything_is_compiled_and_nothing_of_others_is_removed() {
    if !has("git") {
        return;
    }
    const CHANGELOG: &str = "# Changelog\n\n## 0.3.0 (2026-11-26)\n";
    let project = repository(CHANGELOG, "v0.3.0");
    let programs = project.path().join("programs");
    fs::create_dir(&programs).unwrap();
    for name in ["bash", "dirname", "env", "git", "grep", "head", "mkdir", "realpath", "sed"] {
        let found =
            Command::new("sh").args(["-c", &format!("command -v {name}")]).output().unwrap();
        let path = String::from_utf8(found.stdout).unwrap();
        std::os::unix::fs::symlink(path.trim(), programs.join(name)).unwrap();
    }
    let scratch = project.path().join("scratch");
    fs::create_dir_all(scratch.join("package")).unwrap();
    let output = Command::new(project.path().join("ci/release"))
        .current_dir(project.path())
        .args(["--target", "x86_64-unknown-linux-gnu", "--scratch", "scratch"])
        .env("PATH", &programs)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("missing: cargo dpkg-deb gcc jq readelf rustc xz; "), "{errors}");
    assert_eq!(output.status.code(), Some(1));
    let left: Vec<_> = fs::read_dir(&scratch).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["package"]);
}

/// What the compilers are told is told by the script alone: paths with blanks, and what the environment says.
#[test]
fn compilers_hear_of_no_flags_of_the_environment() {
    if ["git", "jq", "dpkg-deb", "readelf", "gcc", "xz"].iter().any(|program| !has(program)) {
        return;
    }
    let project = repository("# Changelog\n\n## 0.3.0 (2026-11-26)\n", "v0.3.0");
    let programs = project.path().join("programs");
    fs::create_dir(&programs).unwrap();
    executable(&programs.join("rustc"), "#!/bin/sh\necho /sysroot\n");
    // It fails, and so the script ends here.
    executable(&programs.join("cargo"), "#!/bin/sh\npwd >&2\nenv >&2\nexit 7\n");
    let scratch = project.path().join("a place");
    let output = Command::new(project.path().join("ci/release"))
        .args(["--target", "x86_64-unknown-linux-gnu", "--scratch"])
        .arg(&scratch)
        .current_dir(project.path())
        .env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()))
        .env("CARGO_HOME", "/cargo of mine")
        .envs([("RUSTFLAGS", "-Dwarnings"), ("CFLAGS", "-O0"), ("RUSTC_WRAPPER", "sccache")])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{errors}");
    let value = |name: &str| errors.lines().find_map(|line| line.strip_prefix(name));
    let flags: Vec<_> = value("CARGO_ENCODED_RUSTFLAGS=").unwrap().split('\x1f').collect();
    let place = errors.lines().next().unwrap();
    assert!(place.starts_with(&format!("{}/imgbuild-release.", scratch.display())), "{place}");
    assert_eq!(flags[0], format!("--remap-path-prefix={place}=/imgbuild"));
    assert!(flags.contains(&"--remap-path-prefix=/cargo of mine=/cargo"), "{flags:?}");
    assert!(flags.contains(&"-Ctarget-feature=+crt-static"), "{flags:?}");
    let c = value("CFLAGS_x86_64_unknown_linux_gnu=").unwrap();
    assert!(c.contains("-ffile-prefix-map=/cargo\\ of\\ mine=/cargo"), "{c}");
    for name in ["RUSTFLAGS=", "CFLAGS=", "RUSTC_WRAPPER="] {
        assert_eq!(value(name), None);
    }
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "what was compiled goes");
}

/// Makes a release of what is committed below `directory`. Returns where its files are. Takes minutes, and what
/// `ci/release --tools` installs.
fn make(directory: &Path) -> PathBuf {
    let out = directory.join("out");
    let mut command = Command::new(root().join("ci/release"));
    command.arg("--scratch").arg(directory.join("scratch")).arg("--out").arg(&out);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}

#[test]
#[ignore = "compiles imgbuild twice for musl"]
fn a_release_is_made_twice_with_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let sums = ["one", "another/and deeper"].map(|name| {
        fs::read_to_string(make(&directory.path().join(name)).join("SHA256SUMS")).unwrap()
    });
    assert_eq!(sums[0], sums[1], "two builds differ");
}

/// Needs root and mmdebstrap. `IMGBUILD_TEST_RELEASE` names a directory with a release that was made before.
#[test]
#[ignore = "compiles imgbuild for musl, and installs it in a chroot"]
fn a_package_is_as_debian_wants_it_and_can_be_installed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let given = std::env::var_os("IMGBUILD_TEST_RELEASE").map(PathBuf::from);
    let out = given.unwrap_or_else(|| make(directory.path()));
    let package = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let package = package.into_iter().find(|path| path.extension().is_some_and(|it| it == "deb"));
    let package = package.unwrap();
    if has("lintian") {
        // Who made the commit is no matter of the package, and nobody has asked Debian for it.
        const OTHERS: &str =
            "bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs";
        let mut lintian = Command::new("lintian");
        lintian.args(["--fail-on", "error,warning", "--suppress-tags", OTHERS]).arg(&package);
        let output = lintian.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
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
        .env("PACKAGE", package)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
