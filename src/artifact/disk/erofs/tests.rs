//! What comes out of an image, and who else reads it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::testing::{bytes, expected, image, nodes};
use super::*;
use crate::artifact::disk::nodes::nodes_of_layer;
use crate::artifact::disk::testing::{noise, oracle};
use crate::digest::Digest;
use crate::layer::archive::Archive;
use crate::layer::archive::testing::{Tree, layer};
use crate::layer::entry::Kind;
use crate::layer::index::Merged;

/// One of everything.
fn everything() -> Tree {
    let mut tree = Tree::parse(
        "d /\nl /bin usr/bin\nf /!first 1\nf /.hidden 1\nd /etc\nf /etc/empty\nw /etc/gone\nd /many\n\
         d /usr\nf /usr/a 123\nh /usr/b usr/a\nh /usr/c usr/a\nd /usr/empty\n",
    );
    for size in [1023, 1024, 1025, 4031, 4032, 4033, 4095, 4096, 4097, 5000, 5200, 70_000] {
        tree = tree.file(&format!("usr/{size:05}"), noise(size, size as usize));
    }
    for number in 0..700 {
        tree = tree.file(&format!("many/a name that takes some space {number}"), "");
    }
    let long = format!("x/{}", "y".repeat(4000));
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    tree = tree.file("usr/capable", "1").change("usr/capable", |entry| {
        entry.xattrs.insert("security.capability".to_owned(), capability);
        entry.xattrs.insert("user.note".to_owned(), b"yes".to_vec());
        entry.xattrs.insert("user.x".to_owned(), Vec::new());
        (entry.mode, entry.uid, entry.gid, entry.mtime) = (0o4755, 65_535, 33, 1 << 32);
    });
    tree = tree.change("usr/empty", |entry| {
        entry.xattrs.insert("user.big".to_owned(), vec![7; 9001]);
        entry.mode = 0o1777;
    });
    tree.extend(Tree::parse(&format!("l /zz {long}")));
    tree.change("zz", |entry| entry.mode = 0o777).change("bin", |entry| entry.mode = 0o777)
}

#[test]
fn everything_is_read_back() {
    let archive = everything().archive();
    assert_eq!(reader::read(&image(&archive)), expected(&archive));
}

#[test]
fn the_smallest_image_has_two_blocks() {
    let archive = layer("d /");
    let image = image(&archive);
    assert_eq!(image.len(), 8192);
    assert_eq!(reader::read(&image), expected(&archive));
}

#[test]
fn an_image_can_be_read_at_any_offset() {
    let archive = everything().archive();
    let image = Image::new(nodes(&archive)).unwrap();
    let whole = bytes(&image);
    for (offset, length) in [(0, 1), (1023, 3), (4000, 5000), (whole.len() - 10, 10), (1, 100_000)]
    {
        let mut part = vec![1; length];
        image.read_at(offset as u64, &mut part).unwrap();
        assert!(part == whole[offset..offset + length], "{offset}");
    }
    let mut beyond = vec![1; 100];
    image.read_at(image.size() - 10, &mut beyond).unwrap();
    assert!(beyond[10..] == [0; 90]);
}

#[test]
fn bytes_do_not_change_unnoticed() {
    let archive = everything().archive();
    assert_eq!(Digest::of(image(&archive)).short(), "5360dd835e6a");
}

