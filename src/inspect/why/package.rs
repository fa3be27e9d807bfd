//! By which dependencies a package came.

use std::collections::{BTreeMap, VecDeque};

use schemars::JsonSchema;
use serde::Serialize;

use super::{About, Part, PartOf};
use crate::debian::packages::{PackageId, Universe};
use crate::debian::relation::{self, Relation};
use crate::inspect::Error;

/// Chains that are told.
const CHAINS: usize = 3;

/// Why a package is in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PackageReason {
    /// The role.
    pub role: String,
    /// The site, if it is for one.
    pub site: Option<String>,
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// Where it is.
    pub part: Part,
    /// The image whose packages layer has it.
    pub image: String,
    /// The shortest ways from what definitions ask for to the package, at most three, each by another
    /// last step.
    pub chains: Vec<Chain>,
    /// The packages that depend on it.
    pub needed_by: Vec<String>,
}

/// From what a definition asks for to a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Chain {
    /// What the definition asks for.
    pub asked: Asked,
    /// The package that this is.
    pub package: String,
    /// What depends on what from there on. Empty if the definition asks for the package itself.
    pub steps: Vec<Step>,
}

/// What a definition asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Asked {
    /// The definition.
    pub image: String,
    /// Where: `images/haproxy/image.toml:9`.
    pub place: String,
    /// In which words.
    pub text: String,
}

/// One package that depends on another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Step {
    /// The package.
    pub package: String,
    /// In which words it depends on the next.
    pub relation: String,
    /// The package that fulfils it.
    pub on: String,
}

/// The packages of an image and how they depend on each other.
struct Graph<'a> {
    universe: Universe<'a>,
    /// For each package those that depend on it, with the words.
    needed_by: BTreeMap<PackageId, BTreeMap<PackageId, String>>,
    /// The shortest way to each package, by its last step.
    came: BTreeMap<PackageId, Way>,
}

/// How a package came.
struct Way {
    /// How many dependencies lie between it and what was asked for.
    length: usize,
    last: Last,
}

enum Last {
    Asked(Asked),
    NeededBy(PackageId),
}

impl<'a> Graph<'a> {
    fn new(part: &PartOf<'_>, texts: &'a [String]) -> Result<Self, Error> {
        let mut universe = Universe::new();
        for text in texts {
            universe.add_file(text).map_err(Error::Package)?;
        }
        let mut graph = Self { universe, needed_by: BTreeMap::new(), came: BTreeMap::new() };
        let needs = graph.needs(part.architecture);
        graph.walk(part, &needs);
        Ok(graph)
    }

    /// What each package depends on, with the words.
    fn needs(&mut self, architecture: &str) -> BTreeMap<PackageId, Vec<PackageId>> {
        let mut needs: BTreeMap<PackageId, Vec<PackageId>> = BTreeMap::new();
        for (id, package) in self.universe.packages() {
            // Relations that cannot be read were refused when the image was resolved.
            for relation in package.requirements().unwrap_or_default() {
                for on in fulfilling(&self.universe, &relation, architecture) {
                    if on != id {
                        needs.entry(id).or_default().push(on);
                        let by = self.needed_by.entry(on).or_default();
                        by.entry(id).or_insert_with(|| relation.to_string());
                    }
                }
            }
        }
        needs
    }

    /// Finds the shortest way to each package, from what definitions ask for, root first.
    fn walk(&mut self, part: &PartOf<'_>, needs: &BTreeMap<PackageId, Vec<PackageId>>) {
        let mut open = VecDeque::new();
        for asked in &part.asked {
            let Ok(relation) = relation::parse_wanted(&asked.text) else { continue };
            for id in fulfilling(&self.universe, &relation, part.architecture) {
                self.reach(id, Way { length: 0, last: Last::Asked(asked.clone()) }, &mut open);
            }
        }
        let essential = self.universe.packages().filter(|(_, package)| package.essential);
        let essential: Vec<PackageId> = essential.map(|(id, _)| id).collect();
        for (id, asked) in essential.into_iter().zip(part.essential.iter().cycle()) {
            self.reach(id, Way { length: 0, last: Last::Asked(asked.clone()) }, &mut open);
        }
        while let Some(id) = open.pop_front() {
            let length = self.came.get(&id).map_or(0, |way| way.length) + 1;
            for on in needs.get(&id).into_iter().flatten() {
                self.reach(*on, Way { length, last: Last::NeededBy(id) }, &mut open);
            }
        }
    }

