//! The directory of a store: finding, checking and making it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Error;

/// The format that this program reads and writes.
const FORMAT: u32 = 1;

/// What `format` says before the number.
const FORMAT_PREFIX: &str = "imgbuild store ";

/// Names that a store may hold in its top directory.
const NAMES: [&str; 10] = [
    "CACHEDIR.TAG",
    "blobs",
    "downloads",
    "format",
    "keys",
    "lock",
    "locks",
    "logs",
    "verified",
    "work",
];

/// Files of the top directory begin like this while they are written.
const TEMPORARY_PREFIX: &str = ".new-";

/// The first 43 octets are prescribed: Cache Directory Tagging Specification 0.6.
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This directory is a cache of imgbuild: everything in it can be made or fetched again.
# See https://bford.info/cachedir/
";

/// Where the store is if nobody says. XDG Base Directory Specification: relative paths in the
/// environment are invalid and ignored.
pub(super) fn default_root(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("imgbuild"))
}

/// Makes the directory into a store if it is none yet, and returns its absolute path.
pub(super) fn prepare(root: &Path) -> Result<PathBuf, Error> {
    create_private(root).map_err(|source| unusable(root, source))?;
    let root = fs::canonicalize(root).map_err(|source| unusable(root, source))?;
    check_format(&root)?;
    for name in ["blobs", "blobs/sha256", "downloads", "keys", "locks", "logs", "verified", "work"]
    {
        let path = root.join(name);
        create_private(&path).map_err(|source| unusable(&path, source))?;
    }
    if !root.join("CACHEDIR.TAG").exists() {
        create_file(&root, "CACHEDIR.TAG", CACHEDIR_TAG)?;
    }
    Ok(root)
}

/// Refuses what is not a store of this format; makes a new directory into one.
fn check_format(root: &Path) -> Result<(), Error> {
    let path = root.join("format");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            refuse_foreign(root)?;
            return create_file(root, "format", &format!("{FORMAT_PREFIX}{FORMAT}\n"));
        }
        Err(source) => return Err(unusable(&path, source)),
    };
    match text.trim_end().strip_prefix(FORMAT_PREFIX).map(str::parse) {
        Some(Ok(FORMAT)) => Ok(()),
        _ => Err(Error::UnknownFormat {
            path: root.to_owned(),
            found: text.trim_end().escape_default().take(40).collect(),
            known: FORMAT,
        }),
    }
}

/// Refuses a directory that holds anything else than a store that is just being made.
fn refuse_foreign(root: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(root).map_err(|source| unusable(root, source))? {
        let name = entry.map_err(|source| unusable(root, source))?.file_name();
        let name = name.to_string_lossy();
        if !NAMES.contains(&&*name) && !name.starts_with(TEMPORARY_PREFIX) {
            return Err(Error::Foreign { path: root.to_owned(), found: name.into_owned() });
        }
    }
    Ok(())
}

/// Writes a file of the top directory. Two processes that do so at once write the same.
fn create_file(root: &Path, name: &str, content: &str) -> Result<(), Error> {
    let path = root.join(name);
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(root)?;
        make_private(file.as_file())?;
        file.write_all(content.as_bytes())?;
        // Small and written once: worth a sync, an empty `format` would need explaining.
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    write().map_err(|source| unusable(&path, source))
}

/// Makes a directory, and those above it, with mode 0700 whatever the umask. Directories that
/// exist stay as they are.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    match create_one(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            create_private(parent.ok_or(error)?)?;
            create_one(path)
        }
        result => result,
    }
}

/// Gives `file` mode 0600 whatever the umask.
pub(super) fn make_private(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o600))
}

fn create_one(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match path.is_dir() {
            true => Ok(()),
            false => Err(io::ErrorKind::NotADirectory.into()),
        },
        Err(error) => Err(error),
    }
}

/// Opens and locks the file that keeps garbage collection away.
pub(super) fn lock_shared(root: &Path) -> Result<File, Error> {
    let path = root.join("lock");
    let file = open_lock(&path).map_err(|source| unusable(&path, source))?;
    file.lock_shared().map_err(|source| unusable(&path, source))?;
    Ok(file)
}

/// Opens a file to be locked. For writing, because flock(2) asks for that on NFS.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
    make_private(&file)?;
    Ok(file)
}

/// Why opening the store ends at `path`.
pub(super) fn unusable(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::io("write", path, source)
        }
        _ => Error::Unusable { path: path.to_owned(), source },
    }
}

/// Whether a write that succeeds may still fail for lack of space later. These file systems
/// reserve space before write(2) returns; the numbers are those of statfs(2).
pub(super) fn reports_full_disk_late(root: &Path) -> bool {
    const RESERVE_SPACE_AT_WRITE: [u64; 6] = [
        0xef53,      // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683e, // btrfs
        0xf2f5_2010, // f2fs
        0x0102_1994, // tmpfs
        0x794c_7630, // overlayfs: its upper layer is one of the above
    ];
    match rustix::fs::statfs(root) {
        Ok(status) => !RESERVE_SPACE_AT_WRITE.contains(&(status.f_type as u64)),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_root_follows_the_xdg_specification() {
        let cases = [
            (vec![("XDG_CACHE_HOME", "/c"), ("HOME", "/h")], Some("/c/imgbuild")),
            (vec![("HOME", "/h")], Some("/h/.cache/imgbuild")),
            (vec![("XDG_CACHE_HOME", "relative"), ("HOME", "/h")], Some("/h/.cache/imgbuild")),
            (vec![("XDG_CACHE_HOME", ""), ("HOME", "")], None),
            (vec![], None),
        ];
        for (environment, expected) in cases {
            let variable = |name: &str| {
                let found = environment.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(default_root(variable), expected.map(PathBuf::from), "{environment:?}");
        }
    }
}
