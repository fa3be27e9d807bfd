//! Entering unpacked packages into dpkg's database.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use super::Error;
use super::extract::{Placed, State};
use super::files::Checksum;
use super::package::{Claim, Loaded, compare};
use crate::debian::database::overrides::Diversions;
use crate::debian::database::root::Root;
use crate::debian::database::triggers::Directive;
use crate::debian::database::{Database, InfoFile};
use crate::debian::deb::MemberKind;

/// Enters the packages of a batch, in order, with what became of their members.
pub(super) fn record(
    root: &Root,
    database: &mut Database,
    diversions: &Diversions,
    batch: &[(&Loaded, Vec<Placed>)],
) -> Result<(), Error> {
    Database::create(root)?;
    for (package, members) in batch {
        note_activations(database, package, members);
        disown(root, database, diversions, package, members)?;
    }
    for (package, members) in batch {
        add(root, database, package, members)?;
        let name = package.stanza.database_name();
        database.triggers.register(root, &name, &package.directives)?;
    }
    database.save(root)?;
    Ok(())
}

/// Triggers of packages installed before that the package activates, by its control file or by
/// what it ships.
fn note_activations(database: &mut Database, package: &Loaded, members: &[Placed]) {
    let name = package.stanza.database_name();
    for directive in &package.directives {
        if let Directive::Activate { trigger, awaited } = directive {
            database.triggers.activate(trigger.as_bytes(), &name, *awaited);
        }
    }
    for placed in members {
        if database.triggers.is_interesting(&placed.diverted) {
            // Whether the package waits is up to the interest; dpkg looks it up.
            database.triggers.activate(&placed.diverted, &name, true);
        }
    }
}

/// Takes away from packages installed before what the package has replaced.
fn disown(
    root: &Root,
    database: &mut Database,
    diversions: &Diversions,
    package: &Loaded,
    members: &[Placed],
) -> Result<(), Error> {
    for placed in members {
        let replaces = !matches!(placed.kind, MemberKind::Directory) && placed.state != State::Lost;
        if replaces && database.owners(&placed.path).next().is_some() {
            let diverter = diversions.of(&placed.path).and_then(|known| known.package.clone());
            database.disown(root, &placed.path, |owner| {
                let shares = diverter.as_ref().is_some_and(|diverter| {
                    *diverter == owner.name || *diverter == package.identity.name
                });
                !shares && compare(owner, &package.identity) == Claim::Second
            })?;
        }
    }
    Ok(())
}

fn add(
    root: &Root,
    database: &mut Database,
    package: &Loaded,
    members: &[Placed],
) -> Result<(), Error> {
    let list = list(members);
    let mut list_text = Vec::new();
    for path in &list {
        list_text.extend_from_slice(path);
        list_text.push(b'\n');
    }
    let control = package.deb.control_files();
    let mtime = control.iter().find(|file| file.name == "control").map_or(0, |file| file.mtime);
    let generated = |kind, content| InfoFile { kind, content, mode: 0o644, mtime };
    let checksums = checksums(members);
    let mut files = vec![generated("list", &list_text)];
    if package.lacks_checksums() {
        files.push(generated("md5sums", checksums.as_slice()));
    }
    for file in control.iter().filter(|file| !matches!(file.name.as_str(), "control" | "list")) {
        let (kind, content) = (file.name.as_str(), file.content.as_slice());
        files.push(InfoFile { kind, content, mode: file.mode, mtime: file.mtime });
    }
    let paragraph = package.stanza.unpacked(&package.conffiles);
    database.add(root, &package.stanza, paragraph, &list, &files)?;
    Ok(())
}

/// The paths that the package has, in the order of dpkg: symbolic links come last, because dpkg
/// makes them last.
fn list(members: &[Placed]) -> Vec<&[u8]> {
    let is_link = |placed: &&Placed| matches!(placed.kind, MemberKind::Symlink { .. });
    let kept = members.iter().filter(|placed| placed.state != State::Lost);
    let links = kept.clone().filter(is_link);
    let mut seen = BTreeSet::new();
    kept.filter(|placed| !is_link(placed))
        .chain(links)
        .map(|placed| placed.path.as_slice())
        .filter(|path| seen.insert(*path))
        .collect()
}

/// The control file `md5sums` for a package that has none (dpkg makes one, too).
fn checksums(members: &[Placed]) -> Vec<u8> {
    let mut known: HashMap<&[u8], Checksum> = HashMap::new();
    let mut text = Vec::new();
    for placed in members {
        let checksum = match &placed.kind {
            MemberKind::Hardlink { target } => known.get(target.as_slice()).copied(),
            _ => placed.checksum,
        };
        if let Some(checksum) = checksum {
            known.insert(&placed.path, checksum);
            if placed.state != State::Lost {
                let mut digits = String::new();
                for byte in checksum {
                    _ = write!(digits, "{byte:02x}");
                }
                text.extend_from_slice(digits.as_bytes());
                text.extend_from_slice(b"  ");
                text.extend_from_slice(&placed.path[1..]);
                text.push(b'\n');
            }
        }
    }
    text
}
