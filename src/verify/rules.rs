//! What policies say of an artifact.

use super::signed::Beside;
use super::{Subject, Verdict};
use crate::artifact::manifest::Manifest;
use crate::debian::date::Moment;
use crate::definition::{self, Policy, Project};
use crate::signature::{AllowedSigners, Identity, NAMESPACE, NotAllowed, RevokedKeys};

const DAY: u64 = 24 * 60 * 60;

/// A policy with the signers and the revoked keys that it names.
#[derive(Clone, Debug)]
pub struct Rules {
    policy: Policy,
    signers: Option<AllowedSigners>,
    revoked: Option<RevokedKeys>,
}

impl Rules {
    /// `policy`, and what it refers to.
    ///
    /// # Errors
    /// The file of signers, or that of revoked keys, cannot be read, or is none.
    pub fn new(policy: Policy) -> definition::Result<Self> {
        let wanted = policy.signatures.as_ref();
        let signers = wanted.map(|it| AllowedSigners::parse(&it.allowed_signers()?)).transpose()?;
        let revoked = wanted.map(|it| it.revoked()).transpose()?.flatten();
        let revoked = revoked.map(|source| RevokedKeys::parse(&source)).transpose()?;
        Ok(Self { signers, revoked, policy })
    }

    /// What holds for artifacts of `site` in `project`, or of none.
    ///
    /// # Errors
    /// A policy that cannot be read.
    pub fn of<E: From<definition::Error>>(
        project: &Project,
        site: Option<&str>,
    ) -> Result<Vec<Self>, E> {
        let policies = project.policies(site)?;
        Ok(policies.into_iter().map(Self::new).collect::<definition::Result<Vec<_>>>()?)
    }

    /// The file: `policy.toml`.
    pub fn name(&self) -> &str {
        self.policy.place.file()
    }

    /// Whether artifacts have to be signed.
    pub fn demands_signature(&self) -> bool {
        self.policy.signatures.as_ref().is_some_and(|signatures| signatures.required)
    }

    /// Under which name `identity` may have signed at `at`, or why it may not. None if the policy says nothing of
    /// signatures.
    pub fn allow(&self, identity: &Identity, at: Moment) -> Option<Result<String, String>> {
        let (wanted, signers) = (self.policy.signatures.as_ref()?, self.signers.as_ref()?);
        if let Some(why) = self.revoked.as_ref().and_then(|keys| keys.objection(identity)) {
            return Some(Err(format!("{} does not allow who has signed: {why}", self.name())));
        }
        let names = wanted.signers.iter().map(|name| Some(name.as_str()));
        let names: Vec<Option<&str>> =
            if wanted.signers.is_empty() { vec![None] } else { names.collect() };
        let mut reasons = Vec::new();
        for name in names {
            match signers.allow(identity, NAMESPACE, name, at) {
                Ok(name) => return Some(Ok(name)),
                Err(NotAllowed { reasons: more }) => reasons.extend(more),
            }
        }
        reasons.dedup();
        Some(Err(if reasons.is_empty() {
            format!("{} allows nobody to sign with the key {}", self.name(), identity.name())
        } else {
            format!("{} does not allow who has signed: {}", self.name(), reasons.join("; "))
        }))
    }

    /// Holds the artifact of `manifest` against the policy. `repositories` is the date of the newest repository that
    /// it was locked from, as far as that is known. Whether what lies `beside` was compared with what the layers make
    /// stands with it.
    pub(super) fn judge(
        &self,
        manifest: Option<&Manifest>,
        (beside, is_compared): (&Beside, bool),
        (now, repositories): (Moment, Option<Moment>),
        verdict: &mut Verdict,
    ) {
        let before = verdict.refused().count();
        if let Some(manifest) = manifest {
            self.judge_contents(manifest, verdict);
        }
        self.judge_documents(beside, is_compared, verdict);
        self.judge_age(now, repositories, verdict);
        if manifest.is_some() && verdict.refused().count() == before {
            let name = self.name().to_owned();
            verdict.ok(
                Subject::Policy,
                format!("what {name} says of contents, documents and age holds"),
            );
        }
    }

    fn judge_contents(&self, manifest: &Manifest, verdict: &mut Verdict) {
        if !self.policy.unpinned && !manifest.unpinned.is_empty() {
            let text = format!(
                "{} has what the lock does not pin: {}",
                manifest.role,
                manifest.unpinned.join(", ")
            );
            let help = "build it without `--source`, or of what the lock pins";
            verdict.refuse(Subject::Policy, text, help);
        }
        for forbidden in &self.policy.forbidden {
            let packages = manifest.packages.iter().filter(|it| forbidden.is(&it.name));
            for package in packages {
                let text = format!(
                    "the package {} {} is forbidden: {} ({})",
                    package.name, package.version, forbidden.reason, forbidden.place
                );
                let help =
                    format!("`imgbuild why {} {}` says what needs it", manifest.role, package.name);
                verdict.refuse(Subject::Policy, text, help);
            }
        }
    }

    fn judge_documents(&self, beside: &Beside, is_compared: bool, verdict: &mut Verdict) {
        let is_there = |index: usize| matches!(beside.documents[index], Ok(Some(_)));
        let help = "`imgbuild sign` writes and signs them";
        if self.policy.sbom && !(is_there(0) && is_there(1)) {
            let text =
                format!("{} demands bills of materials, and they are not there", self.name());
            verdict.refuse(Subject::Policy, text, help);
        } else if self.policy.sbom && !is_compared && !verdict.is_vouched_for {
            self.refuse_hearsay(verdict);
        }
        if self.policy.provenance && !is_there(2) {
            let text = format!("{} demands provenance, and it is not there", self.name());
            verdict.refuse(Subject::Policy, text, help);
        }
    }

    /// Refuses bills that anybody could have written, unless what is wrong with them is said already.
    fn refuse_hearsay(&self, verdict: &mut Verdict) {
        let is_about =
            |it: Subject| matches!(it, Subject::Manifest | Subject::Signature | Subject::Sbom);
        if verdict.refused().any(|check| is_about(check.check)) {
            return;
        }
        let text = format!(
            "{} demands bills of materials, and nobody vouches for these: nobody who may has signed them, and they \
             cannot be compared with what the layers make",
            self.name()
        );
        let help = "sign it where it was built: `imgbuild sign`; or look at it where its layers are, with the version of \
                    imgbuild that has written the bills";
        verdict.refuse(Subject::Policy, text, help);
    }

    fn judge_age(&self, now: Moment, repositories: Option<Moment>, verdict: &mut Verdict) {
        let Some(maximum) = self.policy.maximum_days else { return };
        let limit = format!("{} allows {maximum} days", self.name());
        let known = [
            (
                "it was signed",
                verdict.signed,
                "if it is still right, sign it anew: `imgbuild sign`",
            ),
            (
                "its repositories are of",
                repositories,
                "take updates and build it again: `imgbuild lock --update`",
            ),
        ];
        if known.iter().all(|(_, since, _)| since.is_none()) {
            let text = format!("nothing says how old it is, and {limit}");
            return verdict.refuse(Subject::Policy, text, "sign it: `imgbuild sign`");
        }
        for (what, since, help) in known {
            let Some(since) = since else { continue };
            let days = now.unix().saturating_sub(since.unix()) / DAY;
            if now.unix() > since.unix().saturating_add(u64::from(maximum) * DAY) {
                let text = format!("{what} {since}, {days} days ago, and {limit}");
                verdict.refuse(Subject::Policy, text, help);
            }
        }
    }
}
