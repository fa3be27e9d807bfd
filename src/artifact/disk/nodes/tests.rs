//! What goes into the file systems of layers, and that overlayfs makes the same tree of them as
//! [`Merged`].

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::artifact::disk::testing::{oracle, skipped};
use crate::layer::archive::testing::{Tree, layer};

/// What a path is and holds, as seen by one who looks: names of the same file are files.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Directory { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Symlink(String),
    Whiteout,
}

type Listing = BTreeMap<PathBuf, Seen>;

fn read(extent: Extent<'_>) -> Vec<u8> {
    let mut bytes = vec![0; extent.size as usize];
    extent.file.read_exact_at(&mut bytes, extent.offset).unwrap();
    bytes
}

/// What one file system shows.
fn listing(nodes: &[Node<'_>]) -> Listing {
    let mut listing = Listing::new();
    for Node { entry, content } in nodes {
        let seen = match &entry.kind {
            Kind::Directory => Seen::Directory { mode: entry.mode },
            Kind::File { .. } => Seen::File { mode: entry.mode, content: read(content.unwrap()) },
            Kind::Symlink { target } => Seen::Symlink(target.display().to_string()),
            Kind::Hardlink { target } => listing[target].clone(),
            Kind::Whiteout => Seen::Whiteout,
        };
        assert!(
            listing.insert(entry.path.clone(), seen).is_none(),
            "{} is there twice",
            entry.path.display()
        );
    }
    listing
}

/// The file systems of a stack.
fn file_systems(stack: &[&Archive]) -> Vec<Listing> {
    let layers = stack.iter().enumerate().map(|(number, archive)| {
        let below = Merged::new(stack[..number].iter().map(|layer| &layer.index)).unwrap();
        listing(&nodes_of_layer(archive, &below).unwrap().nodes)
    });
    layers.collect()
}

/// What [`Merged`] makes of a stack.
fn merged(stack: &[&Archive]) -> Listing {
    let merged = Merged::new(stack.iter().map(|layer| &layer.index)).unwrap();
    let nodes: Vec<_> = merged
        .entries()
        .iter()
        .map(|item| Node {
            entry: item.entry.clone(),
            content: item.content.map(|Content { layer, offset, size }| Extent {
                file: &stack[layer].file,
                offset,
                size,
            }),
        })
        .collect();
    listing(&nodes)
}

/// What overlayfs makes of file systems, lowest first: `ovl_lookup` and `ovl_iterate` in short.
fn overlay(layers: &[Listing]) -> Listing {
    let mut seen = Listing::new();
    let all: Vec<&Listing> = layers.iter().rev().collect();
    add_directory(PathBuf::new(), &all, &mut seen);
    seen
}

/// Adds the directory `path`, which these layers have, highest first, and all below it.
fn add_directory(path: PathBuf, layers: &[&Listing], seen: &mut Listing) {
    seen.insert(path.clone(), layers[0][&path].clone());
    let mut names: BTreeMap<&Path, ()> = BTreeMap::new();
    for layer in layers {
        let children = layer.keys().filter(|child| child.parent() == Some(path.as_path()));
        names.extend(children.map(|child| (child.as_path(), ())));
    }
    for child in names.into_keys() {
        let mut directories = Vec::new();
        for layer in layers {
            match layer.get(child) {
                None => {}
                // In a directory that only one layer has, nothing hides a whiteout.
                Some(Seen::Whiteout) => {
                    assert!(layers.len() > 1, "the whiteout {child:?} would be listed");
                    break;
                }
                Some(Seen::Directory { .. }) => directories.push(*layer),
                Some(other) if directories.is_empty() => {
                    seen.insert(child.to_owned(), other.clone());
                    break;
                }
                Some(_) => break,
            }
        }
        if !directories.is_empty() {
            add_directory(child.to_owned(), &directories, seen);
        }
    }
}

/// Layers in which everything happens that can.
fn hard_stack() -> Vec<Archive> {
    vec![
        layer(
            "d /\nd /a\nf /a/1 1\nf /a/2 2\nd /b\nf /b/x x\nd /b/y\nf /b/y/z z\nl /l a\nf /f f\n\
             d /h\nf /h/1 one\nh /h/2 h/1\nh /h/3 h/1\nd /r\nf /r/old old\nd /s\nf /s/1 1\nd /t\nd /t/u\nf /t/u/v v",
        ),
        layer("w /a/1\nf /b/y new\nd /f\nf /f/inside 1\nw /h/1\nw /r\nl /s elsewhere\nd /l\nf /l/1 1\nw /nothing\nw /t/u"),
        Tree::parse("d /a\nf /a/1 again\nd /b/y\nf /b/y/q q\nd /r\nf /r/new new\nf /h/2 other\nd /s\nf /s/2 2\nw /f/inside\nd /t/u\nw /t/u/v")
            .change("a", |entry| entry.mode = 0o700)
            .archive(),
        layer("w /b/y/q\nw /b/y/z\nf /a/3 3\nf /t/u/w w"),
    ]
}

#[test]
fn overlayfs_and_merged_agree() {
    let stack = hard_stack();
    for layers in 1..=stack.len() {
        let stack: Vec<_> = stack[..layers].iter().collect();
        assert_eq!(overlay(&file_systems(&stack)), merged(&stack), "{layers} layers");
    }
}

#[test]
fn missing_directories_are_those_of_the_layers_below() {
    let base = Tree::parse("d /\nd /a\nd /a/b\nf /a/b/1 1")
        .change("a", |entry| (entry.mode, entry.uid, entry.mtime) = (0o2750, 33, 7))
        .archive();
    let below = Merged::new([&base.index]).unwrap();
    let above = layer("f /a/b/2 2\nf /a/c 3\nw /z");
    let nodes = nodes_of_layer(&above, &below).unwrap();
    let paths: Vec<_> = nodes.nodes.iter().map(|node| node.entry.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["", "a", "a/b", "a/b/2", "a/c"]);
    assert_eq!(*nodes.nodes[1].entry, *below.get(Path::new("a")).unwrap().entry);

    // They belong to what the file system is made of; the layers below as such do not.
    let other = Tree::parse("d /\nd /a\nd /a/b\nf /a/b/other 1");
    let same =
        other.clone().change("a", |entry| (entry.mode, entry.uid, entry.mtime) = (0o2750, 33, 7));
    let key = |tree: &Tree| {
        let archive = tree.archive();
        nodes_of_layer(&above, &Merged::new([&archive.index]).unwrap()).unwrap().key
    };
    assert_eq!(key(&same), nodes.key);
    assert_ne!(key(&other), nodes.key);
    let mut with_z = same.clone();
    with_z.extend(Tree::parse("f /z 1"));
    assert_ne!(key(&with_z), nodes.key);

    for lost in ["f /x/y 1", "f /a/b/1/2 1"] {
        let lost = layer(lost);
        let result = nodes_of_layer(&lost, &below);
        assert!(matches!(result, Err(Error::Merge(index::Error::NoParent { .. }))), "{result:?}");
    }
    let nothing = layer("");
    assert_eq!(nodes_of_layer(&nothing, &below).unwrap().nodes.len(), 1);
}

#[test]
fn a_subtree_has_its_parents_and_takes_files_from_elsewhere() {
    let base = layer(
        "d /\nd /etc\nf /etc/x 1\nd /usr\nf /usr/a one\nd /usr/lib\nd /usr/lib/m\nh /usr/lib/m/1 usr/a\n\
         h /usr/lib/m/2 usr/a\nf /usr/lib/m/3 three\nh /usr/lib/m/4 usr/lib/m/3\nd /usr/lib/mm",
    );
    let above = layer("f /usr/lib/m/5 five\nd /var");
    let stack = [&base, &above];
    let whole = Merged::new(stack.map(|layer| &layer.index)).unwrap();
    let nodes = nodes_below(&stack, &whole, Path::new("usr/lib/m")).unwrap();
    let listed = listing(&nodes.nodes);
    let paths: Vec<_> = listed.keys().map(|path| path.to_str().unwrap()).collect();
    let files = ["1", "2", "3", "4", "5"].map(|name| format!("usr/lib/m/{name}"));
    assert_eq!(paths[..4], ["", "usr", "usr/lib", "usr/lib/m"]);
    assert_eq!(paths[4..], files);
    let contents = ["one", "one", "three", "three", "five"];
    for (path, content) in files.iter().zip(contents) {
        let expected = Seen::File { mode: 0o644, content: content.into() };
        assert_eq!(listed[Path::new(path)], expected, "{path}");
    }
    assert!(matches!(nodes.nodes[4].entry.kind, Kind::File { size: 3 }));
    assert!(
        matches!(&nodes.nodes[5].entry.kind, Kind::Hardlink { target } if target.ends_with("1"))
    );

    for path in ["usr/lib/none", "etc/x"] {
        let missing = nodes_below(&stack, &whole, Path::new(path));
        assert!(matches!(missing, Err(Error::NoDirectory(_))), "{path}");
    }
}

#[test]
fn boot_files_are_found_where_they_are_left() {
    let base = layer(
        "d /\nd /boot\nd /boot/imgbuild\nf /boot/imgbuild/boot.img sector\nf /boot/imgbuild/core.img core\n\
         d /boot/imgbuild/esp\nd /boot/imgbuild/esp/EFI\nf /boot/imgbuild/esp/EFI/a 1\nh /boot/imgbuild/esp/b boot/imgbuild/esp/EFI/a",
    );
    let whole = Merged::new([&base.index]).unwrap();
    let files = BootFiles::read(&[&base], &whole).unwrap();
    assert_eq!((files.sector, files.core), (b"sector".to_vec(), b"core".to_vec()));
    let one = b"1".to_vec();
    assert_eq!(files.esp, [(PathBuf::from("EFI/a"), one.clone()), (PathBuf::from("b"), one)]);

    let above = layer("w /boot/imgbuild/core.img");
    let stack = [&base, &above];
    let without = Merged::new(stack.map(|layer| &layer.index)).unwrap();
    let error = BootFiles::read(&stack, &without).unwrap_err();
    assert!(matches!(&error, Error::NoBootFile(path) if path.ends_with("core.img")), "{error:?}");
    let above = layer("l /boot/imgbuild/esp/link /vmlinuz");
    let stack = [&base, &above];
    let with = Merged::new(stack.map(|layer| &layer.index)).unwrap();
    assert!(matches!(BootFiles::read(&stack, &with), Err(Error::NoBootFile(_))));
}

/// A script that makes `layers`, stacks them by the kernel's overlayfs and lists what is there.
fn script(layers: &[Listing]) -> String {
    let mut script = "set -e\nmount -t tmpfs layers /mnt\ncd /mnt\numask 022\n".to_owned();
    let mut lower = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        for (path, seen) in layer {
            let path = Path::new(&number.to_string()).join(path).display().to_string();
            let path = path.trim_end_matches('/');
            match seen {
                Seen::Directory { mode } => writeln!(script, "mkdir -m {mode:o} {path}"),
                Seen::File { content, .. } => {
                    writeln!(script, "printf %s '{}' > {path}", String::from_utf8_lossy(content))
                }
                Seen::Symlink(target) => writeln!(script, "ln -s {target} {path}"),
                Seen::Whiteout => writeln!(script, "mknod {path} c 0 0"),
            }
            .unwrap();
        }
        lower.insert(0, number.to_string());
    }
    lower.push("empty".to_owned());
    writeln!(
        script,
        "mkdir empty top\nmount -t overlay overlay -o lowerdir={} top",
        lower.join(":")
    )
    .unwrap();
    // `ls` first: find(1) would leave out what cannot be opened.
    script.push_str(
        "cd top\nls -R1a > /dev/null\nfind . -mindepth 1 -type d -printf '%P d %m\\n' -o -type l -printf '%P l %l\\n' -o -type f -printf '%P f ' -exec cat {} \\; -printf '\\n'\n",
    );
    script
}

