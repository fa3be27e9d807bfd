//! What lands where, and as what.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use super::*;

#[test]
fn files_links_and_directories_are_as_in_the_archive() {
    let fixture = Fixture::new();
    let builder = package("x")
        .directory("./usr/private/", 0o2750)
        .symlink("./usr/link", "private/program")
        .file("./usr/private/program", 0o4755, "run")
        .hardlink("./usr/again", "./usr/private/program")
        .file("./usr/empty", 0o600, "");
    fixture.install(&[builder]).unwrap();
    let usr = fixture.root.join("usr");
    assert_eq!(mode(&usr.join("private")), 0o2750);
    assert_eq!(mode(&usr.join("private/program")), 0o4755);
    assert_eq!(mode(&usr.join("empty")), 0o600);
    assert_eq!(fs::read_link(usr.join("link")).unwrap(), Path::new("private/program"));
    let program = usr.join("private/program").metadata().unwrap();
    assert_eq!(program.ino(), usr.join("again").metadata().unwrap().ino());
    for path in ["", "private", "private/program", "link", "empty"] {
        let metadata = usr.join(path).symlink_metadata().unwrap();
        assert_eq!(metadata.mtime(), TIME as i64, "{path}");
    }
    // Links come last in dpkg's lists, since dpkg makes them last.
    assert_eq!(
        fixture.list("x"),
        "/.\n/usr\n/usr/private\n/usr/private/program\n/usr/again\n/usr/empty\n/usr/link\n"
    );
    assert_eq!(
        fixture.text("var/lib/dpkg/info/x.md5sums"),
        "a53108f7543b75adbb34afc035d4cdf6  usr/private/program\n\
         a53108f7543b75adbb34afc035d4cdf6  usr/again\n\
         d41d8cd98f00b204e9800998ecf8427e  usr/empty\n"
    );
    assert_eq!(fixture.text("var/lib/dpkg/info/format"), "1\n");
}

#[test]
fn checksums_of_the_package_are_kept() {
    let fixture = Fixture::new();
    let builder = with("x", "Multi-Arch: same\n").file("./usr/f", 0o644, "f");
    fixture.install(&[builder.control("md5sums", "as given\n")]).unwrap();
    assert_eq!(fixture.text("var/lib/dpkg/info/x:amd64.md5sums"), "as given\n");
}

#[test]
fn configuration_files_wait_beside_their_place() {
    let fixture = Fixture::new();
    fixture.write("etc/other/real", "");
    symlink("other/real", fixture.root.join("etc/linked")).unwrap();
    symlink("other", fixture.root.join("etc/directory")).unwrap();
    let builder = package("x")
        .directory("./etc", 0o755)
        .file("./etc/plain", 0o640, "new")
        .file("./etc/linked", 0o640, "new")
        .file("./etc/directory", 0o640, "new")
        .control("conffiles", "/etc/plain\n/etc/linked\n/etc/directory\n");
    fixture.install(&[builder]).unwrap();
    assert_eq!(fixture.text("etc/plain.dpkg-new"), "new");
    assert_eq!(fixture.text("etc/other/real.dpkg-new"), "new");
    assert_eq!(fixture.text("etc/directory.dpkg-new"), "new");
    assert!(!fixture.root.join("etc/plain").exists());
    let status = fixture.text("var/lib/dpkg/status");
    assert!(status.contains("Conffiles:\n /etc/plain newconffile\n /etc/linked newconffile\n"));
    assert!(status.contains("Status: install ok unpacked\n"));
}

#[test]
fn a_file_and_a_directory_do_not_fit_together() {
    for threads in [1, 4] {
        let fixture = Fixture::new();
        let packages = [
            package("a").file("./usr/same", 0o644, "a"),
            package("b").directory("./usr/same", 0o755),
        ];
        assert!(fixture.install_with(&packages, threads).is_err());
    }
    let fixture = Fixture::new();
    fixture.write("usr/same/made-by-a-script", "");
    let error = fixture.install(&[package("a").file("./usr/same", 0o644, "")]).unwrap_err();
    assert!(matches!(error, Error::Obstructed { .. }), "{error}");
}

#[test]
fn stat_overrides_count_more_than_packages() {
    let fixture = Fixture::new();
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    fixture.write("var/lib/dpkg/statoverride", &format!("#{user} #{group} 4710 /usr/f\n"));
    fixture.install(&[package("a").file("./usr/f", 0o644, "")]).unwrap();
    assert_eq!(mode(&fixture.root.join("usr/f")), 0o4710);
    fixture.write("var/lib/dpkg/statoverride", "nobody-here root 644 /usr/g\n");
    assert!(fixture.install(&[package("b").file("./usr/g", 0o644, "")]).is_err());
}

