//! Where layers come from and go to that machines share.

use std::path::PathBuf;
use std::time::SystemTime;

use miette::{Report, Result, WrapErr};

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
    /// Take layers that others have built from this repository of a registry [default: the environment's
    /// IMGBUILD_LAYERS_FROM]
    #[arg(long, value_name = "REGISTRY/NAME")]
    layers_from: Option<String>,
    /// Take layers from this repository, and give it those that are built here [default: the environment's
    /// IMGBUILD_LAYERS_TO]
    #[arg(long, value_name = "REGISTRY/NAME")]
    layers_to: Option<String>,
    #[command(flatten)]
    registry: RegistryOptions,
}

/// The repository that layers are shared by.
#[derive(Debug, PartialEq, Eq)]
struct Chosen {
    /// Its reference, as it is written.
    text: String,
    /// The option or the variable that has it.
    by: &'static str,
    /// What is to be done there.
    access: Access,
}

impl LayerOptions {
    /// Which repository, who names it, and for what. Variables are asked where the command line names neither option: who only takes says so
    /// whatever the machine gives. What is empty names nothing.
    fn chosen(&self, variable: impl Fn(&str) -> Option<String>) -> Option<Chosen> {
        let of_variable = |name: &'static str| (variable(name), name);
        let (to, from) = match (&self.layers_to, &self.layers_from) {
            (None, None) => {
                (of_variable("IMGBUILD_LAYERS_TO"), of_variable("IMGBUILD_LAYERS_FROM"))
            }
            (to, from) => ((to.clone(), "--layers-to"), (from.clone(), "--layers-from")),
        };
        let named = |(text, by): (Option<String>, &'static str), access| {
            let text = text.filter(|text| !text.is_empty())?;
            Some(Chosen { text, by, access })
        };
        named(to, Access::Push).or_else(|| named(from, Access::Pull))
    }

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
        // What is no text is told of as no reference, and not passed over.
        let variable = |name: &str| std::env::var_os(name).map(|it| it.to_string_lossy().into());
        let Some(Chosen { text, by, access }) = self.chosen(variable) else {
            return Ok(None);
        };
        // Whoever has typed nothing of it has to know where it comes from.
        let location: Location = text
            .parse()
            .map_err(Report::from)
            .wrap_err_with(|| format!("cannot share layers where {by} says"))?;
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        layers: LayerOptions,
    }

    /// What is chosen where `line` is typed, and both variables say something else.
    fn chosen(line: &[&str], to: &str, from: &str) -> Option<Chosen> {
        let line = Line::parse_from([&["imgbuild"], line].concat());
        line.layers.chosen(|name| match name {
            "IMGBUILD_LAYERS_TO" => Some(to.to_owned()),
            "IMGBUILD_LAYERS_FROM" => Some(from.to_owned()),
            _ => None,
        })
    }

    #[test]
    fn what_is_only_taken_is_not_given_to_what_a_variable_names() {
        let (option, variable) = ("--layers-from", "IMGBUILD_LAYERS_FROM");
        let takes =
            |text: &str, by| Some(Chosen { text: text.to_owned(), by, access: Access::Pull });
        assert_eq!(chosen(&["--layers-from", "a"], "to", "from"), takes("a", option));
        assert_eq!(chosen(&[], "", "from"), takes("from", variable));
        let (option, variable) = ("--layers-to", "IMGBUILD_LAYERS_TO");
        let gives =
            |text: &str, by| Some(Chosen { text: text.to_owned(), by, access: Access::Push });
        assert_eq!(chosen(&["--layers-to", "b"], "to", "from"), gives("b", option));
        let both = ["--layers-from", "a", "--layers-to", "b"];
        assert_eq!(chosen(&both, "to", "from"), gives("b", option));
        assert_eq!(chosen(&[], "to", "from"), gives("to", variable));
        assert_eq!(chosen(&["--layers-from", ""], "to", "from"), None);
        assert_eq!(chosen(&[], "", ""), None);
    }
}
