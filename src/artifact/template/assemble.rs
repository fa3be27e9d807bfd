//! Putting a template together from cached and new frames.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::frame::{compress, compress_bytes};
use super::plan::{Frame, plan};
use super::{Compression, Error, FrameStore};
use crate::digest::{Digest, HashingWriter};
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
    let mut output = HashingWriter::new(output);
    let mut buffer = vec![0; 1024 * 1024];
    let append = |frame: &Frame, file: &mut File| {
        copy(file, &mut output, &mut buffer)?;
        progress(frame.size());
        Ok(())
    };
    let (frames_reused, frames_compressed) =
        provide(&frames, stack, store, compression, threads, append)?;
    let end = compress_bytes(&END_OF_ARCHIVE, compression)?;
    output.write_all(&end).map_err(Error::Write)?;
    let (_, sha256, size) = output.finish();
    let raw_size = frames.iter().map(Frame::size).sum::<u64>() + END_OF_ARCHIVE.len() as u64;
    Ok(Assembled { sha256, size, raw_size, frames_reused, frames_compressed })
}

fn copy(file: &mut File, output: &mut impl Write, buffer: &mut [u8]) -> Result<(), Error> {
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => output.write_all(&buffer[..count]).map_err(Error::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Store(error)),
        }
    }
}

/// Hands every frame to `consume`, in order and on this thread, while up to `threads` others
/// compress those that the store lacks. Returns how many were reused and compressed.
fn provide(
    frames: &[Frame],
    stack: &[&Archive],
    store: &dyn FrameStore,
    compression: Compression,
    threads: usize,
    mut consume: impl FnMut(&Frame, &mut File) -> Result<(), Error>,
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
                consume(frame, &mut File::open(path).map_err(Error::Store)?)?;
            }
            Ok(())
        };
        let delivered: Result<(), Error> = deliver();
        stopped.store(true, Ordering::Relaxed);
        delivered
    })?;
    Ok((frames.len() - missing.len(), missing.len()))
}
