//! Builds everything again from nothing and compares, as proof that a build depends on its inputs alone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Archives, Artifact, Builder, Error, Layer, LockedRole};
use crate::artifact::name::Format;
use crate::digest::Digest;
use crate::layer::archive::{Archive, IndexedEntry};
use crate::layer::entry::Kind;
use crate::store::Store;

/// A layer that came out differently.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Difference {
    /// The layer: `haproxy packages`.
    pub layer: String,
    /// Its paths that differ, and how.
    pub paths: Vec<String>,
}

/// What building an artifact twice has shown.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// The artifact as published.
    pub artifact: Artifact,
    /// The SHA-256 of the second one.
    pub rebuilt: Digest,
}

impl Verification {
    /// Whether both builds gave the same bytes.
    pub fn is_same(&self) -> bool {
        self.artifact.sha256 == self.rebuilt
    }
}

impl Builder<'_> {
    /// Builds `role` into `directory`, then once more in an empty store, and compares both. Only
    /// downloads are shared. Gives the artifacts, and the layers that differ: the first of them may be
    /// why those above it do.
    ///
    /// # Errors
    /// When either build fails.
    pub fn verify(
        &self,
        role: &LockedRole,
        formats: &[Format],
        directory: &Path,
    ) -> Result<(Vec<Verification>, Vec<Difference>), Error> {
        let artifacts = self.build(role, formats, directory)?;
        let first = self.all_layers(role, formats)?;
        let work = self.store.work_dir()?;
        let store = Store::open(Some(&work.path().join("store")))?;
        let again = Builder {
            store: &store,
            downloads: self.downloads,
            progress: self.progress,
            fetcher: self.fetcher,
            // Proof that it can be built here.
            shared: None,
            trust: self.trust,
            role: self.role.clone(),
            site: self.site.clone(),
            executable: self.executable.clone(),
            archives: Archives::default(),
            threads: self.threads,
            debug_shell: false,
        };
        let rebuilt = again.build(role, formats, &work.path().join("out"))?;
        let second = again.all_layers(role, formats)?;
        let mut differences = Vec::new();
        for (one, other) in first.iter().zip(&second) {
            if one.record.digest != other.record.digest {
                differences.push(compare(one, other)?);
            }
        }
        let pairs = artifacts.into_iter().zip(rebuilt);
        let verifications = pairs
            .map(|(artifact, rebuilt)| Verification { artifact, rebuilt: rebuilt.sha256 })
            .collect();
        Ok((verifications, differences))
    }

    /// Every layer that goes into `formats`.
    fn all_layers(&self, role: &LockedRole, formats: &[Format]) -> Result<Vec<Layer>, Error> {
        let (mut layers, tree) = self.layers(&role.plan, &|_| {})?;
        if let Some(disk) = role.disk.as_ref().filter(|_| formats.contains(&Format::Qcow2)) {
            let machine = self.machine_layers(disk, &layers, tree)?;
            layers.extend(machine);
            layers.extend(self.boot_layers(disk)?);
        }
        Ok(layers)
    }
}

fn compare(one: &Layer, other: &Layer) -> Result<Difference, Error> {
    let first = Archive::open(&one.archive, one.record.digest)?;
    let second = Archive::open(&other.archive, other.record.digest)?;
    let paths: BTreeSet<&Path> = [&first, &second]
        .iter()
        .flat_map(|archive| archive.index.entries())
        .map(|indexed| indexed.entry.path.as_path())
        .collect();
    let mut different = Vec::new();
    for path in paths {
        let how = match (first.index.get(path), second.index.get(path)) {
            (Some(a), Some(b)) => differs(&first.file, a, &second.file, b).map_err(|source| {
                Error::Io { action: "read", path: one.archive.clone(), source }
            })?,
            (Some(_), None) => Some("is missing in the second build".to_owned()),
            _ => Some("is only in the second build".to_owned()),
        };
        different.extend(how.map(|how| format!("/{}: {how}", path.display())));
    }
    Ok(Difference { layer: format!("{} {}", one.image, one.kind.name()), paths: different })
}

fn differs(
    first: &File,
    a: &IndexedEntry,
    second: &File,
    b: &IndexedEntry,
) -> io::Result<Option<String>> {
    let (x, y) = (&a.entry, &b.entry);
    if x.kind != y.kind {
        return Ok(Some(format!("{} against {}", shown(&x.kind), shown(&y.kind))));
    }
    if (x.mode, x.uid, x.gid) != (y.mode, y.uid, y.gid) {
        let (m, n) = (x.mode, y.mode);
        return Ok(Some(format!(
            "{m:04o} {}:{} against {n:04o} {}:{}",
            x.uid, x.gid, y.uid, y.gid
        )));
    }
    if x.xattrs != y.xattrs {
        return Ok(Some("extended attributes differ".to_owned()));
    }
    if let Kind::File { size } = x.kind
        && let Some(offset) = first_difference(first, a.data_offset, second, b.data_offset, size)?
    {
        return Ok(Some(format!("content differs from byte {offset} on")));
    }
    if x.mtime != y.mtime {
        return Ok(Some(format!("modified at {} against {}", x.mtime, y.mtime)));
    }
    Ok(None)
}

fn shown(kind: &Kind) -> String {
    match kind {
        Kind::Directory => "a directory".to_owned(),
        Kind::File { size } => format!("a file of {size} bytes"),
        Kind::Symlink { target } => format!("a symbolic link to {}", target.display()),
        Kind::Hardlink { target } => format!("a link to /{}", target.display()),
        Kind::Whiteout => "a removal".to_owned(),
    }
}

fn first_difference(
    first: &File,
    at: u64,
    second: &File,
    other: u64,
    size: u64,
) -> io::Result<Option<u64>> {
    let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut done = 0;
    while done < size {
        let count = (size - done).min(a.len() as u64) as usize;
        first.read_exact_at(&mut a[..count], at + done)?;
        second.read_exact_at(&mut b[..count], other + done)?;
        if let Some(position) = a[..count].iter().zip(&b[..count]).position(|(x, y)| x != y) {
            return Ok(Some(done + position as u64));
        }
        done += count as u64;
    }
    Ok(None)
}
