//! What the packages of an image depend on, in the words of their own control files.
//!
//! dpkg's record of them in the built image has it, and so have the packages themselves, as long as the store
//! keeps them. The lock has not: it says what was chosen, not why.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::PartOf;
use crate::build::PinnedPackage;
use crate::debian::control;
use crate::debian::database::DIRECTORY;
use crate::debian::deb::Deb;
use crate::inspect::Error;
use crate::inspect::image::Image;
use crate::inspect::tree::Tree;
use crate::store::Store;

/// An entry for each package of `part`, as an index of packages has it.
pub(super) fn texts(store: &Store, part: &PartOf<'_>, image: &Image) -> Result<Vec<String>, Error> {
    let packages: Vec<&PinnedPackage> =
        part.images.iter().flat_map(|image| &image.packages).collect();
    let recorded = recorded(image)?;
    let text = |pinned: &&PinnedPackage| {
        let paragraph = match recorded.get(pinned.package.name.as_str()) {
            Some(paragraph) => Some(paragraph.clone()),
            None => control_file(store, pinned),
        };
        let (name, size) = (&pinned.package.name, pinned.package.size);
        let digest = pinned.package.sha256;
        let entry =
            |paragraph| format!("{paragraph}\nFilename: {name}\nSize: {size}\nSHA256: {digest}\n");
        paragraph.map(entry).ok_or_else(|| name.clone())
    };
    // Of several that are not known the first is named, whichever was found first.
    let texts: Vec<Result<String, String>> = packages.par_iter().map(text).collect();
    let texts: Result<Vec<String>, String> = texts.into_iter().collect();
    texts.map_err(|package| Error::NotBuilt {
        role: part.images.last().map(|image| image.name.clone()).unwrap_or_default(),
        wanted: format!("what `{package}` depends on"),
    })
}

/// The entries of dpkg's status file, by package.
fn recorded(image: &Image) -> Result<BTreeMap<String, String>, Error> {
    let Some(archives) = &image.archives else { return Ok(BTreeMap::new()) };
    let tree = Tree::new(archives)?;
    let text = tree.text(std::path::Path::new(DIRECTORY.trim_start_matches('/')).join("status"))?;
    let named = control::paragraphs(&text).filter_map(|paragraph| {
        let name = control::field(paragraph, "Package").ok().flatten()?;
        Some((name.to_owned(), paragraph.trim_end().to_owned()))
    });
    Ok(named.collect())
}

/// The control file of a package that the store keeps.
fn control_file(store: &Store, pinned: &PinnedPackage) -> Option<String> {
    let blob = store.blob(&pinned.package.sha256)?;
    let deb = Deb::open(blob.path()).ok()?;
    let text = String::from_utf8(deb.control_file("control")?.to_vec()).ok()?;
    control::paragraphs(&text).next().map(|paragraph| paragraph.trim_end().to_owned())
}
