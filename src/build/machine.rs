//! What only virtual machines have: the layers of the machine definition, and those of the boot image.

use super::layers::BuiltTree;
use super::{Builder, Error, Layer, LayerKind, LockedDisk};

impl Builder<'_> {
    /// The layers of the machine definition, on top of the packages and commands of the role. No file of a
    /// site is below them, so no value that changes makes them anew. `tree` is the one that `layers`, the
    /// role's, were built in.
    ///
    /// # Errors
    /// When a download, a script or a rendered file fails.
    pub(super) fn machine_layers(
        &self,
        disk: &LockedDisk,
        layers: &[Layer],
        tree: BuiltTree<'_, '_>,
    ) -> Result<Vec<Layer>, Error> {
        let machine = &disk.machine;
        let (files, system): (Vec<Layer>, Vec<Layer>) =
            layers.iter().cloned().partition(|layer| layer.kind == LayerKind::Files);
        let mut session = tree.session;
        let mut built = system;
        let position = built.len();
        let image = &machine.image;
        self.system_layers(image, std::slice::from_ref(image), &mut built, &mut session, &|_| {})?;
        drop(session);
        let mut added = built.split_off(position);
        if !machine.rendered.entries.is_empty() {
            let mut below = built;
            below.extend(files.into_iter().filter(|layer| layer.image != self.role));
            below.extend(added.iter().cloned());
            added.push(self.files_layer(&machine.rendered, &below)?);
        }
        Ok(added)
    }

    /// The layers of the boot image. The last of them is what its command has made.
    ///
    /// # Errors
    /// When a download, a script, a rendered file or the command fails.
    pub(super) fn boot_layers(&self, disk: &LockedDisk) -> Result<Vec<Layer>, Error> {
        let (mut layers, tree) = self.layers(&disk.boot, &|_| {})?;
        let mut session = tree.session;
        let image = &disk.boot_image;
        layers.push(self.command_layer(image, LayerKind::Boot, &layers, &mut session)?);
        Ok(layers)
    }
}

/// The layers of a disk, lowest first: packages and commands, those of `role` and then those of `machine`;
/// then files, those of what the role stands on, of the machine, and last of the role itself, so that a
/// change of its configuration changes the end of the disk and nothing else.
pub(super) fn disk_order<T: Clone>(
    role: &str,
    layers: &[T],
    machine: &[T],
    place: impl Fn(&T) -> (String, LayerKind),
) -> Vec<T> {
    let rank = |layer: &T, is_machine: bool| match (place(layer), is_machine) {
        ((image, LayerKind::Files), false) if image == role => 4,
        ((_, LayerKind::Files), true) => 3,
        ((_, LayerKind::Files), false) => 2,
        (_, true) => 1,
        (_, false) => 0,
    };
    let own = layers.iter().map(|layer| (rank(layer, false), layer));
    let added = machine.iter().map(|layer| (rank(layer, true), layer));
    let mut order: Vec<(u8, &T)> = own.chain(added).collect();
    order.sort_by_key(|(rank, _)| *rank);
    order.into_iter().map(|(_, layer)| layer.clone()).collect()
}
