//! The whole installation: reading the packages, planning, unpacking batch after batch, running
//! scripts between.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::Error;
use super::batch;
use super::package::{Loaded, Package};
use super::plan::{Circle, Node, Step, plan_batches};
use super::relations::{self, Needs};
use crate::debian::database::root::Root;
use crate::debian::database::{CONTROL_DIRECTORY, DIRECTORY, Database};
use crate::progress::Progress;

/// A maintainer script to run, with `/` of the root directory as its root and working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintainer {
    /// The name of the package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// The script, as a path inside the root directory. It is executable.
    pub script: PathBuf,
    /// Its arguments (Debian policy 6.5).
    pub arguments: Vec<String>,
    /// Variables to add to its environment (dpkg(1), deb-preinst(5)).
    pub environment: Vec<(String, String)>,
}

/// Runs programs inside the root directory.
pub trait Runner {
    /// What can go wrong; errors of unpacking are turned into it.
    type Error: From<Error>;

    /// Runs a `preinst` script. A failure ends the installation.
    fn preinst(&mut self, script: &Maintainer) -> Result<(), Self::Error>;

    /// Runs `dpkg --configure PACKAGE…`, which must succeed.
    fn configure(&mut self, packages: &[String]) -> Result<(), Self::Error>;
}

/// What [`install`] has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Names of the packages that are unpacked but not configured yet, as dpkg takes them. To
    /// configure these, `dpkg --configure --pending` will do.
    pub pending: Vec<String>,
}

/// Unpacks `packages` into the directory `root` and enters them into its dpkg database, up to
/// the state in which only configuring is left. `threads` packages are unpacked at a time.
///
/// `root` is empty or holds the layers below. The process must be allowed to give files to any
/// owner. After an error, `root` is in no useful state.
///
/// The result depends on `root` and the set of packages alone.
pub fn install<R: Runner>(
    root: &Path,
    packages: &[Package],
    runner: &mut R,
    threads: NonZeroUsize,
    progress: &dyn Progress,
) -> Result<Installation, R::Error> {
    let root = Root::open(root)
        .map_err(|source| Error::Root { path: root.to_owned(), source })
        .map_err(R::Error::from)?;
    let mut installer = Installer::prepare(&root, packages, threads, progress)?;
    for step in installer.plan()? {
        match step {
            Step::Unpack(indexes) => installer.unpack(indexes)?,
            Step::Preinst(indexes) => installer.run_scripts(&indexes, runner)?,
            Step::Configure(indexes) => {
                let names: Vec<String> =
                    indexes.iter().map(|&index| installer.name(index)).collect();
                runner.configure(&names)?;
                installer.reload()?;
            }
        }
    }
    Ok(installer.finish())
}

struct Installer<'a> {
    root: &'a Root,
    database: Database,
    packages: Vec<Loaded>,
    threads: NonZeroUsize,
    progress: &'a dyn Progress,
    bootstrap: bool,
}

impl<'a> Installer<'a> {
    /// Opens the packages, which from here on have the order of their names.
    fn prepare(
        root: &'a Root,
        packages: &[Package],
        threads: NonZeroUsize,
        progress: &'a dyn Progress,
    ) -> Result<Self, Error> {
        let database = Database::load(root)?;
        let bootstrap = database.status.installed().next().is_none();
        let opened = batch::in_parallel(threads, packages, Loaded::open);
        let mut sorted = BTreeMap::new();
        for package in opened {
            let package = package?;
            let (name, architecture) = (package.name(), &package.stanza.architecture);
            let key = (name.to_owned(), architecture.clone());
            if let Some(installed) = database.status.package(name, architecture) {
                let installed = installed.version.clone();
                return Err(Error::AlreadyInstalled { package: package.label(), installed });
            }
            if let Some(other) = sorted.insert(key, package) {
                let installed = other.stanza.version.clone();
                return Err(Error::AlreadyInstalled { package: other.label(), installed });
            }
        }
        let packages = sorted.into_values().collect();
        Ok(Self { root, database, packages, threads, progress, bootstrap })
    }

