//! From a registry to a directory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::attached::{Image, RulesOf};
use super::finished::{stem_of, tag_of};
use super::{DESCRIPTION, Error, IMAGE, MANIFEST, MOST_DOCUMENT, TRANSFERS, media_type};
use crate::artifact::manifest;
use crate::build::output::Output;
use crate::digest::{Digest, HashingWriter};
use crate::progress::Progress;
use crate::registry::{
    self, Descriptor, Found, Manifest, Reference, Repository, WantedBlob, Which,
};
use crate::store::Store;
use crate::verify::unfit_layers;

/// An image that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The SHA-256 of its manifest in the registry.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: manifest::Manifest,
    /// Its files: the artifact, its manifest, and what is about it.
    pub files: Vec<PulledFile>,
}

/// A file of an image that was pulled.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PulledFile {
    /// Where it is.
    pub path: PathBuf,
    /// The SHA-256 of it.
    pub sha256: Digest,
    /// Bytes of it.
    pub size: u64,
    /// Whether it was there already.
    pub reused: bool,
}

/// Where the files of an image go.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The directory. It is made if it is not there.
    pub directory: &'a Path,
    /// Whether other files of the same names, if there are any, are replaced.
    pub replace: bool,
}

/// A file that is wanted: its name, and the blob that it is.
#[derive(Clone)]
pub(super) struct Wanted {
    pub name: String,
    pub digest: Digest,
    pub size: u64,
}

/// A pull of one image.
pub(super) struct Pull<'a> {
    pub repository: &'a Repository,
    pub reference: Reference,
    pub store: &'a Store,
    pub progress: &'a dyn Progress,
}

