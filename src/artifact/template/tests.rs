//! What comes out of a template, and what is compressed for it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::layer::archive::testing::{Tree, layer};
use crate::layer::archive::{Archive, Index};
use crate::layer::entry::{Entry, Kind};

/// Small frames, so that small trees have many.
const SMALL: Compression = Compression { level: 3, window_log: 20, hash_log: 17, frame_size: 4096 };

/// Keeps frames in a directory that goes away with it.
struct Frames {
    directory: tempfile::TempDir,
    kept: AtomicUsize,
}

impl Frames {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), kept: AtomicUsize::new(0) }
    }
}

impl FrameStore for Frames {
    fn find(&self, key: &Digest) -> Option<PathBuf> {
        let path = self.directory.path().join(key.to_string());
        path.exists().then_some(path)
    }

    fn keep(&self, key: &Digest, frame: &[u8]) -> io::Result<PathBuf> {
        self.kept.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(key.to_string());
        assert!(!path.exists(), "a frame was compressed twice");
        fs::write(&path, frame)?;
        Ok(path)
    }
}

/// The template of `stack` and how it came about.
fn template(stack: &[&Archive], frames: &Frames, threads: usize) -> (Vec<u8>, Assembled) {
    let mut output = tempfile::tempfile().unwrap();
    let progress = Mutex::new(0);
    let count = |bytes| *progress.lock().unwrap() += bytes;
    let assembled = assemble(stack, frames, SMALL, threads, &mut output, &count).unwrap();
    let mut bytes = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut bytes).unwrap();
    assert_eq!(assembled.sha256, Digest::of(&bytes));
    assert_eq!(assembled.size, bytes.len() as u64);
    assert_eq!(*progress.lock().unwrap() + 1024, assembled.raw_size);
    (bytes, assembled)
}

/// The members of a template as another program's library sees them: name, kind and link, content.
fn members(template: &[u8]) -> Vec<(String, String, Vec<u8>)> {
    let raw = zstd::decode_all(template).unwrap();
    let mut archive = tar::Archive::new(raw.as_slice());
    let mut members = Vec::new();
    for member in archive.entries().unwrap() {
        let mut member = member.unwrap();
        let name = String::from_utf8(member.path_bytes().into_owned()).unwrap();
        let link = member.link_name().unwrap().map(|link| link.display().to_string());
        let kind = match member.header().entry_type() {
            tar::EntryType::Regular => "file".to_owned(),
            tar::EntryType::Directory => format!("{:o}", member.header().mode().unwrap()),
            tar::EntryType::Symlink => format!("-> {}", link.unwrap()),
            tar::EntryType::Link => format!("= {}", link.unwrap()),
            other => panic!("{other:?}"),
        };
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        members.push((name, kind, content));
    }
    members
}

fn names(template: &[u8]) -> Vec<String> {
    members(template).into_iter().map(|(name, kind, _)| format!("{name} {kind}")).collect()
}

/// Text that does not compress to nothing, different for every seed.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..size).map(|_| next()).collect()
}

fn base() -> Tree {
    let mut tree =
        Tree::parse("d /\nd /dev\nf /dev/null x\nd /etc\nd /usr\nd /usr/bin\nd /usr/lib");
    for number in 0..20 {
        tree = tree.file(&format!("usr/lib/{number:02}"), noise(number, 1000));
    }
    tree
}

#[test]
fn layers_are_concatenated_and_every_path_is_there_once() {
    let below = layer(
        "d /\nl /bin usr/bin\nd /dev\nd /dev/pts\nf /dev/null x\nd /etc\nf /etc/a 1\nf /etc/b 2\nf /old 1\n\
         d /usr\nf /usr/x 123\nh /usr/y usr/x\nh /usr/z usr/x",
    );
    let above =
        Tree::parse("d /etc\nf /etc/b 22\nf /etc/c 3\nw /old\nw /usr/x").change("etc", |entry| {
            entry.mode = 0o700;
        });
    let (template, _) = template(&[&below, &above.archive()], &Frames::new(), 1);
    assert_eq!(
        names(&template),
        [
            "./ 755",
            "./bin -> usr/bin",
            "./dev/ 755",
            "./etc/ 700",
            "./etc/a file",
            "./usr/ 755",
            "./usr/y file",
            "./usr/z = ./usr/y",
            "./etc/b file",
            "./etc/c file",
        ]
    );
    let contents: HashMap<_, _> =
        members(&template).into_iter().map(|(name, _, content)| (name, content)).collect();
    assert_eq!(contents["./usr/y"], b"123");
    assert_eq!(contents["./etc/b"], b"22");
    assert!(zstd::decode_all(&*template).unwrap().ends_with(&[0; 1024]));
}

