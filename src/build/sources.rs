//! The layer of a definition's `[sources.NAME]`. It needs no sandbox: nothing of them is run.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::layers::{no_packages, top};
use super::plan::PinnedSource;
use super::{Builder, Error, Inputs, Layer, LayerKind, LayerRecord, LockedImage, LockedRole};
use crate::definition::{Mode, Pin, UpstreamKind};
use crate::digest::Digest;
use crate::fetch::Verified;
use crate::layer::archive::Writer;
use crate::layer::entry::{Entry, Kind};
use crate::layer::index::Merged;
use crate::layer::source::{self, Contents, Node, NodeKind, oci};

/// The inputs of the sources layer of `image` on top of `below`. URLs are not among them.
pub(super) fn inputs(image: &LockedImage, below: Option<&Digest>) -> Inputs {
    let mut inputs = Inputs::new(LayerKind::Sources.name(), below);
    for source in &image.sources {
        inputs.add(format!("source {}", source.upstream.name), source.input());
    }
    inputs
}

/// Refuses a role with a source that nobody has verified and nobody has given.
pub(super) fn require_verified(role: &LockedRole) -> Result<(), Error> {
    role.images().flat_map(LockedImage::all_sources).try_for_each(require)
}

fn require(source: &PinnedSource) -> Result<(), Error> {
    match (&source.upstream.pin, source.digest()) {
        (Pin::Unverified(how), None) => Err(unverified(source, how)),
        _ => Ok(()),
    }
}

pub(super) fn unverified(source: &PinnedSource, how: &str) -> Error {
    let name = &source.upstream.name;
    let message = format!("nobody has verified the source `{name}`");
    let help = format!(
        "{how}\nThen there are two ways on:\n- put the hash into {}: replace `unverified` by `sha256` and \
         `published`, and run `imgbuild lock`\n- give the {} yourself, and have the artifact marked as \
         unpinned: --source {name}=PATH",
        source.upstream.place,
        source.upstream.kind.word(),
    );
    Error::source(source, message, help)
}

impl Builder<'_> {
    /// The sources layer of `image`, on top of `below`.
    pub(super) fn sources_layer(
        &self,
        image: &LockedImage,
        below: &[Layer],
    ) -> Result<Layer, Error> {
        if below.is_empty() {
            return Err(no_packages(format!("unpack the sources of {}", image.name)));
        }
        let inputs = inputs(image, top(below));
        self.layer(&image.name, LayerKind::Sources, inputs, |_step| {
            let files = self.fetch_sources(std::slice::from_ref(image))?;
            self.unpack(image, &files, below)
        })
    }

    fn unpack(
        &self,
        image: &LockedImage,
        files: &[Verified],
        below: &[Layer],
    ) -> Result<LayerRecord, Error> {
        let started = Instant::now();
        let scratch = self.store.work_dir()?;
        let archives = self.archives.open(below)?;
        let merged = Merged::new(archives.iter().map(|archive| &archive.index))
            .map_err(crate::artifact::template::Error::Merge)?;
        let (epoch, accounts) = below
            .last()
            .map(|layer| (layer.record.epoch, layer.record.accounts.clone()))
            .unwrap_or_default();
        let mut placing = Placing { image, below: &merged, epoch, placed: Placed::new() };
        let mut bytes = Vec::new();
        for (source, file) in image.sources.iter().zip(files) {
            let contents = contents(source, file, scratch.path())?;
            placing.place(source, &contents, bytes.len())?;
            bytes.push(contents.bytes);
        }
        let mut blob = write(&placing.placed, &bytes, scratch.path(), self.store.writer()?)?;
        blob.flush().map_err(crate::layer::archive::Error::Write)?;
        let blob = blob.commit()?;
        Ok(LayerRecord {
            digest: blob.digest(),
            size: blob.size(),
            entries: placing.placed.len() as u64,
            epoch,
            accounts,
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}

/// Writes the layer of `placed`, whose bytes are in the files `bytes` of the directory `scratch`.
fn write<W: Write>(
    placed: &Placed<'_>,
    bytes: &[File],
    scratch: &Path,
    output: W,
) -> Result<W, Error> {
    let mut writer = Writer::new(output);
    for One { entry, content, .. } in placed.values() {
        match content {
            Some((number, offset, size)) => {
                let mut file = &bytes[*number];
                file.seek(SeekFrom::Start(*offset)).map_err(|source| {
                    let path = scratch.to_owned();
                    Error::Io { action: "read in", path, source }
                })?;
                writer.append(entry, &mut file.take(*size))?;
            }
            None => writer.append(entry, &mut io::empty())?,
        }
    }
    Ok(writer.finish()?)
}

/// What is in a source, once it is in the store.
fn contents(source: &PinnedSource, file: &Verified, scratch: &Path) -> Result<Contents, Error> {
    let strip = match &source.upstream.kind {
        UpstreamKind::File { .. } => {
            let path = file.path().to_owned();
            let bytes =
                File::open(&path).map_err(|source| Error::Io { action: "read", path, source })?;
            let size = file.size();
            let kind = NodeKind::File { offset: 0, size, executable: false };
            let node = Node { kind, mtime: u64::MAX };
            return Ok(Contents { nodes: [(PathBuf::new(), node)].into(), bytes });
        }
        // What was given as a directory is what the archive would have been unpacked to.
        UpstreamKind::Archive { .. } if source.is_directory() => 0,
        UpstreamKind::Oci { .. } if source.unpinned().is_none() => {
            return oci::unpack(file.path(), scratch).map_err(|error| unusable(source, &error));
        }
        UpstreamKind::Git { .. } | UpstreamKind::Oci { .. } | UpstreamKind::Package => 0,
        UpstreamKind::Archive { strip, .. } => *strip,
    };
    source::unpack(file.path(), strip, scratch).map_err(|error| unusable(source, &error))
}

/// The error that what was got for `source` is nothing that an image may have.
pub(super) fn unusable(source: &PinnedSource, error: &source::Error) -> Error {
    let first: &dyn std::error::Error = error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    let chain: Vec<String> = causes.map(ToString::to_string).collect();
    let name = &source.upstream.name;
    let message = format!("cannot unpack the source `{name}`: {}", chain.join(": "));
    let help = miette::Diagnostic::help(error).map(|help| help.to_string());
    Error::source(source, message, help.unwrap_or_default())
}

/// A path of the layer.
struct One<'a> {
    entry: Entry,
    /// Of a file: which source has its bytes, where they begin, and how many they are.
    content: Option<(usize, u64, u64)>,
    source: &'a PinnedSource,
}

type Placed<'a> = BTreeMap<PathBuf, One<'a>>;

/// Puts sources where they belong.
struct Placing<'a> {
    image: &'a LockedImage,
    below: &'a Merged<'a>,
    epoch: u64,
    placed: Placed<'a>,
}

