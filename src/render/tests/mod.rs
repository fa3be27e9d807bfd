//! Templates and trees, sound and unsound.

mod errors;
mod files;
mod lines;

use std::path::Path;

use super::{RenderedEntry, RenderedKind, RenderedLayer};
use crate::definition::tests::Files;

/// The text of the file `path` as the uppermost layer has it.
fn text(layers: &[RenderedLayer], path: &str) -> String {
    match &entry(layers, path).kind {
        RenderedKind::File { content } => String::from_utf8(content.clone()).unwrap(),
        other => panic!("{path} is {other:?}"),
    }
}

fn entry<'a>(layers: &'a [RenderedLayer], path: &str) -> &'a RenderedEntry {
    let mut entries = layers.iter().rev().flat_map(|layer| &layer.entries);
    entries.find(|entry| entry.path == Path::new(path)).unwrap_or_else(|| panic!("no {path}"))
}

/// The layers of the role `web` at the site `campus`.
fn render(files: &Files) -> super::Result<Vec<RenderedLayer>> {
    let project = files.load().unwrap();
    let plan = project.plan("web", Some("campus")).unwrap();
    super::check(&project)?;
    super::render(&project, &plan)
}

/// What the one template `text` renders to.
fn rendered(template: &str) -> String {
    let files = Files::sound().with("images/web/files/etc/x.conf.hbs", template);
    let layers = render(&files).unwrap_or_else(|error| panic!("{template}: {error:?}"));
    text(&layers, "etc/x.conf")
}
