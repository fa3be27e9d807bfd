//! Where layers come from and go to that machines share.

use std::path::PathBuf;
use std::time::SystemTime;

use miette::Result;

use super::context::Context;
use super::registry::RegistryOptions;
use super::sign::signer;
use crate::debian::date::Moment;
use crate::fetch::Network;
use crate::publish::layers::{RegistryLayers, Voucher};
use crate::registry::{Access, Location, Registry};
use crate::verify::Rules;

/// Options of verbs that build.
#[derive(Debug, clap::Args)]
pub(super) struct LayerOptions {
    /// Take layers that others have built from this repository of a registry
    #[arg(long, value_name = "REGISTRY/NAME", env = "IMGBUILD_LAYERS_FROM")]
    layers_from: Option<String>,
    /// Take layers from this repository, and give it those that are built here
    #[arg(long, value_name = "REGISTRY/NAME", env = "IMGBUILD_LAYERS_TO")]
    layers_to: Option<String>,
    #[command(flatten)]
    registry: RegistryOptions,
}

impl LayerOptions {
    /// The layers that others have built, if they are shared. They have to be signed if `rules` say so; those that are
    /// given are signed if there is a key.
    pub(super) fn open(
        &self,
        context: &Context,
        rules: &[Rules],
    ) -> Result<Option<RegistryLayers>> {
        if matches!(context.network(), Network::Offline) {
            return Ok(None);
        }
        // As a variable that is empty, neither says anything.
        let said = |text: &'_ Option<String>| text.clone().filter(|text| !text.is_empty());
        let (text, access) = match (said(&self.layers_to), said(&self.layers_from)) {
            (Some(to), _) => (to, Access::Push),
            (None, Some(from)) => (from, Access::Pull),
            (None, None) => return Ok(None),
        };
        let location: Location = text.parse()?;
        let registry = Registry::new(location.origin(), self.registry.settings(access)?);
        let repository = registry.repository(&location);
        let mut voucher = Voucher { rules: rules.to_vec(), signer: None };
        if access == Access::Pull {
            return Ok(Some(RegistryLayers::taking(repository, voucher)));
        }
        let file =
            |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        if let Some(key) = file("IMGBUILD_SIGNING_KEY") {
            let certificate = file("IMGBUILD_SIGNING_CERTIFICATE");
            voucher.signer = Some(signer(key, certificate, Moment::from(SystemTime::now()))?);
        } else if let Some(policy) = voucher.demanding() {
            return Err(miette::miette!(
                help = "name the file of a key that may sign in IMGBUILD_SIGNING_KEY (docs/signatures.md), or only \
                        take layers: `--layers-from`",
                "layers for `{location}` have to be signed, as {policy} demands, and there is no key"
            ));
        }
        Ok(Some(RegistryLayers::giving(repository, voucher)))
    }
}
