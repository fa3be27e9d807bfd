//! Where layers come from and go to that machines share.

use miette::Result;

use super::context::Context;
use super::registry::RegistryOptions;
use crate::fetch::Network;
use crate::publish::layers::RegistryLayers;
use crate::registry::{Access, Location, Registry};

/// Options of verbs that build.
#[derive(Debug, clap::Args)]
pub(super) struct LayerOptions {
    /// Take layers that others have built from this repository of a registry
    #[arg(long, value_name = "REGISTRY/NAME", env = "IMGBUILD_LAYERS_FROM")]
    layers_from: Option<Location>,
    /// Take layers from this repository, and give it those that are built here
    #[arg(long, value_name = "REGISTRY/NAME", env = "IMGBUILD_LAYERS_TO")]
    layers_to: Option<Location>,
    #[command(flatten)]
    registry: RegistryOptions,
}

impl LayerOptions {
    /// The layers that others have built, if they are shared.
    pub(super) fn open(&self, context: &Context) -> Result<Option<RegistryLayers>> {
        if matches!(context.network(), Network::Offline) {
            return Ok(None);
        }
        let (location, access) = match (&self.layers_to, &self.layers_from) {
            (Some(to), _) => (to, Access::Push),
            (None, Some(from)) => (from, Access::Pull),
            (None, None) => return Ok(None),
        };
        let registry = Registry::new(location.origin(), self.registry.settings(access)?);
        let repository = registry.repository(location);
        Ok(Some(match access {
            Access::Push => RegistryLayers::giving(repository),
            Access::Pull => RegistryLayers::taking(repository),
        }))
    }
}
