//! `image.toml`: one layer definition.

use std::collections::BTreeMap;
use std::path::Path;

use super::account::{Group, User, owner};
use super::debian::{Debian, Repository, more_repositories};
use super::document::{Entries, Item, Table, parse};
use super::endpoint::{Connection, Endpoint};
use super::error::{Error, Problem, Result};
use super::lint::{Holder, Rule};
use super::name::{
    AbsolutePath, Account, EndpointName, ImageName, Mode, PackageName, ParameterName, SourceName,
    UnitName, Version,
};
use super::parameter::Parameter;
use super::place::{Place, read_text};
use super::schema;
use super::state::State;
use super::swap::{Cluster, Swap};
use super::upstream::Upstream;

/// A definition as its file says it, every name and value checked as far as the file alone allows.
#[derive(Clone, Debug)]
pub struct Image {
    /// The name of its directory.
    pub name: ImageName,
    /// What it is, in one line.
    pub summary: String,
    /// Its version.
    pub version: Version,
    /// The image it is laid upon, and where it says so; none for a root image.
    pub extends: Option<(ImageName, Place)>,
    /// Whether artifacts are made of it; otherwise it is only a layer of other images.
    pub role: bool,
    /// Where packages come from. Root images have it, others have not.
    pub debian: Option<Debian>,
    /// Where else packages come from, for this image and those on top of it.
    pub repositories: Vec<Repository>,
    /// The packages it asks for.
    pub packages: Packages,
    /// What it has that is in no package, by name.
    pub sources: BTreeMap<SourceName, Upstream>,
    /// Users by name, created before any package of this definition is configured.
    pub users: BTreeMap<Account, User>,
    /// Groups by name, besides those that go with a user.
    pub groups: BTreeMap<Account, Group>,
    /// The parameters it declares.
    pub parameters: BTreeMap<ParameterName, Parameter>,
    /// Values for parameters of its ancestors, to be checked against their declaration.
    pub(super) values: Entries,
    /// The secrets its services read at run time.
    pub secrets: BTreeMap<ParameterName, Secret>,
    /// Volumes that outlive the image.
    pub states: Vec<State>,
    /// Exceptions for entries of its `files/`.
    pub files: Vec<FileRule>,
    /// Units that are never to start.
    pub masks: Vec<UnitName>,
    /// Commands to run after its packages are configured.
    pub runs: Vec<Run>,
    /// Commands that must succeed on the finished tree.
    pub checks: Vec<Check>,
    /// How to ask a running guest whether it is well.
    pub health: Health,
    /// What others connect to.
    pub endpoints: BTreeMap<EndpointName, Endpoint>,
    /// What it connects to.
    pub connections: Vec<Connection>,
    /// What it demands of its nodes at a site.
    pub cluster: Option<Cluster>,
    /// How one of its nodes is replaced.
    pub swap: Option<Swap>,
    /// What it says of the level of lints.
    pub lints: Vec<Rule>,
    /// What makes it the boot image of disks, if it is one.
    pub boot: Option<Boot>,
    /// What makes it the part that only virtual machines have, if it is that.
    pub machine: Option<Machine>,
    /// The beginning of the file, for messages about the definition as a whole.
    pub place: Place,
}

/// What a definition asks of the package resolver.
#[derive(Clone, Debug, Default)]
pub struct Packages {
    /// Whether every package with `Essential: yes` is wanted too. Root images only.
    pub essential: bool,
    /// Packages to install.
    pub install: Vec<Relation>,
    /// Packages that must not be installed.
    pub exclude: Vec<(PackageName, Place)>,
}

/// One relation as written, in the syntax of a `Depends` field (Debian Policy Manual, section
/// 7.1). Not parsed yet: that is the resolver's business.
#[derive(Clone, Debug)]
pub struct Relation {
    /// The text: `haproxy (>= 3.0)`.
    pub text: String,
    /// Where it stands, quotes included.
    pub place: Place,
}

/// A secret: only its path is known here, never its value.
#[derive(Clone, Debug)]
pub struct Secret {
    /// Where the secret is at run time.
    pub path: AbsolutePath,
    /// What it is for.
    pub doc: String,
    /// Whether the service cannot start without it.
    pub required: bool,
    /// What a guest gets that is only tried out, where random text will not do: `{node}` is its host
    /// name there, and `{random}` is random.
    pub trial: Option<String>,
    /// Where it is declared.
    pub place: Place,
}

