//! What one role is at one site, with every value settled.

use std::collections::{BTreeMap, BTreeSet};

use super::account::{Accounts, accounts};
use super::debian::Debian;
use super::endpoint::holds;
use super::error::{Error, Problem, Result};
use super::image::{Check, Health, Image, Packages, Run, Secret, without_debian};
use super::lint::Rule;
use super::name::{ImageName, ParameterName, UnitName, Version};
use super::overlay::{Node, Overlay};
use super::parameter::Parameter;
use super::project::{Project, known};
use super::site::{OpenEndpoint, Site, open};
use super::stack::{Setting, Settings, declaration};
use super::state::State;
use super::swap::{Cluster, Swap};
use super::upstream::Upstream;

/// Everything that decides what a role becomes, before packages are resolved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The role.
    pub role: ImageName,
    /// The version of its definition.
    pub version: Version,
    /// What it is, in one line.
    pub summary: String,
    /// The site it is built for, if any.
    pub site: Option<Site>,
    /// Where packages come from: the repositories of all definitions of the stack, root first.
    pub debian: Debian,
    /// What each definition of the stack asks for, root first.
    pub layers: Vec<Layer>,
    /// The value of every parameter of the stack.
    pub values: BTreeMap<ParameterName, Setting>,
    /// The secrets that services of the stack read.
    pub secrets: BTreeMap<ParameterName, Secret>,
    /// The volumes of the stack, in its order.
    pub states: Vec<State>,
    /// The checks of the stack, in its order.
    pub checks: Vec<Check>,
    /// The health commands; those of a later definition replace those of an earlier one.
    pub health: Health,
    /// How its nodes are replaced, if it says so.
    pub swap: Option<Swap>,
    /// What it demands of its nodes at a site, if anything.
    pub cluster: Option<Cluster>,
    /// The endpoints of the stack, by name, and who may connect to them.
    pub endpoints: Vec<OpenEndpoint>,
    /// The other roles that it connects to.
    pub needs: BTreeSet<ImageName>,
    /// What its definitions and overlays say of the level of lints, the weakest first.
    pub lints: Vec<Rule>,
}

/// What a role is as a virtual machine's disk.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// The role's plan with one layer more, that of the machine definition, which comes last.
    pub machine: Plan,
    /// The plan of the image that the disk boots with.
    pub boot: Plan,
    /// The program, with its arguments, that makes what the disk boots with.
    pub boot_command: Run,
}

/// The part of a plan that one definition contributes.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The definition.
    pub image: ImageName,
    /// Its users and groups.
    pub accounts: Accounts,
    /// Its packages.
    pub packages: Packages,
    /// What it has that is in no package.
    pub sources: Vec<Upstream>,
    /// Its commands.
    pub runs: Vec<Run>,
    /// The units it masks.
    pub masks: Vec<UnitName>,
}

/// The roles besides `image` that `stack` connects to with `values`.
fn needs(image: &Image, stack: &[&Image], values: &Settings) -> BTreeSet<ImageName> {
    let connections = stack.iter().flat_map(|image| &image.connections);
    let made = connections.filter(|connection| holds(connection.when.as_ref(), values));
    let roles = made.map(|connection| connection.to.0.clone());
    roles.filter(|role| *role != image.name).collect()
}

impl Plan {
    /// The nodes that run this role.
    pub fn peers(&self) -> impl Iterator<Item = &Node> {
        let nodes = self.site.iter().flat_map(|site| &site.nodes);
        nodes.filter(|node| node.image == self.role)
    }
}

impl Project {
    /// Settles what `role` is at `site`, or at no site in particular.
    ///
    /// The value of a parameter is the last of: its default; `[values]` of the definitions from
    /// its declarer up to the role; for each overlay of the site, the outermost first,
    /// `[images.X]` for X from the declarer up to the role.
    ///
    /// # Errors
    ///
    /// An unknown role or site, a role that is only a layer, and every parameter without a value.
    pub fn plan(&self, role: &str, site: Option<&str>) -> Result<Plan> {
        self.plan_of(self.role(role)?, &self.stack(role)?, site)
    }

    /// The definition of the role called `name`.
    ///
    /// # Errors
    ///
    /// An unknown image, or one that is only a layer.
    pub fn role(&self, name: &str) -> Result<&Image> {
        let image = self.image(name)?;
        if image.role {
            return Ok(image);
        }
        let roles = self.roles().map(|image| image.name.as_str());
        Err(Error::NotARole {
            name: name.to_owned(),
            help: known(name, "roles", roles.collect::<Vec<_>>().into_iter()),
        })
    }

