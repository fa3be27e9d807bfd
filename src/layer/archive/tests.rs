//! The format as a whole: round trips, fixed bytes, damage, and other programs' reading of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::layer::entry::{Entry, Kind};

/// An entry with its content.
type Member = (Entry, Vec<u8>);

fn entry(path: &str, kind: Kind) -> Entry {
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let xattrs = BTreeMap::new();
    Entry { path: path.into(), kind, mode, uid: 0, gid: 0, mtime: 1_700_000_000, xattrs }
}

fn file(path: &str, content: &[u8]) -> Member {
    (entry(path, Kind::File { size: content.len() as u64 }), content.to_vec())
}

fn link(path: &str, target: &str) -> Member {
    (entry(path, Kind::Symlink { target: target.into() }), Vec::new())
}

fn other(path: &str, kind: Kind) -> Member {
    (entry(path, kind), Vec::new())
}

fn write(members: &[Member]) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in members {
        writer.append(entry, &mut content.as_slice())?;
    }
    writer.finish()
}

fn read(bytes: &[u8]) -> Result<Index, Error> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Index::read(&file)
}

/// One of everything that the format knows.
fn sample() -> Vec<Member> {
    let long = format!("usr/share/{}/{}", "d".repeat(60), "f".repeat(60));
    let mut members = vec![
        other("", Kind::Directory),
        link("bin", "usr/bin"),
        other("etc", Kind::Directory),
        other("etc/gone", Kind::Whiteout),
        file("etc/hostname", b""),
        file("etc/hosts", b"127.0.0.1 localhost\n"),
        link("etc/long", &"../".repeat(50)),
        other("old", Kind::Whiteout),
        other("usr", Kind::Directory),
        file("usr/ping", &[7; 513]),
        other("usr/ping6", Kind::Hardlink { target: "usr/ping".into() }),
        other("usr/share", Kind::Directory),
        other(&format!("usr/share/{}", "d".repeat(60)), Kind::Directory),
        file(&long, &[1; 512]),
        other("usr/zz-link", Kind::Hardlink { target: long.into() }),
        file("usr/Főtanúsítvány.crt", b"x"),
    ];
    members.sort_by(|left, right| left.0.path.cmp(&right.0.path));
    for (entry, _) in &mut members {
        match entry.kind {
            Kind::Whiteout => (entry.mode, entry.mtime) = (0, 0),
            Kind::Symlink { .. } => entry.mode = 0o777,
            _ => {}
        }
        if entry.path == Path::new("usr/ping") {
            let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
            entry.xattrs.insert("security.capability".to_owned(), capability);
        }
        if entry.path == Path::new("etc/hosts") {
            entry.uid = 65_535;
            entry.gid = 33;
            entry.mode = 0o4750;
        }
    }
    members
}

#[test]
fn what_was_written_is_read_back() {
    let members = sample();
    let bytes = write(&members).unwrap();
    let index = read(&bytes).unwrap();
    let entries: Vec<_> = index.entries().iter().map(|member| &member.entry).collect();
    assert_eq!(entries, members.iter().map(|(entry, _)| entry).collect::<Vec<_>>());
    for (member, (_, content)) in index.entries().iter().zip(&members) {
        let begin = member.data_offset as usize;
        assert_eq!(&bytes[begin..begin + content.len()], content, "{:?}", member.entry.path);
    }
}

/// Changing these bytes changes the name of every layer: raise the format's version if you do.
#[test]
fn the_bytes_of_a_known_tree_are_stable() {
    let bytes = write(&sample()).unwrap();
    assert_eq!(
        (bytes.len(), Digest::of(&bytes).to_string().as_str()),
        (16_896, "7c5c580fc7dc5b83915bb733612b8b4d0c07ded22e8ce5dde25372ced614e1c3")
    );
    assert_eq!(
        Digest::of(write(&[]).unwrap()).to_string(),
        "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "an empty layer is 1,024 bytes of zeros"
    );
}

