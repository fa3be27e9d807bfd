//! How verbs talk to registries of images.

use std::path::PathBuf;

use clap::Args;

use crate::registry::{Access, Authorities, Error, Settings};

/// Options of verbs that talk to a registry.
#[derive(Debug, Args)]
pub(super) struct RegistryOptions {
    /// Certificates of the authority that vouches for the registry, as PEM text [default: those that browsers know]
    #[arg(long, value_name = "FILE", env = "IMGBUILD_REGISTRY_CA", hide_env_values = true)]
    registry_ca: Option<PathBuf>,
}

impl RegistryOptions {
    /// How to talk to one.
    ///
    /// # Errors
    /// If there is no certificate in the file.
    pub(super) fn settings(&self, access: Access) -> Result<Settings, Error> {
        let file = self.registry_ca.as_ref().filter(|file| !file.as_os_str().is_empty());
        let authorities = file.map(|file| Authorities::read(file)).transpose()?;
        Ok(Settings { authorities, ..Settings::new(access) })
    }
}
