//! How an artifact came to be, in the form that programs check: SLSA provenance.
//!
//! An in-toto Statement v1 (<https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>) with a
//! predicate of the type <https://slsa.dev/provenance/v1>. It is made of the manifest; what the project has of it,
//! the definitions and the lock, is only told if the project would make the same image of them today.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;
use serde_json::Value;
use walkdir::WalkDir;

use super::Error;
use super::bill::{Bill, Distribution, Upstream};
use super::revision::PARTS;
use crate::artifact::manifest::Manifest;
use crate::artifact::name::Format;
use crate::build::{LockedImage, LockedRole};
use crate::definition::Project;
use crate::digest::Digest;
use crate::lock::Lock;

/// What externalParameters and resolvedDependencies mean here.
pub const BUILD_TYPE: &str =
    "https://github.com/imgbuild/imgbuild/blob/main/docs/supply-chain.md#build-type-1";

/// Whoever runs imgbuild on a machine of their own: nothing vouches for that machine.
pub const BUILDER: &str =
    "https://github.com/imgbuild/imgbuild/blob/main/docs/supply-chain.md#builder-any-machine";

/// A statement.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: Vec<Resource>,
    predicate_type: &'static str,
    predicate: Provenance,
}

/// The predicate.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Provenance {
    build_definition: BuildDefinition,
    run_details: RunDetails,
}

/// What was built.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    build_type: &'static str,
    external_parameters: Parameters,
    resolved_dependencies: Vec<Resource>,
}

/// What somebody asked for.
#[derive(Clone, Debug, Serialize)]
struct Parameters {
    role: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<String>,
    format: Format,
    parameters: BTreeMap<String, Value>,
    /// What was given by hand instead of what the lock pins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unpinned: Vec<String>,
}

/// By whom.
#[derive(Clone, Debug, Serialize)]
struct RunDetails {
    builder: Builder,
    byproducts: Vec<Resource>,
}

#[derive(Clone, Debug, Serialize)]
struct Builder {
    id: &'static str,
    version: BTreeMap<String, String>,
}

/// Something, by its digest (in-toto's ResourceDescriptor).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    digest: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    download_location: Option<String>,
}

impl Resource {
    fn sha256(name: impl Into<String>, digest: Digest) -> Self {
        let digest = [("sha256", digest.to_string())].into();
        Self { name: Some(name.into()), digest, ..Self::default() }
    }
}

/// What the project has of the inputs of an image.
pub struct Inputs {
    resources: Vec<Resource>,
    /// Why there is no commit among them.
    pub no_commit: Option<String>,
}

impl Inputs {
    /// Those of `role` in `format`, of `project`, whose lock is `lock` at `lock_path`.
    ///
    /// # Errors
    /// A file of the project cannot be read.
    pub fn read(
        project: &Project,
        (role, format): (&LockedRole, Format),
        lock: &Lock,
        lock_path: &Path,
    ) -> Result<Self, Error> {
        let images: Vec<&LockedImage> = match format {
            Format::LxcTemplate => role.plan.images.iter().collect(),
            Format::Qcow2 => role.images().collect(),
        };
        let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
        let mut directories: Vec<PathBuf> =
            names.iter().map(|name| Path::new("images").join(name)).collect();
        // A site has the values and files of all that it extends, too.
        let site = role.plan.plan.site.as_ref().map(|site| project.overlays(site.name.as_str()));
        let overlays = site.transpose()?.into_iter().flatten();
        directories.extend(overlays.map(|it| Path::new("overlays").join(it.name.as_str())));
        directories.sort();
        directories.dedup();
        let root = project.root();
        let commit = commit(root);
        let mut resources = Vec::new();
        if let Ok(commit) = &commit {
            let digest = [("gitCommit", commit.clone())].into();
            let name = Some("project".to_owned());
            resources.push(Resource { name, digest, ..Resource::default() });
        }
        resources.push(Resource::sha256("imgbuild.lock", digest_of(lock_path)?));
        let repositories = &lock.repositories;
        for repository in repositories.iter().filter(|it| names.contains(&it.image.as_str())) {
            let name = format!("{} {}", repository.image, repository.name);
            resources.push(Resource::sha256(format!("{name} InRelease"), repository.release));
            let keyring = repository.keyring.into_iter();
            resources.extend(keyring.map(|it| Resource::sha256(format!("{name} keyring"), it)));
        }
        for directory in &directories {
            for file in WalkDir::new(root.join(directory)).sort_by_file_name() {
                let Ok(file) = file else { continue };
                if !file.file_type().is_file() {
                    continue;
                }
                let name = file.path().strip_prefix(root).unwrap_or(file.path());
                let name = name.display().to_string();
                resources.push(Resource::sha256(name, digest_of(file.path())?));
            }
        }
        Ok(Self { resources, no_commit: commit.err() })
    }
}

