//! How two images differ.

mod accounts;
mod capabilities;
mod files;
mod lines;
mod units;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

pub use accounts::{Account, Accounts, GroupEntry};
pub use files::{FileChange, FileState};
pub use lines::TextChange;

use super::image::{Image, Layer};
use super::ownership::Ownership;
use super::tree::Tree;
use super::{Error, Facts};
use crate::artifact::manifest::State;
use crate::artifact::name::Format;
use crate::digest::Digest;
use view::View;

/// A thing with a name that is in one image and not in the other, or not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Change<T> {
    /// What it is called.
    pub name: String,
    /// What it was; none if it is new.
    pub from: Option<T>,
    /// What it is now; none if it is gone.
    pub to: Option<T>,
}

/// What is different between `old` and `new`, in the order of names.
fn changes<T: Clone + PartialEq>(
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
) -> Vec<Change<T>> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differs = |name: &&String| old.get(*name) != new.get(*name);
    let change = |name: &String| Change {
        name: name.clone(),
        from: old.get(name).cloned(),
        to: new.get(name).cloned(),
    };
    names.into_iter().filter(differs).map(change).collect()
}

/// How much of the files of two images was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// All of them.
    All,
    /// Those that are rendered or copied from definitions and overlays.
    Definitions,
    /// None: nothing is known of the files of one image.
    Nothing,
}

/// One of the two images.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Summary {
    /// How it was asked for.
    pub name: String,
    /// The role.
    pub role: String,
    /// The version of its definition.
    pub version: String,
    /// The site, if it is for one.
    pub site: Option<String>,
    /// The format of the artifact.
    pub format: Format,
    /// The digest that the name of the artifact is made of, if it was built.
    pub digest: Option<Digest>,
    /// Bytes of the artifact.
    pub artifact_bytes: Option<u64>,
    /// Bytes of the archives of all layers.
    pub layer_bytes: Option<u64>,
    /// Bytes of all files.
    pub file_bytes: Option<u64>,
    /// Sources that were given by hand.
    pub unpinned: Vec<String>,
}

/// A layer of one of the images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LayerState {
    /// Its digest; none if it has to be built first.
    pub digest: Option<Digest>,
    /// Bytes of its archive.
    pub bytes: Option<u64>,
}

/// A package of one of the images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PackageState {
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// The SHA-256 of its file.
    pub sha256: Digest,
}

/// Names that only one of the images has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Names {
    /// Those of the new one.
    pub added: Vec<String>,
    /// Those of the old one.
    pub removed: Vec<String>,
}

/// Everything that differs between two images. What is the same is not in it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Comparison {
    /// The image that is compared with.
    pub old: Summary,
    /// The image that is compared.
    pub new: Summary,
    /// Whether every layer is the same.
    pub same: bool,
    /// How much of their files was compared.
    pub compared: Extent,
    /// What was not compared, and why.
    pub notes: Vec<String>,
    /// Layers, by name.
    pub layers: Vec<Change<LayerState>>,
    /// Packages.
    pub packages: Vec<Change<PackageState>>,
    /// The values of parameters.
    pub parameters: Vec<Change<serde_json::Value>>,
    /// The lines of text files of definitions and overlays.
    pub configuration: Vec<TextChange>,
    /// Files, those of `configuration` among them.
    pub files: Vec<FileChange>,
    /// Units that are started by others, or masked.
    pub units: Vec<Change<Vec<String>>>,
    /// Users of the image.
    pub users: Vec<Change<Account>>,
    /// Groups of the image.
    pub groups: Vec<Change<GroupEntry>>,
    /// The capabilities of files, by path.
    pub capabilities: Vec<Change<String>>,
    /// State volumes.
    pub states: Vec<Change<State>>,
    /// The names of secrets.
    pub secrets: Names,
}

