//! A directory of this machine as an archive, for what `--source NAME=DIRECTORY` gives.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use walkdir::WalkDir;

use super::Error;

/// Writes what is in the directory `root` as a tar archive that says nothing of owners and of
/// modes but whether a file may be executed. The same files always give the same bytes.
///
/// # Errors
/// A file that cannot be read, or is neither file, directory nor link; a failure of `output`.
pub fn pack(root: &Path, output: impl Write) -> Result<(), Error> {
    let mut builder = tar::Builder::new(output);
    builder.mode(tar::HeaderMode::Deterministic);
    for entry in WalkDir::new(root).follow_links(false).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::Io {
            action: "read",
            path: error.path().unwrap_or(root).to_owned(),
            source: error.into(),
        })?;
        let failed = |source| Error::Io { action: "read", path: entry.path().to_owned(), source };
        let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let metadata = fs::symlink_metadata(entry.path()).map_err(failed)?;
        let mut header = tar::Header::new_gnu();
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        let (uid, gid) = (0, 0);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_size(0);
        let kind = metadata.file_type();
        if kind.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            builder.append_data(&mut header, below, std::io::empty()).map_err(failed)?;
        } else if kind.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            let target = fs::read_link(entry.path()).map_err(failed)?;
            builder.append_link(&mut header, below, &target).map_err(failed)?;
        } else if kind.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(if executable { 0o755 } else { 0o644 });
            header.set_size(metadata.len());
            let file = fs::File::open(entry.path()).map_err(failed)?;
            builder.append_data(&mut header, below, file).map_err(failed)?;
        } else {
            let name = String::from_utf8_lossy(below.as_os_str().as_bytes()).into_owned();
            return Err(Error::member(name, "it is neither file, directory nor link"));
        }
    }
    let failed = |source| Error::Io { action: "write", path: root.to_owned(), source };
    builder.into_inner().and_then(|mut output| output.flush()).map_err(failed)
}
