//! A part of an image as an archive, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::super::archive::{self, damaged};
use super::super::member::{Assembler, Member};
use super::super::{Collector, Contents, Error, Node, NodeKind, SIZE_LIMIT};
use super::tree::{self, Tree};
use crate::compression::{Bounded, Compression, bound};

/// What everything in the archive lies below; or the file, if the part is one.
const CONTENT: &str = "content";

/// Writes what is at `path` in the image that `layers` make, the lowest first, as a tar archive for [`unpack`].
/// Each layer is read twice: once for its names, and once for the files that are wanted of it.
///
/// # Errors
/// The image has not the path, or has what no image of ours may have there.
pub fn pack(
    layers: &[PathBuf],
    path: &Path,
    scratch: &Path,
    mut output: impl Write,
) -> Result<(), Error> {
    let mut tree = Tree::default();
    for layer in layers {
        let mut members = Vec::new();
        each_member(layer, |member, _| {
            members.push(member);
            Ok(())
        })?;
        tree.apply(members, path)?;
    }
    let part = tree.at(path)?;
    let refused = part.iter().find_map(|(below, node)| Some((below, node.problem.as_ref()?)));
    if let Some((below, problem)) = refused {
        return Err(Error::member(Path::new("/").join(path).join(below), problem.clone()));
    }
    let mut spool = Spool::new(scratch)?;
    let places = spool.fill(layers, &part)?;
    let mut collector = Collector::new();
    for (below, node) in &part {
        let is_top = below.as_os_str().is_empty();
        let kind = match &node.kind {
            tree::NodeKind::Directory if is_top => continue,
            tree::NodeKind::Directory => NodeKind::Directory,
            tree::NodeKind::Symlink { target } => NodeKind::Symlink { target: target.clone() },
            tree::NodeKind::File { layer, member, size, executable } => {
                let offset = places.get(&(*layer, *member)).copied().unwrap_or(0);
                NodeKind::File { offset, size: *size, executable: *executable }
            }
            tree::NodeKind::Other => return Err(Error::member(below, "it is no file")),
        };
        let below = if is_top { PathBuf::from(CONTENT) } else { below.clone() };
        collector.insert(below, Node { kind, mtime: node.mtime })?;
    }
    let is_file = part.len() == 1 && !part.values().any(|it| it.kind == tree::NodeKind::Directory);
    if collector.nodes.is_empty() {
        return Err(Error::image(format!("there is nothing in /{}", path.display())));
    }
    let contents = collector.finish(spool.finish()?)?;
    write(&contents, is_file, &mut output)
}

/// Reads an archive of [`pack`]. A file has the empty path.
///
/// # Errors
/// As [`super::super::unpack`].
pub fn unpack(path: &Path, scratch: &Path) -> Result<Contents, Error> {
    let failed = |source| Error::Io { action: "read", path: path.to_owned(), source };
    let mut archive = tar::Archive::new(BufReader::new(File::open(path).map_err(failed)?));
    let first = archive.entries().map_err(failed)?.next().transpose().map_err(failed)?;
    let is_file = first.is_some_and(|first| first.header().entry_type().is_file());
    if !is_file {
        return archive::unpack(path, 1, scratch);
    }
    let mut contents = archive::unpack(path, 0, scratch)?;
    contents.nodes = contents.nodes.into_values().take(1).map(|it| (PathBuf::new(), it)).collect();
    Ok(contents)
}

/// Calls `visit` with each member of the layer at `path`, and with its content.
fn each_member(
    path: &Path,
    mut visit: impl FnMut(Member, &mut dyn Read) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |source| Error::Io { action: "read", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut start = Vec::new();
    (&file).take(16).read_to_end(&mut start).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let packed = BufReader::with_capacity(128 * 1024, file);
    let unpacked = Compression::of_content(&start).decoder(packed).map_err(failed)?;
    let limited = Bounded::new(unpacked, bound(length, SIZE_LIMIT));
    let limited = BufReader::with_capacity(64 * 1024, limited);
    let mut archive = tar::Archive::new(limited);
    let mut assembler = Assembler::default();
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let header = entry.header().clone();
        if let Some(member) = assembler.take(&header, &mut entry)? {
            visit(member, &mut entry)?;
        }
    }
    // Decoders check their checksums at the end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damaged)?;
    Ok(())
}

