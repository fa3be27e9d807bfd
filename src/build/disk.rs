//! The disk of a virtual machine, out of compressed partitions that the store keeps.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::layers::BuiltTree;
use super::machine::disk_order;
use super::output::Output;
use super::publish::{Unpublished, cannot};
use super::{Builder, Error, Layer, LayerKind, LockedDisk, manifest, open};
use crate::artifact::disk::erofs::Node;
use crate::artifact::disk::{self, Assembled, Boot, BootFiles, Compression, SegmentStore};
use crate::artifact::manifest as description;
use crate::artifact::template::Error::Merge;
use crate::digest::{Digest, Hasher};
use crate::layer::archive::Archive;
use crate::layer::index::Merged;
use crate::progress::Step;
use crate::store::{KeyKind, Store};

/// Compressed partitions by what they are made of.
const SEGMENT: KeyKind = KeyKind::new("segment");

/// The kernel's modules, the one thing of a boot image that guests see.
const MODULES: &str = "usr/lib/modules";

impl Builder<'_> {
    /// The boot image's layers, with what comes from them compressed.
    pub(super) fn prepared_boot(&self, disk: &LockedDisk) -> Result<Vec<Layer>, Error> {
        let layers = self.boot_layers(disk)?;
        let archives = open(&layers)?;
        let stack: Vec<&Archive> = archives.iter().collect();
        let boot = BootTree::new(&stack)?;
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
        let order = disk_order(&self.role, layers, &machine);
        let system = order.iter().position(|layer| layer.kind == LayerKind::Files);
        let system = &order[..system.unwrap_or(order.len())];
        for end in layers.len().min(system.len())..=system.len() {
            self.precompress_partition(&system[..end])?;
        }
        Ok(machine)
    }

    /// Compresses the partition of the last of `layers`.
    pub(super) fn precompress_partition(&self, layers: &[Layer]) -> Result<(), Error> {
        let archives = open(layers)?;
        let Some((last, below)) = archives.split_last() else { return Ok(()) };
        let below: Vec<&Archive> = below.iter().collect();
        let part = Part::new(last, &below)?;
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
        let (archives, boot_archives) = (open(layers)?, open(boot_layers)?);
        let (stack, boot_stack): (Vec<&Archive>, Vec<&Archive>) =
            (archives.iter().collect(), boot_archives.iter().collect());
        let boot = BootTree::new(&boot_stack)?;
        let parts = (0..stack.len())
            .map(|number| Part::new(stack[number], &stack[..number]))
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

/// The tree of a boot image.
struct BootTree<'a> {
    stack: &'a [&'a Archive],
    merged: Merged<'a>,
    /// Of everything in it.
    key: Digest,
}

impl<'a> BootTree<'a> {
    fn new(stack: &'a [&'a Archive]) -> Result<Self, Error> {
        let merged = Merged::new(stack.iter().map(|archive| &archive.index)).map_err(Merge)?;
        let mut key = Hasher::new();
        key.field("boot image");
        for archive in stack {
            key.field(archive.digest.to_string());
        }
        Ok(Self { stack, merged, key: key.finish() })
    }

    /// What disks start with.
    fn files(&self) -> Result<BootFiles, disk::Error> {
        BootFiles::read(self.stack, &self.merged)
    }

    /// The kernel's modules, where a guest looks for them.
    fn modules(&self) -> Result<Vec<Node<'_>>, disk::Error> {
        Ok(disk::nodes_below(self.stack, &self.merged, Path::new(MODULES))?.nodes)
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

/// One layer as a partition.
struct Part<'a> {
    archive: &'a Archive,
    below: Merged<'a>,
    key: Digest,
}

impl<'a> Part<'a> {
    fn new(archive: &'a Archive, below: &[&'a Archive]) -> Result<Self, Error> {
        let below = Merged::new(below.iter().map(|archive| &archive.index)).map_err(Merge)?;
        let key = disk::nodes_of_layer(archive, &below)?.key;
        Ok(Self { archive, below, key })
    }

    fn nodes(&self) -> Result<Vec<Node<'a>>, disk::Error> {
        Ok(disk::nodes_of_layer(self.archive, &self.below)?.nodes)
    }
}
