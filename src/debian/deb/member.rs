//! The members of a package's data archive, read as dpkg reads them (deb(5), dpkg's tar.h):
//! old, ustar and GNU headers, GNU long names, no pax extensions, no sparse files.

use std::collections::BTreeSet;
use std::io::{self, Read};

use tar::{EntryType, Header};

/// Longest path that Linux accepts (`PATH_MAX`); a longer long-name record is not read at all.
const LONGEST_NAME: u64 = 4096;

/// A path inside a package or a root directory: bytes that begin with `/`, without `.`, `..`
/// or empty components. The root directory itself is `/.`, as in dpkg's file lists.
pub type MemberPath = Vec<u8>;

/// What a member of the data archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A directory.
    Directory,
    /// A regular file of `size` bytes.
    File {
        /// Bytes of content.
        size: u64,
    },
    /// A symbolic link with its target, byte for byte.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A further name of the file `target` of the same archive.
    Hardlink {
        /// The first name.
        target: MemberPath,
    },
}

/// A member of the data archive with its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it belongs.
    pub path: MemberPath,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Name of the owner, empty if the archive gives none. It takes precedence over the number
    /// where the root directory's own `/etc/passwd` knows it, as in dpkg.
    pub user: Vec<u8>,
    /// Name of the group, likewise.
    pub group: Vec<u8>,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
}

/// What is wrong with a member: its path as the archive gives it, and the problem.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub member: String,
    pub problem: String,
}

