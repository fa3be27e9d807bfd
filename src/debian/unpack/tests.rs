use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::debian::deb::testing::{Builder, TIME};
use crate::progress::Silent;

/// An empty root directory and the packages for it.
struct Fixture {
    _directory: tempfile::TempDir,
    debs: PathBuf,
    root: PathBuf,
}

/// Notes what it is asked to run.
#[derive(Default)]
struct Recorder {
    root: PathBuf,
    calls: Vec<String>,
}

impl Runner for Recorder {
    type Error = Error;

    fn preinst(&mut self, script: &Maintainer) -> Result<(), Error> {
        let path = self.root.join(script.script.strip_prefix("/").unwrap());
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o111, 0o111, "the script must be executable");
        self.calls.push(format!("preinst {}", script.package));
        Ok(())
    }

    fn configure(&mut self, packages: &[String]) -> Result<(), Error> {
        self.calls.push(format!("configure {}", packages.join(" ")));
        Ok(())
    }
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (debs, root) = (directory.path().join("debs"), directory.path().join("root"));
        fs::create_dir(&debs).unwrap();
        fs::create_dir(&root).unwrap();
        Self { _directory: directory, debs, root }
    }

    fn install(&self, packages: &[Builder]) -> Result<Vec<String>, Error> {
        self.install_with(packages, 2)
    }

    fn install_with(&self, packages: &[Builder], threads: usize) -> Result<Vec<String>, Error> {
        let packages: Vec<Package> = packages
            .iter()
            .map(|builder| Package {
                file: builder.write(&self.debs),
                name: builder.name.clone(),
                version: "1".to_owned(),
                architecture: "amd64".to_owned(),
            })
            .collect();
        let mut recorder = Recorder { root: self.root.clone(), calls: Vec::new() };
        let threads = NonZeroUsize::new(threads).unwrap();
        install(&self.root, &packages, &mut recorder, threads, &Silent)?;
        Ok(recorder.calls)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn list(&self, package: &str) -> String {
        self.text(&format!("var/lib/dpkg/info/{package}.list"))
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn make_configured(&self) {
        let status = self.text("var/lib/dpkg/status");
        self.write("var/lib/dpkg/status", &status.replace("ok unpacked", "ok installed"));
    }

    /// Every path with its kind, mode, time and content.
    fn tree(&self) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
        let mut tree = BTreeMap::new();
        for entry in walkdir::WalkDir::new(&self.root).min_depth(1) {
            let entry = entry.unwrap();
            let metadata = entry.path().symlink_metadata().unwrap();
            let content = match metadata.file_type() {
                kind if kind.is_file() => fs::read(entry.path()).unwrap(),
                kind if kind.is_symlink() => {
                    fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes()
                }
                _ => Vec::new(),
            };
            // dpkg's own directories are not those of a package here.
            let path = entry.path().strip_prefix(&self.root).unwrap().to_owned();
            let ours = path.starts_with("var");
            let mtime = if ours { 0 } else { metadata.mtime() };
            tree.insert(path, (metadata.mode(), mtime, content));
        }
        tree
    }
}

fn package(name: &str) -> Builder {
    with(name, "")
}

fn with(name: &str, fields: &str) -> Builder {
    Builder::new(name, fields).directory("./", 0o755).directory("./usr/", 0o755)
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

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
    let builder = package("x")
        .directory("./etc", 0o755)
        .file("./etc/plain", 0o640, "new")
        .file("./etc/linked", 0o640, "new")
        .control("conffiles", "/etc/plain\n/etc/linked\n");
    fixture.install(&[builder]).unwrap();
    assert_eq!(fixture.text("etc/plain.dpkg-new"), "new");
    assert_eq!(fixture.text("etc/other/real.dpkg-new"), "new");
    assert!(!fixture.root.join("etc/plain").exists());
    let status = fixture.text("var/lib/dpkg/status");
    assert!(status.contains("Conffiles:\n /etc/plain newconffile\n /etc/linked newconffile\n"));
    assert!(status.contains("Status: install ok unpacked\n"));
}

