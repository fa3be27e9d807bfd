//! Directories, and the two names that everything in them has.

use std::collections::BTreeSet;

use super::{ENTRY, Format, Node, put};

/// Characters of a long name in one entry.
const NAME_PART: usize = 13;

/// 1 January 1980, in the format of directory entries.
const DATE: u16 = (1 << 5) | 1;

const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_ARCHIVE: u8 = 0x20;
const ATTRIBUTE_LONG_NAME: u8 = 0x0f;

/// Entries that a directory takes.
pub(super) fn entries(nodes: &[Node<'_>], number: usize) -> u64 {
    let mut names = ShortNames::default();
    let children = nodes[number].children.iter().map(|child| {
        let name = name(&nodes[*child]);
        if names.of(name).1 { 1 + name.len().div_ceil(NAME_PART) as u64 } else { 1 }
    });
    // The label, or `.` and `..`.
    let own = if number == 0 { 1 } else { 2 };
    own + children.sum::<u64>()
}

/// The content of a directory.
pub(super) fn content(format: &Format, nodes: &[Node<'_>], number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let node = &nodes[number];
    let mut add = |name: &[u8; 11], attributes, cluster, size| {
        bytes.extend_from_slice(&short_entry(name, attributes, cluster, size));
    };
    match number {
        0 => add(&format.label, ATTRIBUTE_LABEL, 0, 0),
        _ => {
            // The root is cluster 0 to those who lie in it.
            let above = if node.parent == 0 { 0 } else { nodes[node.parent].first_cluster };
            add(b".          ", ATTRIBUTE_DIRECTORY, node.first_cluster, 0);
            add(b"..         ", ATTRIBUTE_DIRECTORY, above, 0);
        }
    }
    let mut names = ShortNames::default();
    for child in &node.children {
        let child = &nodes[*child];
        let (short, long) = names.of(name(child));
        if long {
            bytes.extend_from_slice(&long_entries(name(child), &short));
        }
        let (attributes, size) = match child.content {
            Some(content) => (ATTRIBUTE_ARCHIVE, content.len() as u32),
            None => (ATTRIBUTE_DIRECTORY, 0),
        };
        bytes.extend_from_slice(&short_entry(&short, attributes, child.first_cluster, size));
    }
    bytes
}

fn name<'a>(node: &Node<'a>) -> &'a str {
    node.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn short_entry(name: &[u8; 11], attributes: u8, cluster: u64, size: u32) -> [u8; ENTRY as usize] {
    let mut entry = [0; ENTRY as usize];
    put(&mut entry, 0, name);
    entry[11] = attributes;
    // Creation, access and modification; the times of day are zero.
    for offset in [16, 18, 24] {
        put(&mut entry, offset, &DATE.to_le_bytes());
    }
    put(&mut entry, 20, &((cluster >> 16) as u16).to_le_bytes());
    put(&mut entry, 26, &(cluster as u16).to_le_bytes());
    put(&mut entry, 28, &size.to_le_bytes());
    entry
}

/// The entries of a long name, which stand before the short one, last part first.
fn long_entries(name: &str, short: &[u8; 11]) -> Vec<u8> {
    /// Where an entry has its characters.
    const PLACES: [usize; NAME_PART] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
    const LAST: u8 = 0x40;
    let checksum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let parts: Vec<&[u8]> = name.as_bytes().chunks(NAME_PART).collect();
    let mut bytes = Vec::new();
    for (number, part) in parts.iter().enumerate().rev() {
        let mut entry = [0; ENTRY as usize];
        let last = if number + 1 == parts.len() { LAST } else { 0 };
        entry[0] = (number as u8 + 1) | last;
        entry[11] = ATTRIBUTE_LONG_NAME;
        entry[13] = checksum;
        for (index, place) in PLACES.into_iter().enumerate() {
            let character = match part.get(index) {
                Some(byte) => u16::from(*byte),
                None if index == part.len() => 0,
                None => 0xffff,
            };
            put(&mut entry, place, &character.to_le_bytes());
        }
        bytes.extend_from_slice(&entry);
    }
    bytes
}

/// Short names of one directory, given in the order of its entries.
#[derive(Default)]
struct ShortNames(BTreeSet<[u8; 11]>);

impl ShortNames {
    /// The short name for `name`, and whether it needs long entries beside.
    fn of(&mut self, name: &str) -> ([u8; 11], bool) {
        let allowed =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"$%'-_@~`!(){}^#&".contains(byte);
        let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let fit = |text: &str, length: usize| {
            text.len() <= length
                && text.bytes().all(|byte| allowed(&byte) && !byte.is_ascii_lowercase())
        };
        let pad = |base: &[u8], extension: &[u8]| {
            let mut short = [b' '; 11];
            put(&mut short, 0, base);
            put(&mut short, 8, extension);
            short
        };
        if fit(base, 8) && fit(extension, 3) && !base.is_empty() && !name.ends_with('.') {
            let short = pad(base.as_bytes(), extension.as_bytes());
            if self.0.insert(short) {
                return (short, false);
            }
        }
        let kept = |text: &str, length: usize| -> Vec<u8> {
            let upper = text.bytes().map(|byte| byte.to_ascii_uppercase());
            upper.filter(allowed).take(length).collect()
        };
        let extension = kept(extension, 3);
        let mut number = 1_u32;
        loop {
            let tail = format!("~{number}");
            let mut base = kept(base, 8 - tail.len());
            base.extend_from_slice(tail.as_bytes());
            let short = pad(&base, &extension);
            if self.0.insert(short) {
                return (short, true);
            }
            number += 1;
        }
    }
}
