//! What an entry and a sequence of entries must satisfy, for the writer and the reader alike.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::capability::normalise_capability;
use crate::layer::entry::{Entry, Kind};
use crate::layer::order;

/// What the name of a whiteout begins with (OCI image specification, `layer.md`, "Whiteouts").
pub const WHITEOUT_PREFIX: &str = ".wh.";

/// `PATH_MAX` without its NUL, and `NAME_MAX` (`linux/limits.h`).
const PATH_LIMIT: usize = 4095;
const NAME_LIMIT: usize = 255;

/// The first id that an unprivileged container does not have.
const ID_LIMIT: u32 = 65_536;

/// What eleven octal digits hold.
pub(super) const OCTAL_LIMIT: u64 = 1 << 33;

/// A rule of the format that an entry breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// The path is not UTF-8.
    #[error("its name is not UTF-8")]
    NotUtf8,
    /// The path is absolute, or has empty, `.` or `..` components, or a NUL.
    #[error("its path is not a plain relative path")]
    UnsafePath,
    /// The path or one of its components is too long.
    #[error("its name is too long for Linux")]
    TooLong,
    /// A component begins with `.wh.`.
    #[error("names that begin with `.wh.` are reserved for removals")]
    ReservedName,
    /// The root is not a directory.
    #[error("the root can only be a directory")]
    Root,
    /// The path does not come after the one before it.
    #[error("it does not come after `{}` in path order", .0.display())]
    Order(PathBuf),
    /// The path lies below one that is not a directory in the same layer.
    #[error("it lies below `{}`, which is not a directory", .0.display())]
    Parent(PathBuf),
    /// Owner or group is 65,536 or more.
    #[error("its owner {uid}:{gid} does not exist in an unprivileged container (ids below 65536)")]
    Owner {
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// The mode has bits beyond `0o7777`.
    #[error("its mode {0:#o} has more than permission bits")]
    Mode(u32),
    /// The modification time does not fit.
    #[error("its modification time {0} is out of range")]
    Time(u64),
    /// A symbolic link's target is empty, too long, not UTF-8, or has a NUL.
    #[error("its link target is not usable")]
    Target,
    /// A hard link does not name an earlier regular file of the same layer.
    #[error("its hard link names `{}`, which is no earlier file of the layer", .0.display())]
    LinkTarget(PathBuf),
    /// A hard link's mode, owner, time or attributes are not those of its file.
    #[error("its attributes differ from those of `{}`, the same file", .0.display())]
    LinkAttributes(PathBuf),
    /// An extended attribute that images do not have, or not on this kind of path.
    #[error("the extended attribute `{0}` cannot be kept in an image")]
    Attribute(String),
}

/// What all names of one file share.
#[derive(PartialEq, Eq)]
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u64,
    extended: std::collections::BTreeMap<String, Vec<u8>>,
}

impl Attributes {
    fn of(entry: &Entry) -> Self {
        let Entry { mode, uid, gid, mtime, ref xattrs, .. } = *entry;
        Self { mode, uid, gid, mtime, extended: xattrs.clone() }
    }
}

/// Checks entries one after the other.
#[derive(Default)]
pub(super) struct Sequence {
    previous: Option<(PathBuf, bool)>,
    /// By path; `OsString` hashes faster than `PathBuf`.
    files: HashMap<OsString, Attributes>,
}

impl Sequence {
    /// Checks `entry` by itself and against those before it, which it then joins.
    pub(super) fn check(&mut self, entry: &Entry) -> Result<(), Rule> {
        check_path(&entry.path)?;
        self.check_place(entry)?;
        if entry.kind != Kind::Whiteout {
            check_numbers(entry)?;
            check_extended_attributes(entry)?;
        }
        match &entry.kind {
            Kind::File { .. } => {
                self.files.insert(entry.path.clone().into(), Attributes::of(entry));
            }
            Kind::Symlink { target } => check_target(target)?,
            Kind::Hardlink { target } => self.check_hard_link(entry, target)?,
            Kind::Directory | Kind::Whiteout => {}
        }
        self.previous = Some((entry.path.clone(), entry.kind == Kind::Directory));
        Ok(())
    }

