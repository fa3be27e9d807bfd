//! Small stacks by hand, and any stack against the obvious slow merge.

use super::*;
use crate::layer::archive::testing::layer;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What `merged` holds, in the same notation and with the number of the content's layer.
fn listing(merged: &Merged<'_>) -> Vec<String> {
    let describe = |item: &MergedEntry<'_>| {
        let path = item.entry.path.display();
        let layer = item.layer;
        match &item.entry.kind {
            Kind::Directory => format!("d /{path} {layer} at {}", item.place.layer),
            Kind::File { size } => {
                assert_eq!(item.content.unwrap().size, *size);
                format!("f /{path} {layer} {size}")
            }
            Kind::Symlink { target } => format!("l /{path} {layer} {}", target.display()),
            Kind::Hardlink { target } => format!("h /{path} {layer} {}", target.display()),
            Kind::Whiteout => panic!("a whiteout in a merged tree"),
        }
    };
    merged.entries().iter().map(describe).collect()
}

fn merge_listing(layers: &[&str]) -> Vec<String> {
    let layers: Vec<_> = layers.iter().map(|text| layer(text).index).collect();
    listing(&Merged::new(&layers).unwrap())
}

#[test]
fn layers_lie_over_one_another() {
    let base = "d /\nd /a\nf /a/x 1\nf /a/y 12\nd /b\nf /b/z 123\nf /c 1\nl /d a";
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "a file is replaced",
            "d /\nd /a\nf /a/x 1234",
            &[
                "d / 1 at 0",
                "d /a 1 at 0",
                "f /a/x 1 4",
                "f /a/y 0 2",
                "d /b 0 at 0",
                "f /b/z 0 3",
                "f /c 0 1",
                "l /d 0 a",
            ],
        ),
        (
            "a whiteout removes a file",
            "w /a/x",
            &[
                "d / 0 at 0",
                "d /a 0 at 0",
                "f /a/y 0 2",
                "d /b 0 at 0",
                "f /b/z 0 3",
                "f /c 0 1",
                "l /d 0 a",
            ],
        ),
        (
            "a whiteout removes a whole directory",
            "w /a\nw /nothing",
            &["d / 0 at 0", "d /b 0 at 0", "f /b/z 0 3", "f /c 0 1", "l /d 0 a"],
        ),
        (
            "a file replaces a whole directory",
            "f /a 1",
            &["d / 0 at 0", "f /a 1 1", "d /b 0 at 0", "f /b/z 0 3", "f /c 0 1", "l /d 0 a"],
        ),
        (
            "a directory replaces a file and a link",
            "d /c\nf /c/x 1\nd /d",
            &[
                "d / 0 at 0",
                "d /a 0 at 0",
                "f /a/x 0 1",
                "f /a/y 0 2",
                "d /b 0 at 0",
                "f /b/z 0 3",
                "d /c 1 at 1",
                "f /c/x 1 1",
                "d /d 1 at 1",
            ],
        ),
    ];
    for (what, upper, expected) in cases {
        assert_eq!(merge_listing(&[base, upper]), *expected, "{what}");
    }
}

#[test]
fn what_a_middle_layer_removed_can_come_back() {
    assert_eq!(
        merge_listing(&["d /\nd /a\nf /a/x 1", "w /a", "d /a\nf /a/y 1"]),
        ["d / 0 at 0", "d /a 2 at 2", "f /a/y 2 1"]
    );
}

#[test]
fn the_next_name_becomes_the_file_when_the_first_is_replaced() {
    let base = "d /\nf /a 123\nh /b a\nh /c a\nf /d 1\nh /e d";
    assert_eq!(
        merge_listing(&[base, "f /a 1"]),
        ["d / 0 at 0", "f /a 1 1", "f /b 0 3", "h /c 0 b", "f /d 0 1", "h /e 0 d"]
    );
    assert_eq!(
        merge_listing(&[base, "w /a\nw /b"]),
        ["d / 0 at 0", "f /c 0 3", "f /d 0 1", "h /e 0 d"]
    );
    assert_eq!(
        merge_listing(&[base, "w /b\nw /d"]),
        ["d / 0 at 0", "f /a 0 3", "h /c 0 a", "f /e 0 1"]
    );
    let layers = [layer(base).index, layer("w /a").index];
    let merged = Merged::new(&layers).unwrap();
    let file = layers[0].get(Path::new("a")).unwrap();
    let content = Some(Content { layer: 0, offset: file.data_offset, size: 3 });
    for path in ["b", "c"] {
        assert_eq!(merged.content(merged.get(Path::new(path)).unwrap()), content, "{path}");
    }
}

#[test]
fn a_path_in_no_directory_is_refused() {
    for (layers, culprit) in [
        (&["f /a 1"][..], (0, "a")),
        (&["d /\nf /a/b 1"], (0, "a/b")),
        (&["d /\nf /a 1", "f /a/b 1"], (1, "a/b")),
        (&["d /\nl /a /", "f /a/b 1"], (1, "a/b")),
        (&["d /\nd /a\nd /a/b", "w /a", "f /a/b/c 1"], (2, "a/b/c")),
    ] {
        let layers: Vec<_> = layers.iter().map(|text| layer(text).index).collect();
        let (layer, path) = (culprit.0, culprit.1.into());
        assert_eq!(Merged::new(&layers).unwrap_err(), Error::NoParent { layer, path });
    }
}

