//! Doubts about definitions that are sound as far as the rules go.

use std::collections::BTreeMap;

use miette::{Diagnostic, SourceSpan};
use serde_json::Value;

use super::endpoint::Clients;
use super::image::Image;
use super::name::{ImageName, ParameterName};
use super::parameter::{Parameter, Type};
use super::place::{Place, Source};
use super::project::Project;
use super::secret::{is_secret_name, secret_in};
use super::suggest::did_you_mean;
use super::upstream::{Pin, Upstream};

/// Something that is most likely a mistake.
#[derive(Clone, Debug, thiserror::Error, Diagnostic)]
#[error("{message} [{name}]")]
#[diagnostic(severity(Warning))]
pub struct Finding {
    /// The name of the lint: `secret-parameter`.
    pub name: &'static str,
    /// What looks wrong.
    pub message: String,
    /// The file.
    #[source_code]
    pub file: Source,
    /// The text that is underlined.
    #[label("here")]
    pub span: SourceSpan,
    /// The remedy.
    #[help]
    pub help: Option<String>,
}

impl Finding {
    pub(crate) fn new(name: &'static str, message: String, place: &Place, help: &str) -> Self {
        let (file, span) = (place.source().clone(), place.span());
        Self { name, message, file, span, help: Some(help.to_owned()) }
    }
}

/// Whether a finding forbids building: an image must never hold a secret. The others are warnings.
pub fn is_refused(finding: &Finding) -> bool {
    finding.name.starts_with("secret-")
}

/// Looks over everything but templates.
///
/// - `secret-parameter`: a parameter or field whose name says that it is a secret. Its value would
///   be baked into the image and into every copy of it.
/// - `secret-value`: a value that is a private key, a password or its hash, or looks like a key.
/// - `unknown-image`: an endpoint, a connection or a cluster names an image that is not there.
/// - `unverified-source`: a source that nobody could verify, which `build` refuses.
/// - `duplicate-package`: a package that a lower image of the stack asks for in the same words.
pub fn lint(project: &Project) -> Vec<Finding> {
    let mut findings = Vec::new();
    for image in project.images() {
        for (name, parameter) in &image.parameters {
            secret_parameter(name, parameter, &mut findings);
            if let Some(default) = &parameter.default {
                secret_value(name.as_str(), default, &parameter.place, &mut findings);
            }
        }
        for source in image.sources.values() {
            unverified_source(source, &mut findings);
        }
        let stack = project.stack(image.name.as_str()).unwrap_or_default();
        duplicate_packages(&stack, &mut findings);
        unknown_images(project, image, &mut findings);
    }
    let checked = &project.checked;
    let settings =
        checked.values.values().chain(checked.overlays.values().flat_map(BTreeMap::values));
    for (name, setting) in settings.flatten() {
        secret_value(name.as_str(), &setting.value, &setting.place, &mut findings);
    }
    findings
}

fn secret_parameter(name: &ParameterName, parameter: &Parameter, findings: &mut Vec<Finding>) {
    let Some(name) = secret_name(name, &parameter.kind) else { return };
    let message = format!("`{name}` sounds like a secret, and a parameter ends up in the image");
    let help = "declare it in [secrets]: templates then see the path where it is at run time";
    findings.push(Finding::new("secret-parameter", message, &parameter.place, help));
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

fn secret_value(name: &str, value: &Value, place: &Place, findings: &mut Vec<Finding>) {
    let Some((what, text)) = secret_text(name, value) else { return };
    let message = format!("this value holds {what}, which ends up in the image");
    let help = "take it out of the repository, renew it, and declare it in [secrets]";
    findings.push(Finding::new("secret-value", message, &place.within(text), help));
}

/// What kind of secret a value holds, if it holds one, and the text that gives it away.
fn secret_text<'a>(name: &str, value: &'a Value) -> Option<(&'static str, &'a str)> {
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
            findings.push(Finding::new("unknown-image", message, place, &help));
        }
    }
}

fn unverified_source(source: &Upstream, findings: &mut Vec<Finding>) {
    let Pin::Unverified(how) = &source.pin else { return };
    let refuses =
        if source.is_package() { "`lock` and `build` refuse it" } else { "`build` refuses it" };
    let message = format!("nobody has verified the source `{}`: {refuses}", source.name);
    let help = format!("{how}; then replace `unverified` by `sha256` and `published`");
    findings.push(Finding::new("unverified-source", message, &source.place, &help));
}

fn duplicate_packages(stack: &[&Image], findings: &mut Vec<Finding>) {
    let Some((image, below)) = stack.split_last() else { return };
    let lower = || below.iter().flat_map(|image| &image.packages.install);
    for (index, relation) in image.packages.install.iter().enumerate() {
        let mut others = lower().chain(&image.packages.install[..index]);
        if let Some(other) = others.find(|other| other.text == relation.text) {
            let message = format!("`{}` is asked for at {} already", relation.text, other.place);
            let help = "remove one of the two";
            findings.push(Finding::new("duplicate-package", message, &relation.place, help));
        }
    }
}
