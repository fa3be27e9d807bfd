//! Files of the user's, written so that neither a crash nor a full disk leaves half of one behind.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use rustix::io::Errno;
use tempfile::NamedTempFile;

/// What the names of unfinished files begin with, where they need names at all.
const PREFIX: &str = ".imgbuild-";

/// A file that has no name until it is whole, so that the kernel frees it when this process is killed.
pub(crate) struct Output {
    file: Unnamed,
    directory: PathBuf,
}

enum Unnamed {
    /// `O_TMPFILE` (open(2)).
    Nameless(File),
    /// Where the file system has no such thing (NFS, some overlays).
    Named(NamedTempFile),
}

impl Output {
    /// A new file for `directory`, with mode 0644 whatever the umask.
    pub fn create_in(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = match open(directory, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => Unnamed::Nameless(File::from(file)),
            // open(2): the kernel or the file system does not know the flag.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                Unnamed::Named(tempfile::Builder::new().prefix(PREFIX).tempfile_in(directory)?)
            }
            Err(error) => return Err(error.into()),
        };
        let mut output = Self { file, directory: directory.to_owned() };
        output.file().set_permissions(Permissions::from_mode(0o644))?;
        Ok(output)
    }

    /// The file, to write to.
    pub fn file(&mut self) -> &mut File {
        match &mut self.file {
            Unnamed::Nameless(file) => file,
            Unnamed::Named(file) => file.as_file_mut(),
        }
    }

    /// Writes what is pending to the disk and gives the file its name, in place of a file that has it.
    pub fn publish(mut self, path: &Path) -> io::Result<()> {
        self.file().sync_data()?;
        let file = match self.file {
            Unnamed::Named(file) => return Ok(file.persist(path).map(drop)?),
            Unnamed::Nameless(file) => file,
        };
        // linkat(2) does not replace, so the file gets another name for an instant.
        let temporary = tempfile::Builder::new()
            .prefix(PREFIX)
            .make_in(&self.directory, |name| Ok(link(&file, name)?))?;
        fs::rename(temporary.path(), path)?;
        // There is nothing at that name any more.
        let _ = temporary.into_temp_path().keep();
        Ok(())
    }
}

/// Gives a nameless file a name, the way of open(2), `O_TMPFILE`.
fn link(file: &File, name: &Path) -> rustix::io::Result<()> {
    let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, &descriptor, CWD, name, AtFlags::SYMLINK_FOLLOW)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        for content in ["first", "second"] {
            let mut output = Output::create_in(directory.path()).unwrap();
            output.file().write_all(content.as_bytes()).unwrap();
            output.publish(&path).unwrap();
            assert_eq!(names(directory.path()), ["image"]);
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        }
        let mut output = Output::create_in(directory.path()).unwrap();
        output.file().write_all(b"third").unwrap();
        drop(output);
        assert_eq!(names(directory.path()), ["image"]);
    }

    #[test]
    fn a_directory_in_the_way_is_an_error_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        fs::create_dir_all(path.join("inside")).unwrap();
        let output = Output::create_in(directory.path()).unwrap();
        output.publish(&path).unwrap_err();
        assert_eq!(names(directory.path()), ["image"]);
    }
}
