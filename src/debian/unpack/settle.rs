//! The serial phase: what several packages claim is settled by the rules of dpkg, links are
//! made, and new directories get their owner, mode and time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use super::Error;
use super::claims::Answer;
use super::extract::{Context, Extraction, Placed, State, conflict, may_replace};
use super::files::{self, Existing, Files};
use super::package::{Claim, compare};
use crate::debian::database::root::{lossy, split};
use crate::debian::deb::{MemberKind, MemberPath};

/// Finishes a batch; `members` are those of each package.
pub(super) fn settle(context: &Context<'_>, members: &mut [Vec<Placed>]) -> Result<(), Error> {
    let mut settlement = Settlement { context, files: Files::new(context.root) };
    settlement.claim_links(members)?;
    settlement.decide(members)?;
    for (index, members) in members.iter_mut().enumerate() {
        if members.iter().any(|placed| placed.state == State::Contested) {
            Extraction::new(context, index).rewrite(members)?;
        }
    }
    settlement.hard_links(members)?;
    settlement.symlinks(members)?;
    settlement.directories()
}

struct Settlement<'a> {
    context: &'a Context<'a>,
    files: Files<'a>,
}

impl Settlement<'_> {
    /// Claims the places of links, package by package. A link where a directory is stays away,
    /// though the package has it.
    fn claim_links(&mut self, members: &mut [Vec<Placed>]) -> Result<(), Error> {
        for (index, members) in members.iter_mut().enumerate() {
            for placed in members.iter_mut().filter(|placed| placed.state == State::Postponed) {
                if self.is_directory_already(index, placed)? {
                    placed.state = State::Done;
                } else if !may_replace(self.context, index, &placed.path)? {
                    placed.state = State::Lost;
                } else if let Answer::OtherKind(other) =
                    self.context.table.claim(&placed.place, index)
                {
                    let (first, second) = (index.min(other), index.max(other));
                    return Err(conflict(self.context.packages, &placed.path, first, second));
                }
            }
        }
        Ok(())
    }

    /// Whether `placed` is a symbolic link in place of which a directory, or a link to the same
    /// directory, is there.
    fn is_directory_already(&mut self, index: usize, placed: &Placed) -> Result<bool, Error> {
        let MemberKind::Symlink { target } = &placed.kind else { return Ok(false) };
        if placed.conffile {
            return Ok(false);
        }
        let (directory, name) = split(&placed.place);
        let looked = (|| -> io::Result<bool> {
            let parent = self.files.directory(directory)?;
            match self.files.existing(&parent, name)? {
                Existing::Nothing | Existing::Other => Ok(false),
                Existing::Directory => Ok(true),
                Existing::Link => {
                    let root = self.context.root;
                    let target = absolute(directory, target);
                    match (root.directory(&placed.place), root.directory(&target)) {
                        (Ok(old), Ok(new)) => same(&old, &new),
                        _ => Ok(false),
                    }
                }
            }
        })();
        match looked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            looked => looked.map_err(|error| self.create_error(index, placed, error)),
        }
    }

    /// Decides, for every path that several packages claim, who has it.
    fn decide(&mut self, members: &mut [Vec<Placed>]) -> Result<(), Error> {
        let contested = self.context.table.contested();
        if contested.is_empty() {
            return Ok(());
        }
        let mut places: BTreeMap<MemberPath, BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
        for (index, members) in members.iter().enumerate() {
            for (position, placed) in members.iter().enumerate() {
                let claims = !matches!(placed.kind, MemberKind::Directory)
                    && placed.state != State::Lost
                    && contested.contains(&placed.place);
                if claims {
                    let claims = places.entry(placed.place.clone()).or_default();
                    claims.entry(index).or_default().push(position);
                }
            }
        }
        places.values().try_for_each(|claims| self.decide_one(members, claims))
    }

    /// Decides about one path, as if the packages were unpacked one after another.
    fn decide_one(
        &self,
        members: &mut [Vec<Placed>],
        claims: &BTreeMap<usize, Vec<usize>>,
    ) -> Result<(), Error> {
        let mut owners: BTreeSet<usize> = BTreeSet::new();
        // The owner whose file is at the path in the end.
        let mut holder = None;
        for &index in claims.keys() {
            match self.contend(members, claims, &owners, index)? {
                Contest::Lost => mark(members, index, claims, State::Lost),
                Contest::Shared => _ = owners.insert(index),
                Contest::Won(replaced) => {
                    for owner in replaced {
                        owners.remove(&owner);
                        mark(members, owner, claims, State::Lost);
                    }
                    owners.insert(index);
                    holder = Some(index);
                }
            }
        }
        for owner in owners.into_iter().filter(|&owner| Some(owner) != holder) {
            mark(members, owner, claims, State::Done);
        }
        Ok(())
    }

    /// What happens when the package `index` comes to a path that has `owners`. `claims` are the
    /// positions of the members of that path by package; the last of a package counts.
    fn contend(
        &self,
        members: &[Vec<Placed>],
        claims: &BTreeMap<usize, Vec<usize>>,
        owners: &BTreeSet<usize>,
        index: usize,
    ) -> Result<Contest, Error> {
        let packages = self.context.packages;
        let member = |index: usize| {
            let position = claims.get(&index).and_then(|positions| positions.last().copied());
            position.map(|position| &members[index][position])
        };
        let Some(placed) = member(index) else { return Ok(Contest::Lost) };
        let (mut replaced, mut lost, mut shared) = (Vec::new(), false, false);
        for &owner in owners {
            // dpkg compares paths as packages name them: by different names, the later package
            // gets the file, and both believe to have it.
            let Some(theirs) = member(owner).filter(|theirs| theirs.path == placed.path) else {
                continue;
            };
            match compare(&packages[owner].identity, &packages[index].identity) {
                _ if same_link(theirs, placed) => shared = true,
                Claim::Shared => {
                    self.check_shared(owner, theirs, placed)?;
                    shared = true;
                }
                Claim::Second => replaced.push(owner),
                Claim::First => lost = true,
                Claim::Conflict => return Err(conflict(packages, &placed.path, owner, index)),
            }
        }
        Ok(match (lost, shared) {
            (true, _) => Contest::Lost,
            (false, true) => Contest::Shared,
            (false, false) => Contest::Won(replaced),
        })
    }

    /// Checks that the same file of one package for two architectures is the same.
    fn check_shared(&self, owner: usize, first: &Placed, second: &Placed) -> Result<(), Error> {
        let path = [split(&first.place).0, b"/", &first.name()].concat();
        let read = self.context.root.read(&path);
        let content = read.map_err(|error| self.create_error(owner, first, error))?;
        let found = content.and_then(|content| files::checksum(&mut content.as_slice()).ok());
        let expected = second.checksum.or(first.checksum);
        match (&first.kind, &second.kind) {
            (MemberKind::File { .. }, MemberKind::File { .. }) if found == expected => Ok(()),
            (one, other) if one == other && !matches!(one, MemberKind::File { .. }) => Ok(()),
            _ => {
                let (path, package) = (lossy(&first.path), self.context.packages[owner].label());
                let problem = "it differs between architectures of the package".to_owned();
                Err(Error::Obstructed { path, package, problem })
            }
        }
    }

    fn hard_links(&mut self, members: &[Vec<Placed>]) -> Result<(), Error> {
        for (index, members) in members.iter().enumerate() {
            let mut firsts: HashMap<&[u8], &Placed> = HashMap::new();
            for placed in members {
                if let MemberKind::Hardlink { target } = &placed.kind {
                    let Some(first) = firsts.get(target.as_slice()).copied() else {
                        return Err(Error::Hardlink {
                            path: lossy(&placed.path),
                            package: self.context.packages[index].label(),
                            target: lossy(target),
                        });
                    };
                    if placed.state == State::Postponed {
                        self.hard_link(first, placed)
                            .map_err(|error| self.create_error(index, placed, error))?;
                    }
                }
                if matches!(placed.kind, MemberKind::File { .. } | MemberKind::Hardlink { .. }) {
                    firsts.insert(&placed.path, placed);
                }
            }
        }
        Ok(())
    }

    fn hard_link(&mut self, first: &Placed, placed: &Placed) -> io::Result<()> {
        let from = self.files.directory(split(&first.place).0)?;
        let parent = self.files.directory(split(&placed.place).0)?;
        self.files.hard_link((&from, &first.name()), &parent, &placed.name())
    }

    fn symlinks(&mut self, members: &[Vec<Placed>]) -> Result<(), Error> {
        for (index, members) in members.iter().enumerate() {
            for placed in members {
                let MemberKind::Symlink { target } = &placed.kind else { continue };
                if placed.state == State::Postponed {
                    self.files
                        .directory(split(&placed.place).0)
                        .and_then(|parent| {
                            let name = placed.name();
                            self.files.symlink(&parent, &name, target, placed.metadata)
                        })
                        .map_err(|error| self.create_error(index, placed, error))?;
                }
            }
        }
        Ok(())
    }

    /// Gives new directories their final owner, mode and time; the innermost first, so that
    /// nothing changes the time of one that is finished.
    fn directories(&mut self) -> Result<(), Error> {
        for (path, directory) in self.context.table.made_directories().into_iter().rev() {
            self.files.finish_directory(&path, directory.metadata).map_err(|source| {
                let package = self.context.packages.get(directory.package);
                let package =
                    package.map_or_else(|| "several packages".to_owned(), |one| one.label());
                Error::Create { path: self.context.root.outside(&path), package, source }
            })?;
        }
        Ok(())
    }

    fn create_error(&self, index: usize, placed: &Placed, source: io::Error) -> Error {
        let path = self.context.root.outside(&placed.place);
        Error::Create { path, package: self.context.packages[index].label(), source }
    }
}

/// What becomes of a package that ships a path of others.
enum Contest {
    /// It goes without.
    Lost,
    /// It has the path together with others, and it is the same for all.
    Shared,
    /// It has the path, and these do not have it any more.
    Won(Vec<usize>),
}

/// Sets the state of a package's members of the path to which `claims` belong.
fn mark(
    members: &mut [Vec<Placed>],
    index: usize,
    claims: &BTreeMap<usize, Vec<usize>>,
    state: State,
) {
    for &position in claims.get(&index).into_iter().flatten() {
        members[index][position].state = state.clone();
    }
}

/// Two symbolic links that are the same.
fn same_link(one: &Placed, other: &Placed) -> bool {
    matches!(one.kind, MemberKind::Symlink { .. }) && one.kind == other.kind
}

/// The path that a link in `directory` leads to.
fn absolute(directory: &[u8], target: &[u8]) -> Vec<u8> {
    if target.starts_with(b"/") { target.to_vec() } else { [directory, b"/", target].concat() }
}

/// Whether two directories are one.
fn same(one: &impl std::os::fd::AsFd, other: &impl std::os::fd::AsFd) -> io::Result<bool> {
    let (one, other) = (rustix::fs::fstat(one)?, rustix::fs::fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}
