//! A plan whose every input is pinned. Nothing else can be built: the only way to a [`LockedPlan`] is
//! through a lock that agrees with the definitions.

use std::path::PathBuf;

use super::supply::Supplied;
use crate::definition::{AbsolutePath, Image, Pin, Plan, Run, Upstream, UpstreamKind};
use crate::digest::Digest;
use crate::layer::accounts::{Group, User};
use crate::lock::{self, Lock, LockedPackage};
use crate::render::RenderedLayer;

/// A package with everything needed to get and to trust it.
#[derive(Clone, Debug)]
pub struct PinnedPackage {
    /// The entry of the lock.
    pub package: LockedPackage,
    /// Where to get it, in order of preference.
    pub urls: Vec<String>,
}

impl PinnedPackage {
    /// The value of this package among a layer's inputs.
    pub fn input(&self) -> String {
        let LockedPackage { version, architecture, sha256, .. } = &self.package;
        format!("{version} {architecture} {sha256}")
    }
}

/// Something from outside all repositories, with everything needed to get and to trust it.
#[derive(Clone, Debug)]
pub struct PinnedSource {
    /// What the definition says. The lock says the same, or there would be no plan.
    pub upstream: Upstream,
    /// What somebody gave for it by hand.
    pub supplied: Option<Supplied>,
}

impl PinnedSource {
    /// The SHA-256 of what it is made of, where that is known beforehand: not of a commit, and not if
    /// nobody has verified it, nor given it.
    pub fn digest(&self) -> Option<Digest> {
        match (&self.supplied, &self.upstream.pin) {
            (Some(supplied), _) => Some(supplied.digest),
            (None, Pin::Sha256(digest)) => Some(*digest),
            (None, Pin::Commit(_) | Pin::Image(_) | Pin::Unverified(_)) => None,
        }
    }

    /// Whether it was given as a directory.
    pub fn is_directory(&self) -> bool {
        self.supplied.as_ref().is_some_and(|supplied| supplied.is_directory)
    }

    /// What to say of it if it is not what the lock pins.
    pub fn unpinned(&self) -> Option<String> {
        let supplied = self.supplied.as_ref()?;
        let Upstream { name, pin, .. } = &self.upstream;
        let differs = !supplied.is_pinned && *pin != Pin::Sha256(supplied.digest);
        differs.then(|| format!("source {name}: sha256 {} was given, not {pin}", supplied.digest))
    }

    /// The value of this source among a layer's inputs.
    pub fn input(&self) -> String {
        let pinned = self.unpinned().is_none().then_some(&self.upstream.pin);
        match (&self.upstream.kind, pinned) {
            (UpstreamKind::Git { into }, Some(Pin::Commit(commit))) => {
                return format!("git {commit} {into}");
            }
            (UpstreamKind::Oci { path, into, .. }, Some(Pin::Image(digest))) => {
                return format!("oci {digest} {path} {into}");
            }
            _ => {}
        }
        let digest =
            self.digest().map_or_else(|| self.upstream.pin.to_string(), |it| it.to_string());
        match &self.upstream.kind {
            UpstreamKind::Archive { into, .. } if self.is_directory() => {
                format!("archive {digest} {into} strip=0")
            }
            UpstreamKind::Archive { into, strip } => {
                format!("archive {digest} {into} strip={strip}")
            }
            UpstreamKind::Git { into } | UpstreamKind::Oci { into, .. } => {
                format!("archive {digest} {into} strip=0")
            }
            UpstreamKind::Package => format!("package {digest}"),
            UpstreamKind::File { into, mode } => format!("file {digest} {into} {:o}", mode.bits()),
        }
    }
}

/// One definition of the stack with what is pinned for it.
#[derive(Clone, Debug)]
pub struct LockedImage {
    /// The definition's name.
    pub name: String,
    /// What its packages layer installs.
    pub packages: Vec<PinnedPackage>,
    /// What its sources layer has.
    pub sources: Vec<PinnedSource>,
    /// Those of its packages that come from no repository.
    pub files: Vec<PinnedSource>,
    /// The accounts that it makes.
    pub users: Vec<User>,
    /// The groups that it makes.
    pub groups: Vec<Group>,
    /// The commands that it runs.
    pub commands: Vec<Vec<String>>,
    /// Where the commands stand, for messages.
    pub places: Vec<String>,
    /// The root directories of state volumes, relative to the root, of it and of those below it.
    pub state: Vec<PathBuf>,
}

