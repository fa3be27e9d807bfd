//! Whether an artifact can be trusted: what is beside it fits it, who may sign has signed it, and what policies say
//! of it holds.
//!
//! [`Verifier::check`] looks at one artifact and gives a [`Verdict`]: every check, and what it found. Files are read once,
//! and what was hashed is what is judged.

mod documents;
mod manifest;
mod rules;
mod sign;
mod signed;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use manifest::unfit_layers;
pub use rules::Rules;
pub use sign::{SignError, Signed, sign};

use crate::artifact::manifest::Manifest;
use crate::artifact::name::Format;
use crate::build::LockedRole;
use crate::debian::date::Moment;
use crate::digest::Digest;
use crate::inspect::Inspector;
use crate::lock::Lock;
use crate::signature::files::Files;
use crate::store::Store;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The bytes of the artifact, against the manifest.
    Artifact,
    /// The manifest in itself.
    Manifest,
    /// The layers that the manifest names, in the store.
    Layers,
    /// The signature and what it is of.
    Signature,
    /// The provenance.
    Provenance,
    /// The bills of materials.
    Sbom,
    /// A policy.
    Policy,
}

impl Subject {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::Manifest => "manifest",
            Self::Layers => "layers",
            Self::Signature => "signature",
            Self::Provenance => "provenance",
            Self::Sbom => "sbom",
            Self::Policy => "policy",
        }
    }
}

/// What a check comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// It is as it should be.
    Ok,
    /// It could not be looked at, or nobody has said how it should be, and nothing demands it.
    Unknown,
    /// It is not as it should be.
    Refused,
}

/// One check of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Check {
    /// What was looked at.
    pub check: Subject,
    /// What that comes to.
    pub result: Finding,
    /// What was found, in words.
    pub text: String,
    /// How to mend it, if it can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// What is to be said of an artifact.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Verdict {
    /// Whether a policy was asked, and nothing is refused.
    pub trusted: bool,
    /// The file.
    pub artifact: PathBuf,
    /// The role that the manifest names.
    pub role: Option<String>,
    /// The site that the manifest names.
    pub site: Option<String>,
    /// The digest of the image that the manifest names.
    pub image: Option<Digest>,
    /// The SHA-256 of the bytes.
    pub sha256: Option<Digest>,
    /// Under which name somebody has signed who may; else the key.
    pub signer: Option<String>,
    /// When that was.
    pub signed: Option<Moment>,
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// The manifest that was judged.
    #[serde(skip)]
    #[schemars(skip)]
    pub manifest: Option<Manifest>,
    /// Whether somebody whom a policy allows has signed what is there.
    #[serde(skip)]
    #[schemars(skip)]
    is_vouched_for: bool,
}

impl Verdict {
    /// What is refused.
    pub fn refused(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.result == Finding::Refused)
    }

    /// The verdict on what has the manifest `expected`, which was read before: refused if that is another one.
    #[must_use]
    pub fn of(mut self, expected: &Manifest) -> Self {
        if self.manifest.as_ref() != Some(expected) && self.trusted {
            self.refuse(
                Subject::Manifest,
                "it has changed while it was looked at",
                "call imgbuild again",
            );
            self.trusted = false;
        }
        self
    }

    /// The verdict on a file that has no name of an artifact, so that nothing can lie beside it.
    pub fn of_no_artifact(path: &Path) -> Self {
        let mut verdict = Self::new(path.to_owned());
        let text = "it is called as no artifact is: NAME.tar.zst, NAME.qcow2";
        verdict.refuse(Subject::Manifest, text, "build it again");
        verdict
    }

    fn new(artifact: PathBuf) -> Self {
        Self {
            trusted: false,
            artifact,
            role: None,
            site: None,
            image: None,
            sha256: None,
            signer: None,
            signed: None,
            checks: Vec::new(),
            manifest: None,
            is_vouched_for: false,
        }
    }

    fn add(&mut self, check: Subject, result: Finding, text: impl Into<String>) {
        self.checks.push(Check { check, result, text: text.into(), help: None });
    }

    fn ok(&mut self, check: Subject, text: impl Into<String>) {
        self.add(check, Finding::Ok, text);
    }

    fn unknown(&mut self, check: Subject, text: impl Into<String>) {
        self.add(check, Finding::Unknown, text);
    }

    fn refuse(&mut self, check: Subject, text: impl Into<String>, help: impl Into<String>) {
        let help = Some(help.into());
        self.checks.push(Check { check, result: Finding::Refused, text: text.into(), help });
    }
}

/// What says which artifacts may be trusted.
pub enum Judge<'a> {
    /// These policies, if there are any. Where there are none, nothing is trusted, and everything is refused.
    Policies(&'a [Rules]),
    /// Nobody can say which policies hold: why, and what to do about it. Everything is refused.
    Nobody {
        /// Why.
        text: String,
        /// What to do.
        help: String,
    },
    /// Nobody is asked: only whether everything fits together. Nothing is trusted by that.
    Unasked,
}

impl Judge<'_> {
    fn rules(&self) -> &[Rules] {
        match self {
            Self::Policies(rules) => rules,
            Self::Nobody { .. } | Self::Unasked => &[],
        }
    }

    /// Says so if no policy was asked.
    fn tell(&self, verdict: &mut Verdict) {
        match self {
            Self::Policies([]) => verdict.refuse(
                Subject::Policy,
                "there is no policy.toml that says what may be in it, and who may sign",
                "write one (docs/policy.md), or name one with `--policy FILE`; `--integrity` looks only whether \
                 everything fits together",
            ),
            Self::Policies(_) => {}
            Self::Nobody { text, help } => verdict.refuse(Subject::Policy, text, help),
            Self::Unasked => verdict.unknown(
                Subject::Policy,
                "none was asked: this says that everything fits together, and not who has made it",
            ),
        }
    }
}