    fn plan(&self) -> Result<Vec<Step>, Error> {
        let resolved = relations::resolve(&self.packages, &self.database.status)?;
        let nodes: Vec<Node> = self
            .packages
            .iter()
            .zip(resolved)
            .map(|(package, Needs { pre_depends, depends })| Node {
                essential: package.stanza.is_essential(),
                preinst: package.deb.control_file("preinst").is_some(),
                foundation: package.name() == "base-files",
                pre_depends,
                depends,
            })
            .collect();
        plan_batches(&nodes, self.bootstrap).map_err(|Circle(indexes)| Error::Circle {
            packages: indexes.iter().map(|&index| self.packages[index].label()).collect(),
        })
    }

    fn unpack(&mut self, indexes: Vec<usize>) -> Result<(), Error> {
        let batch: Vec<&Loaded> = indexes.iter().map(|&index| &self.packages[index]).collect();
        if self.bootstrap {
            batch::merge_usr(self.root, &batch)?;
        }
        batch::unpack(self.root, &mut self.database, &batch, self.threads, self.progress)
    }

    /// Runs the `preinst` scripts of packages, in the state in which dpkg runs them: the control
    /// files in a directory of their own, the package half installed.
    fn run_scripts<R: Runner>(
        &mut self,
        indexes: &[usize],
        runner: &mut R,
    ) -> Result<(), R::Error> {
        let running = self.dpkg_version();
        if !self.bootstrap_is_unpacked(indexes) {
            self.database.status.begin(indexes.iter().map(|&index| &self.packages[index].stanza));
            Database::create(self.root).map_err(Error::from)?;
            self.database.save(self.root).map_err(Error::from)?;
        }
        for &index in indexes {
            let package = &self.packages[index];
            batch::write_control(self.root, package)?;
            runner.preinst(&maintainer(package, &running))?;
            batch::remove_control(self.root)?;
        }
        self.reload()?;
        Ok(())
    }

    /// Whether the packages are unpacked before their scripts run, as essential ones are.
    fn bootstrap_is_unpacked(&self, indexes: &[usize]) -> bool {
        indexes.iter().any(|&index| {
            let stanza = &self.packages[index].stanza;
            self.database.status.package(&stanza.name, &stanza.architecture).is_some()
        })
    }

    /// Reads the database again after programs have changed it.
    fn reload(&mut self) -> Result<(), Error> {
        self.database = Database::load(self.root)?;
        Ok(())
    }

    fn name(&self, index: usize) -> String {
        self.packages[index].stanza.database_name()
    }

    /// The version that dpkg in the root directory gives itself: its package's without what
    /// distributions append.
    fn dpkg_version(&self) -> String {
        let status = self.database.status.installed();
        let installed = status.map(|package| (&package.name, &package.version));
        let new =
            self.packages.iter().map(|package| (&package.stanza.name, &package.stanza.version));
        let version = installed.chain(new).find(|(name, _)| *name == "dpkg");
        let version = version.map(|(_, version)| version.as_str()).unwrap_or_default();
        let is_number = |character: char| character.is_ascii_digit() || character == '.';
        let end = version.find(|character| !is_number(character)).unwrap_or(version.len());
        version[..end].to_owned()
    }

    fn finish(self) -> Installation {
        let is_pending = |package: &&Loaded| {
            let stanza = &package.stanza;
            let status = self.database.status.package(&stanza.name, &stanza.architecture);
            status.is_none_or(|installed| !installed.is_configured())
        };
        let pending = self.packages.iter().filter(is_pending);
        Installation { pending: pending.map(|package| package.stanza.database_name()).collect() }
    }
}

/// How to run the `preinst` of a package that was not installed before.
fn maintainer(package: &Loaded, dpkg_version: &str) -> Maintainer {
    let stanza = &package.stanza;
    let environment = [
        ("DPKG_MAINTSCRIPT_PACKAGE", stanza.name.as_str()),
        ("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1"),
        ("DPKG_MAINTSCRIPT_ARCH", &stanza.architecture),
        ("DPKG_MAINTSCRIPT_NAME", "preinst"),
        ("DPKG_MAINTSCRIPT_DEBUG", "0"),
        ("DPKG_RUNNING_VERSION", dpkg_version),
        ("DPKG_ADMINDIR", DIRECTORY),
        ("DPKG_ROOT", ""),
    ];
    Maintainer {
        package: stanza.name.clone(),
        version: stanza.version.clone(),
        architecture: stanza.architecture.clone(),
        script: Path::new(CONTROL_DIRECTORY).join("preinst"),
        arguments: vec!["install".to_owned()],
        environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
    }
}
