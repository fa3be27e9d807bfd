//! Scripts, triggers, and sets that do not work.

use super::*;

#[test]
fn triggers_are_registered_and_activated() {
    let fixture = Fixture::new();
    let first = package("a").control(
        "triggers",
        "interest-noawait /usr/share/man\ninterest cache\nactivate-noawait ldconfig\n",
    );
    let first = first.directory("./usr/share", 0o755).directory("./usr/share/man", 0o755);
    fixture.install(&[first]).unwrap();
    assert_eq!(fixture.text("var/lib/dpkg/triggers/File"), "/usr/share/man a/noawait\n");
    assert_eq!(fixture.text("var/lib/dpkg/triggers/cache"), "a\n");
    assert_eq!(fixture.text("var/lib/dpkg/triggers/Unincorp"), "ldconfig -\n");
    let second = with("b", "Multi-Arch: same\n")
        .control("triggers", "interest cache\nactivate cache\n")
        .directory("./usr/share/man", 0o755);
    fixture.install(&[second]).unwrap();
    assert_eq!(fixture.text("var/lib/dpkg/triggers/cache"), "a\nb:amd64\n");
    assert_eq!(
        fixture.text("var/lib/dpkg/triggers/Unincorp"),
        "ldconfig -\ncache b:amd64\n/usr/share/man b:amd64\n"
    );
}

#[test]
fn scripts_run_between_pre_dependencies_and_unpacking() {
    let fixture = Fixture::new();
    let essential = with("a", "Essential: yes\nDepends: b\n").control("preinst", "#!/bin/sh\n");
    let packages = [
        essential,
        with("b", "Provides: virtual\n"),
        with("c", "Pre-Depends: virtual\n").control("preinst", "#!/bin/sh\n"),
        with("d", "Pre-Depends: c | nothing\n").control("preinst", "#!/bin/sh\n"),
    ];
    let calls = fixture.install(&packages).unwrap();
    assert_eq!(calls, ["preinst a", "configure a b", "preinst c", "configure c", "preinst d"]);
    assert!(!fixture.root.join("var/lib/dpkg/tmp.ci").exists());
    let status = fixture.text("var/lib/dpkg/status");
    assert_eq!(status.matches("Status: install ok unpacked").count(), 4, "{status}");
    fixture.make_configured();
    let calls = fixture.install(&[with("e", "Pre-Depends: c\n").control("preinst", "")]).unwrap();
    assert_eq!(calls, ["preinst e"]);
}

#[test]
fn a_package_is_installed_once_and_is_the_expected_one() {
    let fixture = Fixture::new();
    fixture.install(&[package("a")]).unwrap();
    let error = fixture.install(&[package("a")]).unwrap_err();
    assert!(matches!(error, Error::AlreadyInstalled { .. }), "{error}");
    let mut builder = package("b");
    builder.name = "c".to_owned();
    let error = fixture.install(&[builder]).unwrap_err();
    assert!(matches!(error, Error::WrongPackage { .. }), "{error}");
}

#[test]
fn circles_of_pre_dependencies_are_named() {
    let fixture = Fixture::new();
    let packages = [
        with("a", "Pre-Depends: b\n").control("preinst", ""),
        with("b", "Pre-Depends: a\n").control("preinst", ""),
    ];
    let error = fixture.install(&packages).unwrap_err();
    assert!(error.to_string().contains("a:amd64, b:amd64"), "{error}");
}