#[test]
fn entries_that_break_a_rule_are_refused() {
    let directory = |path: &str| other(path, Kind::Directory);
    let hard_link =
        |path: &str, target: &str| other(path, Kind::Hardlink { target: target.into() });
    let with = |mut member: Member, change: fn(&mut Entry)| {
        change(&mut member.0);
        member
    };
    let invalid_utf8 = {
        use std::os::unix::ffi::OsStringExt;
        let mut member = file("x", b"");
        member.0.path = PathBuf::from(std::ffi::OsString::from_vec(vec![0xff]));
        member
    };
    let cases: Vec<(Vec<Member>, Rule)> = vec![
        (vec![file("/etc", b"")], Rule::UnsafePath),
        (vec![file("a/../b", b"")], Rule::UnsafePath),
        (vec![file("./a", b"")], Rule::UnsafePath),
        (vec![file("a//b", b"")], Rule::UnsafePath),
        (vec![directory("a/")], Rule::UnsafePath),
        (vec![file("a\0b", b"")], Rule::UnsafePath),
        (vec![invalid_utf8], Rule::NotUtf8),
        (vec![file(&"a".repeat(256), b"")], Rule::TooLong),
        (vec![file(&"a/".repeat(2100), b"")], Rule::TooLong),
        (vec![file("a/.wh.b", b"")], Rule::ReservedName),
        (vec![directory(".wh..wh..opq")], Rule::ReservedName),
        (vec![file("", b"")], Rule::Root),
        (vec![file("b", b""), file("a", b"")], Rule::Order("b".into())),
        (vec![file("a", b""), file("a", b"")], Rule::Order("a".into())),
        // Component order: `a/b` before `a-b`, whatever the bytes of the whole names say.
        (vec![directory("a"), file("a-b", b""), file("a/b", b"")], Rule::Order("a-b".into())),
        (vec![file("a", b""), file("a/b", b"")], Rule::Parent("a".into())),
        (vec![link("a", "/"), file("a/b", b"")], Rule::Parent("a".into())),
        (vec![other("a", Kind::Whiteout), file("a/b", b"")], Rule::Parent("a".into())),
        (vec![with(file("a", b""), |e| e.uid = 65_536)], Rule::Owner { uid: 65_536, gid: 0 }),
        (vec![with(file("a", b""), |e| e.mode = 0o100_644)], Rule::Mode(0o100_644)),
        (vec![with(file("a", b""), |e| e.mtime = 1 << 33)], Rule::Time(1 << 33)),
        (vec![link("a", "")], Rule::Target),
        (vec![link("a", "x\0")], Rule::Target),
        (vec![hard_link("a", "b"), file("b", b"")], Rule::LinkTarget("b".into())),
        (vec![directory("a"), hard_link("b", "a")], Rule::LinkTarget("a".into())),
        (
            vec![file("a", b""), with(hard_link("b", "a"), |e| e.mode = 0o600)],
            Rule::LinkAttributes("a".into()),
        ),
        (
            vec![with(file("a", b""), |e| {
                e.xattrs.insert("security.selinux".to_owned(), vec![]);
            })],
            Rule::Attribute("security.selinux".to_owned()),
        ),
        (
            vec![with(directory("a"), |e| {
                e.xattrs.insert("security.capability".to_owned(), vec![]);
            })],
            Rule::Attribute("security.capability".to_owned()),
        ),
    ];
    for (members, expected) in cases {
        match write(&members) {
            Err(Error::Entry { rule, .. }) => assert_eq!(rule, expected),
            other => panic!("{expected:?} expected, got {other:?}"),
        }
    }
}

#[test]
fn a_file_of_another_size_than_announced_is_refused() {
    for content in [&b"abcd"[..], b"ab"] {
        let members = [(entry("a", Kind::File { size: 3 }), content.to_vec())];
        assert!(matches!(write(&members), Err(Error::ContentSize { size: 3, .. })), "{content:?}");
    }
}

