//! A template made by the library from layers made by hand, seen as Proxmox VE sees it.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use imgbuild::artifact::template::{Compression, FrameStore, assemble};
use imgbuild::digest::Digest;
use imgbuild::layer::archive::{Archive, Writer};
use imgbuild::layer::entry::{Entry, Kind};
use support::template::{Extraction, Template, extract};

/// Keeps frames in a directory.
struct Frames(PathBuf);

impl FrameStore for Frames {
    fn find(&self, key: &Digest) -> Option<PathBuf> {
        let path = self.0.join(key.to_string());
        path.exists().then_some(path)
    }

    fn keep(&self, key: &Digest, frame: &[u8]) -> io::Result<PathBuf> {
        let path = self.0.join(key.to_string());
        std::fs::write(&path, frame)?;
        Ok(path)
    }
}

/// Writes a layer of `entries`, path to kind and content, and opens it.
fn layer(path: &Path, entries: &[(&str, Kind, &[u8])]) -> Archive {
    let mut sorted: Vec<_> = entries.to_vec();
    sorted.sort_by_key(|(path, ..)| PathBuf::from(path));
    let mut writer = Writer::new(File::create(path).unwrap());
    for (path, kind, content) in sorted {
        let capability = [&[1, 0, 0, 2, 0, 32][..], &[0; 14]].concat();
        let has_capability = path == "usr/bin/ping";
        let xattrs: BTreeMap<_, _> = has_capability
            .then(|| ("security.capability".to_owned(), capability))
            .into_iter()
            .collect();
        let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
        let uid = if path.starts_with("home") { 65_535 } else { 0 };
        let entry =
            Entry { path: path.into(), kind, mode, uid, gid: 42, mtime: 1_700_000_000, xattrs };
        writer.append(&entry, &mut &*content).unwrap();
    }
    writer.finish().unwrap().sync_all().unwrap();
    Archive::open(path, Digest::of_reader(File::open(path).unwrap()).unwrap()).unwrap()
}

fn file(content: &[u8]) -> Kind {
    Kind::File { size: content.len() as u64 }
}

const ELF: &[u8] = b"\x7fELF\x02\x01\x01";
const PASSWD: &[u8] = b"root:x:0:0::/root:/bin/sh\n";

/// A stack of two layers that make a tree Proxmox accepts.
fn stack(directory: &Path) -> Vec<Archive> {
    let d = Kind::Directory;
    let link = |target: &str| Kind::Symlink { target: target.into() };
    let mut base: Vec<(&str, Kind, &[u8])> = vec![
        ("bin", link("usr/bin"), b""),
        ("sbin", link("usr/sbin"), b""),
        ("etc/os-release", link("../usr/lib/os-release"), b""),
        ("usr/lib/os-release", file(b"ID=debian\n"), b"ID=debian\n"),
        ("etc/debian_version", file(b"13.1\n"), b"13.1\n"),
        ("etc/passwd", file(PASSWD), PASSWD),
        ("etc/group", file(PASSWD), PASSWD),
        ("etc/shadow", file(b"root:*:1::::::\n"), b"root:*:1::::::\n"),
        ("etc/machine-id", file(b""), b""),
        ("usr/bin/dash", file(ELF), ELF),
        ("usr/bin/sh", link("dash"), b""),
        ("usr/bin/ping", file(ELF), ELF),
        ("usr/bin/ping4", Kind::Hardlink { target: "usr/bin/ping".into() }, b""),
        ("usr/bin/ping6", Kind::Hardlink { target: "usr/bin/ping".into() }, b""),
        ("usr/lib/systemd/systemd", file(ELF), ELF),
        ("usr/sbin/init", link("/usr/lib/systemd/systemd"), b""),
        ("usr/sbin/ifup", file(ELF), ELF),
        ("usr/sbin/dhcpcd", file(ELF), ELF),
        ("var/old", file(b"old"), b"old"),
    ];
    for path in [
        "",
        "dev",
        "etc",
        "etc/network",
        "etc/systemd",
        "home",
        "home/someone",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr",
        "usr/bin",
        "usr/lib",
        "usr/lib/systemd",
        "usr/sbin",
        "var",
        "var/lib",
    ] {
        base.push((path, d.clone(), b""));
    }
    let role: Vec<(&str, Kind, &[u8])> = vec![
        ("etc/passwd", file(PASSWD), PASSWD),
        ("usr/bin/ping", Kind::Whiteout, b""),
        ("usr/share", d.clone(), b""),
        ("usr/share/Főtanúsítvány", file(b"1"), b"1"),
        ("var/lib/mysql", d, b""),
        ("var/old", Kind::Whiteout, b""),
    ];
    vec![layer(&directory.join("base.tar"), &base), layer(&directory.join("role.tar"), &role)]
}

fn write_template(stack: &[Archive], directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    let stack: Vec<&Archive> = stack.iter().collect();
    let frames = Frames(directory.to_owned());
    let mut output = File::create_new(&path).unwrap();
    assemble(&stack, &frames, Compression::STANDARD, 2, &mut output, &|_| {}).unwrap();
    path
}

#[test]
fn proxmox_accepts_and_extracts_it() {
    let directory = tempfile::tempdir().unwrap();
    let stack = stack(directory.path());
    let path = write_template(&stack, directory.path(), "imgbuild-x-1.0.0-0123456789ab.tar.zst");
    let template = Template::read(&path, &[Path::new("/var/lib/mysql")]);
    assert_eq!(template.violations(), [""; 0]);

    let root = directory.path().join("root");
    std::fs::create_dir(&root).unwrap();
    if extract(&path, &root) == Extraction::Done {
        assert!(!root.join("var/old").exists());
        assert_eq!(std::fs::read(root.join("usr/bin/ping6")).unwrap(), ELF);
    }
}

#[test]
fn the_rules_notice_what_proxmox_would_refuse() {
    let directory = tempfile::tempdir().unwrap();
    let bad = layer(
        &directory.path().join("bad.tar"),
        &[
            ("", Kind::Directory, b""),
            ("boot", Kind::Directory, b""),
            ("boot/vmlinuz-6", file(b"x"), b"x"),
            ("dev", Kind::Directory, b""),
            ("dev/null", file(b"x"), b"x"),
            ("etc", Kind::Directory, b""),
            ("etc/fstab", file(b"/dev/sda1 /\n"), b"/dev/sda1 /\n"),
            ("srv", Kind::Symlink { target: "boot".into() }, b""),
        ],
    );
    let path = write_template(&[bad], directory.path(), "bad+name.tar.zst");
    let violations = Template::read(&path, &[Path::new("/srv")]).violations();
    let rules: Vec<&str> = violations.iter().filter_map(|text| text.split(':').next()).collect();
    assert_eq!(
        rules,
        [
            "the file name is one that Proxmox keeps as it is",
            "/etc/os-release names Debian or Ubuntu",
            "/etc/debian_version or /etc/lsb-release can be parsed",
            "/bin/sh leads to an ELF program",
            "/sbin/init leads to systemd",
            "directories that Proxmox writes to exist",
            "account files exist",
            "ifupdown and a DHCP client are there",
            "no kernel or boot loader",
            "no entries in /etc/fstab",
            "/etc/machine-id is an empty file",
            "state is kept in real directories",
        ]
    );
}
