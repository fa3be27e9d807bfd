//! What comes out of an image, and who else reads it.

use std::fs::File;

use proptest::prelude::*;

use super::*;
use crate::artifact::disk::Compression;
use crate::artifact::disk::segment::{self, Segment};
use crate::artifact::disk::testing::{noise, oracle};
use crate::digest::Digest;

/// What a cluster may hold.
#[derive(Debug, Clone, Copy)]
enum Mix {
    Zero,
    Text,
    Noise,
    HalfNoise,
}

fn cluster(mix: Mix, seed: u64) -> Vec<u8> {
    let size = CLUSTER as usize;
    match mix {
        Mix::Zero => vec![0; size],
        Mix::Text => format!("line {seed}\n").into_bytes().into_iter().cycle().take(size).collect(),
        Mix::Noise => noise(seed, size),
        Mix::HalfNoise => [noise(seed, size / 2), vec![1; size / 2]].concat(),
    }
}

/// Segments with these clusters at these places, as a file.
fn image(virtual_size: u64, parts: &[(u64, Vec<Vec<u8>>)]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let segments = parts.iter().enumerate().map(|(number, (_, clusters))| {
        let path = directory.path().join(number.to_string());
        let mut file = File::create(&path).unwrap();
        segment::write(&clusters.concat(), &number, Compression::STANDARD, 2, &mut file).unwrap();
        let segment = Segment::open(&path).unwrap();
        assert_eq!(segment.note(), Some(number));
        let bytes = std::fs::read(path).unwrap();
        (bytes[..segment.size as usize].to_vec(), segment)
    });
    let segments: Vec<_> = segments.collect();
    let part = |((first, _), (_, segment)): (&(u64, _), &(_, Segment))| (*first, segment.size);
    let places: Vec<_> = parts.iter().zip(&segments).map(part).collect();
    let parts: Vec<_> = places
        .iter()
        .zip(&segments)
        .map(|((first, size), (_, segment))| Part {
            size: *size,
            runs: vec![Run { first: *first, table: &segment.table }],
        })
        .collect();
    let mut file = metadata(virtual_size, &parts);
    for (bytes, _) in &segments {
        file.extend_from_slice(bytes);
    }
    file
}

fn all_kinds() -> Vec<(u64, Vec<Vec<u8>>)> {
    let kinds = [Mix::Text, Mix::Zero, Mix::Noise, Mix::HalfNoise, Mix::Text, Mix::HalfNoise];
    let clusters = |count: usize| {
        let mixes = kinds.into_iter().cycle().take(count).enumerate();
        mixes.map(|(seed, mix)| cluster(mix, seed as u64)).collect()
    };
    vec![(0, clusters(1)), (8190, clusters(25)), (3 * 8192 - 6, clusters(6))]
}

#[test]
fn qemu_reads_the_same() {
    let parts = all_kinds();
    let bytes = image(3 << 29, &parts);
    let directory = tempfile::tempdir().unwrap();
    let (file, raw) = (directory.path().join("a.qcow2"), directory.path().join("a.raw"));
    std::fs::write(&file, &bytes).unwrap();
    let (file, raw_path) = (file.to_str().unwrap(), raw.to_str().unwrap());
    let Some(output) = oracle("qemu-img", &["check", "--output=json", file]) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for defect in ["leaks", "corruptions", "check-errors\": 1"] {
        assert!(!text.contains(defect), "{text}");
    }
    let convert = ["convert", "-f", "qcow2", "-O", "raw", file, raw_path];
    assert!(oracle("qemu-img", &convert).unwrap().status.success());
    let raw = File::open(raw).unwrap();
    assert_eq!(raw.metadata().unwrap().len(), 3 << 29);
    let expected = reader::read(&bytes);
    for number in [0, 1, 8189, 8190, 8191, 8192, 8200, 8214, 8215, 3 * 8192 - 1] {
        let mut bytes = vec![0; CLUSTER as usize];
        std::os::unix::fs::FileExt::read_exact_at(&raw, &mut bytes, number * CLUSTER).unwrap();
        assert!(bytes == expected.read(number * CLUSTER, CLUSTER as usize), "{number}");
    }
}

