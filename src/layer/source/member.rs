//! The members of a tar archive, put together from its records: old, ustar, GNU and pax headers
//! (pax(1), "pax Interchange Format"; GNU tar's manual, "Basic Tar Format").

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use tar::{EntryType, Header, PaxExtensions};

use super::Error;

/// Longest path that Linux accepts (`PATH_MAX`).
const LONGEST_NAME: u64 = 4096;
/// Most slashes in a name. Every directory above it may have to be made up.
const DEEPEST: usize = 128;
/// Most bytes of a pax header. It holds names, times and comments.
const LONGEST_HEADER: u64 = 1 << 20;

/// A member with its whole names.
#[derive(Debug)]
pub(super) struct Member {
    /// Its name, as it is.
    pub name: Vec<u8>,
    pub kind: MemberKind,
    pub mode: u32,
    pub mtime: u64,
    /// Why no image may have it, if none may.
    pub problem: Option<String>,
}

impl Member {
    /// The member, if an image may have it.
    pub fn acceptable(self) -> Result<Self, Error> {
        match self.problem {
            Some(problem) => Err(Error::member(text(&self.name), problem)),
            None => Ok(self),
        }
    }
}

/// What a member is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MemberKind {
    Directory,
    File {
        size: u64,
    },
    Symlink {
        target: PathBuf,
    },
    Hardlink {
        target: Vec<u8>,
    },
    /// What no image may have.
    Other,
}

/// Names that came in records of their own, before the member that they are for.
#[derive(Default)]
pub(super) struct Assembler {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Assembler {
    /// Takes one record. `None`: it was no member by itself.
    pub fn take(
        &mut self,
        header: &Header,
        content: &mut dyn Read,
    ) -> Result<Option<Member>, Error> {
        let size = header.entry_size().map_err(Error::Damaged)?;
        match header.entry_type() {
            EntryType::GNULongName => self.name = Some(bounded(content, size, LONGEST_NAME)?),
            EntryType::GNULongLink => self.link = Some(bounded(content, size, LONGEST_NAME)?),
            EntryType::XHeader => self.extensions(&bounded(content, size, LONGEST_HEADER)?)?,
            // For all members to come: a comment, as `git archive` writes it.
            EntryType::XGlobalHeader => {
                let mut all = Self::default();
                all.extensions(&bounded(content, size, LONGEST_HEADER)?)?;
                if all.name.is_some() || all.link.is_some() || all.size.is_some() {
                    return Err(Error::member(
                        "(pax header)",
                        "a pax header gives all members the same name",
                    ));
                }
            }
            _ => return self.member(header, size).map(Some),
        }
        Ok(None)
    }

    fn extensions(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for extension in PaxExtensions::new(bytes) {
            let extension = extension.map_err(Error::Damaged)?;
            let value = || extension.value_bytes().to_vec();
            match extension.key_bytes() {
                b"path" => self.name = Some(value()),
                b"linkpath" => self.link = Some(value()),
                b"size" => {
                    let size = extension.value().ok().and_then(|text| text.parse().ok());
                    self.size = Some(size.ok_or_else(|| {
                        Error::Damaged(io::Error::other("a size in a pax header is no number"))
                    })?);
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(Error::member("(pax header)", "it is for a sparse file"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn member(&mut self, header: &Header, size: u64) -> Result<Member, Error> {
        let name = self.name.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let link = self.link.take();
        let link = link.or_else(|| header.link_name_bytes().map(Cow::into_owned));
        let link = link.unwrap_or_default();
        if self.size.take().is_some_and(|whole| whole != size) {
            let problem = "it is larger than the header of a member can say";
            return Err(Error::member(text(&name), problem));
        }
        let mut problem = None;
        let mut refuse = |why: &str| {
            problem = Some(why.to_owned());
            MemberKind::Other
        };
        let mode = header.mode().map_err(Error::Damaged)?;
        let kind = match header.entry_type() {
            // Before POSIX, a directory was a file whose name ends with a slash.
            EntryType::Regular if name.ends_with(b"/") => MemberKind::Directory,
            EntryType::Regular | EntryType::Continuous => MemberKind::File { size },
            EntryType::Directory => MemberKind::Directory,
            EntryType::Symlink if link.is_empty() => refuse("it points nowhere"),
            EntryType::Symlink => MemberKind::Symlink { target: OsString::from_vec(link).into() },
            EntryType::Link => MemberKind::Hardlink { target: link },
            EntryType::Block | EntryType::Char => refuse("it is a device"),
            EntryType::Fifo => refuse("it is a named pipe"),
            EntryType::GNUSparse => refuse("it is a sparse file"),
            other => {
                let kind = char::from(other.as_byte()).escape_default().to_string();
                refuse(&format!("it is of the unknown tar type `{kind}`"))
            }
        };
        if matches!(kind, MemberKind::File { .. }) && mode & 0o6000 != 0 {
            refuse(
                "it is set-user-id or set-group-id, and an image gets no privileges from outside",
            );
        }
        if size > 0 && !matches!(kind, MemberKind::File { .. } | MemberKind::Other) {
            refuse("it is no file and yet has content");
        }
        let mtime = header.mtime().unwrap_or(0);
        Ok(Member { name, kind, mode, mtime, problem })
    }
}

/// Bytes as a path, for messages.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads a record that is not content; what ends a name is taken off.
fn bounded(content: &mut dyn Read, size: u64, limit: u64) -> Result<Vec<u8>, Error> {
    if size > limit {
        let problem = format!("a name has {size} bytes, the most is {limit}");
        return Err(Error::member("(header)", problem));
    }
    let mut bytes = Vec::new();
    content.take(size).read_to_end(&mut bytes).map_err(Error::Damaged)?;
    if limit == LONGEST_NAME {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
    }
    Ok(bytes)
}

/// The path that a name in an archive means, without its first `strip` components. `None`: those
/// are all that it has.
///
/// # Errors
/// What is wrong with the name, as a clause that follows it.
pub(super) fn stripped(name: &[u8], strip: usize) -> Result<Option<PathBuf>, &'static str> {
    let text = str::from_utf8(name).map_err(|_| "its name is not UTF-8")?;
    if text.is_empty() {
        return Err("it has an empty name");
    }
    if text.starts_with('/') {
        return Err("its name is absolute");
    }
    if text.len() as u64 >= LONGEST_NAME {
        return Err("its name is too long");
    }
    if text.contains(char::is_control) {
        return Err("its name has a control character");
    }
    if text.bytes().filter(|byte| *byte == b'/').count() > DEEPEST {
        return Err("it lies too deep");
    }
    let mut path = PathBuf::new();
    let mut left = strip;
    for part in text.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." => return Err("its path has `..` in it"),
            _ if part.len() > 255 => return Err("its name is too long"),
            // OCI image specification, layer.md, "Whiteouts".
            _ if part.starts_with(".wh.") => return Err("`.wh.` marks deleted files in layers"),
            _ if left > 0 => left -= 1,
            _ => path.push(part),
        }
    }
    Ok((!path.as_os_str().is_empty()).then_some(path))
}