/// Whether the kernel agrees; nothing if it cannot be asked here.
fn ask_kernel(stack: &[&Archive]) -> Option<()> {
    let layers = file_systems(stack);
    let arguments = ["--user", "--map-root-user", "--mount", "sh", "-c"];
    let output = oracle("unshare", &[&arguments[..], &[&script(&layers)]].concat())?;
    let error = String::from_utf8_lossy(&output.stderr);
    if error.contains("unshare") || error.contains("mount") || error.contains("mknod") {
        skipped(&format!("no overlayfs for users here ({})", error.trim_end()));
        return None;
    }
    assert!(output.status.success(), "{error}");
    let expected =
        merged(stack).into_iter().filter(|(path, _)| path != Path::new("")).map(|(path, seen)| {
            let path = path.display();
            match seen {
                Seen::Directory { mode } => format!("{path} d {mode:o}"),
                Seen::File { content, .. } => {
                    format!("{path} f {}", String::from_utf8_lossy(&content))
                }
                Seen::Symlink(target) => format!("{path} l {target}"),
                Seen::Whiteout => panic!("{path}"),
            }
        });
    let mut expected: Vec<String> = expected.collect();
    let found = String::from_utf8_lossy(&output.stdout);
    let mut found: Vec<&str> = found.lines().collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    Some(())
}

