//! The files of one definition: its tree, what a site lays over it, and its rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use handlebars::Context;

use crate::definition::{
    FileRule, Image, Mode, Overlay, Plan, Project, State, did_you_mean, read_text,
};

use super::error::{Error, Result, RuleProblem};
use super::shape::Sight;
use super::template::{Checked, Renderer};
use super::tree::{self, Node, NodeKind, Tree, check_type, lay_over};
use super::{RenderedEntry, RenderedKind, RenderedLayer};

/// The largest file that is copied, in bytes. Layers of files are held in memory.
const FILE_LIMIT: u64 = 16 << 20;

/// The tree of one definition, not yet rendered.
pub(super) struct Source<'a> {
    image: &'a Image,
    tree: Tree,
    rules: BTreeMap<&'a Path, &'a FileRule>,
}

/// What a check of many trees has come across.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The templates, by their path in the project.
    templates: BTreeSet<PathBuf>,
    /// Where the parameters are declared that any of them uses.
    pub(super) used: BTreeSet<String>,
}

impl<'a> Source<'a> {
    /// Reads the names in the trees of the definition `image` and of `site` for it.
    pub(super) fn read(project: &'a Project, image: &str, site: Option<&str>) -> Result<Self> {
        let image = project.image(image)?;
        let name = image.name.as_str();
        let mut tree = tree::read(project.root(), &Path::new("images").join(name).join("files"))?;
        let overlays = site.map(|site| project.overlays(site)).transpose()?.unwrap_or_default();
        for overlay in overlays {
            let upper = tree::read(project.root(), &overlay_tree(overlay, name))?;
            lay_over(&mut tree, upper)?;
        }
        mask_units(image, &mut tree)?;
        let rules = rules(image, &tree)?;
        Ok(Self { image, tree, rules })
    }

    /// Checks every template that is not in `survey` yet.
    pub(super) fn check(&self, project: &Project, survey: &mut Survey) -> Result<()> {
        let sight = self.sight(project)?;
        let mut errors = Vec::new();
        for node in self.tree.values() {
            let template = matches!(node.kind, NodeKind::Template { .. });
            if !template || !survey.templates.insert(node.origin.clone()) {
                continue;
            }
            let source = read_text(project.root(), &node.origin)?;
            match Checked::new(source, &sight) {
                Ok(template) => {
                    let places = template.used.iter().filter_map(|name| sight.declared.get(name));
                    survey.used.extend(places.map(ToString::to_string));
                }
                Err(found) => errors.extend(found),
            }
        }
        Error::collect((), errors)
    }

    /// Renders every entry.
    pub(super) fn render(
        &self,
        project: &Project,
        renderer: &mut Renderer,
        values: &Context,
    ) -> Result<Vec<RenderedEntry>> {
        let sight = self.sight(project)?;
        let mut errors = Vec::new();
        let mut entries = Vec::with_capacity(self.tree.len());
        for (path, node) in &self.tree {
            let content = match &node.kind {
                NodeKind::Directory => Ok((RenderedKind::Directory, Vec::new())),
                NodeKind::Symlink { target } => {
                    Ok((RenderedKind::Symlink { target: target.clone() }, Vec::new()))
                }
                NodeKind::File { .. } => read_file(&project.root().join(&node.origin))
                    .map(|content| (RenderedKind::File { content }, Vec::new()))
                    .map_err(|error| vec![error]),
                NodeKind::Template { .. } => {
                    render_template(project, &node.origin, &sight, renderer, values)
                }
            };
            match content {
                Ok((kind, lines)) => entries.push(self.entry(path, node, kind, lines)),
                Err(found) => errors.extend(found),
            }
        }
        Error::collect(entries, errors)
    }

    fn sight(&self, project: &Project) -> Result<Sight> {
        Ok(Sight::new(&project.stack(self.image.name.as_str())?, project.images()))
    }

    fn entry(
        &self,
        path: &Path,
        node: &Node,
        kind: RenderedKind,
        lines: Vec<u32>,
    ) -> RenderedEntry {
        let rule = self.rules.get(path);
        let usual = match node.kind {
            NodeKind::Symlink { .. } => 0o777,
            NodeKind::Directory => Mode::EXECUTABLE.bits(),
            NodeKind::File { executable } | NodeKind::Template { executable } => {
                if executable {
                    Mode::EXECUTABLE.bits()
                } else {
                    Mode::PLAIN.bits()
                }
            }
        };
        let root = || "root".to_owned();
        RenderedEntry {
            path: path.to_owned(),
            kind,
            mode: rule.and_then(|rule| rule.mode).map_or(usual, Mode::bits),
            owner: rule.and_then(|rule| rule.owner.clone()).unwrap_or_else(root),
            group: rule.and_then(|rule| rule.group.clone()).unwrap_or_else(root),
            replaces: rule.and_then(|rule| rule.replaces.as_ref()).map(ToString::to_string),
            explicit: rule.is_some(),
            source: node.origin.clone(),
            from_template: matches!(node.kind, NodeKind::Template { .. }),
            lines,
        }
    }
}

/// Where `overlay` has files for the image `name`, relative to the project.
fn overlay_tree(overlay: &Overlay, name: &str) -> PathBuf {
    Path::new("overlays").join(overlay.name.as_str()).join("files").join(name)
}

/// The directory of the files that `overlay` itself has for the image `name`.
pub(super) fn overlay_files(project: &Project, overlay: &Overlay, name: &str) -> PathBuf {
    project.root().join(overlay_tree(overlay, name))
}

type Content = (RenderedKind, Vec<u32>);