#[test]
fn a_template_is_the_same_whatever_the_threads_and_the_cache() {
    let base = base().archive();
    let above = layer("f /usr/lib/03 new\nw /usr/lib/09\nf /usr/lib/zz 1");
    let stack = [&base, &above];
    let (expected, first) = template(&stack, &Frames::new(), 1);
    assert!(first.frames_compressed > 3);
    for threads in [2, 7] {
        let frames = Frames::new();
        precompress(&stack[..1], &frames, SMALL, threads).unwrap();
        assert_eq!(template(&stack, &frames, threads).0, expected);
        let (again, assembled) = template(&stack, &frames, threads);
        assert_eq!(again, expected);
        assert_eq!(assembled.frames_compressed, 0);
        assert_eq!(assembled.frames_reused, first.frames_compressed);
    }
}

#[test]
fn only_changed_frames_are_compressed_again() {
    let base = base().archive();
    let frames = Frames::new();
    let all = precompress(&[&base], &frames, SMALL, 2).unwrap();
    assert_eq!(precompress(&[&base], &frames, SMALL, 2).unwrap(), 0);

    let config = layer("d /etc\nf /etc/x 1");
    let (_, first) = template(&[&base, &config], &frames, 2);
    assert_eq!((first.frames_reused, first.frames_compressed), (all, 1));

    let config = layer("d /etc\nf /etc/x 2");
    let (_, second) = template(&[&base, &config], &frames, 2);
    assert_eq!((second.frames_reused, second.frames_compressed), (all, 1));

    let replaces = layer("f /usr/lib/07 1");
    let (_, third) = template(&[&base, &replaces], &frames, 2);
    assert_eq!((third.frames_reused, third.frames_compressed), (all - 1, 2));
}

#[test]
fn a_directory_that_only_got_a_new_time_does_not_cost_a_frame() {
    let base = base().archive();
    let frames = Frames::new();
    let all = precompress(&[&base], &frames, SMALL, 1).unwrap();
    let touched = Tree::parse("d /usr\nd /usr/lib\nf /usr/lib/zz 1")
        .change("usr/lib", |entry| entry.mtime += 1)
        .archive();
    let (_, assembled) = template(&[&base, &touched], &frames, 1);
    assert_eq!((assembled.frames_reused, assembled.frames_compressed), (all, 1));
}

#[test]
fn frames_compressed_early_fit_a_layer_that_repeats_directories() {
    let base = base().archive();
    let above = layer("d /usr\nd /usr/lib\nf /usr/lib/zz 1");
    let frames = Frames::new();
    precompress(&[&base], &frames, SMALL, 1).unwrap();
    assert_eq!(precompress(&[&base, &above], &frames, SMALL, 1).unwrap(), 1);
    assert_eq!(template(&[&base, &above], &frames, 1).1.frames_compressed, 0);
}

#[test]
fn a_big_file_is_cut_into_several_frames_and_comes_out_whole() {
    let content = noise(1, 40_000);
    let tree = Tree::parse("d /\nf /a 1\nf /z 1").file("big", &content);
    let base = tree.archive();
    let (bytes, assembled) = template(&[&base], &Frames::new(), 3);
    assert!(assembled.frames_compressed > 8, "{assembled:?}");
    assert_eq!(members(&bytes)[2], ("./big".to_owned(), "file".to_owned(), content.clone()));

    // The same with its header changed: a second name takes it over.
    let linked =
        tree.clone().change("z", |entry| entry.kind = Kind::Hardlink { target: "big".into() });
    let linked = linked.archive();
    let (bytes, _) = template(&[&linked, &layer("w /big")], &Frames::new(), 3);
    assert_eq!(members(&bytes)[2], ("./z".to_owned(), "file".to_owned(), content));
}

