//! What each frame holds, and the key it is kept under.

use std::path::Path;

use super::Compression;
use crate::digest::{Digest, Hasher};
use crate::layer::archive::{Archive, IndexedEntry, encode_member, padded};
use crate::layer::entry::{Entry, Kind};
use crate::layer::index::{Merged, MergedEntry};

/// Raised when the same key could come to mean other bytes.
const KEY_VERSION: u64 = 1;

/// A frame before compression.
#[derive(Debug)]
pub(super) struct Frame {
    /// The digest of everything that determines the compressed bytes.
    pub key: Digest,
    /// The number of the layer that its pieces are read from.
    pub layer: usize,
    /// Its content.
    pub pieces: Vec<Piece>,
}

/// A stretch of a frame's content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes of the layer's archive.
    Copied {
        /// Where they begin.
        offset: u64,
        /// How many they are.
        length: u64,
    },
    /// A header that the merge has changed.
    Written(Vec<u8>),
}

impl Frame {
    /// Bytes of content.
    pub fn size(&self) -> u64 {
        self.pieces.iter().map(Piece::size).sum()
    }
}

impl Piece {
    fn size(&self) -> u64 {
        match self {
            Piece::Copied { length, .. } => *length,
            Piece::Written(bytes) => bytes.len() as u64,
        }
    }
}

/// The frames of the layers from number `first` on, as part of the whole `stack`.
pub(super) fn plan(
    stack: &[&Archive],
    merged: &Merged<'_>,
    first: usize,
    compression: Compression,
) -> Vec<Frame> {
    let mut placed: Vec<Vec<Option<&MergedEntry<'_>>>> =
        stack.iter().map(|layer| vec![None; layer.index.entries().len()]).collect();
    for entry in merged.entries() {
        placed[entry.place.layer][entry.place.member] = Some(entry);
    }
    let mut frames = Vec::new();
    for (number, layer) in stack.iter().enumerate().skip(first) {
        let fates: Vec<Fate<'_>> = layer
            .index
            .entries()
            .iter()
            .zip(&placed[number])
            .map(|(own, placed)| Fate::of(own, *placed))
            .collect();
        for cut in cuts(layer.index.entries(), compression.frame_size) {
            let frame = frame(number, layer, &cut, &fates, compression);
            if !frame.pieces.is_empty() {
                frames.push(frame);
            }
        }
    }
    frames
}

/// What becomes of a layer's member in the template.
enum Fate<'a> {
    /// No template has it: a whiteout, or something below `./dev/`.
    Absent,
    /// It is there as it is.
    Kept,
    /// A higher layer removes or replaces it, or a lower one has the directory already.
    Dropped,
    /// It is there with another header, and in the case of a file with the content of a hard link.
    Changed(&'a MergedEntry<'a>),
}

impl<'a> Fate<'a> {
    fn of(own: &IndexedEntry, placed: Option<&'a MergedEntry<'a>>) -> Self {
        if own.entry.kind == Kind::Whiteout || is_device(&own.entry.path) {
            return Self::Absent;
        }
        match placed {
            None => Self::Dropped,
            Some(merged) if is_same(&own.entry, &merged.entry) => Self::Kept,
            Some(merged) => Self::Changed(merged),
        }
    }
}

/// Whether `path` is below `/dev`, where Proxmox puts its own.
fn is_device(path: &Path) -> bool {
    path.starts_with("dev") && path != Path::new("dev")
}

fn is_same(own: &Entry, merged: &Entry) -> bool {
    if own.kind != Kind::Directory {
        return own == merged;
    }
    let Entry { ref path, ref kind, mode, uid, gid, mtime: _, ref xattrs } = *own;
    (path, kind, mode, uid, gid, xattrs)
        == (&merged.path, &merged.kind, merged.mode, merged.uid, merged.gid, &merged.xattrs)
}

/// A part of a member: of its headers, content and padding seen as one.
struct Part {
    member: usize,
    skip: u64,
    length: u64,
}

/// Cuts a layer into the parts that each frame is made of. Depends on nothing but the layer.
fn cuts(members: &[IndexedEntry], frame_size: u64) -> Vec<Vec<Part>> {
    let mut cuts = Vec::new();
    let mut current = Vec::new();
    let mut size = 0;
    for (member, indexed) in members.iter().enumerate() {
        let mut skip = 0;
        let mut left = indexed.occupied();
        while left > 0 {
            let length = if left > 2 * frame_size { frame_size } else { left };
            current.push(Part { member, skip, length });
            skip += length;
            left -= length;
            size += length;
            if size >= frame_size {
                cuts.push(std::mem::take(&mut current));
                size = 0;
            }
        }
    }
    cuts.push(current);
    cuts
}

fn frame(
    number: usize,
    layer: &Archive,
    parts: &[Part],
    fates: &[Fate<'_>],
    compression: Compression,
) -> Frame {
    let mut key = Key::new(layer, compression);
    let mut pieces = Vec::new();
    for part in parts {
        let member = &layer.index.entries()[part.member];
        key.part(part);
        match fates[part.member] {
            Fate::Absent => {}
            Fate::Kept => copy(&mut pieces, member.header_offset + part.skip, part.length),
            Fate::Dropped => key.dropped(),
            // All of it goes where its header would have been.
            Fate::Changed(merged) if part.skip == 0 => {
                let mut header = Vec::new();
                encode_member(&merged.entry, &mut header);
                key.changed(&header, merged);
                pieces.push(Piece::Written(header));
                if let Some(content) = merged.content.filter(|content| content.size > 0) {
                    debug_assert_eq!(content.layer, number, "hard links stay within a layer");
                    copy(&mut pieces, content.offset, padded(content.size));
                }
            }
            Fate::Changed(_) => key.dropped(),
        }
    }
    Frame { key: key.finish(), layer: number, pieces }
}

/// Appends `length` bytes of the layer, as part of the last piece where they follow it.
fn copy(pieces: &mut Vec<Piece>, offset: u64, length: u64) {
    match pieces.last_mut() {
        Some(Piece::Copied { offset: last, length: so_far }) if *last + *so_far == offset => {
            *so_far += length;
        }
        _ => pieces.push(Piece::Copied { offset, length }),
    }
}

/// Collects what determines a frame's bytes. A member that is kept adds only its place: the layer's
/// digest stands for the rest.
struct Key(Hasher);

impl Key {
    fn new(layer: &Archive, compression: Compression) -> Self {
        let mut hasher = Hasher::new();
        hasher.field("imgbuild template frame");
        hasher.field(layer.digest.to_string());
        let mut key = Self(hasher);
        key.number(KEY_VERSION);
        key.number(u64::from(zstd::zstd_safe::version_number()));
        key.number(compression.level as u64);
        key.number(compression.window_log.into());
        key.number(compression.hash_log.into());
        key
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn part(&mut self, part: &Part) {
        self.0.update(b"p");
        self.number(part.member as u64);
        self.number(part.skip);
        self.number(part.length);
    }

    fn dropped(&mut self) {
        self.0.update(b"d");
    }

    fn changed(&mut self, header: &[u8], merged: &MergedEntry<'_>) {
        self.0.update(b"c");
        self.0.field(header);
        if let Some(content) = merged.content {
            self.number(content.offset);
            self.number(content.size);
        }
    }

    fn finish(self) -> Digest {
        self.0.finish()
    }
}
