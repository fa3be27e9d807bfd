//! Small packages for tests, made in memory.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

/// Everything in test packages has this time.
pub(crate) const TIME: u64 = 1_700_000_000;

/// A package in the making.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    pub control: Vec<(Header, Vec<u8>)>,
    pub data: Vec<(Header, Vec<u8>)>,
    pub extension: &'static str,
    pub version: &'static str,
    pub name: String,
}

impl Builder {
    /// A package `NAME 1 amd64` with further `fields` in its control file.
    pub fn new(name: &str, fields: &str) -> Self {
        let control = format!(
            "Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: M <m@example.org>\n\
             {fields}Description: test\n"
        );
        Self {
            control: Vec::new(),
            data: Vec::new(),
            extension: "",
            version: "2.0\n",
            name: name.to_owned(),
        }
        .control("control", &control)
    }

    pub fn control(mut self, name: &str, content: &str) -> Self {
        let mode = if name == "preinst" { 0o755 } else { 0o644 };
        let header = header(name, EntryType::Regular, mode, content.len());
        self.control.push((header, content.as_bytes().to_vec()));
        self
    }

    pub fn file(self, path: &str, mode: u32, content: &str) -> Self {
        let content = content.as_bytes().to_vec();
        self.record(header(path, EntryType::Regular, mode, content.len()), content)
    }

    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.record(header(path, EntryType::Directory, mode, 0), Vec::new())
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.link(path, EntryType::Symlink, target)
    }

    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.link(path, EntryType::Link, target)
    }

    fn link(self, path: &str, kind: EntryType, target: &str) -> Self {
        let mut header = header(path, kind, 0o777, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.record(header, Vec::new())
    }

    /// Any record, with its checksum made right.
    pub fn record(mut self, mut header: Header, content: Vec<u8>) -> Self {
        header.set_cksum();
        self.data.push((header, content));
        self
    }

    /// The bytes of the package file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        let archive = |records| pack(self.extension, &tar(records));
        ar_member(&mut bytes, "debian-binary", self.version.as_bytes());
        ar_member(&mut bytes, &format!("control.tar{}", self.extension), &archive(&self.control));
        ar_member(&mut bytes, &format!("data.tar{}", self.extension), &archive(&self.data));
        bytes
    }

    /// Writes the package file into `directory`.
    pub fn write(&self, directory: &Path) -> PathBuf {
        let path = directory.join(format!("{}.deb", self.name));
        std::fs::write(&path, self.bytes()).unwrap();
        path
    }
}

/// A header whose name is not checked, unlike that of the tar library.
pub(crate) fn header(path: &str, kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(TIME);
    // Whoever runs the tests may give files to himself.
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    header.set_cksum();
    header
}

pub(crate) fn ar_member(bytes: &mut Vec<u8>, name: &str, content: &[u8]) {
    let header =
        format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", TIME, 0, 0, 100_644, content.len());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(content);
    if content.len() % 2 == 1 {
        bytes.push(b'\n');
    }
}

pub(crate) fn tar(records: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (header, content) in records {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize((bytes.len() + 1024).next_multiple_of(10240), 0);
    bytes
}

pub(crate) fn pack(extension: &str, bytes: &[u8]) -> Vec<u8> {
    match extension {
        ".gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        ".xz" => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        ".zst" => zstd::encode_all(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    }
}
