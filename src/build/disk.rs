//! The disk of a virtual machine, out of compressed partitions that the store keeps.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::layers::BuiltTree;
use super::machine::disk_order;
use super::output::Output;
use super::publish::{Unpublished, cannot};
use super::{Archives, Builder, Error, Layer, LayerKind, LockedDisk, manifest, stack};
use crate::artifact::disk::erofs::Node;
use crate::artifact::disk::{self, Assembled, Boot, BootFiles, Compression, Nodes, SegmentStore};
use crate::artifact::manifest as description;
use crate::digest::{Digest, Hasher};
use crate::layer::archive::Archive;
use crate::layer::index::Merged;
use crate::progress::Step;
use crate::store::{KeyKind, Store};

/// Compressed partitions by what they are made of.
const SEGMENT: KeyKind = KeyKind::new("segment");

/// Keys of segments of layers by the layers that they are the last of: they depend on little of those below, but
/// it takes all of them to find out.
const PARTITION: KeyKind = KeyKind::new("partition");

/// The kernel's modules, the one thing of a boot image that guests see.
const MODULES: &str = "usr/lib/modules";

impl Builder<'_> {
    /// The boot image's layers, with what comes from them compressed.
    pub(super) fn prepared_boot(&self, disk: &LockedDisk) -> Result<Vec<Layer>, Error> {
        let layers = self.boot_layers(disk)?;
        let boot = BootTree::new(&self.archives, &layers);
        let (files, modules) = (|| boot.files(), || boot.modules());
        let segments = Segments { store: self.store };
        let partition = Boot { key: boot.key, files: &files };
        disk::prepare_boot(&partition, &segments, Compression::STANDARD, self.threads)?;
        let layer = disk::Layer { key: boot.key, nodes: &modules };
        disk::prepare(&layer, &segments, Compression::STANDARD, self.threads)?;
        Ok(layers)
    }

    /// The machine definition's layers, with those of packages and commands compressed.
    pub(super) fn prepared_machine(
        &self,
        disk: &LockedDisk,
        layers: &[Layer],
        tree: BuiltTree<'_, '_>,
    ) -> Result<Vec<Layer>, Error> {
        let machine = self.machine_layers(disk, layers, tree)?;
        let order = disk_order(&self.role, layers, &machine, Layer::place);
        let system = order.iter().position(|layer| layer.kind == LayerKind::Files);
        let system = &order[..system.unwrap_or(order.len())];
        for end in layers.len().min(system.len())..=system.len() {
            self.precompress_partition(&system[..end])?;
        }
        Ok(machine)
    }

    /// Compresses the partition of the last of `layers`.
    pub(super) fn precompress_partition(&self, layers: &[Layer]) -> Result<(), Error> {
        let part = Part::new(self, layers)?;
        let nodes = || part.nodes();
        let layer = disk::Layer { key: part.key, nodes: &nodes };
        let segments = Segments { store: self.store };
        disk::prepare(&layer, &segments, Compression::STANDARD, self.threads)?;
        Ok(())
    }

    /// Writes the disk to `directory`, without a name. `image` and `digest` are the digests of the image and
    /// of the disk.
    pub(super) fn assemble_disk(
        &self,
        (image, digest): (Digest, Digest),
        layers: &[Layer],
        boot_layers: &[Layer],
        directory: &Path,
    ) -> Result<Unpublished, Error> {
        let step = Step::start(self.progress, format!("{} disk", self.role), None);
        let mut file =
            Output::create_in(directory).map_err(|source| cannot("write to", directory, source))?;
        let written = self.write_disk(digest, layers, boot_layers, file.file());
        let (assembled, contents) = written.map_err(|error| match error {
            Error::Disk(disk::Error::Write(source)) => cannot("write to", directory, source),
            other => other,
        })?;
        step.finish(format!(
            "{} partitions compressed, {} reused",
            assembled.segments_compressed, assembled.segments_reused
        ));
        let boot = boot_layers.iter().map(manifest::layer).collect();
        let Assembled { sha256, size, virtual_size, partitions, .. } = assembled;
        let partitions = partitions.into_iter().zip(contents).map(partition).collect();
        let disk = description::Disk { image, virtual_size, boot, partitions };
        Ok(Unpublished { file, sha256, size, disk: Some(disk) })
    }

    /// Writes the disk, and tells the layer that each of its partitions holds.
    fn write_disk(
        &self,
        digest: Digest,
        layers: &[Layer],
        boot_layers: &[Layer],
        output: &mut std::fs::File,
    ) -> Result<(Assembled, Vec<Option<Digest>>), Error> {
        let boot = BootTree::new(&self.archives, boot_layers);
        let parts = (1..=layers.len())
            .map(|end| Part::new(self, &layers[..end]))
            .collect::<Result<Vec<_>, _>>()?;
        let nodes: Vec<_> = parts.iter().map(|part| || part.nodes()).collect();
        let (files, modules) = (|| boot.files(), || boot.modules());
        let mut partitions: Vec<disk::Layer<'_>> = parts
            .iter()
            .zip(&nodes)
            .map(|(part, nodes)| disk::Layer { key: part.key, nodes })
            .collect();
        let system = layers.iter().take_while(|layer| layer.kind != LayerKind::Files).count();
        partitions.insert(system, disk::Layer { key: boot.key, nodes: &modules });
        let assembled = disk::assemble(
            digest,
            &Boot { key: boot.key, files: &files },
            &partitions,
            &Segments { store: self.store },
            Compression::STANDARD,
            self.threads,
            output,
            &|_| {},
        )?;
        let mut contents: Vec<Option<Digest>> =
            layers.iter().map(|layer| Some(layer.record.digest)).collect();
        contents.insert(system, None);
        let before = assembled.partitions.len() - contents.len();
        contents.splice(0..0, std::iter::repeat_n(None, before));
        Ok((assembled, contents))
    }
}

