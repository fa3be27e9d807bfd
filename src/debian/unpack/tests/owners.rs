//! Paths that several packages ship.

use std::path::Path;

use super::*;

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