impl Comparison {
    /// Whether nothing was found that differs.
    pub fn is_empty(&self) -> bool {
        let Self { layers, packages, parameters, configuration, files, .. } = self;
        let Self { units, users, groups, capabilities, states, secrets, .. } = self;
        let contents = layers.is_empty() && configuration.is_empty() && files.is_empty();
        let facts = packages.is_empty() && parameters.is_empty() && states.is_empty();
        let rest = units.is_empty() && users.is_empty() && groups.is_empty();
        let (old, new) = (&self.old, &self.new);
        let same = (&old.role, &old.version, &old.site) == (&new.role, &new.version, &new.site);
        contents && facts && rest && capabilities.is_empty() && *secrets == Names::default() && same
    }
}

/// Compares `new` with `old`.
///
/// # Errors
/// A layer cannot be read.
pub fn compare(old: &Image, new: &Image) -> Result<Comparison, Error> {
    let trees = (tree(old)?, tree(new)?);
    let sizes = [&trees.0, &trees.1].map(|tree| tree.as_ref().map(Tree::size));
    let same = old.layers == new.layers
        && old.boot == new.boot
        && old.layers.iter().all(|layer| layer.digest.is_some());
    let files = if same { Files::same() } else { Files::of(old, new, &trees)? };
    let [one, other] = [&old.facts, &new.facts];
    Ok(Comparison {
        old: summary(old, sizes[0]),
        new: summary(new, sizes[1]),
        same,
        compared: files.compared,
        notes: files.notes,
        layers: changes(&layers(old), &layers(new)),
        packages: changes(&packages(one), &packages(other)),
        parameters: changes(&one.parameters, &other.parameters),
        configuration: files.configuration,
        files: files.changes,
        units: files.units,
        users: files.users,
        groups: files.groups,
        capabilities: files.capabilities,
        states: changes(&states(one), &states(other)),
        secrets: names(&one.secrets, &other.secrets),
    })
}

/// The units of `image` that others start, and those that are masked, as far as its files are known: from the
/// `tree` that its layers make, or else from its definitions.
///
/// # Errors
/// A layer cannot be read.
pub(super) fn units_of(
    image: &Image,
    tree: Option<&Tree<'_>>,
) -> Result<Option<BTreeMap<String, Vec<String>>>, Error> {
    let view = match tree {
        Some(tree) => Some(View::whole(image, tree)?),
        None => View::defined(image, None)?,
    };
    Ok(view.map(|view| units::units(&view)))
}

/// The tree of an image, if all of its layers are there.
fn tree(image: &Image) -> Result<Option<Tree<'_>>, Error> {
    image.archives.as_deref().map(Tree::new).transpose()
}

/// What differs in files, and in what files say.
struct Files {
    compared: Extent,
    notes: Vec<String>,
    configuration: Vec<TextChange>,
    changes: Vec<FileChange>,
    units: Vec<Change<Vec<String>>>,
    users: Vec<Change<Account>>,
    groups: Vec<Change<GroupEntry>>,
    capabilities: Vec<Change<String>>,
}

impl Files {
    /// Of images with the same layers.
    fn same() -> Self {
        Self {
            compared: Extent::All,
            notes: Vec::new(),
            configuration: Vec::new(),
            changes: Vec::new(),
            units: Vec::new(),
            users: Vec::new(),
            groups: Vec::new(),
            capabilities: Vec::new(),
        }
    }

    fn of(
        old: &Image,
        new: &Image,
        trees: &(Option<Tree<'_>>, Option<Tree<'_>>),
    ) -> Result<Self, Error> {
        let (one, other) = match trees {
            (Some(one), Some(other)) => return Self::of_trees((old, one), (new, other)),
            (one, other) => {
                match (View::defined(old, one.as_ref())?, View::defined(new, other.as_ref())?) {
                    (Some(one), Some(other)) => (one, other),
                    _ => {
                        let notes = [old, new].into_iter().filter_map(not_there).collect();
                        return Ok(Self { compared: Extent::Nothing, notes, ..Self::same() });
                    }
                }
            }
        };
        let notes = match same_system(old, new) {
            true => Vec::new(),
            false => [old, new].into_iter().filter_map(not_built).collect(),
        };
        let none = Accounts::default();
        let (users, groups) = match (Accounts::defined(old), Accounts::defined(new)) {
            (Some(one), Some(other)) => accounts::changes(&one, &other),
            _ => accounts::changes(&none, &none),
        };
        let views = (&one, &other);
        Ok(Self {
            compared: Extent::Definitions,
            notes,
            configuration: lines::changes(views)?,
            changes: files::changes(views, (&Ownership::default(), &Ownership::default()))?,
            units: changes(&units::units(&one), &units::units(&other)),
            users,
            groups,
            capabilities: Vec::new(),
        })
    }

