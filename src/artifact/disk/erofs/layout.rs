//! Where everything goes.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::directory::Directory;
use super::record::{self, INODE_SIZE, Inode, SLOT, Superblock};
use super::{BLOCK, Error, Extent, Image, Node};
use crate::artifact::disk::uuid::Uuid;
use crate::digest::Hasher;
use crate::layer::entry::{Entry, Kind};
use crate::layer::order;

/// Raised when the same nodes come to mean other bytes.
pub(in crate::artifact::disk) const FORMAT_VERSION: u64 = 1;

/// What exceeds a file's whole blocks is inline if it is at most this long, which saves most of a
/// block: 4.4 % of the blocks of a Debian tree, though next to nothing once they are compressed. With
/// any rest inline it would be 1.5 % more, and inodes would lie far apart.
const INLINE_LIMIT: u64 = 1024;

/// Names are at most this long (`EROFS_NAME_LEN`).
const NAME_LIMIT: usize = 255;

/// An inode on its way to its place.
struct Planned<'n, 'a> {
    entry: &'n Entry,
    attributes: Vec<u8>,
    links: u32,
    size: u64,
    body: Body<'n, 'a>,
    /// Where it begins.
    offset: u64,
    inline: bool,
    start_block: Option<u32>,
}

enum Body<'n, 'a> {
    Nothing,
    File(Extent<'a>),
    Target(&'n [u8]),
    Directory(Directory<'n>),
}

impl Planned<'_, '_> {
    /// Bytes of the inode and its attributes.
    fn head(&self) -> u64 {
        INODE_SIZE + self.attributes.len() as u64
    }

    /// Whole blocks outside of the inode.
    fn blocks(&self) -> u64 {
        if self.inline { self.size / BLOCK } else { self.size.div_ceil(BLOCK) }
    }

    /// Where what is inline begins.
    fn inline_offset(&self) -> u64 {
        self.offset + self.head()
    }
}

pub(super) fn lay_out<'a>(nodes: &[Node<'a>]) -> Result<Image<'a>, Error> {
    let mut inodes = plan(nodes)?;
    let mut cursor = BLOCK;
    for inode in &mut inodes {
        cursor = place(inode, cursor);
    }
    let mut block = cursor.div_ceil(BLOCK).max(2);
    for is_directory in [true, false] {
        for inode in &mut inodes {
            if matches!(inode.body, Body::Directory(_)) == is_directory && inode.blocks() > 0 {
                let start = u32::try_from(block).map_err(|_| Error::TooLarge(block * BLOCK))?;
                inode.start_block = Some(start);
                block += inode.blocks();
            }
        }
    }
    let blocks = u32::try_from(block).map_err(|_| Error::TooLarge(block.saturating_mul(BLOCK)))?;
    let uuid = uuid(nodes);
    let superblock = Superblock {
        root_nid: (BLOCK / SLOT) as u16,
        inodes: inodes.len() as u64,
        build_time: nodes.iter().map(|node| node.entry.mtime).max().unwrap_or(0),
        blocks,
        uuid,
    };
    let mut image = Image { size: block * BLOCK, uuid, pieces: Vec::new(), written: Vec::new() };
    image.push_written(0, &superblock.encode());
    write_inodes(&inodes, &mut image);
    write_blocks(&inodes, &mut image);
    Ok(image)
}

