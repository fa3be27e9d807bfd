//! Making guests, and bringing what they are made from.

use std::fs::{self, File};
use std::io;

use super::wait::{refused, waiting};
use super::{Local, MAKING};
use crate::boot::container::SECRETS as SECRETS_DIRECTORY;
use crate::boot::{self, Secrets};
use crate::digest::Digest;
use crate::lab::guest::{Directory, failed, move_directory};
use crate::lab::place::{make_directory, sync_directory};
use crate::swap::proxmox::SECRETS;
use crate::swap::{CallError, NewGuest, Watch};

impl Local {
    /// Makes an artifact one of the lab, which later builds neither remove nor replace.
    pub(super) fn bring(&self, artifact: &str, watch: &mut dyn Watch) -> Result<(), CallError> {
        let target = self.place.artifacts().join(artifact);
        if target.exists() {
            return Ok(());
        }
        let found = self.site.artifact(artifact).ok_or_else(|| {
            CallError::Failed(format!("the file {artifact} is not among the artifacts given"))
        })?;
        let (source, expected) = (found.path.clone(), found.manifest.artifact.sha256);
        // Later builds may remove or replace what lies there.
        let temporary = target.with_file_name(format!(".{}", std::process::id()));
        let copy = temporary.clone();
        waiting(watch, move || {
            let failed =
                |error| boot::Error::Io { action: "copy", path: source.clone(), source: error };
            let _ = fs::remove_file(&copy);
            fs::hard_link(&source, &copy)
                .or_else(|_| fs::copy(&source, &copy).map(drop))
                .map_err(failed)?;
            let digest = File::open(&copy).and_then(Digest::of_reader).map_err(failed)?;
            match digest == expected {
                true => Ok(()),
                false => Err(failed(io::Error::other("it is not what its manifest says"))),
            }
        })?;
        fs::rename(&temporary, &target)
            .and_then(|()| sync_directory(&self.place.artifacts()))
            .map_err(|error| failed("make", &target, error))
    }

    pub(super) fn make(&self, guest: &NewGuest, watch: &mut dyn Watch) -> Result<(), CallError> {
        let target = Directory::new(&self.place, guest.id);
        let taken = || CallError::Conflict(format!("there is a guest {} already", guest.id));
        if target.path.exists() {
            return Err(taken());
        }
        let made = self.aside(MAKING, guest.id);
        let _ = fs::remove_dir_all(&made.path);
        self.fill(guest, &made, watch)?;
        let _lock = self.lock()?;
        move_directory(&made.path, &target.path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => taken(),
            _ => failed("make", &target.path, error),
        })
    }

    /// Makes a guest's directory where nobody looks.
    fn fill(
        &self,
        guest: &NewGuest,
        made: &Directory,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let record = &guest.record;
        let (identity, plan) = self.site.identity(&record.node).ok_or_else(|| {
            CallError::Failed(format!("nothing is known about the node {}", record.node))
        })?;
        let secrets = match guest.fresh.keys().any(|name| name.as_str() == SECRETS) {
            true => self.secrets.of(plan, &identity),
            false => Ok(Secrets::default()),
        };
        let secrets = secrets.map_err(|error| CallError::Failed(error.to_string()))?;
        make_directory(&made.path, 0o711).map_err(|error| refused(&error))?;
        let name = made.path.file_name().unwrap_or_default().to_string_lossy();
        let container = self.container(name)?;
        let template = self.place.artifacts().join(&guest.artifact);
        waiting(watch, move || container.unpack(&template))?;
        made.fill(&identity, record)?;
        for name in guest.fresh.keys() {
            let path = match name.as_str() {
                SECRETS => Some(SECRETS_DIRECTORY.to_owned()),
                _ => self.site.volume_path(&record.role, name),
            };
            let path = path.ok_or_else(|| {
                CallError::Failed(format!(
                    "nobody says where {} has the volume {name}",
                    record.role
                ))
            })?;
            made.make_volume(name, &path, &secrets)?;
        }
        Ok(())
    }
}
