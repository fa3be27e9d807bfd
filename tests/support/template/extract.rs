//! Extraction as Proxmox does it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use tar::EntryType;

use super::{Member, Template, plain};

/// Whether [`extract`] could be tried.
#[derive(Debug, PartialEq, Eq)]
pub enum Extraction {
    /// The template was extracted and is what its members say.
    Done,
    /// This machine has no GNU tar with zstd, or no way to become root of 65,536 ids.
    Unavailable(String),
}

/// Extracts the template at `path` into `directory` with the options that Proxmox gives to tar, and
/// compares the result with the members.
///
/// # Panics
/// If tar fails or complains, or a path is not what it should be.
pub fn extract(path: &Path, directory: &Path) -> Extraction {
    let options = [
        "--zstd",
        "--one-file-system",
        "-p",
        "--sparse",
        "--numeric-owner",
        "--acls",
        "--xattrs",
        "--xattrs-include=user.*",
        "--xattrs-include=security.capability",
        "--warning=no-file-ignored",
        "--warning=no-xattr-write",
        "--skip-old-files",
        "--anchored",
        "--exclude",
        "./dev/*",
    ];
    if !rustix::process::geteuid().is_root() {
        return Extraction::Unavailable("only root can give files to others".to_owned());
    }
    let tried = Command::new("tar")
        .env("LC_ALL", "C")
        .args(["-x", "-f"])
        .arg(path)
        .args(options)
        .arg("-C")
        .arg(directory)
        .output();
    let output = match tried {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Extraction::Unavailable("tar is not installed".to_owned());
        }
        Err(error) => panic!("tar cannot be started: {error}"),
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", output.status);
    // The root itself is there before, and --skip-old-files leaves it as it is.
    for member in Template::read(path, &[]).members.iter().filter(|member| member.name != "./") {
        compare(member, &directory.join(member.path()));
    }
    Extraction::Done
}

fn compare(member: &Member, path: &Path) {
    let found = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let owner = (u64::from(found.uid()), u64::from(found.gid()));
    assert_eq!(owner, (member.uid, member.gid), "owner of {path:?}");
    match member.kind {
        EntryType::Symlink => {
            assert_eq!(fs::read_link(path).unwrap(), Path::new(&member.link), "{path:?}");
            return;
        }
        EntryType::Directory => assert!(found.is_dir(), "{path:?}"),
        EntryType::Regular => {
            assert!(found.is_file(), "{path:?}");
            assert_eq!(found.len(), member.size, "size of {path:?}");
        }
        EntryType::Link => {
            let file =
                path.to_str().unwrap().strip_suffix(member.path().to_str().unwrap()).unwrap();
            let file = fs::symlink_metadata(Path::new(file).join(plain(&member.link))).unwrap();
            assert_eq!(found.ino(), file.ino(), "{path:?} is not {:?}", member.link);
        }
        other => panic!("{path:?} is {other:?}"),
    }
    assert_eq!(found.mode() & 0o7777, member.mode & 0o7777, "mode of {path:?}");
}
