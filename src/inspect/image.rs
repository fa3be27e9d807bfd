//! One image, as far as this machine knows it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::Error;
use crate::artifact::manifest::{self, LayerKind, Manifest, Package, State};
use crate::artifact::name::Format;
use crate::build::{self, Known, LockedRole, MANIFEST, Pending, Trust};
use crate::digest::Digest;
use crate::layer::accounts::{Group, User};
use crate::layer::archive::Archive;
use crate::render::RenderedLayer;
use crate::store::{Blob, Store};

/// The fewest digits that are taken for the beginning of a digest.
const SHORTEST: usize = 7;

/// What manifests are called.
const MANIFEST_EXTENSION: &str = ".manifest.json";

/// What a manifest says, or would say if the image were built.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The role.
    pub role: String,
    /// The version of its definition.
    pub version: String,
    /// The site, if it is for one.
    pub site: Option<String>,
    /// The format of the artifact.
    pub format: Format,
    /// The digest that the name of the artifact is made of; none if it was not built here.
    pub digest: Option<Digest>,
    /// Bytes of the artifact, if there is one.
    pub artifact_size: Option<u64>,
    /// The values of all parameters.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// The packages.
    pub packages: Vec<Package>,
    /// The state volumes.
    pub states: Vec<State>,
    /// The names of the secrets.
    pub secrets: Vec<String>,
    /// What was given by hand.
    pub unpinned: Vec<String>,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Layer {
    /// The definition that it comes from.
    pub image: String,
    /// What makes it.
    pub kind: LayerKind,
    /// Its digest, if it was built.
    pub digest: Option<Digest>,
    /// Bytes of its archive, if it was built.
    pub size: Option<u64>,
}

impl From<manifest::Layer> for Layer {
    fn from(layer: manifest::Layer) -> Self {
        let manifest::Layer { image, kind, digest, size, .. } = layer;
        Self { image, kind, digest: Some(digest), size: Some(size) }
    }
}

impl Layer {
    /// What people call it: `haproxy files`.
    pub fn name(&self) -> String {
        format!("{} {}", self.image, self.kind.name())
    }
}

/// What the definitions alone say of an image.
#[derive(Clone, Debug)]
pub struct Defined {
    /// The rendered files, in the order of the layers.
    pub rendered: Vec<RenderedLayer>,
    /// The accounts that definitions make.
    pub users: Vec<User>,
    /// The groups that definitions make.
    pub groups: Vec<Group>,
}

/// An image, from whatever is known of it.
pub struct Image {
    /// How it was asked for.
    pub label: String,
    /// What its manifest says or would say.
    pub facts: Facts,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// The layers of the image that its disk boots with.
    pub boot: Vec<Layer>,
    /// The archives of `layers`, if the store has all of them.
    pub archives: Option<Vec<Arc<Archive>>>,
    /// What the definitions say, where it comes from them.
    pub defined: Option<Defined>,
    /// Its manifest, where it comes from that.
    pub manifest: Option<Manifest>,
}

/// Finds images, and opens each layer once.
pub struct Inspector<'a> {
    store: &'a Store,
    archives: RefCell<BTreeMap<Digest, Arc<Archive>>>,
}

impl<'a> Inspector<'a> {
    /// One that looks into `store`.
    pub fn new(store: &'a Store) -> Self {
        Self { store, archives: RefCell::default() }
    }

    /// The image of an artifact: the path of a template, a disk, or the manifest of one.
    ///
    /// # Errors
    /// It is none of these, or has no manifest beside it.
    pub fn artifact(&self, path: &Path) -> Result<Image, Error> {
        self.built(path.display().to_string(), self.artifact_manifest(path)?)
    }

    /// The manifest of an artifact: the path of a template, a disk, or the manifest itself.
    ///
    /// # Errors
    /// It is none of these, or has no manifest beside it.
    pub fn artifact_manifest(&self, path: &Path) -> Result<Manifest, Error> {
        let manifest =
            manifest_of(path).ok_or_else(|| Error::NotAnArtifact { path: path.to_owned() })?;
        let text = fs::read_to_string(&manifest)
            .map_err(|source| Error::Manifest { path: manifest.clone(), source })?;
        Manifest::from_json(&text)
            .map_err(|source| Error::NotAManifest { path: manifest.clone(), source })
    }

