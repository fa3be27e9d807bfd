//! The LXC template of a stack of layers, out of frames that the store keeps.

use std::io;
use std::path::{Path, PathBuf};

use super::output::Output;
use super::publish::{Unpublished, cannot};
use super::{Builder, Error, Layer, stack};
use crate::artifact::template::{self, Compression, FrameStore};
use crate::digest::Digest;
use crate::progress::Step;
use crate::store::{KeyKind, Store};

/// Compressed frames by what they are made of.
const FRAME: KeyKind = KeyKind::new("frame");

impl Builder<'_> {
    /// Compresses what the last of `layers` adds to a template.
    pub(super) fn precompress(&self, layers: &[Layer]) -> Result<(), Error> {
        let archives = self.archives.open(layers)?;
        let stack = stack(&archives);
        let frames = Frames { store: self.store };
        template::precompress(&stack, &frames, Compression::STANDARD, self.threads)?;
        Ok(())
    }

    /// Writes the template to `directory`, without a name.
    pub(super) fn assemble_template(
        &self,
        layers: &[Layer],
        directory: &Path,
    ) -> Result<Unpublished, Error> {
        let step = Step::start(self.progress, format!("{} template", self.role), None);
        let archives = self.archives.open(layers)?;
        let stack = stack(&archives);
        let mut file =
            Output::create_in(directory).map_err(|source| cannot("write to", directory, source))?;
        let assembled = template::assemble(
            &stack,
            &Frames { store: self.store },
            Compression::STANDARD,
            self.threads,
            file.file(),
            &|_| {},
        )
        .map_err(|error| match error {
            template::Error::Write(source) => cannot("write to", directory, source),
            other => other.into(),
        })?;
        step.finish(format!(
            "{} frames compressed, {} reused",
            assembled.frames_compressed, assembled.frames_reused
        ));
        Ok(Unpublished { file, sha256: assembled.sha256, size: assembled.size, disk: None })
    }
}

struct Frames<'a> {
    store: &'a Store,
}

impl FrameStore for Frames<'_> {
    fn find(&self, key: &Digest) -> Option<PathBuf> {
        let digest: Digest = self.store.get_key(FRAME, key)?;
        Some(self.store.blob(&digest)?.path().to_owned())
    }

    fn keep(&self, key: &Digest, frame: &[u8]) -> io::Result<PathBuf> {
        let blob = self.store.insert_bytes(frame).map_err(io::Error::other)?;
        self.store.put_key(FRAME, key, &blob.digest()).map_err(io::Error::other)?;
        Ok(blob.path().to_owned())
    }
}
