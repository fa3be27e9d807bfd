//! What put a path into an image.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::{About, Part, PartOf};
use crate::artifact::manifest::LayerKind;
use crate::build::LockedPlan;
use crate::inspect::image::Layer;
use crate::inspect::ownership::Ownership;
use crate::inspect::tree::Tree;
use crate::layer::entry::Kind;
use crate::render::RenderedLayer;

/// What put a path into an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PathReason {
    /// The role.
    pub role: String,
    /// The site, if it is for one.
    pub site: Option<String>,
    /// The path, with every directory on the way to it being one.
    pub path: String,
    /// Where it is.
    pub part: Part,
    /// `file`, `directory` or `link`; none if it was removed.
    #[serde(rename = "type")]
    pub kind: Option<&'static str>,
    /// Where a symbolic link points.
    pub target: Option<PathBuf>,
    /// Whether all layers were looked at. If not, the image was not built here, and only definitions were.
    pub built: bool,
    /// The layers that have something to say of the path, the one that counts first.
    pub claims: Vec<Claim>,
}

/// What one layer has at a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Claim {
    /// The layer: `haproxy files`.
    pub layer: String,
    /// Whether the layer removes it.
    pub removed: bool,
    /// The packages that ship it.
    pub packages: Vec<String>,
    /// The file of a definition or overlay that it was made from.
    pub source: Option<SourceFile>,
    /// The source of a definition that has it.
    pub upstream: Option<Upstream>,
    /// The commands of which one made it.
    pub commands: Vec<Command>,
}

/// A file of a definition or overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SourceFile {
    /// Its path, relative to the project.
    pub file: PathBuf,
    /// Whether it is a template.
    pub template: bool,
}

/// A `[sources.NAME]` of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub place: String,
}

/// A command of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Command {
    /// Where it stands.
    pub place: String,
    /// The program and its arguments.
    pub command: String,
}

/// What put `path` into `tree`, which `layers` make; none if nothing ever did.
pub(super) fn reason(
    about: &About,
    part: &PartOf<'_>,
    path: &str,
    tree: &Tree<'_>,
    layers: &[&Layer],
    owners: &Ownership,
) -> Option<PathReason> {
    let place = tree.place(Path::new(path));
    let mut claims = Vec::new();
    for (archive, layer) in tree.layers().iter().zip(layers).rev() {
        let Some(member) = archive.index.get(&place) else { continue };
        let removed = member.entry.kind == Kind::Whiteout;
        claims.push(claim(part, layer, &place, removed, owners));
    }
    let found = tree.get(&place);
    if claims.is_empty() && found.is_none() {
        return None;
    }
    let (kind, target) = match found.map(|found| &found.entry.kind) {
        None => (None, None),
        Some(Kind::Directory) => (Some("directory"), None),
        Some(Kind::Symlink { target }) => (Some("link"), Some(target.clone())),
        Some(_) => (Some("file"), None),
    };
    Some(PathReason { kind, target, built: true, claims, ..empty(about, part, &place) })
}

/// What definitions alone say of `path`; none if they have no such file.
pub(super) fn defined(about: &About, part: &PartOf<'_>, path: &str) -> Option<PathReason> {
    let place = Path::new(path).strip_prefix("/").ok()?;
    let claims: Vec<Claim> = part
        .rendered
        .iter()
        .rev()
        .filter_map(|rendered| {
            let source = Some(source(rendered, place)?);
            let layer = format!("{} {}", rendered.image, LayerKind::Files.name());
            Some(Claim { layer, source, ..Claim::default() })
        })
        .collect();
    (!claims.is_empty()).then(|| PathReason { claims, ..empty(about, part, place) })
}

fn empty(about: &About, part: &PartOf<'_>, path: &Path) -> PathReason {
    PathReason {
        role: about.role.clone(),
        site: about.site.clone(),
        path: format!("/{}", path.display()),
        part: part.part,
        kind: None,
        target: None,
        built: false,
        claims: Vec::new(),
    }
}

fn claim(
    part: &PartOf<'_>,
    layer: &Layer,
    path: &Path,
    removed: bool,
    owners: &Ownership,
) -> Claim {
    let mut claim = Claim { layer: layer.name(), removed, ..Claim::default() };
    let image = part.images.iter().find(|image| image.name == layer.image);
    match (layer.kind, image) {
        (LayerKind::Files, _) => {
            let mut rendered = part.rendered.iter().filter(|it| it.image == layer.image);
            claim.source = rendered.find_map(|rendered| source(rendered, path));
        }
        (LayerKind::Packages, Some(image)) => {
            let own = |name: &&String| image.packages.iter().any(|it| it.package.name == **name);
            claim.packages = owners.of(path).iter().filter(own).cloned().collect();
        }
        (LayerKind::Sources, Some(image)) => {
            let has = |into: &Path| path.starts_with(into) || into.starts_with(path);
            let upstream = image.sources.iter().map(|source| &source.upstream).find(|upstream| {
                upstream.kind.destination().is_some_and(|into| has(into.relative()))
            });
            claim.upstream = upstream.map(|upstream| Upstream {
                name: upstream.name.to_string(),
                place: upstream.place.to_string(),
            });
        }
        (LayerKind::Run, Some(image)) => {
            let commands = image.commands.iter().zip(&image.places);
            let command = |(words, place): (&Vec<String>, &String)| Command {
                place: place.clone(),
                command: words.join(" "),
            };
            claim.commands = commands.map(command).collect();
        }
        _ => {}
    }
    claim
}

/// The file that `path` was rendered from, if it was.
fn source(rendered: &RenderedLayer, path: &Path) -> Option<SourceFile> {
    let entry = rendered.entries.iter().find(|entry| entry.path == path)?;
    Some(SourceFile { file: entry.source.clone(), template: entry.from_template })
}

/// What to say of a path that is on a state volume, which no image has.
pub(super) fn state(plan: &LockedPlan, path: &str) -> Option<String> {
    let states = &plan.plan.states;
    let state = states.iter().find(|state| Path::new(path).starts_with(state.path.as_str()))?;
    Some(format!("it is on the state volume `state-{}`, which outlives images", state.name))
}

/// What to say of a path that is not there: the last directory on the way to it that is.
pub(super) fn closest(tree: &Tree<'_>, path: &str) -> Option<String> {
    let place = tree.place(Path::new(path));
    let parent = place.ancestors().skip(1).find(|parent| tree.get(parent).is_some())?;
    let below = tree.below(parent).filter_map(|entry| {
        entry.entry.path.strip_prefix(parent).ok().filter(|rest| rest.components().count() == 1)
    });
    let names: Vec<String> = below.map(|name| name.display().to_string()).collect();
    let next = place.strip_prefix(parent).ok()?.components().next()?.as_os_str();
    let similar =
        crate::definition::did_you_mean(&next.to_string_lossy(), names.iter().map(String::as_str));
    let parent = format!("/{}", parent.display());
    Some(match similar {
        Some(similar) => format!("in {parent}: {similar}"),
        None => format!("{parent} is there, and has no `{}`", next.display()),
    })
}
