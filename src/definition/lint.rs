//! Doubts about definitions that are sound as far as the rules go.

use std::collections::BTreeMap;

use miette::{Diagnostic, SourceSpan};
use serde_json::Value;

use super::image::Image;
use super::name::ParameterName;
use super::parameter::{Parameter, Type};
use super::place::{Place, Source};
use super::project::Project;
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
/// - `secret-value`: a value that is a private key or a password hash.
/// - `unverified-source`: a source that nobody could verify, which `build` refuses.
/// - `duplicate-package`: a package that a lower image of the stack asks for in the same words.
pub fn lint(project: &Project) -> Vec<Finding> {
    let mut findings = Vec::new();
    for image in project.images() {
        for (name, parameter) in &image.parameters {
            secret_parameter(name, parameter, &mut findings);
            if let Some(default) = &parameter.default {
                secret_value(default, &parameter.place, &mut findings);
            }
        }
        for source in image.sources.values() {
            unverified_source(source, &mut findings);
        }
        let stack = project.stack(image.name.as_str()).unwrap_or_default();
        duplicate_packages(&stack, &mut findings);
    }
    let checked = &project.checked;
    let settings =
        checked.values.values().chain(checked.overlays.values().flat_map(BTreeMap::values));
    for setting in settings.flat_map(BTreeMap::values) {
        secret_value(&setting.value, &setting.place, &mut findings);
    }
    findings
}

const SECRET_WORDS: [&str; 5] = ["password", "passphrase", "secret", "token", "private_key"];

fn secret_parameter(name: &ParameterName, parameter: &Parameter, findings: &mut Vec<Finding>) {
    let Some(name) = secret_name(name, &parameter.kind) else { return };
    let message = format!("`{name}` sounds like a secret, and a parameter ends up in the image");
    let help = "declare it in [secrets]: templates then see the path where it is at run time";
    findings.push(Finding::new("secret-parameter", message, &parameter.place, help));
}

/// The name of the parameter or of a field in it that holds text and sounds like a secret.
fn secret_name<'a>(name: &'a ParameterName, kind: &'a Type) -> Option<&'a ParameterName> {
    match kind {
        Type::String { values: None } => {
            SECRET_WORDS.iter().any(|word| name.as_str().contains(word)).then_some(name)
        }
        Type::List(items) => secret_name(name, items),
        Type::Record(fields) => {
            fields.iter().find_map(|(name, field)| secret_name(name, &field.kind))
        }
        _ => None,
    }
}

fn secret_value(value: &Value, place: &Place, findings: &mut Vec<Finding>) {
    let Some(what) = secret_text(value) else { return };
    let message = format!("this value holds {what}, which ends up in the image");
    let help = "take it out of the repository, renew it, and declare it in [secrets]";
    findings.push(Finding::new("secret-value", message, place, help));
}

/// What kind of secret a value holds, if it holds one in a form that is nothing else.
fn secret_text(value: &Value) -> Option<&'static str> {
    match value {
        // RFC 7468, section 2, and the like: `-----BEGIN OPENSSH PRIVATE KEY-----`.
        Value::String(text) if text.contains("PRIVATE KEY-----") => Some("a private key"),
        // The hashing methods of crypt(5) that passwords of today use.
        Value::String(text) => ["$y$", "$gy$", "$7$", "$2b$", "$2y$", "$6$", "$5$", "$argon2"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
            .then_some("a password hash"),
        Value::Array(values) => values.iter().find_map(secret_text),
        Value::Object(fields) => fields.values().find_map(secret_text),
        _ => None,
    }
}

fn unverified_source(source: &Upstream, findings: &mut Vec<Finding>) {
    let Pin::Unverified(how) = &source.pin else { return };
    let message = format!("nobody has verified the source `{}`: `build` refuses it", source.name);
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
