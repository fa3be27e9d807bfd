//! Putting a template together from cached and new frames.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::frame::{compress, compress_bytes};
use super::plan::{Frame, plan};
use super::{Compression, Error, FrameStore};
use crate::digest::{Digest, Hasher};
use crate::layer::archive::{Archive, END_OF_ARCHIVE};
use crate::layer::index::Merged;

/// A template that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assembled {
    /// The SHA-256 of the file.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of the archive inside, uncompressed.
    pub raw_size: u64,
    /// Frames that were only copied.
    pub frames_reused: usize,
    /// Frames that were compressed now.
    pub frames_compressed: usize,
}

/// Compresses the frames of the last layer of `stack`, as they will be if no layer that is still to
/// come changes them, with at most `threads` threads. Meant to be run while the next layer is built.
/// Returns the number of frames that were not in the store before.
///
/// # Errors
/// As [`assemble`].
pub fn precompress(
    stack: &[&Archive],
    store: &dyn FrameStore,
    compression: Compression,
    threads: usize,
) -> Result<usize, Error> {
    let Some(last) = stack.len().checked_sub(1) else { return Ok(0) };
    let merged = Merged::new(stack.iter().map(|layer| &layer.index))?;
    let frames = plan(stack, &merged, last, compression);
    let (_, compressed) = provide(&frames, stack, store, compression, threads, |_, _| Ok(()))?;
    Ok(compressed)
}

/// Writes the template of `stack`, lowest layer first, to `output`, which must be empty and at its
/// beginning. Frames that the store lacks are compressed by `threads` threads and kept in it.
/// `progress` is called with the number of uncompressed bytes as they come to be in the output.
///
/// Needs about 40 MiB of memory per thread. The output is not synced.
///
/// # Errors
/// See [`Error`]. What is in `output` then is worthless.
pub fn assemble(
    stack: &[&Archive],
    store: &dyn FrameStore,
    compression: Compression,
    threads: usize,
    output: &mut File,
    progress: &dyn Fn(u64),
) -> Result<Assembled, Error> {
    let merged = Merged::new(stack.iter().map(|layer| &layer.index))?;
    let frames = plan(stack, &merged, 0, compression);
    let end = compress_bytes(&END_OF_ARCHIVE, compression)?;
    std::thread::scope(|scope| {
        // Bounded, so that not every frame's file is open at once.
        let (sender, receiver) = mpsc::sync_channel(16);
        let digest = scope.spawn(|| digest_of(receiver));
        let mut size = 0;
        let append = |frame: &Frame, mut file: File| {
            // The kernel copies from file to file by itself, without the bytes passing through here,
            // or shares the blocks where the file system can.
            size += io::copy(&mut file, output).map_err(Error::Write)?;
            progress(frame.size());
            let _ = sender.send(file);
            Ok(())
        };
        let (frames_reused, frames_compressed) =
            provide(&frames, stack, store, compression, threads, append)?;
        output.write_all(&end).map_err(Error::Write)?;
        drop(sender);
        let mut hasher = digest.join().expect("hashing does not panic").map_err(Error::Store)?;
        hasher.update(&end);
        Ok(Assembled {
            sha256: hasher.finish(),
            size: size + end.len() as u64,
            raw_size: frames.iter().map(Frame::size).sum::<u64>() + END_OF_ARCHIVE.len() as u64,
            frames_reused,
            frames_compressed,
        })
    })
}

/// Hashes the contents of `files`, one after the other, as they arrive.
fn digest_of(files: mpsc::Receiver<File>) -> io::Result<Hasher> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    for file in files {
        let mut offset = 0;
        loop {
            match file.read_at(&mut buffer, offset) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(hasher)
}

/// Hands every frame to `consume`, in order and on this thread, while up to `threads` others
/// compress those that the store lacks. Returns how many were reused and compressed.
fn provide(
    frames: &[Frame],
    stack: &[&Archive],
    store: &dyn FrameStore,
    compression: Compression,
    threads: usize,
    mut consume: impl FnMut(&Frame, File) -> Result<(), Error>,
) -> Result<(usize, usize), Error> {
    let mut ready: Vec<Option<PathBuf>> =
        frames.iter().map(|frame| store.find(&frame.key)).collect();
    let missing: Vec<usize> = (0..frames.len()).filter(|&number| ready[number].is_none()).collect();
    let next = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    let work = |results: mpsc::Sender<(usize, Result<PathBuf, Error>)>| {
        while let Some(&number) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            let frame = &frames[number];
            let kept = compress(frame, stack[frame.layer], compression)
                .and_then(|bytes| store.keep(&frame.key, &bytes).map_err(Error::Store));
            if results.send((number, kept)).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..threads.max(1).min(missing.len()) {
            let sender = sender.clone();
            scope.spawn(|| work(sender));
        }
        drop(sender);
        let mut deliver = || {
            for (number, frame) in frames.iter().enumerate() {
                while ready[number].is_none() {
                    let (done, path) = receiver.recv().expect("workers answer for every frame");
                    ready[done] = Some(path?);
                }
                let path = ready[number].take().expect("just waited for");
                consume(frame, File::open(path).map_err(Error::Store)?)?;
            }
            Ok(())
        };
        let delivered: Result<(), Error> = deliver();
        stopped.store(true, Ordering::Relaxed);
        delivered
    })?;
    Ok((frames.len() - missing.len(), missing.len()))
}