#[test]
fn every_damaged_header_byte_is_noticed() {
    let bytes = write(&sample()).unwrap();
    let index = read(&bytes).unwrap();
    let contents: Vec<_> = index
        .entries()
        .iter()
        .filter_map(|member| match member.entry.kind {
            Kind::File { size } => Some(member.data_offset..member.data_offset + size),
            _ => None,
        })
        .collect();
    for position in 0..bytes.len() {
        if contents.iter().any(|content| content.contains(&(position as u64))) {
            continue;
        }
        let mut damaged = bytes.clone();
        damaged[position] ^= 1;
        // The values of extended headers have no checksum: there the entry itself differs.
        assert_ne!(read(&damaged).ok().as_ref(), Some(&index), "byte {position} may not matter");
    }
}

#[test]
fn a_cut_or_extended_archive_is_noticed() {
    let bytes = write(&sample()).unwrap();
    for length in (0..bytes.len()).step_by(256) {
        assert!(read(&bytes[..length]).is_err(), "{length}");
    }
    assert!(read(&[&bytes[..], &[0; 512]].concat()).is_err());
    assert!(read(&[&bytes[..], b"x"].concat()).is_err());
}

#[test]
fn sizes_beyond_the_file_and_huge_ones_are_refused() {
    for size in [513, (1 << 33) - 1, 1 << 33, u64::MAX - 100, u64::MAX] {
        let mut bytes = Vec::new();
        header::encode(&entry("a", Kind::File { size }), &mut bytes);
        bytes.extend_from_slice(&[0; 1024]);
        assert!(read(&bytes).is_err(), "{size}");
    }
}

#[test]
fn a_file_of_eight_gibibytes_has_its_size_in_an_extended_header() {
    let size = 1 << 33;
    let mut bytes = Vec::new();
    header::encode(&entry("a", Kind::File { size }), &mut bytes);
    let file = tempfile::tempfile().unwrap();
    // Holes read as zeros, which is what content, padding and end are here.
    file.set_len(bytes.len() as u64 + size + 1024).unwrap();
    (&file).write_all(&bytes).unwrap();
    let index = Index::read(&file).unwrap();
    assert_eq!(index.entries()[0].entry.kind, Kind::File { size });
    assert_eq!(index.entries()[0].data_offset, 3 * 512);
}

/// The tar crate reads what we write, entry for entry.
#[test]
fn the_tar_crate_reads_it() {
    let members = sample();
    let bytes = write(&members).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut read = Vec::new();
    for member in archive.entries().unwrap() {
        let member = member.unwrap();
        let header = member.header();
        read.push((
            member.path().unwrap().into_owned(),
            member.link_name().unwrap().map(|link| link.into_owned()),
            header.uid().unwrap(),
            header.mtime().unwrap(),
        ));
    }
    assert_eq!(read.len(), members.len());
    for ((path, link, uid, mtime), (entry, _)) in read.iter().zip(&members) {
        if entry.kind == Kind::Whiteout {
            let name = format!(".wh.{}", entry.path.file_name().unwrap().to_str().unwrap());
            assert_eq!(path.file_name().unwrap(), name.as_str());
            continue;
        }
        assert_eq!(path.strip_prefix("./").unwrap_or(path), entry.path);
        assert_eq!((*uid, *mtime), (entry.uid.into(), entry.mtime));
        match &entry.kind {
            Kind::Symlink { target } => assert_eq!(link.as_ref().unwrap(), target),
            Kind::Hardlink { target } => {
                assert_eq!(link.as_ref().unwrap(), &Path::new(".").join(target));
            }
            _ => assert_eq!(*link, None),
        }
    }
}

/// Runs `program` on an archive of [`sample`]; nothing if the program is not installed.
fn run_on_sample(program: &str, arguments: &[&str]) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layer.tar");
    File::create(&path).unwrap().write_all(&write(&sample()).unwrap()).unwrap();
    let output =
        Command::new(program).args(arguments).arg(&path).env("LC_ALL", "C").output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program} complains");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn gnu_tar_reads_it() {
    let arguments =
        ["--list", "--numeric-owner", "--quoting-style=literal", "--full-time", "--utc", "-vf"];
    let Some(listing) = run_on_sample("tar", &arguments) else { return };
    assert_eq!(listing.lines().count(), sample().len());
    assert!(listing.contains("65535/33         20 2023-11-14 22:13:20 ./etc/hosts"), "{listing}");
    assert!(listing.contains("./usr/ping6 link to ./usr/ping\n"), "{listing}");
    assert!(listing.contains("./usr/Főtanúsítvány.crt\n"), "{listing}");
    assert!(listing.contains("./etc/.wh.gone\n"), "{listing}");
    let long = format!("./usr/zz-link link to ./usr/share/{}/{}\n", "d".repeat(60), "f".repeat(60));
    assert!(listing.contains(&long), "{listing}");
}