#[test]
fn paths_that_make_no_tree_are_refused() {
    let archive = everything().archive();
    let all = nodes(&archive);
    let refused = |change: &dyn Fn(&mut Vec<Node<'_>>)| {
        let mut nodes = all.clone();
        change(&mut nodes);
        Image::new(nodes).unwrap_err()
    };
    let position =
        |path: &str| all.iter().position(|node| node.entry.path == Path::new(path)).unwrap();
    let edit = |path: &str, change: fn(&mut Node<'_>)| {
        let number = position(path);
        refused(&|nodes| change(&mut nodes[number]))
    };
    assert_eq!(Image::new(Vec::new()).unwrap_err(), Error::NoRoot);
    assert_eq!(refused(&|nodes| drop(nodes.remove(0))), Error::NoRoot);
    let bin = position("bin");
    assert!(matches!(refused(&|nodes| nodes.swap(bin, bin + 1)), Error::Order { .. }));
    let etc = position("etc");
    assert_eq!(refused(&|nodes| drop(nodes.remove(etc))), Error::NoParent("etc/empty".into()));
    let file = position("usr/a");
    assert!(matches!(refused(&|nodes| drop(nodes.remove(file))), Error::LinkTarget { .. }));
    assert_eq!(edit("usr/a", |node| node.content = None), Error::Content("usr/a".into()));
    assert_eq!(
        edit("usr/a", |node| node.content.as_mut().unwrap().size = 9),
        Error::Content("usr/a".into())
    );
    let attribute = |name: &'static str, size: usize| {
        let number = position("etc");
        refused(&move |nodes| {
            nodes[number].entry.to_mut().xattrs.insert(name.to_owned(), vec![0; size]);
        })
    };
    assert!(matches!(attribute("trusted.x", 1), Error::Attribute { .. }));
    assert!(matches!(attribute("user.x", 65_536), Error::TooLong { .. }));
    let huge = |nodes: &mut Vec<Node<'_>>| {
        let size = 1 << 44;
        nodes[file].entry.to_mut().kind = Kind::File { size };
        nodes[file].content.as_mut().unwrap().size = size;
    };
    assert!(matches!(refused(&huge), Error::TooLarge(_)));
}

#[test]
fn fsck_erofs_accepts_and_extracts_it() {
    let archive = everything().without("etc/gone").archive();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&image(&archive)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("tree");
    let extract = format!("--extract={}", target.display());
    let path = file.path().to_str().unwrap();
    // Setting owners takes root.
    let arguments = ["--force", "--no-preserve", &extract, path];
    let Some(output) = oracle("fsck.erofs", &arguments) else { return };
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    for (entry, content) in expected(&archive) {
        let path = target.join(&entry.path);
        match entry.kind {
            Kind::File { .. } => {
                assert!(Some(std::fs::read(&path).unwrap()) == content, "{path:?}")
            }
            Kind::Symlink { target } => assert_eq!(std::fs::read_link(&path).unwrap(), target),
            Kind::Directory => assert!(path.is_dir(), "{path:?}"),
            Kind::Hardlink { target: to } => {
                assert!(std::fs::read(&path).unwrap() == std::fs::read(target.join(to)).unwrap());
            }
            Kind::Whiteout => panic!("{path:?}"),
        }
    }
}

#[test]
fn dump_erofs_agrees_about_attributes() {
    let archive = everything().archive();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&image(&archive)).unwrap();
    let path = file.path().to_str().unwrap();
    let about = |name: &str| {
        let output = oracle("dump.erofs", &[&format!("--path={name}"), path])?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(text) = about("/usr/b") else { return };
    assert!(text.contains("Links: 3") && text.contains("Access: 0644"), "{text}");
    let text = about("/usr/capable").unwrap();
    for part in ["Xattr size: 68", "Uid: 65535", "Gid: 33", "Access: 0755"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = about("/etc/gone").unwrap();
    assert!(text.contains("char dev"), "{text}");
}

/// A path component; some sort before or between `.` and `..`.
fn name() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec!["!", "...", "-", ".a", "a", "b", "..!", "ab", ".!", "~"]);
    let long = (0..4_usize, "[a-z]{1,3}").prop_map(|(length, text)| text.repeat(length * 20 + 1));
    prop_oneof![odd.prop_map(str::to_owned), "[!-.0-~]{1,6}", long].prop_filter("no path", |name| {
        !matches!(name.as_str(), "." | "..") && !name.starts_with(".wh.")
    })
}

#[derive(Debug, Clone)]
struct Thing {
    kind: u8,
    size: usize,
    mode: u32,
    owner: u32,
    mtime: u64,
    attribute: Option<(String, usize)>,
    link: usize,
}

fn thing() -> impl Strategy<Value = Thing> {
    let size = prop_oneof![0..100_usize, 900..1100_usize, 3900..4200_usize, 8000..9000_usize];
    let attribute = prop::option::weighted(0.2, ("[a-z]{1,20}", 0..300_usize));
    (0..10_u8, size, 0..0o10000_u32, 0..65_536_u32, 0..(1_u64 << 33), attribute, any::<usize>())
        .prop_map(|(kind, size, mode, owner, mtime, attribute, link)| Thing {
            kind,
            size,
            mode,
            owner,
            mtime,
            attribute,
            link,
        })
}

