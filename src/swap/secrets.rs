//! The secrets of nodes, as an operator gives them for a first deployment: a directory with files
//! `NODE/NAME`, and `all/NAME` for every node whose role has a secret of that name. They are read into memory
//! and are nowhere else on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use crate::definition::{Hostname, ImageName, did_you_mean};

/// The directory of files for all nodes.
const ALL: &str = "all";

/// Those who may read a file besides its owner.
const OTHERS: u32 = 0o077;

/// One secret. Its content is never shown.
#[derive(Clone)]
pub struct SecretFile {
    /// The file's name.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SecretFile").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The secrets of each node.
pub type NodeSecrets = BTreeMap<Hostname, Vec<SecretFile>>;

/// What the role of a node declares.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The role.
    pub role: ImageName,
    /// The names of its secrets' files, and whether it cannot do without.
    pub files: BTreeMap<String, bool>,
}

/// Secrets that cannot be taken as they are.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// Others may read it.
    #[error("{} can be read by others (mode {mode:04o})", path.display())]
    #[diagnostic(help("`chmod -R go= {}`; if somebody has read it, renew the secret", path.display()))]
    Readable {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Something lies where it does not belong.
    #[error("{} is not `NODE/NAME` or `all/NAME`", path.display())]
    #[diagnostic(help(
        "the files for one node lie in a directory with its name, those for all nodes in `all`"
    ))]
    Place {
        /// Which.
        path: PathBuf,
    },
    /// No node has this name.
    #[error("{}: the site has no node `{name}`", path.display())]
    #[diagnostic(help("{help}"))]
    Node {
        /// The directory.
        path: PathBuf,
        /// Its name.
        name: String,
        /// What it may have been meant to be.
        help: String,
    },
    /// No role declares this secret.
    #[error("{}: {who} no secret `{name}`", path.display())]
    #[diagnostic(help("{help}"))]
    Undeclared {
        /// The file.
        path: PathBuf,
        /// Who does not declare it: `` `galera` declares ``.
        who: String,
        /// Its name.
        name: String,
        /// What it may have been meant to be.
        help: String,
    },
    /// A directory or file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads the secrets in `directory` for nodes that declare what is in `declared`.
///
/// # Errors
///
/// What others may read, what no node has declared, and what cannot be read.
pub fn read(
    directory: &Path,
    declared: &BTreeMap<Hostname, Declared>,
) -> Result<NodeSecrets, Error> {
    let mut secrets = NodeSecrets::new();
    let mut for_all = Vec::new();
    for (name, path) in entries(directory)? {
        if !path.is_dir() {
            return Err(Error::Place { path });
        }
        if name == ALL {
            let known = declared.values().flat_map(|one| one.files.keys());
            let known: BTreeSet<&str> = known.map(String::as_str).collect();
            for_all = files(&path, &known, "no role of the site declares")?;
            continue;
        }
        let Some((node, one)) = declared.iter().find(|(node, _)| node.as_str() == name) else {
            let nodes = declared.keys().map(Hostname::as_str).chain([ALL]);
            let help = suggestion(&name, nodes);
            return Err(Error::Node { path, name, help });
        };
        let known = one.files.keys().map(String::as_str).collect();
        let own = files(&path, &known, &format!("`{}` declares", one.role))?;
        secrets.insert(node.clone(), own);
    }
    for (node, one) in declared {
        let own = secrets.entry(node.clone()).or_default();
        let had: BTreeSet<String> = own.iter().map(|file| file.name.clone()).collect();
        let fits =
            |file: &&SecretFile| one.files.contains_key(&file.name) && !had.contains(&file.name);
        own.extend(for_all.iter().filter(fits).cloned());
    }
    Ok(secrets)
}

fn files(directory: &Path, known: &BTreeSet<&str>, who: &str) -> Result<Vec<SecretFile>, Error> {
    let mut files = Vec::new();
    for (name, path) in entries(directory)? {
        if !path.is_file() {
            return Err(Error::Place { path });
        }
        if !known.contains(name.as_str()) {
            let help = suggestion(&name, known.iter().copied());
            return Err(Error::Undeclared { path, who: who.to_owned(), name, help });
        }
        private(&path)?;
        let content = fs::read(&path).map_err(|source| Error::Read { path, source })?;
        files.push(SecretFile { name, content });
    }
    Ok(files)
}