#[test]
fn symbolic_links_are_followed_inside_the_tree() {
    let layers = [layer(
        "d /\nl /bin usr/bin\nd /etc\nl /etc/up ../../../usr\nd /loop\nl /loop/a b\nl /loop/b a\n\
         l /sh /bin/sh\nd /usr\nd /usr/bin\nf /usr/bin/dash 1\nl /usr/bin/sh dash\nl /usr/gone x",
    )
    .index];
    let merged = Merged::new(&layers).unwrap();
    for (path, found) in [
        ("/bin/sh", "usr/bin/dash"),
        ("sh", "usr/bin/dash"),
        ("/etc/up/bin/./dash", "usr/bin/dash"),
        ("/../../bin", "usr/bin"),
        ("/bin/..", "usr"),
        ("/", ""),
    ] {
        let entry = merged.resolve(Path::new(path)).unwrap();
        assert_eq!(entry.entry.path, Path::new(found), "{path}");
    }
    for (path, error) in [
        ("/usr/gone", Error::NotFound("usr/x".into())),
        ("/bin/sh/x", Error::NotFound("usr/bin/dash/x".into())),
        ("/loop/a", Error::LinkLoop("/loop/a".into())),
    ] {
        assert_eq!(merged.resolve(Path::new(path)).unwrap_err(), error, "{path}");
    }
}

/// What a path is in [`merge_slowly`]: a file is the layer and first name of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Slow {
    Directory,
    File(usize, PathBuf),
}

/// The same by the obvious, slow way: a map that each layer's members change in turn.
fn merge_slowly(layers: &[Index]) -> BTreeMap<PathBuf, (usize, Slow)> {
    let mut tree: BTreeMap<PathBuf, (usize, Slow)> = BTreeMap::new();
    for (number, layer) in layers.iter().enumerate() {
        for member in layer.entries() {
            let Entry { path, kind, .. } = &member.entry;
            if *kind != Kind::Directory {
                tree.retain(|other, _| !other.starts_with(path));
            }
            let slow = match kind {
                Kind::Directory => Slow::Directory,
                Kind::File { .. } => Slow::File(number, path.clone()),
                Kind::Hardlink { target } => Slow::File(number, target.clone()),
                Kind::Symlink { .. } => panic!("not made here"),
                Kind::Whiteout => continue,
            };
            tree.insert(path.clone(), (number, slow));
        }
    }
    tree
}

/// A layer over the paths `x`, `x/y`, `x/y/z` for one-letter names, whose parents are included. Some
/// of the files are hard links to the layer's first file.
fn any_layer() -> impl Strategy<Value = Index> {
    let path = prop::collection::vec("[abc]", 1..4);
    prop::collection::btree_map(path, 0..6_usize, 0..12).prop_map(|paths| {
        let mut lines: BTreeMap<Vec<String>, (&str, String)> = BTreeMap::new();
        for (names, kind) in paths {
            for depth in 1..names.len() {
                lines.insert(names[..depth].to_vec(), ("d", String::new()));
            }
            let kind = ["d", "w", "f", "f", "h", "h"][kind];
            lines.entry(names.clone()).or_insert_with(|| (kind, names.join("-")));
        }
        let file = |(names, line): (&Vec<String>, &(&str, String))| {
            matches!(line.0, "f" | "h").then(|| names.join("/"))
        };
        let first = lines.iter().find_map(file);
        let line = |(names, (kind, content)): (&Vec<String>, &(&str, String))| {
            let path = names.join("/");
            match (*kind, &first) {
                ("h", Some(first)) if *first != path => format!("h {path} {first}"),
                ("h", _) => format!("f {path} {content}"),
                _ => format!("{kind} {path} {content}"),
            }
        };
        let text: Vec<String> = lines.iter().map(line).collect();
        layer(&format!("d /\n{}", text.join("\n"))).index
    })
}

proptest! {
    #[test]
    fn merging_agrees_with_the_obvious_way(layers in prop::collection::vec(any_layer(), 1..5)) {
        let merged = Merged::new(&layers).unwrap();
        let mut files: HashMap<(usize, u64), PathBuf> = HashMap::new();
        let mut found = BTreeMap::new();
        for item in merged.entries() {
            let path = item.entry.path.clone();
            let slow = match &item.entry.kind {
                Kind::Directory => Slow::Directory,
                kind => {
                    let Content { layer, offset, .. } = merged.content(item).unwrap();
                    // Every content is there once, under its first name; the rest link to that.
                    let first = files.entry((layer, offset)).or_insert_with(|| path.clone());
                    match kind {
                        Kind::Hardlink { target } => prop_assert_eq!(&target, &first),
                        _ => prop_assert_eq!(&path, first),
                    }
                    let named = |member: &&IndexedEntry| {
                        member.data_offset == offset && matches!(member.entry.kind, Kind::File { .. })
                    };
                    let member = layers[layer].entries().iter().find(named).unwrap();
                    Slow::File(layer, member.entry.path.clone())
                }
            };
            found.insert(path, (item.layer, slow));
        }
        prop_assert_eq!(merged.entries().len(), found.len());
        prop_assert_eq!(found, merge_slowly(&layers));
        prop_assert!(merged.entries().is_sorted_by(|left, right| left.entry.path < right.entry.path));
    }
}