/// Checks the nodes and makes inodes of them.
fn plan<'n, 'a>(nodes: &'n [Node<'a>]) -> Result<Vec<Planned<'n, 'a>>, Error> {
    let mut inodes: Vec<Planned<'n, 'a>> = Vec::with_capacity(nodes.len());
    let mut files: HashMap<&Path, usize> = HashMap::new();
    // The directories that the current path may be in, with their inodes.
    let mut directories: Vec<(&Path, usize)> = Vec::new();
    let mut previous: Option<&Path> = None;
    for node in nodes {
        let entry: &'n Entry = &node.entry;
        let path = entry.path.as_path();
        check_order(entry, previous)?;
        previous = Some(path);
        while directories.last().is_some_and(|(directory, _)| !order::is_within(path, directory)) {
            directories.pop();
        }
        let parent = directories.last().copied();
        if order::parent(path) != parent.map(|(directory, _)| directory) {
            return Err(Error::NoParent(path.to_owned()));
        }
        let number = match &entry.kind {
            Kind::Hardlink { target } => {
                let file = files.get(target.as_path()).copied().ok_or_else(|| {
                    Error::LinkTarget { path: path.to_owned(), target: target.clone() }
                })?;
                inodes[file].links += 1;
                file
            }
            _ => {
                inodes.push(inode(node)?);
                inodes.len() - 1
            }
        };
        match entry.kind {
            Kind::File { .. } => {
                files.insert(path, number);
            }
            Kind::Directory => {
                let above = parent.map_or(number, |(_, above)| above);
                if let Body::Directory(directory) = &mut inodes[number].body {
                    let file_type = record::types(&Kind::Directory).1;
                    directory.add(b".", number, file_type);
                    directory.add(b"..", above, file_type);
                }
                directories.push((path, number));
                if parent.is_some() {
                    inodes[above].links += 1;
                }
            }
            _ => {}
        }
        if let (Some((_, above)), Some(name)) = (parent, path.file_name())
            && let Body::Directory(directory) = &mut inodes[above].body
        {
            if name.len() > NAME_LIMIT {
                return Err(Error::TooLong { path: path.to_owned(), part: "the name" });
            }
            directory.add(name.as_bytes(), number, record::types(&entry.kind).1);
        }
    }
    for inode in &mut inodes {
        if let Body::Directory(directory) = &inode.body {
            inode.size = directory.size();
        }
    }
    match inodes.is_empty() {
        true => Err(Error::NoRoot),
        false => Ok(inodes),
    }
}

fn check_order(entry: &Entry, previous: Option<&Path>) -> Result<(), Error> {
    match previous {
        None if entry.path.as_os_str().is_empty() && entry.kind == Kind::Directory => Ok(()),
        None => Err(Error::NoRoot),
        Some(previous) if entry.path.as_path() > previous => Ok(()),
        Some(previous) => {
            Err(Error::Order { path: entry.path.clone(), previous: previous.to_owned() })
        }
    }
}

fn inode<'n, 'a>(node: &'n Node<'a>) -> Result<Planned<'n, 'a>, Error> {
    let entry: &Entry = &node.entry;
    let (body, size) = match (&entry.kind, node.content) {
        (Kind::File { size }, Some(extent)) if *size == extent.size => {
            (Body::File(extent), extent.size)
        }
        (Kind::Symlink { target }, None) => {
            let target = target.as_os_str().as_bytes();
            (Body::Target(target), target.len() as u64)
        }
        (Kind::Directory, None) => (Body::Directory(Directory::default()), 0),
        (Kind::Whiteout, None) => (Body::Nothing, 0),
        _ => return Err(Error::Content(entry.path.clone())),
    };
    let attributes = record::attributes(entry)?;
    let links = if entry.kind == Kind::Directory { 2 } else { 1 };
    let (offset, inline, start_block) = (0, false, None);
    Ok(Planned { entry, attributes, links, size, body, offset, inline, start_block })
}

