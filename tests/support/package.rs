//! Debian packages made by a test, well-formed or not.

use std::fmt::Write as _;
use std::path::Path;

use imgbuild::digest::Digest;

/// When the files of packages made by tests were last modified, in seconds since 1970.
const MODIFIED: u64 = 1_750_000_000;

/// A binary package (deb(5)) under construction. What goes into it is not checked: tests also make
/// packages that nobody should unpack.
#[derive(Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    fields: Vec<(String, String)>,
    control: Vec<Member>,
    data: Vec<Member>,
}

#[derive(Clone)]
struct Member {
    path: String,
    kind: tar::EntryType,
    mode: u32,
    link: String,
    content: Vec<u8>,
}

impl Member {
    fn file(path: &str, mode: u32, content: &[u8]) -> Self {
        let (path, content) = (path.to_owned(), content.to_vec());
        Self { path, kind: tar::EntryType::Regular, mode, link: String::new(), content }
    }

    fn directory(path: &str) -> Self {
        Self { kind: tar::EntryType::Directory, ..Self::file(path, 0o755, b"") }
    }
}

impl Package {
    /// A package for amd64 without content.
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            fields: Vec::new(),
            control: Vec::new(),
            data: vec![Member::directory("./")],
        }
    }

    /// Adds a field to its control file.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a maintainer script for /bin/sh that ends at the first error.
    pub fn script(mut self, name: &str, text: &str) -> Self {
        let text = format!("#!/bin/sh\nset -e\n{text}\n");
        self.control.push(Member::file(&format!("./{name}"), 0o755, text.as_bytes()));
        self
    }

    /// Adds a file below the root, with the directories that it needs.
    pub fn file(self, path: &str, content: &str) -> Self {
        self.with_parents(path).raw(Member::file(&format!("./{path}"), 0o644, content.as_bytes()))
    }

    /// Adds a program below the root, with the directories that it needs.
    pub fn program(self, path: &str, content: &str) -> Self {
        self.with_parents(path).raw(Member::file(&format!("./{path}"), 0o755, content.as_bytes()))
    }

    /// Adds a directory below the root, with those above it.
    pub fn directory(self, path: &str) -> Self {
        self.with_parents(path).raw(Member::directory(&format!("./{path}/")))
    }

    /// Adds a symbolic link; neither path is looked at.
    pub fn link(self, path: &str, target: &str) -> Self {
        let link = Member::file(path, 0o777, b"");
        self.raw(Member { kind: tar::EntryType::Symlink, link: target.to_owned(), ..link })
    }

    /// Adds a hard link; neither path is looked at.
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        let link = Member::file(path, 0o644, b"");
        self.raw(Member { kind: tar::EntryType::Link, link: target.to_owned(), ..link })
    }

    /// Adds a file under exactly this name, wherever that may lead.
    pub fn file_at(self, path: &str, content: &str) -> Self {
        self.raw(Member::file(path, 0o644, content.as_bytes()))
    }

    fn raw(mut self, member: Member) -> Self {
        self.data.push(member);
        self
    }

    fn with_parents(mut self, path: &str) -> Self {
        let parents: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
            let path = format!("./{}/", parent.display());
            if !self.data.iter().any(|member| member.path == path) {
                self.data.push(Member::directory(&path));
            }
        }
        self
    }

    /// The text of its control file.
    pub fn control(&self) -> String {
        let Self { name, version, .. } = self;
        let mut text = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\n\
             Maintainer: Nobody <nobody@example.org>\nDescription: made by a test\n"
        );
        for (name, value) in &self.fields {
            writeln!(text, "{name}: {value}").unwrap();
        }
        text
    }

    /// The package file. The same package always gives the same bytes.
    pub fn deb(&self) -> Vec<u8> {
        let mut control = self.control.clone();
        control.insert(0, Member::file("./control", 0o644, self.control().as_bytes()));
        let mut builder = ar::Builder::new(Vec::new());
        let parts = [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar.xz", xz(&archive(&control))),
            ("data.tar.xz", xz(&archive(&self.data))),
        ];
        for (name, content) in parts {
            let mut header = ar::Header::new(name.into(), content.len() as u64);
            header.set_mode(0o100_644);
            header.set_mtime(MODIFIED);
            builder.append(&header, &content[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// Its name in a pool.
    pub fn file_name(&self) -> String {
        format!("{}_{}_amd64.deb", self.name, self.version)
    }
}

/// The entry of a package in a `Packages` file.
pub fn stanza(control: &str, path: &str, deb: &[u8]) -> String {
    let (size, digest) = (deb.len(), Digest::of(deb));
    format!("{}\nFilename: {path}\nSize: {size}\nSHA256: {digest}\n", control.trim_end())
}

/// Compresses quickly.
pub fn xz(bytes: &[u8]) -> Vec<u8> {
    liblzma::encode_all(bytes, 0).unwrap()
}

/// A tar archive in whose headers the names stand as they are.
fn archive(members: &[Member]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for member in members {
        let mut header = tar::Header::new_gnu();
        // Not `set_path`, which refuses what some of these tests are about.
        let fields = header.as_old_mut();
        fields.name[..member.path.len()].copy_from_slice(member.path.as_bytes());
        fields.linkname[..member.link.len()].copy_from_slice(member.link.as_bytes());
        header.set_entry_type(member.kind);
        header.set_mode(member.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(MODIFIED);
        header.set_size(member.content.len() as u64);
        header.set_cksum();
        builder.append(&header, &member.content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}