/// A kernel, its initramfs and boot loaders, which all disks share.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The program, with its arguments, that leaves them below `/boot/imgbuild`. Not empty.
    pub command: Vec<String>,
    /// Where the command stands.
    pub place: Place,
}

/// A definition that is laid on every role that stands on what it extends, for disks.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The image that its disks boot with, and where it says so.
    pub boot: (ImageName, Place),
    /// Where the table stands.
    pub place: Place,
}

/// How one entry of `files/` differs from what its tree says.
#[derive(Clone, Debug)]
pub struct FileRule {
    /// The path inside the image.
    pub path: AbsolutePath,
    /// The permissions, if not the usual.
    pub mode: Option<Mode>,
    /// The owner, if not root: a name or a number.
    pub owner: Option<String>,
    /// The group, if not root: a name or a number.
    pub group: Option<String>,
    /// The package whose file the entry replaces.
    pub replaces: Option<PackageName>,
    /// Where the path stands.
    pub place: Place,
}

/// A command run while the image is built.
#[derive(Clone, Debug)]
pub struct Run {
    /// The program and its arguments. Not empty.
    pub command: Vec<String>,
    /// Where it stands.
    pub place: Place,
}

/// A command that must succeed on the finished tree.
#[derive(Clone, Debug)]
pub struct Check {
    /// The program and its arguments. Not empty.
    pub command: Vec<String>,
    /// Rendered files that it reads and that its messages are about.
    pub covers: Vec<(AbsolutePath, Place)>,
    /// Where the command stands.
    pub place: Place,
}

/// Commands run inside the guest.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Succeeds while the guest should be left alone.
    pub live: Option<Vec<String>>,
    /// Succeeds while the guest can serve.
    pub ready: Option<Vec<String>>,
}

impl Image {
    /// Reads the definition of `name` below `root`, the directory of the project.
    pub(super) fn read(root: &Path, name: ImageName) -> Result<Self> {
        let directory = Path::new("images").join(name.as_str());
        let source = read_text(root, &directory.join("image.toml"))?;
        let file = parse(&source)?;
        let table = file.table(&schema::IMAGE.names())?;
        let extends = table.optional("extends", |item| Ok((item.parse()?, item.place.clone())))?;
        let packages = table.optional("packages", |item| packages(item, extends.is_none()))?;
        let debian = table.optional("debian", |item| Debian::read(item, root, &directory))?;
        if let (Some(_), Some(item)) = (&extends, table.get("debian")) {
            let message =
                "an image that extends another takes its packages from where that one does";
            let help = Some("remove [debian] here, or `extends`".to_owned());
            return Err(item
                .place
                .error_with_help(Problem::Contradiction(message.to_owned()), help));
        }
        if extends.is_none() && debian.is_none() {
            return Err(without_debian(&file.place));
        }
        if let (None, Some(item)) = (&extends, table.get("repositories")) {
            let message = "`[[repositories]]` is for images that extend another";
            let help = Some("write `[[debian.repositories]]`, without `packages`".to_owned());
            return Err(item
                .place
                .error_with_help(Problem::Contradiction(message.to_owned()), help));
        }
        let repositories =
            table.optional("repositories", |item| more_repositories(item, root, &directory))?;
        let repositories = repositories.unwrap_or_default();
        Ok(Self {
            name,
            summary: table.require("summary")?.line()?,
            version: table.require("version")?.parse()?,
            extends,
            role: table.optional("role", Item::boolean)?.unwrap_or(false),
            debian,
            repositories,
            packages: packages.unwrap_or_default(),
            sources: table.map("sources", Upstream::read)?,
            users: table.map("users", |_, place, item| User::read(place, item))?,
            groups: table.map("groups", |_, place, item| Group::read(place, item))?,
            parameters: table.map("parameters", Parameter::read)?,
            values: table.optional("values", Item::entries)?.cloned().unwrap_or_default(),
            secrets: table.map("secrets", |_, place, item| secret(place, item))?,
            states: table.list("state", State::read)?,
            files: table.list("files", file_rule)?,
            masks: table.optional("units", units)?.unwrap_or_default(),
            runs: table.list("run", run)?,
            checks: table.list("check", check)?,
            health: table.optional("health", health)?.unwrap_or_default(),
            endpoints: table.map("endpoints", |_, place, item| Endpoint::read(place, item))?,
            connections: table.list("connections", Connection::read)?,
            cluster: table.optional("cluster", Cluster::read)?,
            swap: table.optional("swap", Swap::read)?,
            lints: Rule::read_all(&table, Holder::Image)?,
            boot: table.optional("boot", boot)?,
            machine: table.optional("machine", machine)?,
            place: file.place.clone(),
        })
    }
}

