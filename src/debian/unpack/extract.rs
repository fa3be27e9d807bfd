//! The parallel phase: reading one package's archive and writing its directories and files.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::Error;
use super::claims::{Answer, Metadata, Table};
use super::conffile;
use super::files::{self, Checksum, CopyError, Files, NEW, Resolver};
use super::package::{Claim, Loaded, compare};
use crate::debian::database::overrides::{Diversions, StatOverride};
use crate::debian::database::root::{Root, lossy, split};
use crate::debian::database::users::Users;
use crate::debian::database::{Database, Installed};
use crate::debian::deb::{Member, MemberKind, MemberPath};

/// What all threads of a batch share.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub root: &'a Root,
    pub database: &'a Database,
    pub users: &'a Users,
    pub diversions: &'a Diversions,
    pub overrides: &'a HashMap<Vec<u8>, StatOverride>,
    /// The packages in their order; claims name them by their place here.
    pub packages: &'a [&'a Loaded],
    pub resolver: Resolver<'a>,
    pub table: Table,
}

impl Context<'_> {
    /// Whether two packages can both ship `path`, since one of them has diverted the other's.
    pub fn shares_by_diversion(&self, path: &[u8], one: &Installed, other: &Installed) -> bool {
        let diverter = self.diversions.of(path).and_then(|known| known.package.as_deref());
        diverter.is_some_and(|name| name == one.name || name == other.name)
    }
}

/// What became of a member in the parallel phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is in its place, or needs none.
    Done,
    /// Another package of the batch was first, or something was there before the batch. What is
    /// there must not change in the parallel phase, since others may look at it.
    Contested,
    /// A link, to be made after all files.
    Postponed,
    /// Another package has this path; the package goes without.
    Lost,
}

/// A member of a package and its place in the root directory.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// The path that the package gives.
    pub path: MemberPath,
    /// The path after diversions.
    pub diverted: MemberPath,
    /// Where it lies, without links in its directories; of a configuration file, where it will
    /// lie after `--configure`.
    pub place: MemberPath,
    /// Whether it lies there as `NAME.dpkg-new`.
    pub conffile: bool,
    pub kind: MemberKind,
    pub metadata: Metadata,
    pub state: State,
    /// The checksum of a file where it was needed.
    pub checksum: Option<Checksum>,
}

impl Placed {
    /// The name in its directory under which it is created.
    pub fn name(&self) -> Vec<u8> {
        let name = split(&self.place).1;
        if self.conffile { [name, NEW].concat() } else { name.to_vec() }
    }
}

/// Unpacks one package of a batch.
pub(super) struct Extraction<'a> {
    context: &'a Context<'a>,
    index: usize,
    files: Files<'a>,
}

impl<'a> Extraction<'a> {
    pub fn new(context: &'a Context<'a>, index: usize) -> Self {
        Self { context, index, files: Files::new(context.root) }
    }