/// A layer that holds `things` below its root.
fn tree_of(things: BTreeMap<Vec<String>, Thing>) -> Archive {
    let mut tree = Tree::parse("d /");
    let mut known: BTreeMap<String, u8> = BTreeMap::new();
    let mut files: Vec<String> = Vec::new();
    let mut attributes: BTreeMap<String, Thing> = BTreeMap::new();
    // In path order, so that the targets of links come first.
    let mut paths: BTreeMap<PathBuf, Thing> = BTreeMap::new();
    for (path, thing) in things {
        for length in 1..path.len() {
            let directory = Thing { kind: 0, ..thing.clone() };
            paths.entry(path[..length].join("/").into()).or_insert(directory);
        }
        paths.entry(path.join("/").into()).or_insert(thing);
    }
    for (path, thing) in paths {
        let text = path.to_str().unwrap();
        let parent = path.parent().unwrap().to_str().unwrap();
        if !parent.is_empty() && known.get(parent) != Some(&0) {
            continue;
        }
        let kind = match thing.kind {
            8 if files.is_empty() => 0,
            0..=2 => 0,
            kind => kind,
        };
        let mut line = Tree::default();
        match kind {
            0 => line.extend(Tree::parse(&format!("d /{text}"))),
            7 => line.extend(Tree::parse(&format!(
                "l /{text} {}",
                "t".repeat(thing.size.clamp(1, 4000))
            ))),
            8 => {
                let target = &files[thing.link % files.len()];
                let file = attributes[target].clone();
                tree.extend(Tree::parse(&format!("h {text} {target}")).change(text, |entry| {
                    (entry.uid, entry.gid, entry.mtime) = (file.owner, file.owner / 2, file.mtime);
                    entry.mode = file.mode;
                }));
                known.insert(text.to_owned(), kind);
                continue;
            }
            9 => {
                // What the archive says of a whiteout is nothing but its path.
                tree.extend(Tree::parse(&format!("w {text}")).change(text, |entry| {
                    (entry.mode, entry.mtime) = (0, 0);
                }));
                known.insert(text.to_owned(), kind);
                continue;
            }
            _ => {
                line = line.file(text, noise(thing.link as u64, thing.size));
                files.push(text.to_owned());
                attributes.insert(text.to_owned(), thing.clone());
            }
        }
        known.insert(text.to_owned(), kind);
        line = line.change(text, |entry| {
            (entry.uid, entry.gid, entry.mtime) = (thing.owner, thing.owner / 2, thing.mtime);
            entry.mode = if kind == 7 { 0o777 } else { thing.mode };
            if let Some((name, size)) = thing.attribute.filter(|_| kind != 7) {
                entry.xattrs.insert(format!("user.{name}"), noise(1, size));
            }
        });
        tree.extend(line);
    }
    tree.archive()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any tree comes out as it went in.
    #[test]
    fn any_tree_is_read_back(
        things in prop::collection::btree_map(prop::collection::vec(name(), 1..4), thing(), 0..120),
    ) {
        let archive = tree_of(things);
        let image = image(&archive);
        prop_assert_eq!(reader::read(&image), expected(&archive));
    }
}

#[test]
fn a_layer_of_a_stack_is_an_image() {
    let base = layer("d /\nd /etc\nf /etc/a 1\nf /etc/b 1");
    let above = layer("f /etc/c 1\nw /etc/b\nw /etc/not");
    let merged = Merged::new([&base.index]).unwrap();
    let nodes = nodes_of_layer(&above, &merged).unwrap();
    let image = bytes(&Image::new(nodes.nodes).unwrap());
    let paths: Vec<_> =
        reader::read(&image).into_iter().map(|(entry, _)| (entry.path, entry.kind)).collect();
    let file = Kind::File { size: 1 };
    let expected = [
        ("", Kind::Directory),
        ("etc", Kind::Directory),
        ("etc/b", Kind::Whiteout),
        ("etc/c", file),
    ];
    assert_eq!(paths, expected.map(|(path, kind)| (PathBuf::from(path), kind)));
}