impl LockedImage {
    /// Everything that it has from outside all repositories.
    pub fn all_sources(&self) -> impl Iterator<Item = &PinnedSource> {
        self.sources.iter().chain(&self.files)
    }

    /// Where `command`, as messages show it, stands in the definition, if it does.
    pub fn place_of(&self, command: Option<&str>) -> Option<&str> {
        let position = self.commands.iter().position(|words| Some(&*words.join(" ")) == command)?;
        self.places.get(position).map(String::as_str)
    }
}

/// A command that must succeed in the finished tree.
#[derive(Clone, Debug)]
pub struct Check {
    /// The definition that asks for it.
    pub image: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Rendered files that it reads.
    pub covers: Vec<PathBuf>,
    /// Where it stands, for messages.
    pub place: String,
}

/// A role, with everything that decides what it becomes as a container and as a virtual machine.
#[derive(Clone)]
pub struct LockedRole {
    /// What is in both.
    pub plan: LockedPlan,
    /// What only disks have, if the project says how to make them.
    pub disk: Option<LockedDisk>,
}

impl LockedRole {
    /// Every definition that takes part, some of them twice.
    pub fn images(&self) -> impl Iterator<Item = &LockedImage> {
        let disk = self.disk.iter().flat_map(|disk| {
            [&disk.machine.image].into_iter().chain(&disk.boot.images).chain([&disk.boot_image])
        });
        self.plan.images.iter().chain(disk)
    }

    pub(super) fn images_mut(&mut self) -> impl Iterator<Item = &mut LockedImage> {
        let disk = self.disk.iter_mut().flat_map(|disk| {
            let machine = [&mut disk.machine.image].into_iter();
            machine.chain(&mut disk.boot.images).chain([&mut disk.boot_image])
        });
        self.plan.images.iter_mut().chain(disk)
    }

    /// What was given by hand and is not what the lock pins.
    pub fn unpinned(&self) -> Vec<String> {
        unpinned(self.images())
    }
}

/// What of `images` was given by hand and is not what the lock pins, each once.
pub(super) fn unpinned<'a>(images: impl Iterator<Item = &'a LockedImage>) -> Vec<String> {
    let sources = images.flat_map(LockedImage::all_sources);
    let mut unpinned: Vec<String> = sources.filter_map(PinnedSource::unpinned).collect();
    unpinned.sort();
    unpinned.dedup();
    unpinned
}

/// What a disk has besides the layers of its role.
#[derive(Clone)]
pub struct LockedDisk {
    /// The definition that is laid on the role.
    pub machine: Machine,
    /// The image that the disk boots with; its last commands make what that takes.
    pub boot: LockedPlan,
    /// The definition of those commands.
    pub boot_image: LockedImage,
}

/// The part of a role that only virtual machines have.
#[derive(Clone)]
pub struct Machine {
    /// Its packages, users and commands.
    pub image: LockedImage,
    /// Its files, rendered for the role.
    pub rendered: RenderedLayer,
    /// The checks that it asks for.
    pub checks: Vec<Check>,
    /// The plan of the role with it.
    pub plan: Plan,
}

impl LockedDisk {
    /// What `machine` adds to a role, of which it is the last layer of `machine.plan`, and the image to
    /// boot with.
    pub fn new(machine: LockedPlan, boot: LockedPlan, command: &Run) -> Option<Self> {
        let LockedPlan { mut images, mut rendered, checks, plan, .. } = machine;
        let image = images.pop()?;
        let checks = checks.into_iter().filter(|check| check.image == image.name).collect();
        let machine = Machine { rendered: rendered.pop()?, checks, plan, image };
        let mut boot_image = boot.images.last()?.clone();
        boot_image.commands = vec![command.command.clone()];
        boot_image.places = vec![command.place.to_string()];
        Some(Self { machine, boot, boot_image })
    }
}

/// Everything that decides what a role becomes.
#[derive(Clone)]
pub struct LockedPlan {
    /// The project's directory.
    pub root: PathBuf,
    /// The plan of the definitions.
    pub plan: Plan,
    /// The stack, base first.
    pub images: Vec<LockedImage>,
    /// The rendered files, base first.
    pub rendered: Vec<RenderedLayer>,
    /// The checks, base first.
    pub checks: Vec<Check>,
}