#[test]
fn the_kernel_agrees() {
    let stack = hard_stack();
    for layers in 1..=stack.len() {
        if ask_kernel(&stack[..layers].iter().collect::<Vec<_>>()).is_none() {
            return;
        }
    }
}

/// Layers over few names, so that they get into one another's way.
fn any_layer() -> impl Strategy<Value = Vec<(String, u8)>> {
    let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4);
    let path = path.prop_map(|names| names.join("/"));
    prop::collection::btree_map(path, 0..6_u8, 0..10).prop_map(|paths| paths.into_iter().collect())
}

/// Those of `layers` that fit on one another, as archives.
fn fitting(layers: Vec<Vec<(String, u8)>>) -> Vec<Archive> {
    let mut stack = vec![layer("d /")];
    for (number, paths) in layers.into_iter().enumerate() {
        let mut lines = String::new();
        let mut blocked: Vec<String> = Vec::new();
        let mut file = None;
        for (path, kind) in paths {
            if blocked.iter().any(|above| path.starts_with(&format!("{above}/"))) {
                continue;
            }
            // A hard link needs a file before it.
            let kind = if kind == 5 && file.is_none() { 4 } else { kind };
            match kind {
                0..=1 => writeln!(lines, "d {path}"),
                2 => writeln!(lines, "w {path}"),
                3 => writeln!(lines, "l {path} to-{number}"),
                4 => writeln!(lines, "f {path} {number}-{}", path.len()),
                _ => writeln!(lines, "h {path} {}", file.clone().unwrap()),
            }
            .unwrap();
            if kind == 4 {
                file = Some(path.clone());
            }
            if kind >= 2 {
                blocked.push(path);
            }
        }
        let archive = layer(&lines);
        let indexes = stack.iter().chain([&archive]).map(|layer| &layer.index);
        let stands = Merged::new(indexes).is_ok();
        if stands {
            stack.push(archive);
        }
    }
    stack
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any layers: the file systems, stacked as overlayfs does it, are the merged tree.
    #[test]
    fn overlayfs_and_merged_agree_about_any_layers(layers in prop::collection::vec(any_layer(), 1..6)) {
        let stack = fitting(layers);
        let stack: Vec<_> = stack.iter().collect();
        prop_assert_eq!(overlay(&file_systems(&stack)), merged(&stack));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The same, asked of the kernel.
    #[test]
    fn the_kernel_agrees_about_any_layers(layers in prop::collection::vec(any_layer(), 1..6)) {
        let stack = fitting(layers);
        ask_kernel(&stack.iter().collect::<Vec<_>>());
    }
}
