//! Doubts about definitions that are sound as far as the rules go, and what `[lints]` says of levels.

mod judge;
mod pattern;
mod rule;

use std::fmt;

use miette::{Diagnostic, LabeledSpan, Severity, SourceCode};
use serde_json::Value;

use super::endpoint::Clients;
use super::image::Image;
use super::name::{ImageName, ParameterName, SiteName};
use super::parameter::{Parameter, Type};
use super::place::Place;
use super::project::Project;
use super::secret::{SecretText, is_secret_name, secret_in};
use super::suggest::did_you_mean;
use super::upstream::{Pin, Upstream};
use crate::lint::{self as registry, Level, Lint};

pub use judge::{Allowed, Judgement, judge, refused, unused_in_images};
pub use pattern::PathPattern;
pub(super) use rule::{Holder, check_forbidden};
pub use rule::{Rule, Used, Verdict, verdict};

/// Where a definition-level finding was made, which decides whose `[lints]` hold for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the definition of this image.
    Image(ImageName),
    /// In the overlay of this site, perhaps among its values for an image.
    Site(SiteName, Option<ImageName>),
}

/// Something that is most likely a mistake. Shown as a warning, or as an error if its level stops.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message} [{}]", lint.name)]
pub struct Finding {
    /// The lint.
    pub lint: &'static Lint,
    /// What it leads to: that of the lint itself until [`judge`] has looked at it.
    pub level: Level,
    /// Where it was made.
    pub origin: Origin,
    /// The name of what it is about: a parameter, a package, a source, an image, a lint.
    pub subject: String,
    /// What looks wrong.
    pub message: String,
    /// The text that is underlined.
    pub place: Place,
    /// The remedy.
    pub help: String,
}

impl Diagnostic for Finding {
    fn severity(&self) -> Option<Severity> {
        Some(if self.level.stops() { Severity::Error } else { Severity::Warning })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.place.source())
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), self.place.span());
        Some(Box::new(std::iter::once(label)))
    }
}

impl Finding {
    pub(crate) fn new(
        lint: &'static Lint,
        (origin, subject): (Origin, &str),
        message: String,
        place: &Place,
        help: &str,
    ) -> Self {
        let (subject, help) = (subject.to_owned(), help.to_owned());
        Self { lint, level: lint.level(), origin, subject, message, place: place.clone(), help }
    }
}

/// Looks over everything but templates. The findings are raw: [`judge`] applies what definitions say.
pub fn lint(project: &Project) -> Vec<Finding> {
    let mut findings = Vec::new();
    for image in project.images() {
        let origin = || Origin::Image(image.name.clone());
        for (name, parameter) in &image.parameters {
            secret_parameter(origin(), name, parameter, &mut findings);
            if let Some(default) = &parameter.default {
                secret_value(origin(), name.as_str(), default, &parameter.place, &mut findings);
            }
        }
        for source in image.sources.values() {
            unverified_source(origin(), source, &mut findings);
        }
        let stack = project.stack(image.name.as_str()).unwrap_or_default();
        duplicate_packages(&stack, &mut findings);
        unknown_images(project, image, &mut findings);
    }
    let checked = &project.checked;
    for (image, settings) in &checked.values {
        for (name, setting) in settings {
            let origin = Origin::Image(image.clone());
            secret_value(origin, name.as_str(), &setting.value, &setting.place, &mut findings);
        }
    }
    for (site, images) in &checked.overlays {
        for (image, settings) in images {
            for (name, setting) in settings {
                let origin = Origin::Site(site.clone(), Some(image.clone()));
                secret_value(origin, name.as_str(), &setting.value, &setting.place, &mut findings);
            }
        }
    }
    findings
}

fn secret_parameter(
    origin: Origin,
    name: &ParameterName,
    parameter: &Parameter,
    findings: &mut Vec<Finding>,
) {
    let Some(found) = secret_name(name, &parameter.kind) else { return };
    let message = format!("`{found}` sounds like a secret, and a parameter ends up in the image");
    let lint = &registry::SECRET_PARAMETER;
    let about = (origin, name.as_str());
    findings.push(Finding::new(lint, about, message, &parameter.place, lint.remedy));
}

