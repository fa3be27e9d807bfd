//! Archives of layers, and the file systems that are made of them.

use std::io::{Read as _, Seek as _, SeekFrom};

use super::builder::{self, Choices};
use super::scratch::Scratch;
use super::tar;
use crate::artifact::disk::fuzzing as disk;
use crate::layer::archive::{Index, Writer};
use crate::layer::entry::Kind;
use crate::layer::index::Merged;

/// The archive of a layer: as it is, or with right checksums. What is read would be written again the same.
pub fn archive(bytes: &[u8]) {
    let Some((&form, rest)) = bytes.split_first() else { return };
    let bytes = if form % 2 == 0 { rest.to_vec() } else { tar::with_checksums(rest) };
    let scratch = Scratch::new(&bytes);
    let Ok(index) = Index::read(scratch.file()) else { return };
    let mut writer = Writer::new(Vec::new());
    for member in index.entries() {
        let mut file = scratch.file();
        file.seek(SeekFrom::Start(member.data_offset)).unwrap();
        let size = if let Kind::File { size } = member.entry.kind { size } else { 0 };
        writer.append(&member.entry, &mut file.take(size)).expect("what is read can be written");
    }
    assert!(writer.finish().unwrap() == bytes, "the same layer has two forms");
    let Ok(merged) = Merged::new([&index, &index]) else { return };
    for entry in merged.entries() {
        assert!(merged.get(&entry.entry.path).is_some());
        let _ = merged.resolve(&entry.entry.path);
    }
}

pub fn archive_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 3] = [b"", &disk::noise(1, 200), &disk::noise(2, 900)];
    let bytes = |seed: &[u8]| {
        let archive = builder::packed(&builder::tree(&mut Choices(seed)))?;
        let mut bytes = vec![1];
        let mut file = &archive.file;
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        Some(bytes)
    };
    seeds.into_iter().filter_map(bytes).collect()
}

/// The file system of a layer that the bytes describe: what is written is read by a reader that shares nothing
/// with the writer.
pub fn erofs(bytes: &[u8]) {
    let members = builder::tree(&mut Choices(bytes));
    if let Some(archive) = builder::packed(&members) {
        disk::erofs(&archive);
    }
}

pub fn erofs_seeds() -> Vec<Vec<u8>> {
    (0..8).map(|seed| disk::noise(seed, 100 << (seed % 4))).collect()
}