#[test]
fn links_of_directories_stay_and_are_followed_inside_the_root() {
    let fixture = Fixture::new();
    fixture.write("usr/bin/x", "");
    symlink("usr/bin", fixture.root.join("bin")).unwrap();
    symlink("/", fixture.root.join("outside")).unwrap();
    symlink("../../../..", fixture.root.join("usr/up")).unwrap();
    let builder = package("a")
        .directory("./bin/", 0o700)
        .directory("./outside/imgbuild-test/", 0o755)
        .file("./bin/program", 0o755, "p")
        .file("./outside/imgbuild-test/file", 0o644, "o")
        .file("./usr/up/imgbuild-test/other", 0o644, "o");
    fixture.install(&[builder]).unwrap();
    assert!(fixture.root.join("bin").is_symlink());
    assert_eq!(fixture.text("usr/bin/program"), "p");
    assert_eq!(fixture.text("imgbuild-test/file"), "o");
    assert_eq!(fixture.text("imgbuild-test/other"), "o");
    assert!(!Path::new("/imgbuild-test").exists());
}

#[test]
fn a_link_does_not_replace_a_directory() {
    let fixture = Fixture::new();
    let packages = [
        package("a").symlink("./usr/d", "elsewhere"),
        package("b").directory("./usr/d", 0o755).file("./usr/d/f", 0o644, ""),
    ];
    fixture.install(&packages).unwrap();
    assert!(fixture.root.join("usr/d/f").is_file());
    assert_eq!(fixture.list("a"), "/.\n/usr\n/usr/d\n");
}

#[test]
fn two_names_of_a_directory_are_the_same_place() {
    // dpkg does not notice that these are one file: the later package gets it.
    for threads in [1, 4] {
        let fixture = Fixture::new();
        fixture.write("usr/lib/x", "");
        symlink("usr/lib", fixture.root.join("lib")).unwrap();
        let packages = [
            package("a").file("./usr/lib/f", 0o644, "a"),
            package("b").file("./lib/f", 0o644, "b"),
        ];
        fixture.install_with(&packages, threads).unwrap();
        assert_eq!(fixture.text("usr/lib/f"), "b");
    }
}

#[test]
fn what_is_recorded_of_a_file_that_another_name_took_does_not_depend_on_who_came_first() {
    // Nothing writes the file of `a` when `b` was first, and its checksum was missing then.
    let lists: Vec<String> = [0, 65_536]
        .map(|padding| {
            let fixture = Fixture::new();
            fixture.write("usr/lib/x", "");
            symlink("usr/lib", fixture.root.join("lib")).unwrap();
            let packages = [
                package("a").file("./usr/lib/f", 0o644, "a"),
                // One thread begins with the largest package.
                package("b").file("./lib/f", 0o644, "b").file(
                    "./usr/b",
                    0o644,
                    &".".repeat(padding),
                ),
            ];
            fixture.install_with(&packages, 1).unwrap();
            fixture.text("var/lib/dpkg/info/a.md5sums")
        })
        .into();
    assert_eq!(lists[0], lists[1]);
    assert_eq!(lists[0], "0cc175b9c0f1b6a831c399e269772661  usr/lib/f\n");
}

#[test]
fn hard_links_to_what_the_package_does_not_ship_are_refused() {
    let fixture = Fixture::new();
    fixture.write("etc/shadow", "secret");
    let error = fixture.install(&[package("a").hardlink("./usr/f", "./etc/shadow")]).unwrap_err();
    assert!(matches!(error, Error::Hardlink { .. }), "{error}");
}

#[test]
fn usr_is_merged_for_releases_whose_base_files_does_not_do_it() {
    let fixture = Fixture::new();
    let old = Builder::new("base-files", "Essential: yes\n")
        .directory("./", 0o755)
        .directory("./bin", 0o755)
        .directory("./usr/", 0o755);
    let other = with("x", "").file("./bin/program", 0o755, "");
    fixture.install(&[old, other]).unwrap();
    assert!(fixture.root.join("usr/bin/program").is_file());
    assert_eq!(fs::read_link(fixture.root.join("lib64")).unwrap(), Path::new("usr/lib64"));
    let fixture = Fixture::new();
    let new = with("base-files", "Essential: yes\n")
        .directory("./usr/bin", 0o755)
        .symlink("./bin", "usr/bin");
    fixture.install(&[new]).unwrap();
    assert!(!fixture.root.join("lib64").exists());
}