#[test]
fn python_reads_it() {
    let program = "import sys, tarfile\n\
        for member in tarfile.open(sys.argv[1], encoding='utf-8'):\n  \
        print(member.name, member.size, member.uid, member.linkname, ascii(member.pax_headers))";
    let Some(listing) = run_on_sample("python3", &["-X", "utf8", "-c", program]) else { return };
    assert_eq!(listing.lines().count(), sample().len());
    assert!(listing.contains("./etc/hosts 20 65535  {}\n"), "{listing}");
    assert!(listing.contains("./usr/ping6 0 0 ./usr/ping {}\n"), "{listing}");
    assert!(listing.contains("SCHILY.xattr.security.capability"), "{listing}");
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-c]{1,3}",
        1 => "[a-zé .-]{1,120}".prop_filter("a name", |name| name != "." && name != ".." && !name.starts_with(".wh.")),
    ]
}

fn any_member() -> impl Strategy<Value = Member> {
    let path = prop::collection::vec(any_name(), 1..5).prop_map(|names| names.join("/"));
    let content = prop::collection::vec(any::<u8>(), 0..1500);
    let attributes = prop::collection::btree_map(
        "user\\.[a-z]{1,9}",
        prop::collection::vec(any::<u8>(), 0..99),
        0..2,
    );
    (
        path,
        content,
        0..5_u8,
        0..0o10000_u32,
        0..65_536_u32,
        0..65_536_u32,
        0..1_u64 << 33,
        attributes,
    )
        .prop_map(|(path, content, kind, mode, uid, gid, mtime, xattrs)| {
            let none = BTreeMap::new();
            let path = PathBuf::from(path);
            match kind {
                0 => (Entry { path, kind: Kind::Directory, mode, uid, gid, mtime, xattrs }, vec![]),
                1 => {
                    let target = format!("../{}", content.len()).into();
                    let kind = Kind::Symlink { target };
                    (Entry { path, kind, mode: 0o777, uid, gid, mtime, xattrs: none }, vec![])
                }
                2 => {
                    let kind = Kind::Whiteout;
                    (Entry { path, kind, mode: 0, uid: 0, gid: 0, mtime: 0, xattrs: none }, vec![])
                }
                _ => {
                    let kind = Kind::File { size: content.len() as u64 };
                    (Entry { path, kind, mode, uid, gid, mtime, xattrs }, content)
                }
            }
        })
}

proptest! {
    #[test]
    fn any_tree_round_trips(members in prop::collection::vec(any_member(), 0..30)) {
        let mut members = members;
        members.sort_by(|left, right| left.0.path.cmp(&right.0.path));
        let mut kept: Vec<Member> = Vec::new();
        for member in members {
            let fits = kept.last().is_none_or(|(last, _)| {
                last.path != member.0.path && (last.kind == Kind::Directory || !member.0.path.starts_with(&last.path))
            });
            if fits {
                kept.push(member);
            }
        }
        let bytes = write(&kept).unwrap();
        let index = read(&bytes).unwrap();
        let entries: Vec<_> = index.entries().iter().map(|member| member.entry.clone()).collect();
        prop_assert_eq!(entries, kept.iter().map(|(entry, _)| entry.clone()).collect::<Vec<_>>());
        for (position, member) in index.entries().iter().enumerate() {
            prop_assert_eq!(index.position(&member.entry.path), Some(position));
        }
    }

    #[test]
    fn no_damage_makes_the_reader_panic(changes in prop::collection::vec((0..20_000_usize, any::<u8>()), 1..20)) {
        let mut bytes = write(&sample()).unwrap();
        let length = bytes.len();
        for (position, byte) in changes {
            bytes[position % length] = byte;
        }
        let _ = read(&bytes);
    }
}
