//! Secrets on their way to a new guest.
//!
//! Nothing that Proxmox VE shows or logs has a secret in it: parameters are public, so secrets travel only as the
//! content of an uploaded file, under a name that says nothing. A machine's disk is imported from it. For a
//! container there is no such way; but what a template has below a mount point gets into the volume that is
//! mounted there. So a carrier, a container with nothing but the secrets, is made of the file, and its volume is
//! given to the guest. In both cases the file is removed as soon as it was read.
//!
//! A carrier has a record: it is a guest of the node that was given up and has its volume of secrets. So
//! whatever interrupts this, the engine moves the volume on, like any other.

use std::collections::BTreeSet;
use std::io::{self, Cursor};
use std::ops::ControlFlow;
use std::time::Duration;

use super::survey::revision;
use super::{Proxmox, SECRETS, SECRETS_DIRECTORY, failed, node, vmid};
use crate::boot::qemu::drives::volume;
use crate::boot::random_digits;
use crate::definition::{GuestKind, Hostname};
use crate::digest::Digest;
use crate::proxmox::{
    Addresses, Content, Error, NewContainer, NewVolume, Reason, Resolving, Upload, VolumeId,
};
use crate::swap::secrets::{NodeSecrets, SecretFile};
use crate::swap::{CallError, GuestId, NewGuest, Phase, Platform, Record, Revision, Watch};

/// The label of a volume of secrets, as `imgbuild boot` makes them.
const LABEL: &[u8; 11] = b"IMGSECRETS ";

/// What it takes to remove a file.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often that is tried.
const TRIES: u32 = 3;

/// The privilege that removing an uploaded file needs.
const REMOVE: &str = "Datastore.Allocate";

/// Enough for a container that is never started (the least that Proxmox takes is 16).
const MEMORY_MIB: u32 = 16;

/// Why a carrier is there.
const CARRIER: &str = "carries secrets to the first guest of the node";

impl Proxmox {
    /// The secrets that guests get which are made new.
    pub fn give_secrets(&mut self, secrets: NodeSecrets) {
        self.secrets = secrets;
    }

    /// Forgets the artifacts that are not to be uploaded: those whose name does not fit `is_kept`.
    pub fn keep_artifacts(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.place.files.retain(|name, _| is_kept(name));
    }

    /// Whether `node` gets secrets.
    pub fn secrets_of(&self, node: &Hostname) -> &[SecretFile] {
        self.secrets.get(node).map_or(&[], Vec::as_slice)
    }

    /// Refuses unless the token may remove what it uploads.
    ///
    /// # Errors
    ///
    /// [`CallError::Failed`] names the privilege that is missing.
    pub fn may_deliver(&self) -> Result<(), CallError> {
        if self.may_remove_files()? {
            return Ok(());
        }
        let path = format!("/storage/{}", self.place.artifacts);
        Err(CallError::Failed(format!(
            "secrets cannot be delivered: the token may not remove the file that they are uploaded in\n  \
             give it {REMOVE} on {path} (docs/proxmox.md#secrets)"
        )))
    }

    /// Whether the token may remove files from the storage of artifacts.
    ///
    /// # Errors
    ///
    /// When Proxmox VE does not say.
    pub fn may_remove_files(&self) -> Result<bool, CallError> {
        let path = format!("/storage/{}", self.place.artifacts);
        Ok(self.client.privileges(&path).map_err(|error| failed(&error))?.contains(REMOVE))
    }

    /// What the names of uploaded secrets of this site begin with. It does not tell which site it is.
    fn prefix(&self) -> String {
        let site = Digest::of(self.place.site.as_str()).to_string();
        format!("imgbuild-{SECRETS}-{}-", &site[..8])
    }

    /// Removes files with secrets that an interrupted run has left on a storage.
    pub(super) fn remove_leftovers(&self) -> Result<(), CallError> {
        let prefix = self.prefix();
        let left = self.artifacts()?;
        for (host, name) in left.keys().filter(|(_, name)| name.starts_with(&prefix)) {
            let kind = if name.ends_with(".raw") { "import" } else { "vztmpl" };
            self.remove_file(host, &self.stored(&format!("{kind}/{name}"))?)?;
        }
        Ok(())
    }

    /// The secrets that `guest` is to be made with.
    pub(super) fn delivery(&self, guest: &NewGuest) -> Option<&[SecretFile]> {
        let made = guest.fresh.keys().any(|name| name.as_str() == SECRETS);
        let secrets = self.secrets_of(&guest.record.node);
        (made && !secrets.is_empty()).then_some(secrets)
    }

