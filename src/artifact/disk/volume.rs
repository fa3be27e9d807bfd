//! The volumes that firmware and loader read: [FAT](super::fat) file systems.
//!
//! Their bytes depend on nothing but their files: these are in path order, and the serial number is
//! made of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Error;
use super::fat::{Fat, Format, Full, Width};
use super::uuid::Uuid;
use crate::digest::{Digest, Hasher};

/// A volume's form.
#[derive(Debug)]
pub(super) struct Geometry {
    /// Its partition's name, for messages.
    pub name: &'static str,
    /// Bytes in all.
    pub size: u64,
    label: [u8; 11],
    width: Width,
    cluster: u64,
}

/// The EFI system partition. The UEFI specification (2.10, section 13.3) wants FAT32 of it, which
/// takes at least 65,525 clusters (Microsoft's "FAT: General Overview of On-Disk Format", "FAT Type
/// Determination"): of 1 KiB.
pub(super) const ESP: Geometry = Geometry {
    name: "boot",
    size: 128 << 20,
    label: *b"IMGBUILD   ",
    width: Width::Fat32,
    cluster: 1024,
};

/// The volume with the names of the layers.
pub(super) const ROOTS: Geometry = Geometry {
    name: "roots",
    size: 1 << 20,
    label: *b"ROOTS      ",
    width: Width::Fat12,
    cluster: 512,
};

/// Why a name cannot be on a FAT volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameRule {
    /// A character that FAT does not allow, or that firmware may read as another.
    #[error("names there are letters, digits and some signs of ASCII")]
    Character,
    /// Windows and some firmware take the end away.
    #[error("a name cannot end with a dot or a space there")]
    End,
    /// Longer than 255 characters.
    #[error("names there have at most 255 characters")]
    Length,
    /// Not a plain relative path.
    #[error("its path is not a plain relative path")]
    Path,
    /// Two names differ in nothing but case, or one is a file and a directory.
    #[error("another file has the same name there, where upper and lower case are the same")]
    Twice,
}

/// A volume and the digest of what is in it.
#[derive(Debug)]
pub(super) struct Volume<'a> {
    pub fat: Fat<'a>,
    pub content: Digest,
}

/// A volume that holds `files`, in whatever order they come.
pub(super) fn volume<'a>(
    geometry: &Geometry,
    files: &'a [(PathBuf, Vec<u8>)],
) -> Result<Volume<'a>, Error> {
    let files = sorted(files)?;
    let content = digest(geometry, &files);
    let [a, b, c, d, ..] = Uuid::of(&content).0;
    let Geometry { size, cluster, width, label, .. } = *geometry;
    let format = Format { size, cluster, width, label, serial: u32::from_be_bytes([a, b, c, d]) };
    let full = |Full { size, limit }| Error::VolumeFull { volume: geometry.name, size, limit };
    Ok(Volume { fat: Fat::new(&format, &files).map_err(full)?, content })
}

/// The files in path order, once their names are known to be possible.
fn sorted(files: &[(PathBuf, Vec<u8>)]) -> Result<Vec<(&Path, &[u8])>, Error> {
    let mut known: BTreeMap<String, (&Path, bool)> = BTreeMap::new();
    let mut sorted: Vec<(&Path, &[u8])> = Vec::with_capacity(files.len());
    for (path, bytes) in files {
        let refused = |rule| Error::Name { path: path.clone(), rule };
        check(path).map_err(refused)?;
        let mut ancestors = path.ancestors().filter(|part| !part.as_os_str().is_empty());
        for (number, part) in ancestors.by_ref().enumerate() {
            let is_directory = number > 0;
            let folded = part.to_string_lossy().to_ascii_lowercase();
            let (first, was_directory) = *known.entry(folded).or_insert((part, is_directory));
            let same_directory = is_directory && was_directory && first == part;
            let new_file = !is_directory && std::ptr::eq(first, part);
            if !same_directory && !new_file {
                return Err(refused(NameRule::Twice));
            }
        }
        sorted.push((path, bytes));
    }
    sorted.sort_by_key(|(path, _)| *path);
    Ok(sorted)
}

fn check(path: &Path) -> Result<(), NameRule> {
    let text = path.to_str().ok_or(NameRule::Character)?;
    for name in text.split('/') {
        // What long names may have ("FAT32 File System Specification", "Long directory entries"),
        // of ASCII.
        let allowed = |letter: char| {
            letter.is_ascii_alphanumeric() || " $%'-_@~`!(){}^#&.+,;=[]".contains(letter)
        };
        if matches!(name, "" | "." | "..") {
            return Err(NameRule::Path);
        }
        if !name.chars().all(allowed) {
            return Err(NameRule::Character);
        }
        if name.ends_with(['.', ' ']) || name.starts_with(' ') {
            return Err(NameRule::End);
        }
        if name.len() > 255 {
            return Err(NameRule::Length);
        }
    }
    Ok(())
}