/// What artifacts are judged by.
pub struct Verifier<'a> {
    /// What says which may be trusted.
    pub judge: Judge<'a>,
    /// The site that the artifact has to be for, or that it has to be for none, if that matters.
    pub site: Option<Option<&'a str>>,
    /// The store, if there is one at hand.
    pub store: Option<&'a Store>,
    /// Whether all layers have to be in the store.
    pub layers: bool,
    /// Now.
    pub now: Moment,
}

impl Verifier<'_> {
    /// Looks at the artifact of `files`. `repositories` gives the date of the newest repository that the image of a manifest
    /// was locked from, as far as that is known.
    pub fn check(
        &self,
        files: &Files,
        repositories: impl Fn(&Manifest) -> Option<Moment>,
    ) -> Verdict {
        let mut verdict = Verdict::new(files.artifact());
        let manifest = manifest::read(files, &mut verdict);
        let beside = signed::Beside::read(files);
        let mut is_compared = false;
        if let Some((manifest, text)) = &manifest {
            if let Some(site) = self.site.filter(|site| *site != manifest.site.as_deref()) {
                let word = |site: Option<&str>| {
                    site.map_or("no site".to_owned(), |it| format!("the site {it}"))
                };
                let (is, wanted) = (word(manifest.site.as_deref()), word(site));
                let text = format!("it is for {is}, and not for {wanted}");
                verdict.refuse(
                    Subject::Manifest,
                    text,
                    "build it for the site that it shall run at",
                );
            }
            let has_layers = self.check_layers(manifest, &mut verdict);
            self.check_signature(files, (manifest, text), &beside, &mut verdict);
            let store = self.store.filter(|_| has_layers);
            let inspector = store.map(|store| (Inspector::new(store), store));
            is_compared =
                documents::check(files, (manifest, text), &beside, inspector, &mut verdict);
        }
        let manifest = manifest.map(|(manifest, _)| manifest);
        let repositories = manifest.as_ref().and_then(repositories);
        let beside = (&beside, is_compared);
        for rules in self.judge.rules() {
            rules.judge(manifest.as_ref(), beside, (self.now, repositories), &mut verdict);
        }
        self.judge.tell(&mut verdict);
        verdict.trusted = !self.judge.rules().is_empty() && verdict.refused().next().is_none();
        verdict.manifest = manifest;
        verdict
    }

    /// Whether all layers are in the store and whole.
    fn check_layers(&self, manifest: &Manifest, verdict: &mut Verdict) -> bool {
        let Some(store) = self.store else {
            verdict.unknown(Subject::Layers, "no store is at hand to look for them");
            return false;
        };
        let boot = manifest.disk.iter().flat_map(|disk| &disk.boot);
        let layers: Vec<_> = manifest.layers.iter().chain(boot).collect();
        let mut absent = Vec::new();
        let mut broken = false;
        for layer in &layers {
            let name = format!("{} {} ({})", layer.image, layer.kind.name(), layer.digest.short());
            match store.verify(&layer.digest) {
                Ok(_) => {}
                Err(crate::store::Error::Missing { .. }) => absent.push(name),
                Err(error) => {
                    broken = true;
                    let help = "the store has it no more: build the image again";
                    verdict.refuse(Subject::Layers, format!("{name}: {error}"), help);
                }
            }
        }
        let total = layers.len();
        if !absent.is_empty() {
            let text =
                format!("{} of {total} are not in the store: {}", absent.len(), absent.join(", "));
            if self.layers {
                let help = "build the image here, or leave out `--layers`";
                verdict.refuse(Subject::Layers, text, help);
            } else {
                verdict.unknown(Subject::Layers, text);
            }
        } else if !broken {
            verdict
                .ok(Subject::Layers, format!("all {total} are in the store, and their bytes fit"));
        }
        absent.is_empty() && !broken
    }
}

/// The date of the newest repository that `role` was locked from in `format`: what is older than the lock, nobody has looked
/// for. None if it was locked from none.
pub fn newest_repository(lock: &Lock, role: &LockedRole, format: Format) -> Option<Moment> {
    let names: Vec<&str> = match format {
        Format::LxcTemplate => role.plan.images.iter().map(|image| image.name.as_str()).collect(),
        Format::Qcow2 => role.images().map(|image| image.name.as_str()).collect(),
    };
    let repositories = lock.repositories.iter();
    let own = repositories.filter(|repository| names.contains(&repository.image.as_str()));
    own.map(|repository| repository.date).max()
}

/// The artifacts that a swap would bring to a site, and must not.
#[derive(Debug, thiserror::Error)]
#[error("{} not to be trusted: {}", if artifacts.len() == 1 { "an artifact is" } else { "artifacts are" }, reasons(artifacts))]
pub struct Refused {
    /// The site.
    pub site: String,
    /// Them, and why.
    pub artifacts: Vec<Verdict>,
}

impl miette::Diagnostic for Refused {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        let helps = self.artifacts.iter().flat_map(Verdict::refused);
        let help = helps.filter_map(|check| check.help.as_deref()).next();
        let help = help.unwrap_or("look at it");
        let all = format!("imgbuild verify --site {}", self.site);
        Some(Box::new(format!("{help}; all of it: `{all}`, docs/policy.md")))
    }
}

fn reasons(verdicts: &[Verdict]) -> String {
    let one = |verdict: &Verdict| {
        let checks = verdict.refused().map(|it| format!("{}: {}", it.check.word(), it.text));
        format!("{}: {}", name(&verdict.artifact), checks.collect::<Vec<_>>().join("; "))
    };
    verdicts.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The name of the file at `path`.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