    fn package(&self) -> &'a Loaded {
        self.context.packages[self.index]
    }

    /// Writes the directories and files of the package; links are postponed.
    pub fn run(mut self) -> Result<Vec<Placed>, Error> {
        let mut members = Vec::new();
        self.package().deb.visit_data(|member, content| {
            members.push(self.member(member, content)?);
            Ok::<_, Error>(())
        })?;
        Ok(members)
    }

    /// Writes the files among `members` (all members of the package) whose state is contested
    /// over what another package has written.
    pub fn rewrite(mut self, members: &mut [Placed]) -> Result<(), Error> {
        let mut members = members.iter_mut();
        self.package().deb.visit_data(|_, content| {
            let Some(placed) = members.next() else { return Ok(()) };
            if placed.state == State::Contested {
                self.replace(placed, content)?;
            }
            Ok::<_, Error>(())
        })
    }

    fn member(&mut self, member: Member, content: &mut dyn Read) -> Result<Placed, Error> {
        let mut placed = self.place(member)?;
        match placed.kind {
            MemberKind::Directory => self.directory(&mut placed)?,
            MemberKind::File { .. } if may_replace(self.context, self.index, &placed.path)? => {
                self.file(&mut placed, content)?;
            }
            MemberKind::File { .. } => placed.state = State::Lost,
            MemberKind::Symlink { .. } | MemberKind::Hardlink { .. } => {
                placed.state = State::Postponed;
            }
        }
        Ok(placed)
    }

    /// Finds out where a member goes.
    fn place(&self, member: Member) -> Result<Placed, Error> {
        let context = self.context;
        let name = self.package().name();
        if let Some(diverted) = context.diversions.diverted_to(&member.path) {
            return Err(Error::DivertedTo {
                path: lossy(&member.path),
                package: name.to_owned(),
                diverted: lossy(diverted),
            });
        }
        let conffile = self.package().is_conffile(&member.path)
            && !matches!(member.kind, MemberKind::Directory);
        let diverted = context.diversions.place(&member.path, name).to_vec();
        let resolve = || -> io::Result<MemberPath> {
            if member.kind == MemberKind::Directory {
                return context.resolver.resolve(&diverted);
            }
            let followed =
                if conffile { conffile::dereference(context.root, &diverted)? } else { None };
            let path = followed.as_ref().unwrap_or(&diverted);
            let (directory, name) = split(path);
            Ok([&context.resolver.resolve(directory)?, b"/".as_slice(), name].concat())
        };
        let place = resolve().map_err(|source| self.create_error(&diverted, source))?;
        let metadata = self.metadata(&member);
        let Member { path, kind, .. } = member;
        let state = State::Done;
        Ok(Placed { path, diverted, place, conffile, kind, metadata, state, checksum: None })
    }

    /// Owner, mode and time of a member: those of a stat override, or else of the archive, where
    /// a name that the root directory knows counts more than a number.
    fn metadata(&self, member: &Member) -> Metadata {
        let mtime = member.mtime;
        if let Some(known) = self.context.overrides.get(&member.path) {
            return Metadata { mode: known.mode, uid: known.uid, gid: known.gid, mtime };
        }
        Metadata {
            mode: member.mode,
            uid: self.context.users.user(&member.user).unwrap_or(member.uid),
            gid: self.context.users.group(&member.group).unwrap_or(member.gid),
            mtime,
        }
    }

    fn directory(&mut self, placed: &mut Placed) -> Result<(), Error> {
        let (place, table) = (&placed.place, &self.context.table);
        if place.is_empty() {
            return Ok(());
        }
        match table.directory(place, self.index, placed.metadata) {
            Answer::First | Answer::Again => {}
            Answer::Later => return Ok(()),
            Answer::OtherKind(other) => return Err(self.conflict(&placed.path, other)),
        }
        let (parent, name) = split(place);
        let parent = self.parent(parent)?;
        let made =
            self.files.make_directory(&parent, name).map_err(|error| match error.kind() {
                io::ErrorKind::NotADirectory => {
                    self.obstructed(&placed.path, "something there is not a directory")
                }
                _ => self.create_error(place, error),
            })?;
        table
            .note_directory(place, made, self.index, placed.metadata)
            .map_err(|other| self.conflict(&placed.path, other))
    }

    fn file(&mut self, placed: &mut Placed, content: &mut dyn Read) -> Result<(), Error> {
        match self.context.table.claim(&placed.place, self.index) {
            Answer::First | Answer::Again => {
                let name = placed.name();
                match self.write(placed, &name, content)? {
                    true => placed.state = State::Done,
                    false => self.contested(placed, content)?,
                }
                Ok(())
            }
            Answer::Later => self.contested(placed, content),
            Answer::OtherKind(other) => Err(self.conflict(&placed.path, other)),
        }
    }

    /// Leaves it open who has the place of the file `placed`. What is recorded of the file must not
    /// depend on which thread came first, so its checksum is taken although nothing is written.
    fn contested(&self, placed: &mut Placed, content: &mut dyn Read) -> Result<(), Error> {
        placed.state = State::Contested;
        if self.package().stanza.is_multi_arch_same() || self.package().lacks_checksums() {
            let read = |error| self.package().deb.read_error(error);
            placed.checksum = Some(files::checksum(content).map_err(read)?);
        }
        Ok(())
    }

    /// Writes the file `placed` in place of a file or link that may be there.
    fn replace(&mut self, placed: &mut Placed, content: &mut dyn Read) -> Result<(), Error> {
        let (directory, name) = (split(&placed.place).0.to_vec(), placed.name());
        let temporary =
            if placed.conffile { name.clone() } else { [name.as_slice(), NEW].concat() };
        let parent = self.files.directory(&directory).and_then(|parent| {
            self.files.clear(&parent, &temporary)?;
            Ok(parent)
        });
        let parent = parent.map_err(|error| self.create_error(&placed.place, error))?;
        if !self.write(placed, &temporary, content)? {
            return Err(self.obstructed(&placed.path, "something is there under a temporary name"));
        }
        let renamed = self.files.rename(&parent, &temporary, &name);
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::IsADirectory => self.obstructed(&placed.path, "a directory is there"),
            _ => self.create_error(&placed.place, error),
        })?;
        placed.state = State::Done;
        Ok(())
    }

    /// Writes the file `placed` under `name`. `false`: something has that name.
    fn write(
        &mut self,
        placed: &mut Placed,
        name: &[u8],
        content: &mut dyn Read,
    ) -> Result<bool, Error> {
        let MemberKind::File { size } = placed.kind else { return Ok(true) };
        let directory = split(&placed.place).0;
        let parent = self.parent(directory)?;
        let wanted = self.package().lacks_checksums();
        match self.files.write(&parent, name, placed.metadata, (content, size), wanted) {
            Ok(checksum) => placed.checksum = checksum,
            Err(CopyError::Exists) => return Ok(false),
            Err(CopyError::Read(error)) => return Err(self.package().deb.read_error(error).into()),
            Err(CopyError::Write(error)) => return Err(self.create_error(&placed.place, error)),
        }
        Ok(true)
    }

    /// The directory `path`, made with those above it where nothing ships them.
    fn parent(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Error> {
        match self.files.directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_empty() => {}
            found => return found.map_err(|error| self.create_error(path, error)),
        }
        let (above, name) = split(path);
        let above = self.parent(above)?;
        let made = self.files.make_directory(&above, name);
        let made = made.map_err(|error| self.create_error(path, error))?;
        let metadata = Metadata { mode: 0o755, uid: 0, gid: 0, mtime: 0 };
        self.context
            .table
            .note_directory(path, made, usize::MAX, metadata)
            .map_err(|other| self.conflict(path, other))?;
        self.files.directory(path).map_err(|error| self.create_error(path, error))
    }

    fn conflict(&self, path: &[u8], other: usize) -> Error {
        let (first, second) = (self.index.min(other), self.index.max(other));
        conflict(self.context.packages, path, first, second)
    }

    fn obstructed(&self, path: &[u8], problem: &str) -> Error {
        let (path, package) = (lossy(path), self.package().label());
        Error::Obstructed { path, package, problem: problem.to_owned() }
    }

    fn create_error(&self, path: &[u8], source: io::Error) -> Error {
        let path = self.context.root.outside(path);
        Error::Create { path, package: self.package().label(), source }
    }
}

/// Whether a package of the batch may have `path` in view of the packages installed before.
pub(super) fn may_replace(context: &Context<'_>, index: usize, path: &[u8]) -> Result<bool, Error> {
    let own = &context.packages[index].identity;
    let mut may = true;
    for owner in context.database.owners(path) {
        if context.shares_by_diversion(path, owner, own) {
            continue;
        }
        match compare(owner, own) {
            Claim::Second | Claim::Shared => {}
            Claim::First => may = false,
            Claim::Conflict => {
                return Err(Error::Conflict {
                    path: lossy(path),
                    first: owner.database_name(),
                    second: own.database_name(),
                });
            }
        }
    }
    Ok(may)
}

/// Two packages of a batch that ship the same path.
pub(super) fn conflict(packages: &[&Loaded], path: &[u8], first: usize, second: usize) -> Error {
    // A directory that nobody ships has no package; then only the other one can be named.
    let label = |index: usize| {
        packages.get(index).map_or_else(|| "another".to_owned(), |package| package.label())
    };
    Error::Conflict { path: lossy(path), first: label(first), second: label(second) }
}
