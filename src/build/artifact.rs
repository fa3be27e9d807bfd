//! From the layers of a stack to a published artifact: the checks of the role's daemons, the lint, the
//! template and its manifest.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use serde::{Deserialize, Serialize};

use super::layers::BuiltTree;
use super::output::Output;
use super::{Builder, Error, Layer, LockedPlan, manifest};
use crate::artifact::lint;
use crate::artifact::manifest::File;
use crate::artifact::name::{Format, artifact_name};
use crate::artifact::template::{self, Assembled, Compression, FrameStore};
use crate::digest::Digest;
use crate::layer::archive::Archive;
use crate::layer::index::Merged;
use crate::progress::Step;
use crate::store::{KeyKind, Store};

/// Compressed frames by what they are made of.
const FRAME: KeyKind = KeyKind::new("frame");

/// Artifacts that were written, by where.
const PUBLISHED: KeyKind = KeyKind::new("published");

/// Findings of the lints of a layer.
const LINT: KeyKind = KeyKind::new("lint");

/// Images without findings.
const CLEAN: KeyKind = KeyKind::new("clean");

/// A finished artifact.
#[derive(Clone, Debug, Serialize)]
pub struct Artifact {
    /// The role.
    pub role: String,
    /// The digest of the image, which is the same in every format.
    pub image: Digest,
    /// The LXC template.
    pub path: PathBuf,
    /// What is in it.
    pub manifest: PathBuf,
    /// The SHA-256 of the template.
    pub sha256: Digest,
    /// Bytes of the template.
    pub size: u64,
    /// Whether it was there already.
    pub reused: bool,
}

/// What was written where, so that an artifact that is still there need not be read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Published {
    sha256: Digest,
    manifest: Digest,
    stamps: [Stamp; 2],
}

/// A file that the kernel says was not touched since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Self { inode: metadata.ino(), size: metadata.len(), changed })
    }
}

impl Builder<'_> {
    /// Builds what is missing of `plan` and publishes its artifact in `directory`.
    ///
    /// # Errors
    /// Whatever fails, nothing is left under a final name.
    pub fn build(&self, plan: &LockedPlan, directory: &Path) -> Result<Artifact, Error> {
        let (layers, tree) = self.layers_compressing_ahead(plan)?;
        self.remember(plan, &layers)?;
        let image = manifest::image(plan, &layers);
        let name = artifact_name(plan.role(), plan.plan.version.as_str(), &image)?;
        let paths = Paths::new(directory, &name);
        if let Some(artifact) = self.published(plan, &layers, &paths) {
            self.run_checks(plan, &layers, tree)?;
            return Ok(artifact);
        }
        create_directory(directory)?;
        // The daemons judge the configuration while the template is put together.
        let template = std::thread::scope(|scope| {
            let template = scope.spawn(|| self.assemble(&layers, directory));
            self.lint(plan, &layers)?;
            self.run_checks(plan, &layers, tree)?;
            template.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        self.publish(plan, &layers, template, &paths)
    }

    /// Refuses an image with anything in it that no image may hold.
    fn lint(&self, plan: &LockedPlan, layers: &[Layer]) -> Result<(), Error> {
        let key = lint::image_key(&manifest::image(plan, layers));
        if self.store.get_key::<()>(CLEAN, &key).is_some() {
            return Ok(());
        }
        let archives = open(layers)?;
        let mut findings = Vec::new();
        for archive in &archives {
            let key = lint::layer_key(&archive.digest);
            let found = match self.store.get_key(LINT, &key) {
                Some(found) => found,
                None => {
                    let found = lint::lint_layer(archive)?;
                    self.store.put_key(LINT, &key, &found)?;
                    found
                }
            };
            findings.extend(found);
        }
        let stack: Vec<&Archive> = archives.iter().collect();
        let merged = Merged::new(stack.iter().map(|archive| &archive.index))
            .map_err(template::Error::Merge)?;
        let tree = lint::Tree::new(&stack, &merged);
        findings.extend(lint::lint_tree(&tree, plan.state())?);
        lint::require_none(findings)?;
        self.store.put_key(CLEAN, &key, &())?;
        Ok(())
    }

    /// The layers of `plan`; those that are built new are compressed while the next one is built.
    fn layers_compressing_ahead<'a>(
        &'a self,
        plan: &LockedPlan,
    ) -> Result<(Vec<Layer>, BuiltTree<'a, 'a>), Error> {
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel::<Layer>();
            let compressor = scope.spawn(move || {
                let mut below = Vec::new();
                for layer in receiver {
                    let new = !layer.reused;
                    below.push(layer);
                    if new {
                        self.precompress(&below)?;
                    }
                }
                Ok(())
            });
            let built = self.layers(plan, &move |layer| {
                // A compressor that has failed says so itself, below.
                let _ = sender.send(layer.clone());
            });
            let compressed =
                compressor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let built = built?;
            compressed.map(|()| built)
        })
    }

    fn precompress(&self, layers: &[Layer]) -> Result<(), Error> {
        let archives = open(layers)?;
        let stack: Vec<&Archive> = archives.iter().collect();
        let frames = Frames { store: self.store };
        template::precompress(&stack, &frames, Compression::STANDARD, self.threads)?;
        Ok(())
    }

    fn assemble(&self, layers: &[Layer], directory: &Path) -> Result<Template, Error> {
        let step = Step::start(self.progress, format!("{} template", self.role), None);
        let archives = open(layers)?;
        let stack: Vec<&Archive> = archives.iter().collect();
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
        Ok(Template { file, assembled })
    }

    /// The artifact, if exactly this one is there already.
    fn published(&self, plan: &LockedPlan, layers: &[Layer], paths: &Paths) -> Option<Artifact> {
        let record: Published = self.store.get_key(PUBLISHED, &paths.key())?;
        let file = paths.file(record.sha256, record.stamps[0].size);
        let text = manifest::manifest(plan, layers, file).to_json();
        let untouched = record.stamps == paths.stamps()? && record.manifest == Digest::of(text);
        untouched.then(|| paths.artifact(plan, layers, &record, true))
    }

    fn publish(
        &self,
        plan: &LockedPlan,
        layers: &[Layer],
        template: Template,
        paths: &Paths,
    ) -> Result<Artifact, Error> {
        let Template { file, assembled } = template;
        let Assembled { sha256, size, .. } = assembled;
        let text = manifest::manifest(plan, layers, paths.file(sha256, size)).to_json();
        // The manifest first: an artifact is never without one.
        write_whole(&paths.manifest, text.as_bytes())?;
        file.publish(&paths.template).map_err(|source| cannot("write", &paths.template, source))?;
        let stamps = paths
            .stamps()
            .ok_or_else(|| cannot("read", &paths.template, io::ErrorKind::NotFound.into()))?;
        let record = Published { sha256, manifest: Digest::of(text), stamps };
        self.store.put_key(PUBLISHED, &paths.key(), &record)?;
        Ok(paths.artifact(plan, layers, &record, false))
    }
}