#[test]
fn the_result_does_not_depend_on_threads_or_order() {
    let mut packages = Vec::new();
    for number in 0..12 {
        let mut builder =
            with(&format!("p{number:02}"), "").directory("./usr/shared/", 0o755 - number % 3);
        for file in 0..20 {
            builder = builder.file(&format!("./usr/shared/{number}-{file}"), 0o644, "text");
        }
        let link = format!("./usr/shared/link-{number}");
        packages.push(builder.symlink(&link, "somewhere"));
    }
    // Each of these replaces a file of the one before it.
    for number in 1..8 {
        let replaces = format!("Replaces: r{}\n", number - 1);
        let builder = with(&format!("r{number}"), &replaces);
        packages.push(builder.file("./usr/contested", 0o644, &format!("{number}")));
    }
    let trees: Vec<_> = [1, 2, 8, 8, 8]
        .into_iter()
        .map(|threads| {
            packages.reverse();
            let fixture = Fixture::new();
            let result = fixture.install_with(&packages, threads);
            (fixture.tree(), result.map_err(|error| error.to_string()))
        })
        .collect();
    assert_eq!(trees[0].0[Path::new("usr/contested")].2, b"7");
    assert_eq!(trees[0].0[Path::new("usr/shared")].0 & 0o7777, 0o755);
    for (index, tree) in trees.iter().enumerate() {
        assert_eq!(tree, &trees[0], "{index}");
    }
}

#[test]
fn two_packages_with_the_same_file_do_not_fit_together() {
    for threads in [1, 4] {
        let fixture = Fixture::new();
        let packages = [
            package("b").file("./usr/same", 0o644, "b"),
            package("a").symlink("./usr/same", "elsewhere"),
        ];
        let error = fixture.install_with(&packages, threads).unwrap_err();
        assert_eq!(error.to_string(), "packages a:amd64 and b:amd64 both ship /usr/same");
    }
    let fixture = Fixture::new();
    fixture.install(&[package("a").file("./usr/same", 0o644, "a")]).unwrap();
    let error = fixture.install(&[package("b").file("./usr/same", 0o644, "b")]).unwrap_err();
    assert_eq!(error.to_string(), "packages a and b both ship /usr/same");
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
fn replaced_files_change_their_package() {
    // Whichever comes first by name, in one set and in two layers.
    for (old, new) in [("a", "b"), ("b", "a")] {
        for layers in [1, 2] {
            let fixture = Fixture::new();
            let first =
                package(old).file("./usr/moved", 0o644, "old").file("./usr/kept", 0o644, "");
            let second = with(new, &format!("Replaces: {old} (<< 2)\n"));
            let second = second.file("./usr/moved", 0o644, "new");
            match layers {
                1 => _ = fixture.install(&[first, second]).unwrap(),
                _ => {
                    fixture.install(&[first]).unwrap();
                    fixture.install(&[second]).unwrap();
                }
            }
            assert_eq!(fixture.text("usr/moved"), "new", "{old} {layers}");
            assert_eq!(fixture.list(old), "/.\n/usr\n/usr/kept\n", "{old} {layers}");
            assert_eq!(fixture.list(new), "/.\n/usr\n/usr/moved\n", "{old} {layers}");
        }
    }
}

#[test]
fn a_file_that_an_installed_package_replaces_stays() {
    let fixture = Fixture::new();
    fixture.install(&[with("a", "Replaces: b\n").file("./usr/f", 0o644, "a")]).unwrap();
    fixture.install(&[package("b").file("./usr/f", 0o644, "b")]).unwrap();
    assert_eq!(fixture.text("usr/f"), "a");
    assert_eq!(fixture.list("b"), "/.\n/usr\n");
}

#[test]
fn replaces_of_another_version_does_not_count() {
    let fixture = Fixture::new();
    let packages = [
        package("a").file("./usr/f", 0o644, ""),
        with("b", "Replaces: a (<< 1)\n").file("./usr/f", 0o644, ""),
    ];
    assert!(matches!(fixture.install(&packages), Err(Error::Conflict { .. })));
}

#[test]
fn diverted_files_go_where_they_are_diverted_to() {
    let fixture = Fixture::new();
    fixture
        .write("var/lib/dpkg/diversions", "/usr/f\n/usr/f.distrib\nb\n/usr/l\n/usr/l.other\n:\n");
    let packages = [
        package("a").file("./usr/f", 0o644, "a").symlink("./usr/l", "t"),
        package("b").file("./usr/f", 0o644, "b"),
    ];
    fixture.install(&packages).unwrap();
    assert_eq!((fixture.text("usr/f"), fixture.text("usr/f.distrib")), ("b".into(), "a".into()));
    assert!(fixture.root.join("usr/l.other").is_symlink());
    assert_eq!(fixture.list("a"), "/.\n/usr\n/usr/f\n/usr/l\n");
    let error = fixture.install(&[package("c").file("./usr/f.distrib", 0o644, "")]).unwrap_err();
    assert!(matches!(error, Error::DivertedTo { .. }), "{error}");
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
fn hard_links_to_what_the_package_does_not_ship_are_refused() {
    let fixture = Fixture::new();
    fixture.write("etc/shadow", "secret");
    let error = fixture.install(&[package("a").hardlink("./usr/f", "./etc/shadow")]).unwrap_err();
    assert!(matches!(error, Error::Hardlink { .. }), "{error}");
}

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