    /// The image whose digest begins with `text`, if it can be one and such an image was built here.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn digest(&self, text: &str) -> Result<Image, Error> {
        let manifest = self.digest_manifest(text)?;
        self.built(manifest.digest.short(), manifest)
    }

    /// The manifest of the image whose digest begins with `text`.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn digest_manifest(&self, text: &str) -> Result<Manifest, Error> {
        let keys = self.store.keys(MANIFEST);
        let found: Vec<Digest> =
            keys.into_iter().filter(|key| key.to_string().starts_with(text)).collect();
        let unknown = || Error::UnknownDigest { digest: text.to_owned() };
        match found[..] {
            [] => Err(unknown()),
            [digest] => self.store.get_key(MANIFEST, &digest).ok_or_else(unknown),
            _ => Err(Error::Ambiguous {
                digest: text.to_owned(),
                list: found.iter().map(Digest::short).collect(),
            }),
        }
    }

    /// The manifest of what a build of `role` would make, if that was built: of the template, or else of the
    /// disk.
    ///
    /// # Errors
    /// It was not built here.
    pub fn role_manifest(&self, role: &LockedRole) -> Result<Manifest, Error> {
        let site = role.plan.plan.site.as_ref().map(|site| site.name.to_string());
        let formats = [Format::LxcTemplate, Format::Qcow2];
        let found = formats.into_iter().find_map(|format| self.current(role, format));
        found.ok_or_else(|| Error::NotBuilt {
            role: words(role.plan.role(), site.as_deref()),
            wanted: format!("what is in `{}`", role.plan.role()),
        })
    }

    /// The image that a build of `role` would make, as far as its layers are in the store, and `trust` allows those of
    /// them that were taken from other machines.
    ///
    /// # Errors
    /// A layer cannot be read.
    pub fn role(
        &self,
        label: String,
        role: &LockedRole,
        format: Format,
        trust: &dyn Trust,
    ) -> Result<Image, Error> {
        let plan = &role.plan.plan;
        let layer = |layer: Pending| {
            let blob = layer.digest.and_then(|digest| self.store.blob(&digest));
            let (digest, size) = (blob.as_ref().map(Blob::digest), blob.as_ref().map(Blob::size));
            Layer { image: layer.image, kind: layer.kind, digest, size }
        };
        let [layers, boot] = build::stack_of(Known::new(self.store, trust), role, format)
            .map(|layers| layers.into_iter().map(layer).collect::<Vec<Layer>>());
        let disk = role.disk.as_ref().filter(|_| format == Format::Qcow2);
        let images = || {
            let boot = disk.iter().flat_map(|disk| {
                disk.boot.images.iter().filter(|image| image.name == disk.boot_image.name)
            });
            let machine = disk.iter().map(|disk| &disk.machine.image);
            role.plan.images.iter().chain(machine).chain(boot)
        };
        let rendered = role.plan.rendered.iter();
        let rendered = rendered.chain(disk.iter().map(|disk| &disk.machine.rendered)).cloned();
        let plan = disk.map_or(plan, |disk| &disk.machine.plan);
        let facts = Facts {
            role: plan.role.to_string(),
            version: plan.version.to_string(),
            site: plan.site.as_ref().map(|site| site.name.to_string()),
            format,
            digest: None,
            artifact_size: None,
            parameters: plan
                .values
                .iter()
                .map(|(name, setting)| (name.to_string(), setting.value.clone()))
                .collect(),
            packages: build::manifest::packages(images()),
            states: plan.states.iter().map(build::manifest::state).collect(),
            secrets: plan.secrets.keys().map(ToString::to_string).collect(),
            unpinned: Vec::new(),
        };
        let defined = Defined {
            rendered: rendered.collect(),
            users: images().flat_map(|image| image.users.clone()).collect(),
            groups: images().flat_map(|image| image.groups.clone()).collect(),
        };
        let archives = self.open(&layers)?;
        Ok(Image { label, facts, layers, boot, archives, defined: Some(defined), manifest: None })
    }

    /// The manifests of `role` at `site` that were built here in `format`, the last build first.
    pub fn history(&self, role: &str, site: Option<&str>, format: Format) -> Vec<Manifest> {
        let all = self.store.latest::<Manifest>(MANIFEST).into_iter().map(|(_, manifest)| manifest);
        let is_same = |it: &Manifest| {
            it.role == role && it.site.as_deref() == site && it.artifact.format == format
        };
        all.filter(is_same).collect()
    }

    /// The manifest of what was built of `role` in `format`, if that is what a build would make now.
    pub fn current(&self, role: &LockedRole, format: Format) -> Option<Manifest> {
        let site = role.plan.plan.site.as_ref().map(|site| site.name.as_str());
        let mut history = self.history(role.plan.role(), site, format).into_iter();
        history.find(|manifest| build::is_current(role, manifest))
    }

    /// The image that `manifest` is of.
    ///
    /// # Errors
    /// A layer cannot be read.
    pub fn built(&self, label: String, manifest: Manifest) -> Result<Image, Error> {
        let whole = manifest.clone();
        let layers: Vec<Layer> = manifest.layers.into_iter().map(Layer::from).collect();
        let boot = manifest.disk.into_iter().flat_map(|disk| disk.boot).map(Layer::from).collect();
        let facts = Facts {
            role: manifest.role,
            version: manifest.version,
            site: manifest.site,
            format: manifest.artifact.format,
            digest: Some(manifest.digest),
            artifact_size: Some(manifest.artifact.size),
            parameters: manifest.parameters,
            packages: manifest.packages,
            states: manifest.states,
            secrets: manifest.secrets,
            unpinned: manifest.unpinned,
        };
        let archives = self.open(&layers)?;
        let manifest = Some(whole);
        Ok(Image { label, facts, layers, boot, archives, defined: None, manifest })
    }

    /// The archives of `layers`, if all of them are in the store.
    pub(super) fn open(&self, layers: &[Layer]) -> Result<Option<Vec<Arc<Archive>>>, Error> {
        let mut archives = Vec::with_capacity(layers.len());
        for layer in layers {
            let Some(digest) = layer.digest else { return Ok(None) };
            let known = self.archives.borrow().get(&digest).cloned();
            let archive = match known {
                Some(archive) => archive,
                None => {
                    let Some(blob) = self.store.blob(&digest) else { return Ok(None) };
                    Arc::new(Archive::open(blob.path(), digest)?)
                }
            };
            self.archives.borrow_mut().insert(digest, Arc::clone(&archive));
            archives.push(archive);
        }
        Ok(Some(archives))
    }
}