    pub(super) fn make_with_secrets(
        &self,
        guest: &NewGuest,
        secrets: &[SecretFile],
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        match guest.kind {
            GuestKind::Machine => {
                let files: Vec<(&str, &[u8])> =
                    secrets.iter().map(|file| (file.name.as_str(), &*file.content)).collect();
                let disk = volume(LABEL, &files).map_err(|error| unpacked(&error))?;
                self.with_file(&guest.host, Content::Import, &disk, watch, |file, watch| {
                    self.make_of(guest, Some(file), watch)
                })
            }
            GuestKind::Container => {
                let template = template(secrets).map_err(|error| unpacked(&error))?;
                let content = Content::Template;
                let carrier =
                    self.with_file(&guest.host, content, &template, watch, |file, watch| {
                        self.make_carrier(guest, file, watch)
                    })?;
                let mut rest = guest.clone();
                rest.fresh.retain(|name, _| name.as_str() != SECRETS);
                self.make_of(&rest, None, watch)?;
                self.unload(carrier, guest.id, watch)
            }
        }
    }

    /// A container for nothing but the volume of secrets of `guest`.
    fn make_carrier(
        &self,
        guest: &NewGuest,
        template: VolumeId,
        watch: &mut dyn Watch,
    ) -> Result<GuestId, CallError> {
        let Some(shape) = self.place.roles.get(&guest.record.role) else {
            return Err(CallError::Failed("nothing is known about the role".to_owned()));
        };
        let id = self.carrier_id(guest)?;
        let secrets = SECRETS.parse().map_err(|error| CallError::Failed(format!("{error}")))?;
        let record = Record {
            // Not the wanted one, so that it never gets the node, and none that came after the present one.
            image: Digest::of(""),
            generation: guest.record.generation.saturating_sub(1),
            phase: Phase::Failed,
            volumes: BTreeSet::from([secrets]),
            replaces: None,
            reason: Some(CARRIER.to_owned()),
            ..guest.record.clone()
        };
        let description = record.describe("");
        let container = NewContainer {
            vmid: vmid(id)?,
            name: guest.record.node.to_string(),
            description: description.map_err(|error| CallError::Failed(error.to_string()))?,
            cores: 1,
            memory_mib: MEMORY_MIB,
            swap_mib: 0,
            template,
            storage: shape.storage.clone(),
            root_gib: 1,
            volumes: vec![NewVolume {
                index: 0,
                storage: shape.storage.clone(),
                size_gib: guest.fresh.get(SECRETS).copied().unwrap_or(1),
                source: None,
                backup: false,
                place: SECRETS_DIRECTORY.to_owned(),
            }],
            card: None,
            addresses: Addresses::default(),
            resolving: Resolving::default(),
            ssh_keys: None,
            pool: self.pool(),
            onboot: false,
            unmanaged: true,
        };
        let task = self.client.create_container(&node(&guest.host)?, &container);
        self.wait(&task.map_err(|error| failed(&error))?, watch)?;
        Ok(id)
    }

    /// A number of the site that is free, after that of the guest.
    fn carrier_id(&self, guest: &NewGuest) -> Result<GuestId, CallError> {
        let guests = self.client.guests().map_err(|error| failed(&error))?;
        let taken: BTreeSet<u32> = guests.iter().map(|it| it.guest.vmid.number()).collect();
        let (first, last) = (self.place.lease.0 + 1, self.place.ids.end().0);
        let ids = (guest.id.0 + 1..=last).chain(first..guest.id.0);
        for id in ids.filter(|id| !taken.contains(id)).map(GuestId) {
            if self.client.is_free(vmid(id)?).map_err(|error| failed(&error))? {
                return Ok(id);
            }
        }
        Err(CallError::Failed("all guest ids of the site are taken (`vmids`)".to_owned()))
    }

    /// Gives the secrets of a carrier to its guest, and removes the carrier.
    fn unload(
        &self,
        carrier: GuestId,
        guest: GuestId,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let secrets = SECRETS.parse().map_err(|error| CallError::Failed(format!("{error}")))?;
        let (from, to) = (self.revision_of(carrier)?, self.revision_of(guest)?);
        self.move_volume(&secrets, (carrier, &from), (guest, &to), watch)?;
        let empty = self.revision_of(carrier)?;
        self.destroy(carrier, &empty, watch)
    }

    fn revision_of(&self, id: GuestId) -> Result<Revision, CallError> {
        let config = self.client.config(&self.find(id)?).map_err(|error| failed(&error))?;
        Ok(revision(&config))
    }