/// The name of the parameter or of a field in it that holds text and sounds like a secret.
fn secret_name<'a>(name: &'a ParameterName, kind: &'a Type) -> Option<&'a ParameterName> {
    match kind {
        Type::String { values: None } => is_secret_name(name.as_str()).then_some(name),
        Type::List(items) => secret_name(name, items),
        Type::Record(fields) => {
            fields.iter().find_map(|(name, field)| secret_name(name, &field.kind))
        }
        _ => None,
    }
}

fn secret_value(
    origin: Origin,
    name: &str,
    value: &Value,
    place: &Place,
    findings: &mut Vec<Finding>,
) {
    let Some(found) = secret_text(name, value) else { return };
    let message = format!("this value holds {}, which ends up in the image", found.what);
    let lint = if found.is_certain { &registry::SECRET_VALUE } else { &registry::LIKELY_SECRET };
    let place = place.within(found.text);
    findings.push(Finding::new(lint, (origin, name), message, &place, lint.remedy));
}

/// The secret that a value holds, if it holds one.
fn secret_text<'a>(name: &str, value: &'a Value) -> Option<SecretText<'a>> {
    match value {
        Value::String(text) => secret_in(name, text),
        Value::Array(values) => values.iter().find_map(|value| secret_text(name, value)),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| secret_text(name, value)),
        _ => None,
    }
}

/// Images that endpoints and connections name and that are not there. The firewall lets in nobody
/// for them, so this is a doubt and no error.
fn unknown_images(project: &Project, image: &Image, findings: &mut Vec<Finding>) {
    let clients = image.endpoints.values().filter_map(|endpoint| match &endpoint.clients {
        Clients::Any => None,
        Clients::Some { images, .. } => Some(images),
    });
    let targets = image.connections.iter().map(|connection| &connection.to);
    let arbitrator = image.cluster.iter().filter_map(|cluster| cluster.arbitrator.as_ref());
    let all: Vec<&(ImageName, Place)> =
        clients.flatten().chain(targets).chain(arbitrator).collect();
    let names = || project.images().map(|image| image.name.as_str());
    for (name, place) in all {
        if project.image(name.as_str()).is_err() {
            let message = format!("there is no image `{name}`, so this stands for nobody");
            let help = did_you_mean(name.as_str(), names())
                .unwrap_or_else(|| format!("add images/{name}, or take the name out"));
            let about = (Origin::Image(image.name.clone()), name.as_str());
            findings.push(Finding::new(&registry::UNKNOWN_IMAGE, about, message, place, &help));
        }
    }
}

fn unverified_source(origin: Origin, source: &Upstream, findings: &mut Vec<Finding>) {
    let Pin::Unverified(how) = &source.pin else { return };
    let refuses =
        if source.is_package() { "`lock` and `build` refuse it" } else { "`build` refuses it" };
    let message = format!("nobody has verified the source `{}`: {refuses}", source.name);
    let help = format!("{how}; then replace `unverified` by `sha256` and `published`");
    let about = (origin, source.name.as_str());
    let lint = &registry::UNVERIFIED_SOURCE;
    findings.push(Finding::new(lint, about, message, &source.place, &help));
}

fn duplicate_packages(stack: &[&Image], findings: &mut Vec<Finding>) {
    let Some((image, below)) = stack.split_last() else { return };
    let lower = || below.iter().flat_map(|image| &image.packages.install);
    for (index, relation) in image.packages.install.iter().enumerate() {
        let mut others = lower().chain(&image.packages.install[..index]);
        if let Some(other) = others.find(|other| other.text == relation.text) {
            let message = format!("`{}` is asked for at {} already", relation.text, other.place);
            let package = relation.text.split([' ', '(', ':', '|']).next().unwrap_or_default();
            let about = (Origin::Image(image.name.clone()), package);
            let lint = &registry::DUPLICATE_PACKAGE;
            findings.push(Finding::new(lint, about, message, &relation.place, lint.remedy));
        }
    }
}