#[test]
fn other_programs_read_it() {
    let base = base().archive();
    let (bytes, assembled) = template(&[&base], &Frames::new(), 1);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.tar.zst");
    fs::write(&path, &bytes).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).arg(&path).output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(output.stdout)
    };
    if let Some(raw) = run("zstd", &["-dc"]) {
        assert_eq!(raw.len() as u64, assembled.raw_size);
        if let Some(listing) = run("tar", &["--zstd", "-tf"]) {
            assert_eq!(listing.iter().filter(|byte| **byte == b'\n').count(), names(&bytes).len());
        }
    }
}

#[test]
fn a_failure_to_keep_a_frame_is_reported() {
    struct Full;
    impl FrameStore for Full {
        fn find(&self, _key: &Digest) -> Option<PathBuf> {
            None
        }
        fn keep(&self, _key: &Digest, _frame: &[u8]) -> io::Result<PathBuf> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let mut output = tempfile::tempfile().unwrap();
    let result = assemble(&[&base().archive()], &Full, SMALL, 2, &mut output, &|_| {});
    assert!(matches!(result, Err(Error::Store(_))), "{result:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any layer over the base: the template's members are exactly the merged tree.
    #[test]
    fn a_template_holds_the_merged_tree(
        replaced in prop::collection::btree_map(0..24_u64, 0..3_u8, 0..12),
        frame_size in 512..20_000_u64,
    ) {
        let base = base().archive();
        let mut lines = Vec::new();
        let mut above = Tree::default();
        for (number, kind) in &replaced {
            match kind {
                0 => lines.push(format!("w usr/lib/{number:02}")),
                1 => lines.push(format!("d usr/lib/{number:02}")),
                _ => above = above.file(&format!("usr/lib/{number:02}"), noise(number + 100, 900)),
            }
        }
        above.extend(Tree::parse(&lines.join("\n")));
        let above = above.archive();
        let compression = Compression { frame_size, ..SMALL };
        let mut output = tempfile::tempfile().unwrap();
        assemble(&[&base, &above], &Frames::new(), compression, 2, &mut output, &|_| {}).unwrap();
        output.rewind().unwrap();
        let raw = zstd::decode_all(&output).unwrap();
        let mut found = read_unsorted(&raw);
        found.sort_by(|left, right| left.0.path.cmp(&right.0.path));
        let merged = crate::layer::index::Merged::new([&base.index, &above.index]).unwrap();
        let expected: Vec<_> = merged.entries().iter().filter(|item| item.entry.path != Path::new("dev/null")).collect();
        prop_assert_eq!(found.len(), expected.len());
        for ((entry, content), item) in found.iter().zip(expected) {
            prop_assert_eq!(entry, item.entry.as_ref());
            let archive = [&base, &above][item.layer];
            if let Some(place) = item.content {
                let mut bytes = vec![0; place.size as usize];
                std::os::unix::fs::FileExt::read_exact_at(&archive.file, &mut bytes, place.offset).unwrap();
                prop_assert_eq!(content, &bytes);
            }
        }
    }
}

/// Reads an archive whose members need not be in path order, by reading each as a layer of its own.
fn read_unsorted(raw: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let mut archive = tar::Archive::new(raw);
    let mut members = Vec::new();
    for member in archive.entries().unwrap() {
        let member = member.unwrap();
        let begin = member.raw_header_position() as usize;
        let end = (member.raw_file_position() + member.size()).next_multiple_of(512) as usize;
        let single = [&raw[begin..end], &[0; 1024]].concat();
        let mut file: File = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &single).unwrap();
        let index = Index::read(&file).unwrap();
        let entry = index.entries()[0].clone();
        let content = match entry.entry.kind {
            Kind::File { size } => {
                single[entry.data_offset as usize..(entry.data_offset + size) as usize].to_vec()
            }
            _ => Vec::new(),
        };
        members.push((entry.entry, content));
    }
    members
}