    /// Settles what `role` is as a disk at `site`; none if no machine definition is laid on it.
    ///
    /// # Errors
    ///
    /// As [`Project::plan`].
    pub fn disk_plan(&self, role: &str, site: Option<&str>) -> Result<Option<DiskPlan>> {
        let image = self.image(role)?;
        let Some((machine, declared)) = self.machine_of(image) else { return Ok(None) };
        let boot_image = self.image(declared.boot.0.as_str())?;
        let Some(boot) = &boot_image.boot else { return Ok(None) };
        let stack: Vec<&Image> = self.stack(role)?.into_iter().chain([machine]).collect();
        Ok(Some(DiskPlan {
            machine: self.plan_of(image, &stack, site)?,
            boot: self.plan_of(boot_image, &self.stack(boot_image.name.as_str())?, site)?,
            boot_command: Run { command: boot.command.clone(), place: boot.place.clone() },
        }))
    }

    fn plan_of(&self, image: &Image, stack: &[&Image], site: Option<&str>) -> Result<Plan> {
        let overlays = site.map(|site| self.overlays(site)).transpose()?.unwrap_or_default();
        let accounts = accounts(stack)?;
        let debian = stack.first().and_then(|root| root.debian.clone());
        let mut debian = debian.ok_or_else(|| without_debian(&image.place))?;
        debian.repositories.extend(stack.iter().flat_map(|image| image.repositories.clone()));
        let site = site.map(|site| self.settled_site(site)).transpose()?;
        let values = self.values(stack, &overlays)?;
        Ok(Plan {
            role: image.name.clone(),
            version: image.version.clone(),
            summary: image.summary.clone(),
            debian,
            layers: stack
                .iter()
                .zip(accounts)
                .map(|(image, accounts)| layer(image, accounts))
                .collect(),
            endpoints: open(self, stack, &values, site.as_ref())?,
            needs: needs(image, stack, &values),
            lints: Self::rules(stack, &overlays),
            site,
            values,
            secrets: stack.iter().flat_map(|image| image.secrets.clone()).collect(),
            states: stack.iter().flat_map(|image| image.states.clone()).collect(),
            checks: stack.iter().flat_map(|image| image.checks.clone()).collect(),
            health: health(stack),
            cluster: stack.iter().rev().find_map(|image| image.cluster.clone()),
            swap: stack.iter().rev().find_map(|image| image.swap.clone()),
        })
    }

    /// The site called `name`, with all overlays that it is laid upon.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSite`].
    pub fn settled_site(&self, name: &str) -> Result<Site> {
        Ok(Site::new(self.site(name)?, &self.overlays(name)?, self.nodes(name)?))
    }

    pub(super) fn values(
        &self,
        stack: &[&Image],
        overlays: &[&Overlay],
    ) -> Result<BTreeMap<ParameterName, Setting>> {
        let mut values = BTreeMap::new();
        for image in stack {
            for (name, parameter) in &image.parameters {
                if let Some(value) = parameter.default.clone() {
                    let place = parameter.place.clone();
                    values.insert(name.clone(), Setting { value, place });
                }
            }
        }
        for image in stack {
            values.extend(self.checked.values.get(&image.name).cloned().unwrap_or_default());
        }
        for overlay in overlays {
            let Some(tables) = self.checked.overlays.get(&overlay.name) else { continue };
            for image in stack {
                values.extend(tables.get(&image.name).cloned().unwrap_or_default());
            }
        }
        let declared = stack.iter().flat_map(|image| image.parameters.keys());
        let unset = declared.filter(|name| !values.contains_key(*name));
        let errors = unset.filter_map(|name| unset_error(name, stack, overlays)).collect();
        Error::collect(values, errors)
    }
}

fn unset_error(name: &ParameterName, stack: &[&Image], overlays: &[&Overlay]) -> Option<Error> {
    let (declarer, Parameter { kind, place, .. }) = declaration(stack, name.as_str())?;
    let table = format!("[images.{}]\n{name} = … # {kind}", declarer.name);
    let help = match overlays.last() {
        Some(site) => format!("add it to {}:\n{table}", site.place.file()),
        None => format!("give it a default, or name a site (--site) whose overlay has\n{table}"),
    };
    let role = stack.last()?.name.to_string();
    let problem = Problem::Unset { name: name.to_string(), role };
    Some(place.error_with_help(problem, Some(help)))
}

fn layer(image: &Image, accounts: Accounts) -> Layer {
    Layer {
        image: image.name.clone(),
        accounts,
        packages: image.packages.clone(),
        sources: image.sources.values().cloned().collect(),
        runs: image.runs.clone(),
        masks: image.masks.clone(),
    }
}

fn health(stack: &[&Image]) -> Health {
    let last = |command: fn(&Health) -> &Option<Vec<String>>| {
        stack.iter().rev().find_map(|image| command(&image.health).clone())
    };
    Health { live: last(|health| &health.live), ready: last(|health| &health.ready) }
}
