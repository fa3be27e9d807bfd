//! The small disks that a machine is given: FAT volumes without a partition table.

use std::fs::{self, File};
use std::io::{self, Cursor, Write};
use std::path::Path;

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};

/// Bytes of a volume beyond its files: tables, directory, and what the last cluster of each file wastes.
const OVERHEAD: usize = 1 << 20;

/// A volume is a multiple of this.
const UNIT: usize = 1 << 20;

/// Writes a FAT volume with this label and these files to a new file `path`, which only its owner may
/// read.
pub(super) fn write_volume(
    path: &Path,
    label: &[u8; 11],
    files: &[(&str, &str)],
) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, content)| (*name, content.as_bytes())).collect();
    file.write_all(&volume(label, &files)?)
}

/// The bytes of a FAT volume with this label and these files.
pub(crate) fn volume(label: &[u8; 11], files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let content: usize = files.iter().map(|(_, content)| content.len() + 4096).sum();
    let mut bytes = vec![0; (content + OVERHEAD).next_multiple_of(UNIT)];
    let mut disk = Cursor::new(bytes.as_mut_slice());
    format_volume(&mut disk, FormatVolumeOptions::new().volume_label(*label))?;
    let system = FileSystem::new(&mut disk, FsOptions::new())?;
    for (name, content) in files {
        let mut file = system.root_dir().create_file(name)?;
        file.write_all(content)?;
        file.flush()?;
    }
    system.unmount()?;
    Ok(bytes)
}

/// Makes an empty sparse disk of `size` bytes.
pub(super) fn make_empty(path: &Path, size: u64) -> io::Result<()> {
    File::create_new(path)?.set_len(size)
}

/// The format of a disk image: `qcow2` by its magic number (QEMU, docs/interop/qcow2.txt), or else
/// `raw`. QEMU is never left to guess: a guest could make it see another format.
pub(super) fn format(path: &Path) -> io::Result<&'static str> {
    use std::io::Read;
    let mut magic = [0; 4];
    let read = fs::File::open(path)?.take(4).read(&mut magic)?;
    Ok(if read == 4 && magic == *b"QFI\xfb" { "qcow2" } else { "raw" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_volume_has_its_label_and_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volume");
        let long = "x".repeat(3 << 20);
        let files = [("network-config", "version: 1\n"), ("galera.database", long.as_str())];
        write_volume(&path, b"cidata     ", &files).unwrap();
        let system = FileSystem::new(File::open(&path).unwrap(), FsOptions::new());
        // Reading updates nothing, but the crate wants to be able to.
        drop(system);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let system = FileSystem::new(file, FsOptions::new()).unwrap();
        assert_eq!(system.read_volume_label_from_root_dir().unwrap().unwrap(), "cidata");
        for (name, content) in files {
            let mut text = String::new();
            system.root_dir().open_file(name).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, content);
        }
    }

    #[test]
    fn the_format_is_known_by_its_magic() {
        let directory = tempfile::tempdir().unwrap();
        for (content, expected) in
            [(&b"QFI\xfb\0\0"[..], "qcow2"), (b"QFI", "raw"), (b"", "raw"), (b"QFI\0\0", "raw")]
        {
            let path = directory.path().join("disk");
            fs::write(&path, content).unwrap();
            assert_eq!(format(&path).unwrap(), expected);
        }
    }
}