#[test]
fn counts_go_on_in_a_second_block() {
    // As many host clusters as one block of counts is just too small for: by one with itself.
    for (clusters, blocks) in [(32_768 - 8, 1), (32_768 - 7, 2), (70_000, 3)] {
        let table: Vec<u64> =
            (0..clusters).map(|number| standard_entry(number * CLUSTER)).collect();
        let size = clusters * CLUSTER;
        let part = Part { size, runs: vec![Run { first: 8192, table: &table }] };
        // Header, L1, L2 tables for entries 8192 to 8192 + clusters, table of counts, counts.
        let l2_tables = clusters.div_ceil(8192);
        let bytes = metadata(10 << 30, &[part]);
        assert_eq!(bytes.len() as u64 / CLUSTER, 3 + l2_tables + blocks, "{clusters}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        file.as_file().set_len(bytes.len() as u64 + size).unwrap();
        let Some(output) = oracle("qemu-img", &["check", file.path().to_str().unwrap()]) else {
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn sectors_of_compressed_data_are_counted_as_qemu_does() {
    let further = |offset, size| (compressed_entry(offset, size) >> 54) & 0xff;
    assert_eq!(further(0, 1), 0);
    assert_eq!(further(0, 512), 0);
    assert_eq!(further(0, 513), 1);
    assert_eq!(further(511, 1), 0);
    assert_eq!(further(511, 2), 1);
    assert_eq!(further(511, 1024), 2);
    assert_eq!(touched(compressed_entry(CLUSTER - 1, 1)), 0..=0);
    assert_eq!(touched(compressed_entry(CLUSTER - 1, 2)), 0..=1);
    assert_eq!(touched(compressed_entry(CLUSTER - 600, 600)), 0..=0);
    assert_eq!(touched(standard_entry(3 * CLUSTER)), 3..=3);
}

#[test]
fn bytes_do_not_change_unnoticed() {
    assert_eq!(Digest::of(image(3 << 29, &all_kinds())).short(), "58a929cc6216");
}

#[test]
fn an_empty_disk_has_no_data() {
    let bytes = image(1 << 30, &[(5, vec![cluster(Mix::Zero, 0)])]);
    assert_eq!(bytes.len() as u64, 4 * CLUSTER);
    assert!(reader::read(&bytes).clusters.is_empty());
}

#[test]
fn damaged_segments_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("segment");
    let mut bytes = Vec::new();
    let source = [cluster(Mix::Text, 1), cluster(Mix::Noise, 2)].concat();
    segment::write(&source, &"note", Compression::STANDARD, 1, &mut bytes).unwrap();
    let end = bytes.len();
    let opens = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Segment::open(&path).is_ok()
    };
    assert!(opens(&bytes));
    for cut in [0, 10, end - 1, end - 100] {
        assert!(!opens(&bytes[..cut]), "{cut}");
    }
    for place in end - 96 - 6 - 16..end {
        bytes[place] ^= 1;
        assert!(!opens(&bytes), "{place}");
        bytes[place] ^= 1;
    }
}

fn mix() -> impl Strategy<Value = Mix> {
    prop_oneof![
        3 => Just(Mix::Zero),
        5 => Just(Mix::Text),
        2 => Just(Mix::Noise),
        3 => Just(Mix::HalfNoise),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Any clusters at any places come out as they went in.
    #[test]
    fn any_disk_is_read_back(
        parts in prop::collection::vec((0..9000_u64, prop::collection::vec((mix(), 0..5_u64), 0..20)), 0..5),
    ) {
        let mut end = 0;
        let mut expected = std::collections::BTreeMap::new();
        let mut placed = Vec::new();
        for (gap, mixes) in parts {
            let clusters: Vec<_> = mixes.iter().map(|(mix, seed)| cluster(*mix, *seed)).collect();
            let first = end + gap;
            for (number, bytes) in (first..).zip(&clusters) {
                if bytes.iter().any(|byte| *byte != 0) {
                    expected.insert(number, bytes.clone());
                }
            }
            end = first + clusters.len() as u64;
            placed.push((first, clusters));
        }
        let size = (end * CLUSTER + 1).next_multiple_of(1 << 30);
        let disk = reader::read(&image(size, &placed));
        prop_assert_eq!(disk.size, size);
        prop_assert!(disk.clusters == expected);
    }
}