/// Gives `inode` the first place from `cursor` on where nothing of it is cut by a block boundary
/// that must not be, and returns where it ends.
fn place(inode: &mut Planned<'_, '_>, cursor: u64) -> u64 {
    let head = inode.head();
    let rest = inode.size % BLOCK;
    let limit = if matches!(inode.body, Body::File(_)) { INLINE_LIMIT } else { BLOCK };
    let here = cursor.next_multiple_of(SLOT);
    let candidates = [here, here.next_multiple_of(BLOCK)];
    let whole = |offset: u64| offset % BLOCK + INODE_SIZE <= BLOCK;
    // Attributes may cross a boundary. What is inline begins in the block where they, or the inode,
    // end: Linux's `erofs_fill_symlink` does not expect it at the beginning of the next.
    let inline = |offset: u64| {
        let end = offset + head;
        whole(offset) && (end - 1) / BLOCK == (end + rest - 1) / BLOCK
    };
    let fitting = (rest > 0 && rest <= limit)
        .then(|| candidates.into_iter().find(|offset| inline(*offset)))
        .flatten();
    inode.inline = fitting.is_some();
    let plain = candidates.into_iter().find(|offset| whole(*offset));
    inode.offset = fitting.or(plain).unwrap_or(candidates[1]);
    inode.offset + head + if inode.inline { rest } else { 0 }
}

fn write_inodes<'a>(inodes: &[Planned<'_, 'a>], image: &mut Image<'a>) {
    for (number, inode) in inodes.iter().enumerate() {
        let record = Inode {
            entry: inode.entry,
            attributes: &inode.attributes,
            size: inode.size,
            start_block: inode.start_block,
            inline: inode.inline,
            links: inode.links,
            number: number as u32 + 1,
        };
        image.push_written(inode.offset, &record.encode());
        if !inode.inline {
            continue;
        }
        let whole = inode.size / BLOCK * BLOCK;
        match &inode.body {
            Body::Nothing => {}
            Body::File(Extent { file, offset, size }) => {
                let rest = Extent { file, offset: offset + whole, size: size - whole };
                image.push_copied(inode.inline_offset(), rest);
            }
            Body::Target(target) => image.push_written(inode.inline_offset(), target),
            Body::Directory(directory) => {
                let content = directory.encode(|number| inodes[number].offset / SLOT);
                image.push_written(inode.inline_offset(), &content[whole as usize..]);
            }
        }
    }
}

fn write_blocks<'a>(inodes: &[Planned<'_, 'a>], image: &mut Image<'a>) {
    for is_directory in [true, false] {
        for inode in inodes {
            let Some(block) = inode.start_block else { continue };
            if matches!(inode.body, Body::Directory(_)) != is_directory {
                continue;
            }
            let start = u64::from(block) * BLOCK;
            let size = inode.size.min(inode.blocks() * BLOCK);
            match &inode.body {
                Body::Nothing => {}
                Body::File(Extent { file, offset, .. }) => {
                    image.push_copied(start, Extent { file, offset: *offset, size });
                }
                Body::Target(target) => image.push_written(start, target),
                Body::Directory(directory) => {
                    let content = directory.encode(|number| inodes[number].offset / SLOT);
                    image.push_written(start, &content[..size as usize]);
                }
            }
        }
    }
}

/// Made of everything but contents, whose digest is that of the layer.
fn uuid(nodes: &[Node<'_>]) -> Uuid {
    let mut hasher = Hasher::new();
    hasher.field("imgbuild erofs");
    for node in nodes {
        let Entry { path, kind, mode, uid, gid, mtime, xattrs } = &*node.entry;
        hasher.field(path.as_os_str().as_bytes());
        let (letter, size, target) = match kind {
            Kind::Directory => (b"d", 0, Path::new("")),
            Kind::File { size } => (b"f", *size, Path::new("")),
            Kind::Symlink { target } => (b"l", 0, target.as_path()),
            Kind::Hardlink { target } => (b"h", 0, target.as_path()),
            Kind::Whiteout => (b"w", 0, Path::new("")),
        };
        hasher.update(letter);
        hasher.field(target.as_os_str().as_bytes());
        for number in [size, (*mode).into(), (*uid).into(), (*gid).into(), *mtime] {
            hasher.update(number.to_le_bytes());
        }
        hasher.update((xattrs.len() as u64).to_le_bytes());
        for (name, value) in xattrs {
            hasher.field(name);
            hasher.field(value);
        }
    }
    Uuid::of(&hasher.finish())
}
