//! What packages say of themselves: dpkg's record of them in the image, or their own control files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::licence::Licence;
use super::{Layer, Package};
use crate::artifact::manifest::{self, LayerKind, Manifest};
use crate::debian::database::DIRECTORY;
use crate::debian::deb::Deb;
use crate::debian::{control, relation};
use crate::inspect::Error;
use crate::inspect::tree::Tree;
use crate::store::Store;

/// Where packages are read.
pub(super) struct Packages<'a> {
    pub store: &'a Store,
    /// The tree of the image, and that of what its disk boots with, if it has one.
    pub trees: &'a [Tree<'a>],
    pub layers: &'a [Layer],
}

/// What was read of one package.
struct Read {
    package: Package,
    /// Its fields `Pre-Depends` and `Depends`.
    needs: String,
    /// Its field `Provides`.
    provides: String,
}

impl Packages<'_> {
    /// The packages of `manifest`.
    pub fn read(&self, manifest: &Manifest) -> Result<Vec<Package>, Error> {
        let mut recorded = Vec::new();
        for tree in self.trees {
            recorded.push(records(tree)?);
        }
        let mut all: Vec<Read> = Vec::new();
        for package in &manifest.packages {
            let layer = self.layers.iter().position(|layer| {
                layer.image == package.image && layer.kind == LayerKind::Packages
            });
            // The same package in the image and in what it boots with is one.
            let same = |one: &&mut Read| {
                one.package.sha256 == package.sha256 && one.package.name == package.name
            };
            match all.iter_mut().find(same) {
                Some(one) => one.package.layers.extend(layer),
                None => all.push(self.one(package, layer, &recorded)?),
            }
        }
        let depends = depends(&all);
        let packages = all.into_iter().zip(depends);
        Ok(packages.map(|(read, depends)| Package { depends, ..read.package }).collect())
    }

    fn one(
        &self,
        package: &manifest::Package,
        layer: Option<usize>,
        recorded: &[BTreeMap<String, String>],
    ) -> Result<Read, Error> {
        let paragraph = recorded.iter().find_map(|records| {
            let paragraph = records.get(&package.name)?;
            let version = control::field(paragraph, "Version").ok().flatten();
            (version == Some(package.version.as_str())).then(|| paragraph.clone())
        });
        let paragraph = paragraph.or_else(|| self.control_file(package)).unwrap_or_default();
        let field = |name: &str| control::field(&paragraph, name).ok().flatten();
        let own = |name: &str| field(name).map(str::to_owned);
        let needs = ["Pre-Depends", "Depends"].map(|name| field(name).unwrap_or_default());
        let read = Package {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            sha256: package.sha256,
            url: package.url.clone(),
            layers: layer.into_iter().collect(),
            source: control::source(field("Source"), &package.name, &package.version),
            maintainer: own("Maintainer"),
            homepage: own("Homepage"),
            licence: self.licence(&package.name)?,
            depends: Vec::new(),
        };
        let needs = needs.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(", ");
        Ok(Read { package: read, needs, provides: own("Provides").unwrap_or_default() })
    }

    /// The control file of a package that the store keeps.
    fn control_file(&self, package: &manifest::Package) -> Option<String> {
        let blob = self.store.blob(&package.sha256)?;
        let deb = Deb::open(blob.path()).ok()?;
        let text = str::from_utf8(deb.control_file("control")?).ok()?;
        control::paragraphs(text).next().map(str::to_owned)
    }

    /// What the copyright file of a package says, in the first tree that has one.
    fn licence(&self, name: &str) -> Result<Licence, Error> {
        let path = Path::new("usr/share/doc").join(name).join("copyright");
        for tree in self.trees {
            // The directory may be a link to that of another package, and so may the file.
            let text = tree.text(tree.follow(&path).unwrap_or_default())?;
            if !text.is_empty() {
                return Ok(Licence::read(&text));
            }
        }
        Ok(Licence::default())
    }
}

/// The paragraphs of dpkg's status file, by package.
fn records(tree: &Tree<'_>) -> Result<BTreeMap<String, String>, Error> {
    let text = tree.text(Path::new(DIRECTORY.trim_start_matches('/')).join("status"))?;
    let named = control::paragraphs(&text).filter_map(|paragraph| {
        let name = control::field(paragraph, "Package").ok().flatten()?;
        Some((name.to_owned(), paragraph.to_owned()))
    });
    Ok(named.collect())
}

/// For each of `all` those that it depends on: of each relation every alternative that is there, by its own
/// name or as something that another provides.
fn depends(all: &[Read]) -> Vec<Vec<usize>> {
    let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut provided: HashMap<&str, Vec<usize>> = HashMap::new();
    for (position, read) in all.iter().enumerate() {
        named.entry(&read.package.name).or_default().push(position);
        for relation in relation::parse_field(&read.provides).unwrap_or_default() {
            for alternative in relation.alternatives {
                provided.entry(alternative.name).or_default().push(position);
            }
        }
    }
    let of = |(position, read): (usize, &Read)| {
        let relations = relation::parse_field(&read.needs).unwrap_or_default();
        let alternatives = relations.iter().flat_map(|relation| &relation.alternatives);
        let found = alternatives.flat_map(|alternative| {
            let name = alternative.name;
            named.get(name).or_else(|| provided.get(name)).into_iter().flatten()
        });
        let found: BTreeSet<usize> = found.copied().filter(|it| *it != position).collect();
        found.into_iter().collect()
    };
    all.iter().enumerate().map(of).collect()
}