impl LockedPlan {
    /// Joins a plan with the lock. The caller has made sure that the lock is up to date
    /// ([`Lock::check`]), which is what makes an image that is missing from it impossible.
    pub fn new(
        root: PathBuf,
        plan: Plan,
        stack: &[&Image],
        lock: &Lock,
        rendered: Vec<RenderedLayer>,
    ) -> Self {
        let relative = |path: &AbsolutePath| path.relative().to_owned();
        let mut state = Vec::new();
        let images = plan.layers.iter().zip(stack).map(|(layer, image)| {
            state.extend(image.states.iter().map(|volume| relative(&volume.path)));
            let key = match &image.machine {
                Some(_) => lock::machine_key(plan.role.as_str(), layer.image.as_str()),
                None => layer.image.to_string(),
            };
            let locked = lock.images.get(&key);
            let packages = locked.map(|image| image.packages.as_slice()).unwrap_or_default();
            LockedImage {
                name: layer.image.to_string(),
                packages: packages.iter().map(|package| pin(package, &plan, lock)).collect(),
                sources: layer.sources.iter().filter(|it| !it.is_package()).map(source).collect(),
                files: packages
                    .iter()
                    .filter_map(|package| declared(package, &plan))
                    .map(source)
                    .collect(),
                users: users(layer),
                groups: groups(layer),
                commands: layer.runs.iter().map(|run| run.command.clone()).collect(),
                places: layer.runs.iter().map(|run| run.place.to_string()).collect(),
                state: state.clone(),
            }
        });
        let images = images.collect();
        Self {
            root,
            images,
            rendered,
            checks: stack.iter().flat_map(|image| checks(image)).collect(),
            plan,
        }
    }

    /// All packages of the stack.
    pub fn packages(&self) -> impl Iterator<Item = &PinnedPackage> {
        self.images.iter().flat_map(|image| &image.packages)
    }

    /// The root directories of all state volumes, relative to the root.
    pub fn state(&self) -> &[PathBuf] {
        self.images.last().map(|image| image.state.as_slice()).unwrap_or_default()
    }

    /// The role's name.
    pub fn role(&self) -> &str {
        self.plan.role.as_str()
    }
}

fn checks(image: &Image) -> impl Iterator<Item = Check> {
    image.checks.iter().map(|check| Check {
        image: image.name.to_string(),
        command: check.command.clone(),
        covers: check.covers.iter().map(|(path, _)| path.relative().to_owned()).collect(),
        place: check.place.to_string(),
    })
}

/// The source that `package` is, if it is one.
fn declared<'a>(package: &LockedPackage, plan: &'a Plan) -> Option<&'a Upstream> {
    let name = package.source.as_deref()?;
    let mut sources = plan.layers.iter().flat_map(|layer| &layer.sources);
    sources.find(|source| source.name.as_str() == name)
}

fn pin(package: &LockedPackage, plan: &Plan, lock: &Lock) -> PinnedPackage {
    if let Some(source) = declared(package, plan) {
        return PinnedPackage { package: package.clone(), urls: source.urls.clone() };
    }
    let repository =
        plan.debian.repositories.iter().find(|repository| repository.name == package.repository);
    let urls =
        repository.map(|repository| package.urls(&lock::repository(repository), &lock.snapshot));
    PinnedPackage { package: package.clone(), urls: urls.unwrap_or_default() }
}

fn source(upstream: &Upstream) -> PinnedSource {
    PinnedSource { upstream: upstream.clone(), supplied: None }
}

fn users(layer: &crate::definition::Layer) -> Vec<User> {
    let user = |(name, user): (&crate::definition::Account, &crate::definition::User)| User {
        name: name.to_string(),
        uid: user.uid,
        gid: user.gid,
        home: user.home.to_string(),
        shell: user.shell.to_string(),
        comment: user.comment.clone(),
    };
    layer.accounts.users.iter().map(user).collect()
}

fn groups(layer: &crate::definition::Layer) -> Vec<Group> {
    let groups = layer.accounts.groups.iter();
    groups.map(|(name, gid)| Group { name: name.to_string(), gid: *gid }).collect()
}