fn digest(geometry: &Geometry, files: &[(&Path, &[u8])]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field("imgbuild volume");
    hasher.field(geometry.label);
    for (path, bytes) in files {
        hasher.field(path.as_os_str().as_encoded_bytes());
        hasher.field(bytes);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::disk::source::Source;
    use crate::artifact::disk::testing::{noise, oracle};

    fn files(list: &[(&str, &[u8])]) -> Vec<(PathBuf, Vec<u8>)> {
        list.iter().map(|(path, bytes)| (PathBuf::from(path), bytes.to_vec())).collect()
    }

    fn bytes(geometry: &Geometry, files: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
        let volume = volume(geometry, files).unwrap();
        let mut bytes = vec![0; volume.fat.size() as usize];
        volume.fat.read_at(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_volume_depends_on_its_files_alone() {
        let (a, b) =
            (("imgbuild/vmlinuz", &b"kernel"[..]), ("EFI/BOOT/BOOTX64.EFI", &b"loader"[..]));
        let first = bytes(&ESP, &files(&[a, b]));
        assert!(first == bytes(&ESP, &files(&[b, a])));
        let roots = bytes(&ROOTS, &files(&[("imgbuild/roots.cfg", b"set x=1\n")]));
        assert_eq!(
            (Digest::of(first).short(), Digest::of(roots).short()),
            ("b0e780d4aed3".to_owned(), "010e7c21624f".to_owned()),
        );
    }

    #[test]
    fn other_programs_read_it() {
        let big = noise(1, 3_000_000);
        let list = [
            ("EFI/BOOT/BOOTX64.EFI", big.as_slice()),
            ("imgbuild/a name that is longer than eight and three.configuration", b"1"),
            ("imgbuild/empty", b""),
            ("imgbuild/initrd.img", &big[..1024]),
        ];
        let directory = tempfile::tempdir().unwrap();
        for (geometry, list) in [(&ESP, &list[..]), (&ROOTS, &list[1..])] {
            let path = directory.path().join(geometry.name);
            std::fs::write(&path, bytes(geometry, &files(list))).unwrap();
            let file = path.to_str().unwrap();
            let Some(output) = oracle("fsck.fat", &["-n", "-v", file]) else { return };
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{text}");
            assert!(text.contains(&format!("{} bytes per cluster", geometry.cluster)), "{text}");
            for (name, content) in list {
                let Some(output) = oracle("mtype", &["-i", file, &format!("::/{name}")]) else {
                    break;
                };
                assert!(output.stdout == *content, "{name}");
            }
            if let Some(output) = oracle("mdir", &["-i", file, "::/"]) {
                let text = String::from_utf8_lossy(&output.stdout);
                let label = String::from_utf8_lossy(&geometry.label);
                assert!(text.contains(&format!("is {}", label.trim_end())), "{text}");
                assert!(text.contains("1980-01-01"), "{text}");
            }
        }
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let cases = [
            ("a:b", NameRule::Character),
            ("ä", NameRule::Character),
            ("a.", NameRule::End),
            ("a /b", NameRule::End),
            ("../a", NameRule::Path),
            ("/a", NameRule::Path),
        ];
        for (path, rule) in cases {
            let files = files(&[(path, b"")]);
            let result = volume(&ROOTS, &files);
            assert!(
                matches!(result, Err(Error::Name { rule: found, .. }) if found == rule),
                "{path}"
            );
        }
        let long = "x".repeat(256);
        for list in [["a/b", "A/c"], ["a", "A"], ["a/b", "a"], ["a", "a/b"], ["a", &long]] {
            let list: Vec<_> = list.iter().map(|path| (*path, &b""[..])).collect();
            let files = files(&list);
            let result = volume(&ROOTS, &files);
            assert!(matches!(result, Err(Error::Name { .. })), "{list:?}");
        }
    }

    #[test]
    fn files_that_do_not_fit_are_refused_and_those_that_fit_are_not() {
        // Of 2048 sectors: the boot sector, two tables of 6, the root directory of 32, and `b`.
        let free = (2048 - 1 - 12 - 32 - 1) * 512;
        let list = |size| files(&[("a", &vec![1; size][..]), ("b/c", b"")]);
        assert!(volume(&ROOTS, &list(free)).is_ok());
        for size in [free + 1, 10 * free] {
            let list = list(size);
            let error = volume(&ROOTS, &list).unwrap_err();
            assert!(matches!(error, Error::VolumeFull { volume: "roots", .. }), "{error:?}");
        }
    }

    #[test]
    fn names_with_the_same_beginning_get_different_short_names() {
        let names: Vec<String> = (0..30).map(|number| format!("initrd-{number}.image")).collect();
        let list: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volume");
        std::fs::write(&path, bytes(&ROOTS, &files(&list))).unwrap();
        let file = path.to_str().unwrap();
        let Some(output) = oracle("fsck.fat", &["-n", file]) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        for name in &names {
            let Some(output) = oracle("mtype", &["-i", file, &format!("::/{name}")]) else {
                return;
            };
            assert!(output.stdout == name.as_bytes(), "{name}");
        }
    }
}