fn digest_of(path: &Path) -> Result<Digest, Error> {
    let digest = std::fs::File::open(path).and_then(Digest::of_reader);
    digest.map_err(|source| Error::Input { path: path.to_owned(), source })
}

/// The commit that the project at `root` is at, if it is exactly that; or why there is none.
fn commit(root: &Path) -> Result<String, String> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
            command.env_remove(name);
        }
        command.arg("-C").arg(root).args(arguments);
        command.env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0");
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--verify", "HEAD^{commit}"])
        .ok_or_else(|| "the project is in no git repository".to_owned())?;
    // Only what a build reads is asked for: `out/`, `target/` and what else lies about changes no image.
    let ask = |arguments: &[&str]| {
        let answer = git(&[arguments, &["--"], &PARTS].concat());
        answer.ok_or_else(|| "git does not say whether everything is committed".to_owned())
    };
    // That an executable file is one counts, even where git was told that it does not.
    let modes = ["-c", "core.fileMode=true"];
    let status = ["status", "--porcelain", "--untracked-files=no", "--ignore-submodules=none"];
    if !ask(&[&modes[..], &status].concat())?.is_empty() {
        return Err("the project has changes that are not committed".to_owned());
    }
    // Whatever git-status(1) would show of them: a build reads ignored files like others. Without `--exclude…` this
    // command knows none that is ignored (git-ls-files(1)).
    if let Some(other) = ask(&["ls-files", "--others"])?.lines().next() {
        return Err(format!(
            "{other} is not committed, ignored by git or not, and a build may read it"
        ));
    }
    // `H` are the files that git compares; `h` and `S` are those that it was told to take for unchanged.
    let known = ask(&["ls-files", "-v"])?;
    match known.lines().find(|line| !line.starts_with("H ")) {
        Some(line) => {
            let path = line.get(2..).unwrap_or_default();
            Err(format!("git was told not to look whether {path} has changed"))
        }
        None => Ok(commit),
    }
}

/// The statement about the artifact of `manifest`.
pub fn statement(
    manifest: &Manifest,
    distribution: &Distribution,
    inputs: Option<Inputs>,
) -> Statement {
    let packages = manifest.packages.iter().map(|package| Resource {
        uri: Some(distribution.purl(&package.name, &package.version, &package.architecture)),
        download_location: package.url.clone(),
        ..Resource::sha256(&package.name, package.sha256)
    });
    let sources = manifest.sources.iter().map(|source| {
        let upstream = Upstream { source: source.clone(), layer: None };
        let oci = source.oci.as_ref().and_then(|oci| oci.digest.strip_prefix("sha256:"));
        let sha256 = source.sha256.map(|digest| digest.to_string());
        let sha256 = sha256.or_else(|| oci.map(str::to_owned)).map(|digest| ("sha256", digest));
        let commit = source.commit.clone().map(|commit| ("gitCommit", commit));
        Resource {
            name: Some(source.name.clone()),
            uri: Some(upstream.purl()),
            digest: sha256.into_iter().chain(commit).collect(),
            download_location: upstream.location(),
        }
    });
    let project = inputs.into_iter().flat_map(|inputs| inputs.resources);
    let mut seen = Vec::new();
    for resource in project.chain(packages).chain(sources) {
        // The boot image of a disk has packages that the image has too.
        if !seen.contains(&resource) {
            seen.push(resource);
        }
    }
    let builder = &manifest.builder;
    let name = manifest.artifact.name.as_str();
    let stem = name.strip_suffix(manifest.artifact.format.extension()).unwrap_or(name);
    let own = Resource::sha256(format!("{stem}.manifest.json"), Digest::of(manifest.to_json()));
    Statement {
        kind: "https://in-toto.io/Statement/v1",
        subject: vec![Resource::sha256(name, manifest.artifact.sha256)],
        predicate_type: "https://slsa.dev/provenance/v1",
        predicate: Provenance {
            build_definition: BuildDefinition {
                build_type: BUILD_TYPE,
                external_parameters: Parameters {
                    role: manifest.role.clone(),
                    version: manifest.version.clone(),
                    site: manifest.site.clone(),
                    format: manifest.artifact.format,
                    parameters: sorted(&manifest.parameters),
                    unpinned: manifest.unpinned.clone(),
                },
                resolved_dependencies: seen,
            },
            run_details: RunDetails {
                builder: Builder {
                    id: BUILDER,
                    version: [(builder.name.clone(), builder.version.clone())].into(),
                },
                byproducts: vec![own],
            },
        },
    }
}

