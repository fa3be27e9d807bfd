//! From the layers of a stack to published artifacts: the checks of the role's daemons, the lint, and each
//! format with its manifest.

use std::path::Path;
use std::sync::{OnceLock, mpsc};
use std::thread::ScopedJoinHandle;

use super::history::last_build;
use super::layers::BuiltTree;
use super::machine::disk_order;
use super::publish::{Artifact, Target, create_directory};
use super::{
    Builder, Error, Layer, LayerKind, LockedDisk, LockedPlan, LockedRole, manifest, sources,
};
use crate::artifact::manifest::File;
use crate::artifact::name::{Format, artifact_name, disk_digest};
use crate::digest::Digest;

impl Builder<'_> {
    /// Builds `role` in each of `formats` and publishes the artifacts in `directory`, in that order. What a
    /// disk has besides the role is built at the same time.
    ///
    /// # Errors
    /// When nobody has verified a source; when a download, a script, a check or a lint fails, or an artifact cannot be written. Artifacts of
    /// other formats may have been published by then; nothing half-written is left.
    pub fn build(
        &self,
        role: &LockedRole,
        formats: &[Format],
        directory: &Path,
    ) -> Result<Vec<Artifact>, Error> {
        let disk = match (&role.disk, formats.contains(&Format::Qcow2)) {
            (None, true) => return Err(Error::NoMachine { role: self.role.clone() }),
            (disk, wanted) => disk.as_ref().filter(|_| wanted),
        };
        sources::require_verified(role)?;
        let plan = &role.plan;
        std::thread::scope(|scope| {
            let boot = disk.map(|disk| scope.spawn(|| self.prepared_boot(disk)));
            let before = last_build(self.store, plan);
            let (layers, tree) = self.layers_compressing_ahead(plan, formats)?;
            self.remember(role, &layers, before.as_deref())?;
            let Some((disk, boot)) = disk.zip(boot) else {
                return Ok(vec![self.template(plan, &layers, tree, directory)?]);
            };
            std::thread::scope(|scope| {
                // Made in here, so that it is gone, and the disk knows, when something fails.
                let (sender, passed) = mpsc::channel();
                let layers = layers.as_slice();
                let disk = scope.spawn(move || {
                    let machine = self.prepared_machine(disk, layers, tree)?;
                    let boot = join(boot)?;
                    let own = boot.iter().filter(|layer| !contains(layers, layer)).cloned();
                    let all = [layers, &*machine, &*own.collect::<Vec<_>>()].concat();
                    self.remember(role, &all, before.as_deref())?;
                    self.disk(role, disk, [layers, &machine, &boot], directory, passed)
                });
                // The checks see what a container has, in a tree of their own.
                let tree = BuiltTree { session: self.session(0) };
                let template = if formats.contains(&Format::LxcTemplate) {
                    Some(self.template(plan, layers, tree, directory)?)
                } else {
                    self.run_checks(&plan.checks, &plan.rendered, layers, tree)?;
                    None
                };
                // If nobody listens, the disk has failed and says so itself.
                let _ = sender.send(());
                let mut artifacts: Vec<Artifact> =
                    template.into_iter().chain(join(disk)?).collect();
                artifacts
                    .sort_by_key(|one| formats.iter().position(|format| *format == one.format));
                Ok(artifacts)
            })
        })
    }

    fn template(
        &self,
        plan: &LockedPlan,
        layers: &[Layer],
        tree: BuiltTree<'_, '_>,
        directory: &Path,
    ) -> Result<Artifact, Error> {
        let image = manifest::image(plan, layers);
        let name = artifact_name(plan.role(), plan.plan.version.as_str(), &image)?;
        let tolerated = OnceLock::new();
        let lint = || match tolerated.get() {
            Some(_) => Ok(()),
            None => self
                .lint(layers, plan.state(), &plan.plan.lints)
                .map(|found| drop(tolerated.set(found))),
        };
        let known = || tolerated.get().map_or(&[][..], Vec::as_slice);
        let describe = |file: File, _| manifest::manifest(plan, layers, known(), file);
        let target =
            Target::new(plan.role(), (image, &name), Format::LxcTemplate, directory, &describe);
        if self.is_linted(layers, plan.state()) {
            lint()?;
            if let Some(artifact) = self.published(&target) {
                self.run_checks(&plan.checks, &plan.rendered, layers, tree)?;
                return Ok(artifact.tolerating(known()));
            }
        }
        create_directory(directory)?;
        // The daemons judge the configuration while the template is put together.
        let template = std::thread::scope(|scope| {
            let template = scope.spawn(|| self.assemble_template(layers, directory));
            lint()?;
            self.run_checks(&plan.checks, &plan.rendered, layers, tree)?;
            join(template)
        })?;
        Ok(self.publish(&target, template)?.tolerating(known()))
    }

    /// The disk of a role, from the layers of the role, of the machine definition and of the boot image. It is
    /// published when `passed` says that the role's own checks have passed, and not if that is gone.
    fn disk(
        &self,
        role: &LockedRole,
        disk: &LockedDisk,
        [layers, machine, boot]: [&[Layer]; 3],
        directory: &Path,
        passed: mpsc::Receiver<()>,
    ) -> Result<Option<Artifact>, Error> {
        let plan = &role.plan;
        let order = disk_order(plan.role(), layers, machine, Layer::place);
        let image = manifest::image(plan, layers);
        let digest = disk_digest(&image, &digests(machine), &digests(boot));
        let name = artifact_name(plan.role(), plan.plan.version.as_str(), &digest)?;
        let tolerated = OnceLock::new();
        let state = &disk.machine.image.state;
        let lint = || match tolerated.get() {
            Some(_) => Ok(()),
            None => self
                .lint(&order, state, &disk.machine.plan.lints)
                .map(|found| drop(tolerated.set(found))),
        };
        let known = || tolerated.get().map_or(&[][..], Vec::as_slice);
        let describe = |file: File, description| {
            manifest::disk(role, disk, (&order, known()), digest, file, description)
        };
        let target = Target::new(plan.role(), (digest, &name), Format::Qcow2, directory, &describe);
        let check = || {
            lint()?;
            let tree = BuiltTree { session: self.session(0) };
            let rendered = std::slice::from_ref(&disk.machine.rendered);
            self.run_checks(&disk.machine.checks, rendered, &order, tree)
        };
        if self.is_linted(&order, state) {
            lint()?;
            if let Some(artifact) = self.published(&target) {
                check()?;
                return Ok(passed.recv().ok().map(|()| artifact.tolerating(known())));
            }
        }
        create_directory(directory)?;
        let assembled = std::thread::scope(|scope| {
            let assemble = || self.assemble_disk((image, digest), &order, boot, directory);
            let assembled = scope.spawn(assemble);
            check()?;
            join(assembled)
        })?;
        let published =
            passed.recv().ok().map(|()| self.publish(&target, assembled)).transpose()?;
        Ok(published.map(|artifact| artifact.tolerating(known())))
    }

    /// The layers of `plan`; those that are built new are compressed while the next one is built.
    fn layers_compressing_ahead<'a>(
        &'a self,
        plan: &LockedPlan,
        formats: &[Format],
    ) -> Result<(Vec<Layer>, BuiltTree<'a, 'a>), Error> {
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel::<Layer>();
            let compressor = scope.spawn(move || {
                let mut below = Vec::new();
                for layer in receiver {
                    let (new, system) = (!layer.reused, layer.kind != LayerKind::Files);
                    below.push(layer);
                    if new && formats.contains(&Format::LxcTemplate) {
                        self.precompress(&below)?;
                    }
                    if new && system && formats.contains(&Format::Qcow2) {
                        self.precompress_partition(&below)?;
                    }
                }
                Ok(())
            });
            let built = self.layers(plan, &move |layer| {
                // A compressor that has failed says so itself, below.
                let _ = sender.send(layer.clone());
            });
            let compressed: Result<(), Error> = join(compressor);
            let built = built?;
            compressed.map(|()| built)
        })
    }
}

fn contains(layers: &[Layer], layer: &Layer) -> bool {
    layers.iter().any(|one| one.record.digest == layer.record.digest)
}

fn digests(layers: &[Layer]) -> Vec<Digest> {
    layers.iter().map(|layer| layer.record.digest).collect()
}

/// What the thread came to; its panic goes on here.
fn join<T>(thread: ScopedJoinHandle<'_, Result<T, Error>>) -> Result<T, Error> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
