//! What definitions say of levels, applied to what was found in an image.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Error, Finding, registry};
use crate::definition::lint::{self, Used, Verdict, verdict};
use crate::lint::Level;

/// Something that a lint objects to and that is shipped all the same, because somebody said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tolerated {
    /// The name of the lint.
    pub lint: String,
    /// The path, relative to the root of the image.
    pub path: PathBuf,
    /// Whether it is shown: `allow` or `warn`.
    pub level: Level,
    /// Why it is tolerated.
    pub reason: String,
    /// The definition or overlay that says so: `images/web/image.toml`.
    pub definition: String,
    /// The line of it.
    pub line: usize,
    /// What the lint says.
    pub message: String,
}

/// What the findings of an image come to.
#[derive(Debug, Default)]
pub struct Judgement {
    /// What keeps the image from being shipped.
    pub refused: Vec<Finding>,
    /// What does not.
    pub tolerated: Vec<Tolerated>,
}

impl Judgement {
    /// What is tolerated, if nothing else was found.
    ///
    /// # Errors
    /// [`Error::Findings`].
    pub fn accept(self) -> Result<Vec<Tolerated>, Error> {
        match self.refused {
            findings if findings.is_empty() => Ok(self.tolerated),
            findings => Err(Error::Findings { findings }),
        }
    }
}

/// Applies `rules`, those of the lowest definition first, to `findings`. What each rule was needed for is
/// added to `used`.
pub fn judge(rules: &[lint::Rule], findings: Vec<Finding>, used: &mut Used) -> Judgement {
    let mut judgement = Judgement::default();
    for finding in findings {
        let path = format!("/{}", finding.path.display());
        let known = registry::find(&finding.lint);
        let settled = known.map(|lint| verdict(rules, lint, &path, used));
        match settled {
            // Nothing but a rule makes a finding in an image milder than an error.
            Some(Verdict { level: level @ (Level::Allow | Level::Warn), rule: Some(rule) }) => {
                judgement.tolerated.push(Tolerated {
                    lint: finding.lint,
                    path: finding.path,
                    level,
                    reason: rule.reason.clone(),
                    definition: rule.place.file().to_owned(),
                    line: rule.place.line(),
                    message: finding.message,
                });
            }
            _ => judgement.refused.push(finding),
        }
    }
    // A path that several layers have is told once.
    judgement.tolerated.sort_by(|a, b| (&a.path, &a.lint).cmp(&(&b.path, &b.lint)));
    judgement.tolerated.dedup();
    judgement
}