/// Why a data archive cannot be read further.
#[derive(Debug)]
pub(super) enum Problem {
    Refused(Refusal),
    Io(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Puts members together from the records of a tar archive: GNU long names come in records of
/// their own before the member that they belong to.
#[derive(Default)]
pub(super) struct Assembler {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Assembler {
    /// Takes one record. `None`: it was no member by itself.
    pub fn take(
        &mut self,
        header: &Header,
        content: &mut dyn Read,
    ) -> Result<Option<Member>, Problem> {
        match header.entry_type() {
            EntryType::GNULongName => {
                self.name = Some(long_name(header, content)?);
                return Ok(None);
            }
            EntryType::GNULongLink => {
                self.link = Some(long_name(header, content)?);
                return Ok(None);
            }
            _ => {}
        }
        let name = self.name.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let link = self
            .link
            .take()
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default();
        let member = member(header, &name, link).map_err(|problem| {
            let member = String::from_utf8_lossy(&name).into_owned();
            Problem::Refused(Refusal { member, problem })
        })?;
        Ok(Some(member))
    }
}

/// The symbolic links of one archive. No package that was made from a directory has a member below one of
/// them, and where it would land depends on what the link points to.
///
/// Paths are kept with zero bytes for slashes, so that what lies below one follows it directly, and none lies
/// below another: what could be above a path is then the one before it, however many there are and however long
/// the path is.
#[derive(Default)]
pub(super) struct Links(BTreeSet<Vec<u8>>);

impl Links {
    /// Refuses a member below a link.
    pub fn admit(&mut self, member: Member) -> Result<Member, Problem> {
        if self.0.is_empty() && !matches!(member.kind, MemberKind::Symlink { .. }) {
            return Ok(member);
        }
        let key: Vec<u8> =
            member.path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect();
        let is_above = |link: &&Vec<u8>| {
            key.strip_prefix(&link[..]).is_some_and(|rest| rest.starts_with(&[0]))
        };
        if let Some(link) = self.0.range(..key.clone()).next_back().filter(is_above) {
            let link = String::from_utf8_lossy(&member.path[..link.len()]);
            let problem = format!("it lies below {link}, a symbolic link of the same package");
            let member = String::from_utf8_lossy(&member.path).into_owned();
            return Err(Problem::Refused(Refusal { member, problem }));
        }
        if let MemberKind::Symlink { .. } = member.kind {
            let below = [&key[..], &[0]].concat()..[&key[..], &[1]].concat();
            let below: Vec<_> = self.0.range(below).cloned().collect();
            below.iter().for_each(|link| _ = self.0.remove(link));
            self.0.insert(key);
        }
        Ok(member)
    }
}

/// Reads a long name, which GNU tar ends with a zero byte and others do not.
fn long_name(header: &Header, content: &mut dyn Read) -> Result<Vec<u8>, Problem> {
    let size = header.entry_size()?;
    if size > LONGEST_NAME {
        let problem = format!("its name has {size} bytes, the most is {LONGEST_NAME}");
        return Err(Problem::Refused(Refusal { member: "././@LongLink".to_owned(), problem }));
    }
    let mut name = Vec::new();
    content.take(size).read_to_end(&mut name)?;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    name.truncate(end);
    Ok(name)
}

/// A member from its header and its full names.
fn member(header: &Header, name: &[u8], link: Vec<u8>) -> Result<Member, String> {
    let number = |field: &str, value: io::Result<u64>| {
        let value = value.map_err(|_| format!("its {field} is not a number"))?;
        u32::try_from(value).map_err(|_| format!("its {field} {value} is too large"))
    };
    let size = header.entry_size().map_err(|_| "its size is not a number".to_owned())?;
    let kind = match header.entry_type() {
        // Before POSIX, a directory was a file whose name ends with a slash.
        EntryType::Regular if name.ends_with(b"/") => MemberKind::Directory,
        EntryType::Regular => MemberKind::File { size },
        EntryType::Directory => MemberKind::Directory,
        EntryType::Symlink if link.is_empty() => return Err("it points nowhere".to_owned()),
        EntryType::Symlink => MemberKind::Symlink { target: link },
        EntryType::Link => {
            let target = member_path(&link).map_err(|problem| format!("its target {problem}"))?;
            MemberKind::Hardlink { target }
        }
        EntryType::Block | EntryType::Char => {
            return Err("it is a device node".to_owned());
        }
        EntryType::Fifo => return Err("it is a named pipe".to_owned()),
        EntryType::XHeader | EntryType::XGlobalHeader => {
            return Err("it has a pax extended header, which dpkg refuses".to_owned());
        }
        other => {
            let kind = char::from(other.as_byte()).escape_default().to_string();
            return Err(format!("it is of the unknown tar type `{kind}`"));
        }
    };
    if size > 0 && !matches!(kind, MemberKind::File { .. }) {
        return Err("it is no file and yet has content".to_owned());
    }
    let mtime = header.mtime().map_err(|_| "its time is not a number".to_owned())?;
    Ok(Member {
        path: member_path(name)?,
        kind,
        mode: number("mode", header.mode().map(u64::from))? & 0o7777,
        uid: number("owner", header.uid())?,
        gid: number("group", header.gid())?,
        user: header.username_bytes().unwrap_or_default().to_vec(),
        group: header.groupname_bytes().unwrap_or_default().to_vec(),
        mtime: i64::try_from(mtime).map_err(|_| "its time is too large".to_owned())?,
    })
}

/// The path that a name in an archive means: relative to the root, with or without `./`
/// in front and with or without a slash at the end.
pub(super) fn member_path(name: &[u8]) -> Result<MemberPath, String> {
    let mut rest = name;
    while let Some(shorter) = rest.strip_prefix(b"./").or_else(|| rest.strip_prefix(b"/")) {
        rest = shorter;
    }
    let rest = rest.strip_suffix(b"/").unwrap_or(rest);
    if name.is_empty() {
        return Err("has an empty name".to_owned());
    }
    if rest.is_empty() || rest == b"." {
        return Ok(b"/.".to_vec());
    }
    if rest.contains(&b'\n') || rest.contains(&0) {
        return Err("has a line end or a zero byte in its name".to_owned());
    }
    for component in rest.split(|&byte| byte == b'/') {
        match component {
            b".." => return Err("has `..` in its path".to_owned()),
            b"" | b"." => return Err("has an empty component in its path".to_owned()),
            _ if component.len() > 255 => return Err("has an overlong name".to_owned()),
            _ => {}
        }
    }
    // dpkg takes these for relative, but dpkg-deb makes none: somebody means something by it.
    if name.starts_with(b"/") {
        return Err("has an absolute name".to_owned());
    }
    let mut path = Vec::with_capacity(rest.len() + 1);
    path.push(b'/');
    path.extend_from_slice(rest);
    Ok(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_become_absolute_paths_or_are_refused() {
        let accepted: [(&str, &str); 6] = [
            ("./", "/."),
            ("/", "/."),
            (".", "/."),
            ("./usr/", "/usr"),
            ("usr/bin/x", "/usr/bin/x"),
            ("././usr", "/usr"),
        ];
        for (name, path) in accepted {
            assert_eq!(member_path(name.as_bytes()).unwrap(), path.as_bytes(), "{name}");
        }
        for name in [
            "",
            "/usr/bin/x",
            "..",
            "../x",
            "./usr/../etc",
            "usr//bin",
            "usr/./bin",
            "a\nb",
            "usr//",
        ] {
            assert!(member_path(name.as_bytes()).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 512),
                                            content in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(&bytes);
            let _ = Assembler::default().take(&header, &mut content.as_slice());
        }

        #[test]
        fn no_accepted_name_leaves_the_root(name in "[./a]{0,12}") {
            if let Ok(path) = member_path(name.as_bytes()) {
                prop_assert!(path.starts_with(b"/"));
                prop_assert!(!path.split(|&byte| byte == b'/').any(|part| part == b".."));
            }
        }
    }
}