impl Image {
    /// The repositories that it names, as a root image or besides those below it.
    pub fn all_repositories(&self) -> impl Iterator<Item = &Repository> {
        self.debian.iter().flat_map(|debian| &debian.repositories).chain(&self.repositories)
    }
}

/// The error that an image stands on nothing.
pub(super) fn without_debian(place: &Place) -> Error {
    let message = "a root image has to say in [debian] where its packages come from";
    let help = Some("add [debian], or name another image with `extends`".to_owned());
    place.error_with_help(Problem::Contradiction(message.to_owned()), help)
}

fn packages(item: &Item, root_image: bool) -> Result<Packages> {
    let table = item.table(&schema::PACKAGES.names())?;
    if let (Some(item), false) = (table.get("essential"), root_image) {
        let message = "`essential` is for root images: what they install is below all others";
        return Err(item.place.error(Problem::Contradiction(message.to_owned())));
    }
    Ok(Packages {
        essential: table.optional("essential", Item::boolean)?.unwrap_or(false),
        install: table.list("install", |item| {
            Ok(Relation { text: item.line()?, place: item.place.clone() })
        })?,
        exclude: table.list("exclude", |item| Ok((item.parse()?, item.place.clone())))?,
    })
}

fn secret(place: &Place, item: &Item) -> Result<Secret> {
    let table = item.table(&schema::SECRET.names())?;
    Ok(Secret {
        path: table.require("path")?.parse()?,
        doc: table.require("doc")?.line()?,
        required: table.optional("required", Item::boolean)?.unwrap_or(true),
        trial: table.optional("trial", Item::line)?,
        place: place.clone(),
    })
}

fn file_rule(item: &Item) -> Result<FileRule> {
    let table = item.table(&schema::FILE.names())?;
    let path = table.require("path")?;
    Ok(FileRule {
        path: path.parse()?,
        mode: table.optional("mode", Item::parse)?,
        owner: table.optional("owner", owner)?,
        group: table.optional("group", owner)?,
        replaces: table.optional("replaces", Item::parse)?,
        place: path.place.clone(),
    })
}

fn units(item: &Item) -> Result<Vec<UnitName>> {
    item.table(&schema::UNITS.names())?.list("mask", Item::parse)
}

fn run(item: &Item) -> Result<Run> {
    let table = item.table(&schema::RUN.names())?;
    let command = table.require("command")?;
    Ok(Run { command: argv(command)?, place: command.place.clone() })
}

fn check(item: &Item) -> Result<Check> {
    let table = item.table(&schema::CHECK.names())?;
    let command = table.require("command")?;
    Ok(Check {
        command: argv(command)?,
        covers: table.list("covers", |item| Ok((item.parse()?, item.place.clone())))?,
        place: command.place.clone(),
    })
}

fn health(item: &Item) -> Result<Health> {
    let table: Table<'_> = item.table(&schema::HEALTH.names())?;
    Ok(Health { live: table.optional("live", hook)?, ready: table.optional("ready", hook)? })
}

fn boot(item: &Item) -> Result<Boot> {
    let command = item.table(&schema::BOOT.names())?;
    let command = command.require("command")?;
    Ok(Boot { command: argv(command)?, place: command.place.clone() })
}

fn machine(item: &Item) -> Result<Machine> {
    let table = item.table(&schema::MACHINE.names())?;
    let boot = table.require("boot")?;
    Ok(Machine { boot: (boot.parse()?, boot.place.clone()), place: item.place.clone() })
}

/// A program and its arguments. There is no shell, so none of them means anything special; a NUL
/// cannot be passed to execve(2).
/// A program and its arguments that guests keep in a file, a line for each.
pub(super) fn hook(item: &Item) -> Result<Vec<String>> {
    item.each(|word| match word.string()? {
        text if text.contains('\n') => Err(word.unexpected("text on one line")),
        _ => Ok(()),
    })?;
    argv(item)
}

pub(super) fn argv(item: &Item) -> Result<Vec<String>> {
    let words = item.each(|word| match word.string()? {
        text if text.contains('\0') => Err(word.unexpected("text without a NUL")),
        text => Ok(text.to_owned()),
    })?;
    if words.first().is_none_or(String::is_empty) {
        return Err(item.unexpected("a list of a program and its arguments"));
    }
    Ok(words)
}
