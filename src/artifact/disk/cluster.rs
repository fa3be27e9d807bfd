//! Packing the clusters of a disk, in parallel and yet always to the same bytes.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};

use super::source::Source;
use super::{Compression, Error, verity};

/// Bytes of a cluster, of the guest's disk as of the image file. QEMU's default.
pub(super) const CLUSTER: u64 = 64 * 1024;

/// Clusters that a thread takes at a time.
const BATCH: u64 = 16;

/// Batches that may be on their way for each thread: what bounds the memory.
const WINDOW: u64 = 4;

/// A cluster whose compression saves less than this many bytes is kept as it is. It is then read
/// without decompressing, and takes a host cluster for itself.
const WORTHWHILE: usize = 4096;

static ZEROS: [u8; CLUSTER as usize] = [0; CLUSTER as usize];

/// A cluster as it will be in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packed {
    /// All zeros, for which there is nothing.
    Zero,
    /// Kept as it is.
    Raw,
    /// One zstd frame.
    Compressed(Vec<u8>),
}

/// Clusters that follow one another.
#[derive(Debug)]
pub(super) struct Batch {
    pub packed: Vec<Packed>,
    /// The hashes of their verity blocks, if asked for.
    pub hashes: Vec<u8>,
}

/// Compresses one cluster after the other.
pub(super) struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

impl Packer {
    pub fn new(compression: Compression) -> io::Result<Self> {
        let compressor = zstd::bulk::Compressor::new(compression.level)?;
        let buffer = vec![0; zstd::zstd_safe::compress_bound(CLUSTER as usize)];
        Ok(Self { compressor, buffer })
    }

    /// Packs a whole cluster.
    pub fn pack(&mut self, cluster: &[u8]) -> io::Result<Packed> {
        if *cluster == ZEROS {
            return Ok(Packed::Zero);
        }
        let size = self.compressor.compress_to_buffer(cluster, &mut self.buffer)?;
        Ok(match size + WORTHWHILE > cluster.len() {
            true => Packed::Raw,
            false => Packed::Compressed(self.buffer[..size].to_vec()),
        })
    }
}

/// Packs all of `source`, as if zeros followed it up to a whole cluster, with up to `threads`
/// threads, and hands the clusters to `consume` on this one, in order. With `hash`, the blocks of
/// whole clusters are hashed on the way.
///
/// At most `threads` × 4 MiB are held at a time.
pub(super) fn pack_all(
    source: &dyn Source,
    hash: bool,
    compression: Compression,
    threads: usize,
    mut consume: impl FnMut(Batch) -> Result<(), Error>,
) -> Result<(), Error> {
    let batches = source.size().div_ceil(CLUSTER).div_ceil(BATCH);
    let threads = (threads.max(1) as u64).min(batches);
    let gate = Gate::new(threads * WINDOW);
    let next = AtomicU64::new(0);
    let work = |mut packer: Packer, results: mpsc::Sender<(u64, Result<Batch, Error>)>| loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= batches || !gate.wait(number) {
            return;
        }
        if results.send((number, pack_batch(source, number, hash, &mut packer))).is_err() {
            return;
        }
    };
    std::thread::scope(|scope| {
        // However this ends, nobody waits at the gate for ever.
        let _closing = Closing(&gate);
        let (sender, receiver) = mpsc::channel();
        for _ in 0..threads {
            let packer = Packer::new(compression).map_err(Error::Compress)?;
            let sender = sender.clone();
            scope.spawn(|| work(packer, sender));
        }
        drop(sender);
        let mut early: BTreeMap<u64, Batch> = BTreeMap::new();
        for number in 0..batches {
            let batch = loop {
                if let Some(batch) = early.remove(&number) {
                    break batch;
                }
                let (done, batch) = receiver.recv().expect("workers answer for every batch");
                early.insert(done, batch?);
            };
            consume(batch)?;
            gate.advance();
        }
        Ok(())
    })
}