impl<'a> Placing<'a> {
    /// Places what is in `source`, the one with this `number`.
    fn place(
        &mut self,
        source: &'a PinnedSource,
        contents: &Contents,
        number: usize,
    ) -> Result<(), Error> {
        // A package has none, and is in no such layer.
        let Some(into) = source.upstream.kind.destination() else { return Ok(()) };
        let into = into.relative();
        let is_directory = !contents.nodes.contains_key(Path::new(""));
        let mut parents: Vec<&Path> = into.ancestors().skip(usize::from(!is_directory)).collect();
        parents.pop();
        for directory in parents.into_iter().rev() {
            let node = Node { kind: NodeKind::Directory, mtime: self.epoch };
            self.add(source, directory.to_owned(), &node, number)?;
        }
        for (path, node) in &contents.nodes {
            let path = if is_directory { into.join(path) } else { into.to_owned() };
            self.add(source, path, node, number)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        source: &'a PinnedSource,
        path: PathBuf,
        node: &Node,
        number: usize,
    ) -> Result<(), Error> {
        let is_directory = node.kind == NodeKind::Directory;
        match self.placed.get(&path) {
            Some(there) if there.entry.kind == Kind::Directory && is_directory => return Ok(()),
            Some(there) => {
                let other = &there.source.upstream.name;
                return Err(refuse(source, &path, &format!("the source `{other}` has it as well")));
            }
            None => {}
        }
        match self.below.get(&path).map(|found| &found.entry.kind) {
            None => {}
            Some(Kind::Directory) if is_directory => return Ok(()),
            Some(Kind::Directory) => {
                return Err(refuse(source, &path, "a lower layer has a directory there"));
            }
            Some(Kind::Symlink { .. }) if is_directory => {
                return Err(refuse(source, &path, "a lower layer has a symbolic link there"));
            }
            Some(_) => return Err(refuse(source, &path, "a lower layer has a file there")),
        }
        if !is_directory && self.image.state.iter().any(|state| path.starts_with(state)) {
            return Err(refuse(source, &path, "a state volume is mounted over it"));
        }
        let (kind, mode, content) = match &node.kind {
            NodeKind::Directory => (Kind::Directory, 0o755, None),
            NodeKind::Symlink { target } => (Kind::Symlink { target: target.clone() }, 0o777, None),
            NodeKind::File { offset, size, executable } => {
                let mode = match &source.upstream.kind {
                    UpstreamKind::File { mode, .. } => *mode,
                    _ if *executable => Mode::EXECUTABLE,
                    _ => Mode::PLAIN,
                };
                (Kind::File { size: *size }, mode.bits(), Some((number, *offset, *size)))
            }
        };
        let entry = Entry {
            path: path.clone(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: node.mtime.min(self.epoch),
            xattrs: BTreeMap::new(),
        };
        self.placed.insert(path, One { entry, content, source });
        Ok(())
    }
}

fn refuse(source: &PinnedSource, path: &Path, reason: &str) -> Error {
    let name = &source.upstream.name;
    let message = format!("the source `{name}` cannot have /{}: {reason}", path.display());
    let help = "name another directory with `into`: a source adds to an image and replaces nothing";
    Error::source(source, message, help.to_owned())
}