/// Pulls an image to `destination`: the artifact, its manifest, and what is about it. What is there and right is not
/// fetched; what is there under the same name and is something else is left alone, unless it is to be replaced.
/// Everything is fetched and held against each other before anything is written. Where several have signed the image, one
/// whom the `rules` allow is preferred.
///
/// # Errors
/// [`Error::Absent`], [`Error::NotAnImage`], [`Error::Unfit`], [`Error::Others`], [`Error::Registry`], [`Error::Write`];
/// [`Error::Policy`] if `rules` fails.
pub fn pull(
    repository: &Repository,
    which: &Which,
    destination: Destination,
    rules: RulesOf,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Pulled, Error> {
    let reference = repository.location().with(which.clone());
    let pull = Pull { repository, reference, store, progress };
    let found = pull.found(which)?;
    let document = pull.document(&found)?;
    let (manifest, stem) = pull.described(&document)?;
    pull.check_tag(which, tag_of(&manifest, &stem))?;

    let description = document.layers[1].digest;
    let image = Image { digest: found.digest, manifest: &manifest, description, stem: &stem };
    let mut wanted = pull.attached(&image, rules)?;
    let of = |index: usize, name: String| {
        let Descriptor { digest, size, .. } = document.layers[index];
        Wanted { name, digest, size }
    };
    // An artifact is never without its manifest, so it is the last one that is written.
    wanted.push(of(1, format!("{stem}{MANIFEST}")));
    wanted.push(of(0, manifest.artifact.name.clone()));
    let mut files = pull.bring(wanted, destination)?;
    files.reverse();
    Ok(Pulled { digest: found.digest, manifest, files })
}

impl Pull<'_> {
    fn unfit(&self, why: impl Into<String>) -> Error {
        Error::Unfit { reference: self.reference.to_string(), why: why.into() }
    }

    fn no_image(&self, why: impl Into<String>) -> Error {
        Error::NotAnImage { reference: self.reference.to_string(), why: why.into() }
    }

    fn found(&self, which: &Which) -> Result<Found, Error> {
        let absent = || Error::Absent { reference: self.reference.to_string() };
        self.repository.manifest(which)?.ok_or_else(absent)
    }

    /// The manifest in the registry, if it is one of an image.
    fn document(&self, found: &Found) -> Result<Manifest, Error> {
        if found.media_type != registry::MANIFEST {
            return Err(self.no_image(format!("it is `{}`", found.media_type)));
        }
        let document: Manifest = serde_json::from_slice(&found.bytes)
            .map_err(|error| self.no_image(error.to_string()))?;
        match &document.artifact_type {
            Some(kind) if kind == IMAGE => {}
            Some(kind) => return Err(self.no_image(format!("it is about `{kind}`"))),
            None => {
                return Err(self.no_image(format!("it is about `{}`", document.config.media_type)));
            }
        }
        match document.layers.len() {
            2 => Ok(document),
            other => Err(self.unfit(format!("it has {other} blobs, and not two"))),
        }
    }

    /// The manifest of the image, if it is that of the artifact beside it, and what the names of its files begin with.
    fn described(&self, document: &Manifest) -> Result<(manifest::Manifest, String), Error> {
        let [artifact, description] = &document.layers[..] else {
            return Err(self.unfit("it has not two blobs"));
        };
        if description.media_type != DESCRIPTION {
            let why = format!("its description is `{}`", description.media_type);
            return Err(self.no_image(why));
        }
        let label = format!("the manifest of {}", self.reference);
        if description.size > MOST_DOCUMENT {
            let why = format!("its manifest has {} bytes, far too many", description.size);
            return Err(self.unfit(why));
        }
        let bytes = self.small(&label, description.digest, description.size)?;
        let text = String::from_utf8(bytes).map_err(|_| self.unfit("its manifest is no text"))?;
        let manifest = manifest::Manifest::from_json(&text)
            .map_err(|error| self.no_image(error.to_string()))?;
        let stem = stem_of(&manifest).map_err(|why| self.unfit(why))?;
        let file = &manifest.artifact;
        if artifact.media_type != media_type(file.format) {
            return Err(self.unfit(format!("its artifact is `{}`", artifact.media_type)));
        }
        if (file.sha256, file.size) != (artifact.digest, artifact.size) {
            return Err(self.unfit(format!(
                "its artifact is sha256:{} of {} bytes, its manifest is of sha256:{} of {} bytes",
                artifact.digest, artifact.size, file.sha256, file.size
            )));
        }
        if let Some(why) = unfit_layers(&manifest) {
            return Err(self.unfit(why));
        }
        self.check_role(&manifest.role)?;
        for (layer, name) in [(artifact, &file.name), (description, &format!("{stem}{MANIFEST}"))] {
            self.check_title(layer, name)?;
        }
        Ok((manifest, stem))
    }

    /// Refuses a blob that is called other than `name`: a name from a registry never becomes one of a file.
    fn check_title(&self, blob: &Descriptor, name: &str) -> Result<(), Error> {
        match blob.title() {
            Some(title) if title == name => Ok(()),
            title => {
                let title = title.unwrap_or_default().escape_debug();
                Err(self.unfit(format!("a file is called `{title}`, and not `{name}`")))
            }
        }
    }

    /// Refuses an image of another role than the repository is for: `push` puts each into one that is called like its role.
    /// Otherwise, whoever may push for one role could replace the images of all others where they are pulled to.
    fn check_role(&self, role: &str) -> Result<(), Error> {
        let name = self.repository.location().name();
        match name.rsplit('/').next() == Some(role) {
            true => Ok(()),
            false => Err(self.unfit(format!(
                "it is an image of the role `{role}`, and `{name}` does not end in that"
            ))),
        }
    }

    /// Refuses a tag that says which content it is, and is on other content. `own` is that of the image.
    fn check_tag(&self, which: &Which, own: &str) -> Result<(), Error> {
        let Which::Tag(tag) = which else { return Ok(()) };
        let digits = tag.as_str().rsplit_once('-').map_or("", |(_, digits)| digits);
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let says_content = digits.len() == 12 && digits.bytes().all(is_digit);
        if says_content && tag.as_str() != own {
            return Err(self.unfit(format!("it is `{own}`")));
        }
        Ok(())
    }

    /// The bytes of a blob of `size` bytes, which are few.
    pub(super) fn small(&self, label: &str, digest: Digest, size: u64) -> Result<Vec<u8>, Error> {
        let wanted = WantedBlob { label: label.to_owned(), digest, size };
        let pulled = self.repository.pull_blob(wanted, self.store, self.progress)?;
        fs::read(pulled.path())
            .map_err(|error| Error::Read { path: pulled.path().to_owned(), why: error.to_string() })
    }

    /// Refuses to write over anything of these names in `directory`.
    fn check_free<'n>(
        &self,
        directory: &Path,
        names: impl Iterator<Item = &'n str>,
    ) -> Result<(), Error> {
        let is_there = |name: &&str| directory.join(name).symlink_metadata().is_ok();
        let names: Vec<String> = names.filter(is_there).map(str::to_owned).collect();
        let (reference, directory) = (self.reference.to_string(), directory.to_owned());
        match names.is_empty() {
            true => Ok(()),
            false => Err(Error::Others { reference, directory, names }),
        }
    }

    /// Brings all files to `destination`, in their order, after all of them were fetched.
    fn bring(
        &self,
        wanted: Vec<Wanted>,
        Destination { directory, replace }: Destination,
    ) -> Result<Vec<PulledFile>, Error> {
        let failed = |path: &Path, source| Error::Write { path: path.to_owned(), source };
        let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let is_there = |file: &Wanted| is_right(&absolute.join(&file.name), file);
        let there: Vec<bool> = wanted.iter().map(is_there).collect();
        let absent = wanted.iter().zip(&there).filter(|(_, there)| !**there);
        if !replace {
            self.check_free(directory, absent.clone().map(|(file, _)| file.name.as_str()))?;
        }
        fs::create_dir_all(&absolute).map_err(|source| failed(&absolute, source))?;
        let blobs: Vec<WantedBlob> = absent
            .map(|(file, _)| WantedBlob {
                label: file.name.clone(),
                digest: file.digest,
                size: file.size,
            })
            .collect();
        let mut pulled =
            self.repository.pull_blobs(&blobs, self.store, TRANSFERS, self.progress)?.into_iter();
        let mut files = Vec::new();
        for (file, reused) in wanted.into_iter().zip(there) {
            let path = absolute.join(&file.name);
            if !reused && let Some(blob) = pulled.next() {
                write(blob.path(), &path, &file.digest).map_err(|source| failed(&path, source))?;
            }
            files.push(PulledFile { path, sha256: file.digest, size: file.size, reused });
        }
        Ok(files)
    }
}

/// Whether the file at `path` is what is wanted.
fn is_right(path: &Path, wanted: &Wanted) -> bool {
    let is_file = |metadata: fs::Metadata| metadata.is_file() && metadata.len() == wanted.size;
    fs::symlink_metadata(path).is_ok_and(is_file)
        && File::open(path).and_then(Digest::of_reader).is_ok_and(|digest| digest == wanted.digest)
}

/// Copies a blob to its final name, whole or not at all, if it is still what it should be.
fn write(from: &Path, path: &Path, digest: &Digest) -> io::Result<()> {
    let mut output = Output::create_in(path.parent().unwrap_or(Path::new(".")))?;
    let mut writer = HashingWriter::new(output.file());
    io::copy(&mut File::open(from)?, &mut writer)?;
    let (_, got, _) = writer.finish();
    if got != *digest {
        let why = format!("its sha256 has become {got}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    output.publish(path)
}