fn pack_batch(
    source: &dyn Source,
    number: u64,
    hash: bool,
    packer: &mut Packer,
) -> Result<Batch, Error> {
    let first = number * BATCH * CLUSTER;
    let size = (source.size() - first).div_ceil(CLUSTER).min(BATCH) * CLUSTER;
    let mut bytes = vec![0; size as usize];
    source.read_at(first, &mut bytes).map_err(Error::Read)?;
    let mut batch = Batch { packed: Vec::with_capacity(BATCH as usize), hashes: Vec::new() };
    for cluster in bytes.chunks(CLUSTER as usize) {
        if hash {
            verity::hash_blocks(cluster, &mut batch.hashes);
        }
        batch.packed.push(packer.pack(cluster).map_err(Error::Compress)?);
    }
    Ok(batch)
}

/// Lets nobody get too far ahead of the one who writes.
struct Gate {
    open_below: Mutex<u64>,
    changed: Condvar,
    closed: AtomicBool,
}

impl Gate {
    fn new(open_below: u64) -> Self {
        Self {
            open_below: Mutex::new(open_below),
            changed: Condvar::new(),
            closed: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.open_below.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is the turn of `number`. False if it will never be.
    fn wait(&self, number: u64) -> bool {
        let mut open_below = self.lock();
        while number >= *open_below && !self.closed.load(Ordering::Relaxed) {
            open_below = self.changed.wait(open_below).unwrap_or_else(PoisonError::into_inner);
        }
        !self.closed.load(Ordering::Relaxed)
    }

    fn advance(&self) {
        *self.lock() += 1;
        self.changed.notify_all();
    }
}

/// Closes a gate when it is dropped.
struct Closing<'a>(&'a Gate);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let _guard = self.0.lock();
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::disk::testing::noise;

    fn packed(source: &Vec<u8>, threads: usize) -> (Vec<Packed>, Vec<u8>) {
        let (mut clusters, mut hashes) = (Vec::new(), Vec::new());
        pack_all(source, true, Compression::STANDARD, threads, |batch| {
            clusters.extend(batch.packed);
            hashes.extend(batch.hashes);
            Ok(())
        })
        .unwrap();
        (clusters, hashes)
    }

    #[test]
    fn clusters_come_in_order_whatever_the_threads() {
        let size = CLUSTER as usize;
        let mut source = vec![0; 400 * size + 1];
        for number in (0..=400).step_by(3) {
            source[number * size] = (number % 251) as u8 + 1;
        }
        source[5 * size..6 * size].copy_from_slice(&noise(5, size));
        let (clusters, hashes) = packed(&source, 1);
        assert_eq!(clusters.len(), 401);
        assert_eq!(hashes.len(), 401 * 16 * verity::HASH);
        assert!((clusters[1] == Packed::Zero) && (clusters[5] == Packed::Raw));
        let Packed::Compressed(bytes) = &clusters[399] else { panic!("it is not compressed") };
        assert!(zstd::decode_all(bytes.as_slice()).unwrap() == source[399 * size..400 * size]);
        for threads in [2, 5, 16] {
            assert!(
                packed(&source, threads) == (clusters.iter().map(copy).collect(), hashes.clone())
            );
        }
        assert!(packed(&Vec::new(), 2).0.is_empty());
    }

    fn copy(packed: &Packed) -> Packed {
        match packed {
            Packed::Zero => Packed::Zero,
            Packed::Raw => Packed::Raw,
            Packed::Compressed(bytes) => Packed::Compressed(bytes.clone()),
        }
    }

    #[test]
    fn the_first_failure_ends_it() {
        struct Broken;
        impl Source for Broken {
            fn size(&self) -> u64 {
                1 << 40
            }
            fn read_at(&self, offset: u64, _buffer: &mut [u8]) -> io::Result<()> {
                if offset < 20 << 20 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
        }
        let mut batches = 0;
        let result = pack_all(&Broken, false, Compression::STANDARD, 3, |_| {
            batches += 1;
            Ok(())
        });
        assert!(matches!(result, Err(Error::Read(_))), "{result:?}");
        assert!(batches <= 20);
        let full = |_| Err(Error::Write(io::ErrorKind::StorageFull.into()));
        assert!(pack_all(&Broken, false, Compression::STANDARD, 3, full).is_err());
    }
}