/// The order in which somebody wrote the keys of a value says nothing.
fn sorted(parameters: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut sorted = parameters.clone();
    sorted.values_mut().for_each(Value::sort_all_objects);
    sorted
}

impl Statement {
    /// The statement about the image of `bill`.
    pub fn of(bill: &Bill, inputs: Option<Inputs>) -> Self {
        statement(&bill.manifest, &bill.distribution, inputs)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A project in a directory of a repository, with everything committed; none if there is no git.
    #[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
    fn project() -> Option<(tempfile::TempDir, PathBuf)> {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("project");
        for (path, text) in [
            (".gitignore", "/out/\n*.local.conf\n"),
            ("images/web/image.toml", "summary = \"A web server\"\n"),
            ("images/web/files/usr/bin/serve", "#!/bin/sh\n"),
            ("imgbuild.lock", "version = 1\n"),
        ] {
            write(&root, path, text);
        }
        if Command::new("git").arg("--version").output().is_err() {
            eprintln!("skipped: there is no git");
            return None;
        }
        for arguments in
            [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "-m", "x"]]
        {
            git(&root, arguments);
        }
        Some((directory, root))
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[track_caller]
    fn git(root: &Path, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.arg("-C").arg(root).args(["-c", "user.name=x", "-c", "user.email=x@y.example"]);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    #[track_caller]
    fn no_commit(root: &Path, why: &str) {
        let reason = commit(root).expect_err("a commit is named that has not what is built");
        assert!(reason.contains(why), "{why}: {reason}");
    }

    #[test]
    fn what_no_build_reads_keeps_no_commit_from_being_named() {
        let Some((_directory, root)) = project() else { return };
        for path in ["out/imgbuild-web.tar.zst", "target/debug/x", "notes.local.conf", "new.txt"] {
            write(&root, path, "x");
        }
        fs::create_dir_all(root.join("images/web/files/empty")).unwrap();
        assert_eq!(commit(&root).map(|commit| commit.len()), Ok(40));
    }

    #[test]
    fn no_commit_is_named_that_lacks_what_a_build_reads() {
        let Some((_directory, root)) = project() else { return };
        git(&root, &["config", "status.showUntrackedFiles", "no"]);
        for path in [
            "images/web/files/etc/x.local.conf",
            "images/web/files/etc/new.conf",
            "overlays/campus/overlay.toml",
        ] {
            write(&root, path, "x");
            no_commit(&root, &format!("{path} is not committed"));
            fs::remove_file(root.join(path)).unwrap();
        }
        let definition = "images/web/image.toml";
        let text = fs::read_to_string(root.join(definition)).unwrap();
        write(&root, definition, "summary = \"Another one\"\n");
        no_commit(&root, "changes that are not committed");
        for (flag, back) in [
            ("--assume-unchanged", "--no-assume-unchanged"),
            ("--skip-worktree", "--no-skip-worktree"),
        ] {
            git(&root, &["update-index", flag, definition]);
            no_commit(&root, &format!("not to look whether {definition}"));
            git(&root, &["update-index", back, definition]);
        }
        write(&root, definition, &text);
        let program = root.join("images/web/files/usr/bin/serve");
        git(&root, &["config", "core.fileMode", "false"]);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        no_commit(&root, "changes that are not committed");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(commit(&root).is_ok());
    }

    #[test]
    fn no_commit_is_named_of_a_repository_that_ignores_the_whole_project() {
        let Some((_directory, outer)) = project() else { return };
        let root = outer.join("out/inner");
        no_commit(&root, "no git repository");
        write(&root, "images/web/image.toml", "summary = \"A web server\"\n");
        no_commit(&root, "images/web/image.toml is not committed");
    }
}