/// The bytes of the files that are wanted, one after the other, in a file that has no name.
struct Spool {
    file: BufWriter<File>,
    scratch: PathBuf,
    written: u64,
}

impl Spool {
    fn new(scratch: &Path) -> Result<Self, Error> {
        let file = tempfile::tempfile_in(scratch).map_err(|source| Error::Io {
            action: "write in",
            path: scratch.to_owned(),
            source,
        })?;
        Ok(Self { file: BufWriter::new(file), scratch: scratch.to_owned(), written: 0 })
    }

    /// Takes the files of `part` from `layers`. Says where the bytes of each member of each layer are.
    fn fill(
        &mut self,
        layers: &[PathBuf],
        part: &BTreeMap<PathBuf, &tree::Node>,
    ) -> Result<BTreeMap<(usize, usize), u64>, Error> {
        let files = part.values().filter_map(|node| match &node.kind {
            tree::NodeKind::File { layer, member, .. } => Some((*layer, *member)),
            _ => None,
        });
        let wanted: BTreeSet<(usize, usize)> = files.collect();
        let mut places = BTreeMap::new();
        for (layer, path) in layers.iter().enumerate() {
            if !wanted.iter().any(|(other, _)| *other == layer) {
                continue;
            }
            let mut number = 0;
            each_member(path, |_, content| {
                if wanted.contains(&(layer, number)) {
                    places.insert((layer, number), self.written);
                    self.written += self.copy(content)?;
                }
                number += 1;
                Ok(())
            })?;
        }
        Ok(places)
    }

    fn copy(&mut self, content: &mut dyn Read) -> Result<u64, Error> {
        let (mut copied, mut buffer) = (0, vec![0; 128 * 1024]);
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => return Ok(copied),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(damaged(error)),
            };
            self.file.write_all(&buffer[..count]).map_err(|source| self.failed(source))?;
            copied += count as u64;
            if self.written + copied > SIZE_LIMIT {
                return Err(Error::TooLarge { limit: format!("{} GiB", SIZE_LIMIT >> 30) });
            }
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Io { action: "write in", path: self.scratch.clone(), source }
    }

    fn finish(self) -> Result<File, Error> {
        let path = self.scratch;
        let failed = |source| Error::Io { action: "write in", path, source };
        self.file.into_inner().map_err(|error| failed(error.into_error()))
    }
}

/// Writes `contents` with the names that [`unpack`] expects.
fn write(contents: &Contents, is_file: bool, output: &mut impl Write) -> Result<(), Error> {
    let failed = |source| Error::Io { action: "pack", path: CONTENT.into(), source };
    let mut builder = tar::Builder::new(output);
    let header = |mtime: u64, kind: tar::EntryType, mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(mtime);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header
    };
    if !is_file {
        let mut top = header(0, tar::EntryType::Directory, 0o755);
        builder.append_data(&mut top, CONTENT, io::empty()).map_err(failed)?;
    }
    for (path, node) in &contents.nodes {
        let path = if is_file { path.clone() } else { Path::new(CONTENT).join(path) };
        match &node.kind {
            NodeKind::Directory => {
                let mut header = header(node.mtime, tar::EntryType::Directory, 0o755);
                builder.append_data(&mut header, path, io::empty()).map_err(failed)?;
            }
            NodeKind::Symlink { target } => {
                let mut header = header(node.mtime, tar::EntryType::Symlink, 0o777);
                builder.append_link(&mut header, path, target).map_err(failed)?;
            }
            NodeKind::File { offset, size, executable } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                let mut header = header(node.mtime, tar::EntryType::Regular, mode);
                header.set_size(*size);
                let mut bytes = &contents.bytes;
                bytes.seek(SeekFrom::Start(*offset)).map_err(failed)?;
                builder.append_data(&mut header, path, bytes.take(*size)).map_err(failed)?;
            }
        }
    }
    let output = builder.into_inner().map_err(failed)?;
    output.flush().map_err(failed)
}
