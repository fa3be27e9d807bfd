//! File systems of whole archives, and what a reader should find in them.

use std::borrow::Cow;
use std::os::unix::fs::FileExt as _;

use super::{Extent, Image, Node, reader};
use crate::layer::archive::Archive;
use crate::layer::entry::Kind;

/// The nodes of an archive as it is.
pub fn nodes(archive: &Archive) -> Vec<Node<'_>> {
    let members = archive.index.entries().iter();
    let node = members.map(|member| Node {
        entry: Cow::Borrowed(&member.entry),
        content: match member.entry.kind {
            Kind::File { size } => {
                Some(Extent { file: &archive.file, offset: member.data_offset, size })
            }
            _ => None,
        },
    });
    node.collect()
}

/// The bytes of an image.
pub fn bytes(image: &Image<'_>) -> Vec<u8> {
    let mut bytes = vec![1; image.size() as usize];
    image.read_at(0, &mut bytes).unwrap();
    bytes
}

/// The image of an archive.
pub fn image(archive: &Archive) -> Vec<u8> {
    bytes(&Image::new(nodes(archive)).unwrap())
}

/// What a reader should find for an archive.
pub fn expected(archive: &Archive) -> Vec<reader::Read> {
    let mut expected = Vec::new();
    for member in archive.index.entries() {
        let mut entry = member.entry.clone();
        let mut content = None;
        match &entry.kind {
            Kind::File { size } => {
                let mut bytes = vec![0; *size as usize];
                archive.file.read_exact_at(&mut bytes, member.data_offset).unwrap();
                content = Some(bytes);
            }
            Kind::Hardlink { target } => {
                entry.xattrs = archive.index.get(target).unwrap().entry.xattrs.clone();
            }
            _ => {}
        }
        expected.push((entry, content));
    }
    expected
}