    fn of_trees(
        (old, one): (&Image, &Tree<'_>),
        (new, other): (&Image, &Tree<'_>),
    ) -> Result<Self, Error> {
        let views = (&View::whole(old, one)?, &View::whole(new, other)?);
        let owners = (&Ownership::read(one)?, &Ownership::read(other)?);
        let (users, groups) = accounts::changes(&Accounts::read(one)?, &Accounts::read(other)?);
        Ok(Self {
            compared: Extent::All,
            notes: Vec::new(),
            configuration: lines::changes(views)?,
            changes: files::changes(views, owners)?,
            units: changes(&units::units(views.0), &units::units(views.1)),
            users,
            groups,
            capabilities: changes(&views.0.capabilities(), &views.1.capabilities()),
        })
    }
}

/// What to say of an image of whose files nothing is known.
fn not_there(image: &Image) -> Option<String> {
    (image.archives.is_none() && image.defined.is_none()).then(|| {
        format!(
            "the layers of {} are not in the store, so files are not compared: only what its manifest \
             says",
            image.label
        )
    })
}

/// What to say of an image that was not built.
fn not_built(image: &Image) -> Option<String> {
    image.archives.is_none().then(|| {
        format!(
            "{} was not built here, so what packages and commands make of files is not compared: only \
             the files of definitions and overlays",
            image.label
        )
    })
}

/// Whether everything but the files of definitions is known to be the same in both.
fn same_system(old: &Image, new: &Image) -> bool {
    use crate::artifact::manifest::LayerKind;
    let system = |image: &Image| -> Option<Vec<Digest>> {
        let layers = image.layers.iter().filter(|layer| layer.kind != LayerKind::Files);
        layers.map(|layer| layer.digest).collect()
    };
    system(old).is_some_and(|layers| Some(layers) == system(new))
}

fn summary(image: &Image, file_bytes: Option<u64>) -> Summary {
    let Facts { role, version, site, format, digest, artifact_size, unpinned, .. } = &image.facts;
    Summary {
        name: image.label.clone(),
        role: role.clone(),
        version: version.clone(),
        site: site.clone(),
        format: *format,
        digest: *digest,
        artifact_bytes: *artifact_size,
        layer_bytes: image.layers.iter().map(|layer| layer.size).sum(),
        file_bytes,
        unpinned: unpinned.clone(),
    }
}

/// All layers by name; a boot image stands on layers that the role has too.
fn layers(image: &Image) -> BTreeMap<String, LayerState> {
    let state = |layer: &Layer| LayerState { digest: layer.digest, bytes: layer.size };
    let boot = image.boot.iter().map(|layer| (layer.name(), state(layer)));
    boot.chain(image.layers.iter().map(|layer| (layer.name(), state(layer)))).collect()
}

/// All packages by name. Those of a boot image that the role has too in another version are told apart.
fn packages(facts: &Facts) -> BTreeMap<String, PackageState> {
    let mut packages: BTreeMap<String, PackageState> = BTreeMap::new();
    for package in &facts.packages {
        let state = PackageState {
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            sha256: package.sha256,
        };
        let name = match packages.get(&package.name) {
            Some(known) if *known != state => format!("{} ({})", package.name, package.image),
            _ => package.name.clone(),
        };
        packages.insert(name, state);
    }
    packages
}

fn states(facts: &Facts) -> BTreeMap<String, State> {
    facts.states.iter().map(|state| (state.name.clone(), state.clone())).collect()
}

fn names(old: &[String], new: &[String]) -> Names {
    let only = |some: &[String], others: &[String]| -> Vec<String> {
        some.iter().filter(|name| !others.contains(name)).cloned().collect()
    };
    Names { added: only(new, old), removed: only(old, new) }
}

#[cfg(test)]
mod tests;
