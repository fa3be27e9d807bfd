mod flow;
mod owners;
mod placing;
mod random;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::*;
use crate::debian::deb::testing::{Builder, TIME};
use crate::progress::Silent;

/// An empty root directory and the packages for it.
struct Fixture {
    _directory: tempfile::TempDir,
    debs: PathBuf,
    root: PathBuf,
}

/// Notes what it is asked to run.
#[derive(Default)]
struct Recorder {
    root: PathBuf,
    calls: Vec<String>,
}

impl Runner for Recorder {
    type Error = Error;

    fn preinst(&mut self, script: &Maintainer) -> Result<(), Error> {
        let path = self.root.join(script.script.strip_prefix("/").unwrap());
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o111, 0o111, "the script must be executable");
        self.calls.push(format!("preinst {}", script.package));
        Ok(())
    }

    fn configure(&mut self, packages: &[String]) -> Result<(), Error> {
        self.calls.push(format!("configure {}", packages.join(" ")));
        Ok(())
    }
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (debs, root) = (directory.path().join("debs"), directory.path().join("root"));
        fs::create_dir(&debs).unwrap();
        fs::create_dir(&root).unwrap();
        Self { _directory: directory, debs, root }
    }

    fn install(&self, packages: &[Builder]) -> Result<Vec<String>, Error> {
        self.install_with(packages, 2)
    }

    fn install_with(&self, packages: &[Builder], threads: usize) -> Result<Vec<String>, Error> {
        let packages: Vec<Package> = packages
            .iter()
            .map(|builder| Package {
                file: builder.write(&self.debs),
                name: builder.name.clone(),
                version: "1".to_owned(),
                architecture: "amd64".to_owned(),
            })
            .collect();
        let mut recorder = Recorder { root: self.root.clone(), calls: Vec::new() };
        let threads = NonZeroUsize::new(threads).unwrap();
        install(&self.root, &packages, &mut recorder, threads, &Silent)?;
        Ok(recorder.calls)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn list(&self, package: &str) -> String {
        self.text(&format!("var/lib/dpkg/info/{package}.list"))
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn make_configured(&self) {
        let status = self.text("var/lib/dpkg/status");
        self.write("var/lib/dpkg/status", &status.replace("ok unpacked", "ok installed"));
    }

    /// Every path with its kind, mode, time and content.
    fn tree(&self) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
        let mut tree = BTreeMap::new();
        for entry in walkdir::WalkDir::new(&self.root).min_depth(1) {
            let entry = entry.unwrap();
            let metadata = entry.path().symlink_metadata().unwrap();
            let content = match metadata.file_type() {
                kind if kind.is_file() => fs::read(entry.path()).unwrap(),
                kind if kind.is_symlink() => {
                    fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes()
                }
                _ => Vec::new(),
            };
            // dpkg's own directories are not those of a package here.
            let path = entry.path().strip_prefix(&self.root).unwrap().to_owned();
            let ours = path.starts_with("var");
            let mtime = if ours { 0 } else { metadata.mtime() };
            tree.insert(path, (metadata.mode(), mtime, content));
        }
        tree
    }
}

fn package(name: &str) -> Builder {
    with(name, "")
}

fn with(name: &str, fields: &str) -> Builder {
    Builder::new(name, fields).directory("./", 0o755).directory("./usr/", 0o755)
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}