fn render_template(
    project: &Project,
    origin: &Path,
    sight: &Sight,
    renderer: &mut Renderer,
    values: &Context,
) -> Result<Content, Vec<Error>> {
    let source = read_text(project.root(), origin).map_err(|error| vec![error.into()])?;
    let template = Checked::new(source, sight)?;
    let rendered = template.render(renderer, values).map_err(|error| vec![error])?;
    Ok((RenderedKind::File { content: rendered.text.into_bytes() }, rendered.lines))
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut content))
        .map_err(|cause| Error::Read { path: path.to_owned(), cause })?;
    if content.len() as u64 > FILE_LIMIT {
        return Err(Error::TooLarge { path: path.to_owned(), limit: FILE_LIMIT });
    }
    Ok(content)
}

/// A unit that is a link to `/dev/null` is masked (systemd.unit(5), "Description").
fn mask_units(image: &Image, tree: &mut Tree) -> Result<()> {
    if image.masks.is_empty() {
        return Ok(());
    }
    let origin = PathBuf::from(image.place.file());
    let directory = Path::new("etc/systemd/system");
    let mut masks = Tree::new();
    for ancestor in directory.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        let node = Node { kind: NodeKind::Directory, origin: origin.clone() };
        masks.insert(ancestor.to_owned(), node);
    }
    for unit in &image.masks {
        let kind = NodeKind::Symlink { target: PathBuf::from("/dev/null") };
        masks.insert(directory.join(unit.as_str()), Node { kind, origin: origin.clone() });
    }
    lay_over(tree, masks)
}

/// The `[[files]]` rules by path, each of which must name something in `tree`.
fn rules<'a>(image: &'a Image, tree: &Tree) -> Result<BTreeMap<&'a Path, &'a FileRule>> {
    let mut rules = BTreeMap::new();
    for rule in &image.files {
        let path = rule.path.relative();
        let Some(node) = tree.get(path) else {
            return Err(no_such_file("[[files]]", image.name.as_str(), rule, tree));
        };
        if rule.mode.is_some() && matches!(node.kind, NodeKind::Symlink { .. }) {
            let problem = RuleProblem::LinkMode(rule.path.to_string());
            let help = Some("remove `mode`".to_owned());
            return Err(Error::rule(problem, &rule.place, help));
        }
        if rules.insert(path, rule).is_some() {
            let problem = RuleProblem::Twice(rule.path.to_string());
            return Err(Error::rule(problem, &rule.place, None));
        }
    }
    Ok(rules)
}

fn no_such_file(kind: &'static str, image: &str, rule: &FileRule, tree: &Tree) -> Error {
    let paths: Vec<String> = tree.keys().map(|path| format!("/{}", path.display())).collect();
    let help = did_you_mean(rule.path.as_str(), paths.iter().map(String::as_str));
    let help = help.unwrap_or_else(|| {
        format!(
            "add images/{image}/files{path} or images/{image}/files{path}.hbs",
            path = rule.path
        )
    });
    let (path, missing) = (rule.path.to_string(), format!("`{image}` does not bring"));
    let problem = RuleProblem::NoSuchFile { rule: kind, path, missing };
    Error::rule(problem, &rule.place, Some(help))
}

/// Checks that no path has one type in one layer and another in the next.
pub(super) fn check_layers(layers: &[RenderedLayer]) -> Result<()> {
    let mut below: BTreeMap<&Path, Node> = BTreeMap::new();
    for entry in layers.iter().flat_map(|layer| &layer.entries) {
        let kind = match &entry.kind {
            RenderedKind::Directory => NodeKind::Directory,
            RenderedKind::File { .. } => NodeKind::File { executable: false },
            RenderedKind::Symlink { target } => NodeKind::Symlink { target: target.clone() },
        };
        let node = Node { kind, origin: entry.source.clone() };
        if let Some(lower) = below.get(entry.path.as_path()) {
            check_type(&entry.path, lower, &node)?;
        }
        below.insert(&entry.path, node);
    }
    Ok(())
}

/// Checks that no file stands where a volume of `plan` will be mounted over it.
pub(super) fn check_states(plan: &Plan, layers: &[RenderedLayer]) -> Result<()> {
    for entry in layers.iter().flat_map(|layer| &layer.entries) {
        let hides = |state: &&State| {
            entry.path != state.path.relative() && entry.path.starts_with(state.path.relative())
        };
        if let Some(state) = plan.states.iter().find(hides) {
            let path = format!("/{}", entry.path.display());
            let source_path = entry.source.display().to_string();
            let problem = RuleProblem::Hidden { source_path, path };
            let help = "have it made on the volume at boot, for example by tmpfiles.d(5)";
            return Err(Error::rule(problem, &state.place, Some(help.to_owned())));
        }
    }
    Ok(())
}

/// Checks that what a `[[check]]` claims to cover is rendered by some layer of the stack.
pub(super) fn check_covers(plan: &Plan, layers: &[RenderedLayer]) -> Result<()> {
    let files: BTreeMap<&Path, String> = layers
        .iter()
        .flat_map(|layer| &layer.entries)
        .filter(|entry| matches!(entry.kind, RenderedKind::File { .. }))
        .map(|entry| (entry.path.as_path(), format!("/{}", entry.path.display())))
        .collect();
    for (path, place) in plan.checks.iter().flat_map(|check| &check.covers) {
        if !files.contains_key(path.relative()) {
            let help = did_you_mean(path.as_str(), files.values().map(String::as_str));
            let missing = "no image of the stack brings".to_owned();
            let (rule, path) = ("[[check]]", path.to_string());
            let problem = RuleProblem::NoSuchFile { rule, path, missing };
            return Err(Error::rule(problem, place, help));
        }
    }
    Ok(())
}