    fn check_place(&self, entry: &Entry) -> Result<(), Rule> {
        if entry.path.as_os_str().is_empty() && entry.kind != Kind::Directory {
            return Err(Rule::Root);
        }
        let Some((previous, is_directory)) = &self.previous else { return Ok(()) };
        if order::compare(&entry.path, previous).is_le() {
            return Err(Rule::Order(previous.clone()));
        }
        // In path order whatever lies below a path comes directly after it, so looking at the one
        // before is enough.
        if !is_directory && order::is_within(&entry.path, previous) {
            return Err(Rule::Parent(previous.clone()));
        }
        Ok(())
    }

    fn check_hard_link(&self, entry: &Entry, target: &Path) -> Result<(), Rule> {
        let file = self
            .files
            .get(target.as_os_str())
            .ok_or_else(|| Rule::LinkTarget(target.to_owned()))?;
        let link = Attributes::of(entry);
        let same = (link.mode, link.uid, link.gid, link.mtime)
            == (file.mode, file.uid, file.gid, file.mtime);
        if !same || !(link.extended.is_empty() || link.extended == file.extended) {
            return Err(Rule::LinkAttributes(target.to_owned()));
        }
        Ok(())
    }
}

/// Checks that `path` names something below the root, in one way only, and nothing outside of it.
fn check_path(path: &Path) -> Result<(), Rule> {
    let text = path.to_str().ok_or(Rule::NotUtf8)?;
    if text.is_empty() {
        return Ok(());
    }
    if text.len() > PATH_LIMIT {
        return Err(Rule::TooLong);
    }
    for component in text.split('/') {
        if matches!(component, "" | "." | "..") || component.contains('\0') {
            return Err(Rule::UnsafePath);
        }
        if component.len() > NAME_LIMIT {
            return Err(Rule::TooLong);
        }
        if component.starts_with(WHITEOUT_PREFIX) {
            return Err(Rule::ReservedName);
        }
    }
    Ok(())
}

fn check_target(target: &Path) -> Result<(), Rule> {
    match target.to_str() {
        Some(text) if !text.is_empty() && text.len() <= PATH_LIMIT && !text.contains('\0') => {
            Ok(())
        }
        _ => Err(Rule::Target),
    }
}

fn check_numbers(entry: &Entry) -> Result<(), Rule> {
    if entry.uid >= ID_LIMIT || entry.gid >= ID_LIMIT {
        return Err(Rule::Owner { uid: entry.uid, gid: entry.gid });
    }
    if entry.mode > 0o7777 {
        return Err(Rule::Mode(entry.mode));
    }
    if entry.mtime >= OCTAL_LIMIT {
        return Err(Rule::Time(entry.mtime));
    }
    Ok(())
}

/// Linux has `user.*` attributes only on files and directories (xattr(7)) and capabilities only on
/// files; a hard link may repeat those of its file.
fn check_extended_attributes(entry: &Entry) -> Result<(), Rule> {
    let file = matches!(entry.kind, Kind::File { .. } | Kind::Hardlink { .. });
    let directory = entry.kind == Kind::Directory;
    for (name, value) in &entry.xattrs {
        let allowed = match name.as_str() {
            "security.capability" => {
                file && normalise_capability(value).is_ok_and(|normal| normal[..] == value[..])
            }
            name => {
                (file || directory)
                    && name.strip_prefix("user.").is_some_and(|rest| !rest.is_empty())
                    && name.len() <= NAME_LIMIT
                    && !name.contains(['=', '\0'])
                    && value.len() <= 65_536
            }
        };
        if !allowed {
            return Err(Rule::Attribute(name.clone()));
        }
    }
    Ok(())
}
