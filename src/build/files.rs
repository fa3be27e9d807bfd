//! The layer of a definition's rendered files. It needs no sandbox: the archive is written from memory.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Builder, Error, Inputs, Layer, LayerKind, LayerRecord};
use crate::digest::Digest;
use crate::layer::accounts::number_of;
use crate::layer::archive::{Archive, Writer};
use crate::layer::entry::{Entry, Kind};
use crate::layer::index::Merged;
use crate::layer::request::Accounts;
use crate::render::{RenderedEntry, RenderedKind, RenderedLayer};

/// The inputs of the files layer `rendered` on top of `below`.
pub(super) fn inputs(rendered: &RenderedLayer, below: Option<&Digest>) -> Inputs {
    let mut inputs = Inputs::new(LayerKind::Files.name(), below);
    for entry in &rendered.entries {
        let kind = match &entry.kind {
            RenderedKind::Directory => format!("directory explicit={}", entry.explicit),
            RenderedKind::File { content } => format!("file {}", Digest::of(content)),
            RenderedKind::Symlink { target } => format!("link {}", target.display()),
        };
        let RenderedEntry { mode, owner, group, replaces, .. } = entry;
        let replaces = replaces.as_deref().unwrap_or("-");
        inputs.add(
            format!("file /{}", entry.path.display()),
            format!("{kind} {mode:o} {owner} {group} {replaces}"),
        );
    }
    inputs
}

