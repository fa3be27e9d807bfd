//! dpkg's database below `/var/lib/dpkg` of a root directory, read and written as dpkg does.
//!
//! Which files there are and what they hold: dpkg(1), deb-triggers(5), dpkg-divert(1),
//! dpkg-statoverride(1), and dpkg's sources (`dbmodify.c`, `db-ctrl-*.c`, `db-fsys-*.c`,
//! `triglib.c`, version 1.22). The status file and the files below `info/` are public only
//! through dpkg's own programs, so `tests/unpack_oracle.rs` compares all of it with what dpkg
//! makes of the same packages.

mod error;
mod normalise;
pub mod overrides;
pub mod root;
pub mod stanza;
mod status;
pub mod triggers;
pub mod users;

use std::collections::HashMap;
use std::io;

use root::Root;

pub use error::Error;
pub use normalise::normalise;
pub use status::{Installed, Status};

use stanza::Stanza;
use triggers::Triggers;

/// The directory of dpkg's database.
pub const DIRECTORY: &str = "/var/lib/dpkg";
/// Where dpkg keeps the control files of a package whose `preinst` is running.
pub const CONTROL_DIRECTORY: &str = "/var/lib/dpkg/tmp.ci";

/// A file to put into `info/`.
#[derive(Clone, Copy, Debug)]
pub struct InfoFile<'a> {
    /// What comes after the last dot of its name: `list`, `postinst`, …
    pub kind: &'a str,
    /// What it holds.
    pub content: &'a [u8],
    /// Permission bits.
    pub mode: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
}

/// The database as far as unpacking needs it. Changes are kept in memory until
/// [`Database::save`].
#[derive(Debug)]
pub struct Database {
    /// The packages and their states.
    pub status: Status,
    /// Interests in triggers.
    pub triggers: Triggers,
    /// Which packages ship a path, by the path as they name it; directories, too.
    owners: HashMap<Vec<u8>, Vec<usize>>,
    /// Packages as `owners` numbers them.
    packages: Vec<Installed>,
}

impl Database {
    /// Reads the database of `root`. A root directory without one has an empty database.
    pub fn load(root: &Root) -> Result<Self, Error> {
        let status = Status::load(root)?;
        let packages: Vec<Installed> = status.installed().cloned().collect();
        let mut owners: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (index, package) in packages.iter().enumerate() {
            let text = read(root, &info(&package.database_name(), "list"))?.unwrap_or_default();
            for path in lines(&text) {
                owners.entry(path.to_vec()).or_default().push(index);
            }
        }
        Ok(Self { status, triggers: Triggers::load(root)?, owners, packages })
    }

    /// The packages that ship `path`.
    pub fn owners(&self, path: &[u8]) -> impl Iterator<Item = &Installed> {
        let owners = self.owners.get(path).map(Vec::as_slice).unwrap_or_default();
        owners.iter().map(|&index| &self.packages[index])
    }

    /// Makes the directories of the database and the mark of its format, where missing.
    pub fn create(root: &Root) -> Result<(), Error> {
        for name in ["alternatives", "info", "parts", "triggers", "updates"] {
            let path = admin(name);
            root.make_directories(&path)
                .map_err(|source| io_error(root, "create", &path, source))?;
        }
        let path = admin("info/format");
        if read(root, &path)?.is_none() {
            // Format 1: names of `Multi-Arch: same` packages have the architecture.
            root.replace(&path, b"1\n", 0o644)
                .map_err(|source| io_error(root, "write", &path, source))?;
        }
        Ok(())
    }

    /// Records a package as unpacked with the paths `list`, and writes its files in `info/`.
    pub fn add(
        &mut self,
        root: &Root,
        stanza: &Stanza,
        paragraph: Vec<u8>,
        list: &[&[u8]],
        files: &[InfoFile<'_>],
    ) -> Result<(), Error> {
        let index = self.packages.len();
        let installed = self.status.insert(stanza, paragraph);
        let name = installed.database_name();
        self.packages.push(installed);
        for file in files {
            write_info(root, &info(&name, file.kind), file)?;
        }
        for path in list {
            self.owners.entry(path.to_vec()).or_default().push(index);
        }
        Ok(())
    }

    /// Takes `path` away from the installed packages that the predicate names, because another
    /// package has replaced it.
    pub fn disown(
        &mut self,
        root: &Root,
        path: &[u8],
        from: impl Fn(&Installed) -> bool,
    ) -> Result<(), Error> {
        let Some(owners) = self.owners.get_mut(path) else { return Ok(()) };
        let (gone, kept): (Vec<usize>, Vec<usize>) =
            owners.iter().partition(|&&index| from(&self.packages[index]));
        *owners = kept;
        for index in gone {
            let list = info(&self.packages[index].database_name(), "list");
            let text = read(root, &list)?.unwrap_or_default();
            let mut content = Vec::with_capacity(text.len());
            for line in lines(&text).filter(|line| *line != path) {
                content.extend_from_slice(line);
                content.push(b'\n');
            }
            root.replace(&list, &content, 0o644)
                .map_err(|source| io_error(root, "write", &list, source))?;
        }
        Ok(())
    }

    /// Writes the status file and the triggers.
    pub fn save(&mut self, root: &Root) -> Result<(), Error> {
        self.triggers.save(root)?;
        self.status.save(root)
    }
}

/// Writes a file of `info/` with the time that its package gives it, so that the result does
/// not depend on when it is made.
fn write_info(root: &Root, path: &[u8], file: &InfoFile<'_>) -> Result<(), Error> {
    root.replace(path, file.content, file.mode)
        .and_then(|()| root.set_mtime(path, file.mtime))
        .map_err(|source| io_error(root, "write", path, source))
}

/// The path of the file `name` of the database.
pub fn admin(name: &str) -> Vec<u8> {
    format!("{DIRECTORY}/{name}").into_bytes()
}

/// The path of the file of `kind` that belongs to a package, by its database name.
pub fn info(database_name: &str, kind: &str) -> Vec<u8> {
    admin(&format!("info/{database_name}.{kind}"))
}

/// What the file `path` holds; `None` if it does not exist.
fn read(root: &Root, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    root.read(path).map_err(|source| io_error(root, "read", path, source))
}

/// The lines of a text, without what an incomplete last one may lack.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

fn io_error(root: &Root, action: &'static str, path: &[u8], source: io::Error) -> Error {
    Error::Io { action, path: root.outside(path), source }
}

fn syntax(root: &Root, path: &[u8], line: usize, problem: &str) -> Error {
    Error::Syntax { path: root.outside(path), line, problem: problem.to_owned() }
}