/// What is in a directory that nobody else may read, by name.
fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    private(directory)?;
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        entries.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    entries.sort();
    Ok(entries)
}

fn private(path: &Path) -> Result<(), Error> {
    let metadata =
        fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 { Ok(()) } else { Err(Error::Readable { path: path.to_owned(), mode }) }
}

fn suggestion<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    did_you_mean(wrong, known.iter().copied()).unwrap_or_else(|| match known.is_empty() {
        true => "it declares none".to_owned(),
        false => format!("there are: {}", known.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> BTreeMap<Hostname, Declared> {
        let role = |role: &str, files: &[(&str, bool)]| Declared {
            role: role.parse().unwrap(),
            files: files.iter().map(|(name, must)| ((*name).to_owned(), *must)).collect(),
        };
        let sql = role("galera", &[("galera.sst", true), ("galera.extra", false)]);
        let web = role("moodle", &[("moodle.salt", true)]);
        [("sql1", &sql), ("sql2", &sql), ("web1", &web)]
            .map(|(name, role)| (name.parse().unwrap(), role.clone()))
            .into()
    }

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let above = path.ancestors().skip(1);
            for parent in above.take_while(|parent| parent.starts_with(directory.path())) {
                fs::set_permissions(parent, fs::Permissions::from_mode(0o700)).unwrap();
            }
        }
        directory
    }

    #[test]
    fn nodes_get_their_own_and_those_of_all() {
        let directory = directory(&[
            ("all/galera.sst", "for all"),
            ("all/moodle.salt", "salt"),
            ("sql2/galera.sst", "own"),
            ("sql2/galera.extra", "\u{0}"),
        ]);
        let secrets = read(directory.path(), &declared()).unwrap();
        let of = |node: &str| -> Vec<(String, String)> {
            let text = |file: &SecretFile| String::from_utf8(file.content.clone()).unwrap();
            secrets[node].iter().map(|file| (file.name.clone(), text(file))).collect()
        };
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(of("sql1"), [pair("galera.sst", "for all")]);
        assert_eq!(of("sql2"), [pair("galera.extra", "\0"), pair("galera.sst", "own")]);
        assert_eq!(of("web1"), [pair("moodle.salt", "salt")]);
        assert!(!format!("{secrets:?}").contains("own"));
    }

    #[test]
    fn what_does_not_belong_there_is_refused() {
        let cases = [
            ("sql3/galera.sst", "no node `sql3`", "did you mean `sql1`?"),
            ("sql1/galera.stt", "`galera` declares no secret `galera.stt`", "`galera.sst`"),
            ("sql1/moodle.salt", "`galera` declares no secret", "there are: "),
            ("all/x", "no role of the site declares", "there are: "),
            ("galera.sst", "is not `NODE/NAME`", "`all`"),
            ("sql1/a/b", "is not `NODE/NAME`", "`all`"),
        ];
        for (path, says, help) in cases {
            let directory = directory(&[(path, "hidden")]);
            let error = read(directory.path(), &declared()).unwrap_err();
            let helped = miette::Diagnostic::help(&error).unwrap().to_string();
            assert!(error.to_string().contains(says), "{path}: {error}");
            assert!(helped.contains(help), "{path}: {helped}");
            assert!(!error.to_string().contains("hidden"));
        }
    }

    #[test]
    fn what_others_may_read_is_refused() {
        for (path, mode) in [("all/galera.sst", 0o640), ("all", 0o750), ("", 0o701)] {
            let directory = directory(&[("all/galera.sst", "hidden")]);
            let path = directory.path().join(path);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(directory.path(), &declared()).unwrap_err();
            assert!(
                matches!(&error, Error::Readable { mode: found, .. } if *found == mode),
                "{error}"
            );
        }
    }
}