fn partition((partition, layer): (disk::Partition, Option<Digest>)) -> description::Partition {
    let disk::Partition { label, uuid, first_sector, sectors, root_hash, data_blocks } = partition;
    description::Partition { label, uuid, first_sector, sectors, layer, root_hash, data_blocks }
}

/// The tree of a boot image. Its layers are only read if something that is made of them is missing.
struct BootTree<'a> {
    archives: &'a Archives,
    layers: &'a [Layer],
    opened: OnceLock<Vec<Arc<Archive>>>,
    /// Of everything in it.
    key: Digest,
}

impl<'a> BootTree<'a> {
    fn new(archives: &'a Archives, layers: &'a [Layer]) -> Self {
        let key = key_of("boot image", layers);
        Self { archives, layers, opened: OnceLock::new(), key }
    }

    /// What disks start with.
    fn files(&self) -> Result<BootFiles, disk::Error> {
        let stack = stack(open(self.archives, self.layers, &self.opened)?);
        let merged = Merged::new(stack.iter().map(|archive| &archive.index))?;
        BootFiles::read(&stack, &merged)
    }

    /// The kernel's modules, where a guest looks for them.
    fn modules(&self) -> Result<Vec<Node<'_>>, disk::Error> {
        let stack = stack(open(self.archives, self.layers, &self.opened)?);
        let merged = Merged::new(stack.iter().map(|archive| &archive.index))?;
        Ok(disk::nodes_below(&stack, &merged, Path::new(MODULES))?.nodes)
    }
}

struct Segments<'a> {
    store: &'a Store,
}

impl SegmentStore for Segments<'_> {
    fn find(&self, key: &Digest) -> Option<PathBuf> {
        let digest: Digest = self.store.get_key(SEGMENT, key)?;
        Some(self.store.blob(&digest)?.path().to_owned())
    }

    fn keep(
        &self,
        key: &Digest,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        let writer = self.store.writer().map_err(|error| error.into_io())?;
        let mut writer = io::BufWriter::with_capacity(1 << 20, writer);
        write(&mut writer)?;
        let writer = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        let blob = writer.commit().map_err(|error| error.into_io())?;
        self.store.put_key(SEGMENT, key, &blob.digest()).map_err(|error| error.into_io())?;
        Ok(blob.path().to_owned())
    }
}

/// One layer as a partition: the last of some, which lies on the others.
struct Part<'a> {
    archives: &'a Archives,
    layers: &'a [Layer],
    opened: OnceLock<Vec<Arc<Archive>>>,
    key: Digest,
}

impl<'a> Part<'a> {
    fn new(builder: &'a Builder<'_>, layers: &'a [Layer]) -> Result<Self, Error> {
        let lookup = key_of("partition", layers);
        let known = builder.store.get_key::<Digest>(PARTITION, &lookup);
        let archives = &builder.archives;
        let mut part = Self { archives, layers, opened: OnceLock::new(), key: lookup };
        part.key = match known {
            Some(key) => key,
            None => {
                let key = part.look()?.key;
                builder.store.put_key(PARTITION, &lookup, &key)?;
                key
            }
        };
        Ok(part)
    }

    fn nodes(&self) -> Result<Vec<Node<'_>>, disk::Error> {
        Ok(self.look()?.nodes)
    }

    fn look(&self) -> Result<Nodes<'_>, disk::Error> {
        let stack = stack(open(self.archives, self.layers, &self.opened)?);
        let (last, below) = stack.split_last().expect("a partition is made of a layer");
        let below = Merged::new(below.iter().map(|archive| &archive.index))?;
        disk::nodes_of_layer(last, &below)
    }
}

/// The digest of `layers` for one purpose.
fn key_of(purpose: &str, layers: &[Layer]) -> Digest {
    let mut key = Hasher::new();
    key.field(purpose);
    for layer in layers {
        key.field(layer.record.digest.to_string());
    }
    key.finish()
}

/// The archives of `layers`, which live as long as `opened`.
fn open<'a>(
    archives: &Archives,
    layers: &[Layer],
    opened: &'a OnceLock<Vec<Arc<Archive>>>,
) -> Result<&'a [Arc<Archive>], disk::Error> {
    if let Some(opened) = opened.get() {
        return Ok(opened);
    }
    let found =
        archives.open(layers).map_err(|error| disk::Error::Read(io::Error::other(error)))?;
    Ok(opened.get_or_init(|| found))
}