/// Writes the files layer `rendered` on top of `below` into the store.
pub(super) fn build(
    builder: &Builder<'_>,
    rendered: &RenderedLayer,
    below: &[Layer],
) -> Result<LayerRecord, Error> {
    let started = std::time::Instant::now();
    let archives = builder.archives.open(below)?;
    let merged = Merged::new(archives.iter().map(|archive| &archive.index))
        .map_err(|error| invalid("the lower layers", error))?;
    let stack = Below { merged, layers: below, archives: &archives };
    let (epoch, accounts) = below
        .last()
        .map(|layer| (layer.record.epoch, layer.record.accounts.clone()))
        .unwrap_or_default();
    let mut placed = BTreeMap::new();
    for entry in &rendered.entries {
        place(entry, &stack, &accounts, epoch, &mut placed)?;
    }
    let mut writer = Writer::new(builder.store.writer()?);
    for (entry, content) in placed.values() {
        writer.append(entry, &mut content.as_slice())?;
    }
    let mut blob = writer.finish()?;
    blob.flush().map_err(|error| invalid("the files layer", error))?;
    let blob = blob.commit()?;
    Ok(LayerRecord {
        digest: blob.digest(),
        size: blob.size(),
        entries: placed.len() as u64,
        epoch,
        accounts,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn invalid(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Step {
        action: format!("read {what}"),
        chain: vec![error.to_string()],
        output: String::new(),
        help: None,
    }
}

/// The layers that a files layer lies on.
struct Below<'a> {
    merged: Merged<'a>,
    layers: &'a [Layer],
    archives: &'a [Arc<Archive>],
}

impl Below<'_> {
    /// Whether the path is not from a files layer: those may change each other's files.
    fn is_packaged(&self, path: &Path) -> bool {
        let layer = self.merged.get(path).and_then(|found| self.layers.get(found.layer));
        layer.is_some_and(|layer| layer.kind != LayerKind::Files)
    }

    /// The package that ships a path, by the lists that dpkg-query(1) searches.
    fn owner(&self, path: &Path) -> Option<String> {
        let line = format!("/{}", path.display());
        self.merged.entries().iter().find_map(|entry| {
            let list = entry.entry.path.strip_prefix("var/lib/dpkg/info").ok()?;
            let package = list.to_str()?.strip_suffix(".list")?;
            let content = self.merged.content(entry)?;
            let mut text = vec![0; usize::try_from(content.size).ok()?];
            let file = &self.archives.get(content.layer)?.file;
            file.read_exact_at(&mut text, content.offset).ok()?;
            let ships = text.split(|byte| *byte == b'\n').any(|path| path == line.as_bytes());
            // `libc6:amd64.list` for packages of which several architectures can be installed.
            ships.then(|| package.split(':').next().unwrap_or(package).to_owned())
        })
    }
}

type Placed = BTreeMap<PathBuf, (Entry, Vec<u8>)>;

fn place(
    rendered: &RenderedEntry,
    stack: &Below<'_>,
    accounts: &Accounts,
    epoch: u64,
    placed: &mut Placed,
) -> Result<(), Error> {
    let refuse = |reason: String, help: &str| Error::Place {
        source_path: rendered.source.clone(),
        path: rendered.path.clone(),
        reason,
        help: help.to_owned(),
    };
    parents(rendered, &stack.merged, epoch, placed)?;
    let below = &stack.merged;
    let present = below.get(&rendered.path).map(|found| &found.entry.kind);
    let kind = match (&rendered.kind, present) {
        // An existing directory stays as it is, unless the definition says how it is to be.
        (RenderedKind::Directory, Some(Kind::Directory)) if !rendered.explicit => return Ok(()),
        (RenderedKind::Directory, None | Some(Kind::Directory)) => Kind::Directory,
        (_, Some(Kind::Directory)) => {
            return Err(refuse(
                "a lower layer has a directory there".to_owned(),
                "name the file differently, or put it into that directory",
            ));
        }
        (RenderedKind::Directory, Some(_)) => {
            return Err(refuse(
                "a lower layer has a file there".to_owned(),
                "name the directory differently",
            ));
        }
        (_, Some(_)) if rendered.replaces.is_none() && stack.is_packaged(&rendered.path) => {
            let owner = stack.owner(&rendered.path);
            let package = owner.as_deref().unwrap_or("PACKAGE");
            return Err(refuse(
                match &owner {
                    Some(package) => format!("the package `{package}` has a file there"),
                    None => "a package or command has made a file there".to_owned(),
                },
                &format!(
                    "use a drop-in or a name of its own; where that file really must go, say so \
                     in the definition:\n[[files]]\npath = \"/{}\"\nreplaces = \"{package}\"",
                    rendered.path.display()
                ),
            ));
        }
        (RenderedKind::File { content }, _) => Kind::File { size: content.len() as u64 },
        (RenderedKind::Symlink { target }, _) => Kind::Symlink { target: target.clone() },
    };
    let number = |text: &str, name: &str, what: &str| {
        number_of(text, name).ok_or_else(|| {
            refuse(
                format!("the image has no {what} `{name}`"),
                "declare it under [users] or [groups], or install the package that makes it",
            )
        })
    };
    let entry = Entry {
        path: rendered.path.clone(),
        mode: if matches!(kind, Kind::Symlink { .. }) { 0o777 } else { rendered.mode },
        kind,
        uid: number(&accounts.passwd, &rendered.owner, "user")?,
        gid: number(&accounts.group, &rendered.group, "group")?,
        mtime: epoch,
        xattrs: BTreeMap::new(),
    };
    let content = match &rendered.kind {
        RenderedKind::File { content } => content.clone(),
        _ => Vec::new(),
    };
    placed.insert(entry.path.clone(), (entry, content));
    Ok(())
}

/// Makes the directories above a path that are not there yet.
fn parents(
    rendered: &RenderedEntry,
    below: &Merged<'_>,
    epoch: u64,
    placed: &mut Placed,
) -> Result<(), Error> {
    let mut ancestors: Vec<&Path> = rendered.path.ancestors().skip(1).collect();
    ancestors.reverse();
    for directory in ancestors {
        match below.get(directory).map(|found| &found.entry.kind) {
            Some(Kind::Directory) => continue,
            None if directory.as_os_str().is_empty() => continue,
            None => {}
            Some(other) => {
                let real = below.resolve(directory).ok();
                let real = real.map(|found| format!("/{}", found.entry.path.display()));
                return Err(Error::Place {
                    source_path: rendered.source.clone(),
                    path: rendered.path.clone(),
                    reason: format!("/{} is not a directory there", directory.display()),
                    help: match (other, real) {
                        (Kind::Symlink { .. }, Some(real)) => {
                            format!("it is a symbolic link: move the file below {real}")
                        }
                        _ => "name the file differently".to_owned(),
                    },
                });
            }
        }
        placed.entry(directory.to_owned()).or_insert_with(|| {
            let entry = Entry {
                path: directory.to_owned(),
                kind: Kind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: epoch,
                xattrs: BTreeMap::new(),
            };
            (entry, Vec::new())
        });
    }
    Ok(())
}
