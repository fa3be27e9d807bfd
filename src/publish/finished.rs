//! Artifacts that a build has left in a directory.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, MANIFEST, MOST_DOCUMENT};
use crate::artifact::manifest::Manifest;
use crate::artifact::name::{Format, artifact_name};

/// An artifact, with its manifest beside it.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its manifest.
    pub manifest: Manifest,
    /// The file of its manifest.
    pub manifest_path: PathBuf,
    /// Its own file.
    pub path: PathBuf,
    /// What all names of its files begin with: `imgbuild-ROLE-VERSION-DIGEST`.
    pub stem: String,
}

impl Finished {
    /// The file beside it whose name ends with `ending`.
    pub fn beside(&self, ending: &str) -> PathBuf {
        self.path.with_file_name(format!("{}{ending}", self.stem))
    }

    /// What it is tagged with: `VERSION-DIGEST`, the end of its name.
    pub fn tag(&self) -> &str {
        tag_of(&self.manifest, &self.stem)
    }
}

/// The end of `stem` that says version and digest.
pub(super) fn tag_of<'a>(manifest: &Manifest, stem: &'a str) -> &'a str {
    stem.strip_prefix(&format!("imgbuild-{}-", manifest.role)).unwrap_or(stem)
}

/// The name of the files of an image, without what they end with, if its manifest may have it.
///
/// # Errors
/// Says what is wrong with the manifest.
pub(super) fn stem_of(manifest: &Manifest) -> Result<String, String> {
    let stem = artifact_name(&manifest.role, &manifest.version, &manifest.digest)
        .map_err(|error| error.to_string())?;
    let name = format!("{stem}{}", manifest.artifact.format.extension());
    if manifest.artifact.name != name {
        return Err(format!(
            "its manifest calls it `{}`, and not `{name}`",
            manifest.artifact.name
        ));
    }
    Ok(stem)
}

/// The artifact at `path`, which may be that of its manifest.
///
/// # Errors
/// [`Error::Read`] if it is none, or has no manifest beside it.
pub fn open(path: &Path) -> Result<Finished, Error> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ends = [Format::LxcTemplate.extension(), Format::Qcow2.extension(), MANIFEST];
    let Some(stem) = ends.iter().find_map(|end| name.strip_suffix(end)) else {
        let why = "its name is that of no template, disk or manifest".to_owned();
        return Err(Error::Read { path: path.to_owned(), why });
    };
    read(&path.with_file_name(format!("{stem}{MANIFEST}")))
}

/// The artifact whose manifest is at `path`.
fn read(path: &Path) -> Result<Finished, Error> {
    let failed = |why: String| Error::Read { path: path.to_owned(), why };
    let size = fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > MOST_DOCUMENT {
        return Err(failed("it is too large for a manifest".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let manifest = Manifest::from_json(&text).map_err(|error| failed(error.to_string()))?;
    let stem = stem_of(&manifest).map_err(failed)?;
    let finished = Finished {
        path: path.with_file_name(&manifest.artifact.name),
        manifest_path: path.to_owned(),
        manifest,
        stem,
    };
    match finished.manifest_path.file_name() == finished.beside(MANIFEST).file_name() {
        true => Ok(finished),
        false => Err(failed(format!("it is the manifest of `{}`", finished.stem))),
    }
}

/// The artifact of `role` for `site` in `directory` that is in this format and that `is_current`.
///
/// # Errors
/// [`Error::NotBuilt`] if there is none.
pub fn find(
    directory: &Path,
    (role, site): (&str, Option<&str>),
    format: Format,
    is_current: &dyn Fn(&Manifest) -> bool,
) -> Result<Finished, Error> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let manifests = paths.iter().filter(|path| path.to_string_lossy().ends_with(MANIFEST));
    // Those of other versions of imgbuild are none of ours.
    let found = manifests.filter_map(|path| read(path).ok()).find(|it| {
        let manifest = &it.manifest;
        (manifest.role.as_str(), manifest.site.as_deref()) == (role, site)
            && manifest.artifact.format == format
            && it.path.is_file()
            && is_current(manifest)
    });
    found.ok_or_else(|| Error::NotBuilt {
        what: match format {
            Format::LxcTemplate => "template",
            Format::Qcow2 => "disk",
        },
        role: role.to_owned(),
        site: site.map_or_else(String::new, |site| format!(" --site {site}")),
        directory: directory.to_owned(),
    })
}