/// A template that has no final name yet.
struct Template {
    file: Output,
    assembled: Assembled,
}

/// Where an artifact goes.
struct Paths {
    template: PathBuf,
    manifest: PathBuf,
}

impl Paths {
    fn new(directory: &Path, stem: &str) -> Self {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        Self {
            template: directory.join(format!("{stem}{}", Format::LxcTemplate.extension())),
            manifest: directory.join(format!("{stem}.manifest.json")),
        }
    }

    fn template_name(&self) -> String {
        self.template.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn file(&self, sha256: Digest, size: u64) -> File {
        File { name: self.template_name(), format: Format::LxcTemplate, sha256, size }
    }

    fn artifact(
        &self,
        plan: &LockedPlan,
        layers: &[Layer],
        record: &Published,
        reused: bool,
    ) -> Artifact {
        Artifact {
            role: plan.role().to_owned(),
            image: manifest::image(plan, layers),
            path: self.template.clone(),
            manifest: self.manifest.clone(),
            sha256: record.sha256,
            size: record.stamps[0].size,
            reused,
        }
    }

    fn key(&self) -> Digest {
        Digest::of(self.template.as_os_str().as_encoded_bytes())
    }

    fn stamps(&self) -> Option<[Stamp; 2]> {
        Some([Stamp::of(&self.template)?, Stamp::of(&self.manifest)?])
    }
}

/// An error about something where artifacts go.
fn cannot(action: &'static str, path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::Full { free: free_mebibytes(&path), path, source }
        }
        _ => Error::Io { action, path, source },
    }
}

fn free_mebibytes(path: &Path) -> u64 {
    let space = path.ancestors().find_map(|path| rustix::fs::statvfs(path).ok());
    space.map_or(0, |space| space.f_bavail.saturating_mul(space.f_frsize) >> 20)
}

fn create_directory(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(|source| cannot("create", directory, source))
}

/// Writes a small file.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut file = Output::create_in(directory)?;
        file.file().write_all(bytes)?;
        file.publish(path)
    };
    write().map_err(|source| cannot("write", path, source))
}

fn open(layers: &[Layer]) -> Result<Vec<Archive>, Error> {
    let open = |layer: &Layer| Ok(Archive::open(&layer.archive, layer.record.digest)?);
    layers.iter().map(open).collect()
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