    fn reach(&mut self, id: PackageId, way: Way, open: &mut VecDeque<PackageId>) {
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.came.entry(id) {
            vacant.insert(way);
            open.push_back(id);
        }
    }

    /// The shortest way to `id`.
    fn chain(&self, id: PackageId) -> Option<Chain> {
        let way = self.came.get(&id)?;
        match &way.last {
            Last::Asked(asked) => {
                let package = self.universe.package(id).name.to_owned();
                Some(Chain { asked: asked.clone(), package, steps: Vec::new() })
            }
            Last::NeededBy(by) => self.chain_by(*by, id),
        }
    }

    /// The shortest way to `by`, and from there to `id`.
    fn chain_by(&self, by: PackageId, id: PackageId) -> Option<Chain> {
        let mut chain = self.chain(by)?;
        chain.steps.push(Step {
            package: self.universe.package(by).name.to_owned(),
            relation: self.needed_by.get(&id)?.get(&by)?.clone(),
            on: self.universe.package(id).name.to_owned(),
        });
        Some(chain)
    }
}

/// The packages that fulfil a relation, all of which are in the image.
fn fulfilling(
    universe: &Universe<'_>,
    relation: &Relation<'_>,
    architecture: &str,
) -> Vec<PackageId> {
    let alternatives =
        relation.alternatives.iter().filter(|alternative| alternative.applies_to(architecture));
    alternatives.flat_map(|it| universe.satisfying(it, architecture)).collect()
}

/// Why `part` has the package `name`, which it has.
pub(super) fn reason(
    about: &About,
    part: &PartOf<'_>,
    name: &str,
    texts: &[String],
) -> Result<PackageReason, Error> {
    let graph = Graph::new(part, texts)?;
    let absent = || Error::NoPackage {
        name: name.to_owned(),
        role: about.role.clone(),
        help: "the lock has it, and the image was built from another lock: build it again".into(),
    };
    let id = *graph.universe.versions(name).first().ok_or_else(absent)?;
    let package = graph.universe.package(id);
    let image = part
        .images
        .iter()
        .find(|image| image.packages.iter().any(|pinned| pinned.package.name == name));
    let mut needed_by: Vec<PackageId> =
        graph.needed_by.get(&id).into_iter().flat_map(BTreeMap::keys).copied().collect();
    let length = |id: &PackageId| graph.came.get(id).map_or(usize::MAX, |way| way.length);
    needed_by.sort_by_key(|id| (length(id), graph.universe.package(*id).name));
    let asked = graph.came.get(&id).filter(|way| way.length == 0);
    let asked = asked.and_then(|_| graph.chain(id));
    // A way that leads through the package itself says nothing of why it is there.
    let ways = needed_by
        .iter()
        .filter_map(|by| graph.chain_by(*by, id))
        .filter(|chain| !chain.steps.iter().any(|step| step.package == name));
    Ok(PackageReason {
        role: about.role.clone(),
        site: about.site.clone(),
        package: name.to_owned(),
        version: package.version.to_owned(),
        architecture: package.architecture.to_owned(),
        part: part.part,
        image: image.map(|image| image.name.clone()).unwrap_or_default(),
        chains: asked.into_iter().chain(ways).take(CHAINS).collect(),
        needed_by: needed_by.iter().map(|id| graph.universe.package(*id).name.to_owned()).collect(),
    })
}

/// What to say if `name` is not the name of a package, but one that packages of `part` provide.
pub(super) fn providers(part: &PartOf<'_>, name: &str, texts: &[String]) -> Option<String> {
    let graph = Graph::new(part, texts).ok()?;
    let relation = relation::parse_wanted(name).ok()?;
    let names: Vec<&str> = fulfilling(&graph.universe, &relation, part.architecture)
        .into_iter()
        .map(|id| graph.universe.package(id).name)
        .collect();
    (!names.is_empty()).then(|| format!("it is provided by {}: ask for that", names.join(", ")))
}