    /// Uploads `bytes`, does `work` with the file, and removes it whatever became of that.
    pub(super) fn with_file<T>(
        &self,
        host: &Hostname,
        content: Content,
        bytes: &[u8],
        watch: &mut dyn Watch,
        work: impl FnOnce(VolumeId, &mut dyn Watch) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        self.may_deliver()?;
        let random = random_digits().map_err(|error| CallError::Failed(error.to_string()))?;
        let (kind, ending) = match content {
            Content::Import => ("import", "raw"),
            _ => ("vztmpl", "tar.zst"),
        };
        let name = format!("{}{random}.{ending}", self.prefix());
        let file = self.stored(&format!("{kind}/{name}"))?;
        let done = self
            .upload_bytes(host, content, &name, bytes, watch)
            .and_then(|()| work(file.clone(), watch));
        match (done, self.remove_file(host, &file)) {
            (done, Ok(())) => done,
            (done, Err(left)) => {
                let what = done.err().map(|error| format!("{error}\n  ")).unwrap_or_default();
                Err(CallError::Failed(format!(
                    "{what}the file {file} has secrets in it and could not be removed: {left}\n  \
                     the next run tries again; or remove it on {host} (`pvesm free {file}`)"
                )))
            }
        }
    }

    fn upload_bytes(
        &self,
        host: &Hostname,
        content: Content,
        name: &str,
        bytes: &[u8],
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let upload = Upload {
            node: &node(host)?,
            storage: &self.place.artifacts,
            content,
            name,
            size_bytes: bytes.len() as u64,
            digest: Digest::of(bytes),
        };
        let mut source = Cursor::new(bytes);
        let task = self.client.upload(&upload, &mut source, &mut |_| ControlFlow::Continue(()));
        self.wait(&task.map_err(|error| failed(&error))?, watch)
    }

    pub(super) fn remove_file(&self, host: &Hostname, file: &VolumeId) -> Result<(), CallError> {
        let host = node(host)?;
        let mut tries = 1;
        loop {
            let done = self.client.delete_artifact(&host, file).and_then(|task| match task {
                Some(task) => self.client.wait::<Error>(&task, PATIENCE, &mut || Ok(())).map(drop),
                None => Ok(()),
            });
            match done {
                Ok(()) => return Ok(()),
                // An upload that did not arrive.
                Err(error) if *error.reason() == Reason::NotFound => return Ok(()),
                Err(error) if tries == TRIES => return Err(failed(&error)),
                Err(_) => tries += 1,
            }
        }
    }
}

fn unpacked(error: &io::Error) -> CallError {
    CallError::Failed(format!("cannot pack the secrets: {error}"))
}

/// A template with nothing but `secrets`. Nothing else is needed for a container that Proxmox does not manage
/// (`create_vm` in `PVE/API2/LXC.pm`, `PVE/LXC/Setup/Unmanaged.pm`).
fn template(secrets: &[SecretFile]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut path = ".".to_owned();
    // Members have to begin with `./` (`PVE/LXC/Create.pm`).
    for part in std::iter::once("").chain(SECRETS_DIRECTORY.split('/').skip(1)) {
        path = format!("{}/{part}", path.trim_end_matches('/'));
        let mode = if path == format!(".{SECRETS_DIRECTORY}") { 0o700 } else { 0o755 };
        let directory = format!("{}/", path.trim_end_matches('/'));
        member(&mut archive, &directory, tar::EntryType::Directory, mode, &[])?;
    }
    for file in secrets {
        let path = format!("{path}/{}", file.name);
        member(&mut archive, &path, tar::EntryType::Regular, 0o400, &file.content)?;
    }
    zstd::encode_all(archive.into_inner()?.as_slice(), 1)
}

fn member(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    let name = &mut header.as_old_mut().name;
    // `set_path` would take the `./` away.
    let room = name.get_mut(..path.len()).filter(|room| room.len() < 100);
    room.ok_or_else(|| io::Error::other("the name of a secret is too long"))?
        .copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    header.set_cksum();
    archive.append(&header, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_the_secrets_and_nothing_else() {
        let file = |name: &str| SecretFile { name: name.to_owned(), content: b"hidden".to_vec() };
        let packed = template(&[file("a.b"), file("c")]).unwrap();
        let mut archive = tar::Archive::new(zstd::Decoder::new(packed.as_slice()).unwrap());
        let found: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
                let header = entry.header();
                assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
                format!("{path} {:o} {}", header.mode().unwrap(), header.size().unwrap())
            })
            .collect();
        assert_eq!(
            found,
            [
                "./ 755 0",
                "./etc/ 755 0",
                "./etc/imgbuild/ 755 0",
                "./etc/imgbuild/secrets/ 700 0",
                "./etc/imgbuild/secrets/a.b 400 6",
                "./etc/imgbuild/secrets/c 400 6",
            ]
        );
        assert!(template(&[file(&"x".repeat(90))]).is_err());
    }
}