/// How a role is named on the command line.
pub(super) fn words(role: &str, site: Option<&str>) -> String {
    site.map_or_else(|| role.to_owned(), |site| format!("{role} --site {site}"))
}

/// Whether `text` can be the beginning of a digest.
pub fn is_digest(text: &str) -> bool {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (SHORTEST..=64).contains(&text.len()) && text.bytes().all(digit)
}

/// The manifest of the artifact at `path`, which may be a manifest itself.
fn manifest_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    if name.ends_with(MANIFEST_EXTENSION) {
        return Some(path.to_owned());
    }
    let formats = [Format::LxcTemplate, Format::Qcow2];
    let stem = formats.iter().find_map(|format| name.strip_suffix(format.extension()))?;
    Some(path.with_file_name(format!("{stem}{MANIFEST_EXTENSION}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_lead_to_their_manifests() {
        for (path, manifest) in [
            ("out/a-1.0.0-ab.tar.zst", Some("out/a-1.0.0-ab.manifest.json")),
            ("a-1.0.0-ab.qcow2", Some("a-1.0.0-ab.manifest.json")),
            ("x/a.manifest.json", Some("x/a.manifest.json")),
            ("a.tar", None),
            ("..", None),
        ] {
            assert_eq!(manifest_of(Path::new(path)), manifest.map(PathBuf::from), "{path}");
        }
    }

    #[test]
    fn digests_are_told_from_names() {
        assert!(is_digest("56ca1d545e05") && is_digest(&"a".repeat(64)));
        assert!(!is_digest("cafe") && !is_digest("haproxy") && !is_digest(&"a".repeat(65)));
        assert!(!is_digest("56CA1D545E05"));
    }
}
