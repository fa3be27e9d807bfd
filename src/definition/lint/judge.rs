//! What `[lints]` says of levels, applied to what was found.

use std::collections::BTreeSet;

use super::{Finding, Origin, Rule, Used, Verdict, lint, verdict};
use crate::definition::image::Image;
use crate::definition::overlay::Overlay;
use crate::definition::place::Place;
use crate::definition::project::Project;
use crate::lint::{Level, UNUSED_ALLOWANCE};

/// A finding that a definition or overlay allows.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// What was found.
    pub finding: Finding,
    /// Why it is allowed.
    pub reason: String,
    /// Where that is said.
    pub place: Place,
}

/// What findings come to.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// What is to be shown, each at its level.
    pub findings: Vec<Finding>,
    /// What is allowed.
    pub allowed: Vec<Allowed>,
}

impl Judgement {
    /// The findings that stop.
    pub fn refused(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.level.stops())
    }

    fn add(&mut self, project: &Project, mut finding: Finding, used: &mut Used) {
        let rules = rules_for(project, &finding.origin);
        let Verdict { level, rule } = verdict(rules, finding.lint, &finding.subject, used);
        finding.level = level;
        match rule {
            Some(rule) if level == Level::Allow => {
                let (reason, place) = (rule.reason.clone(), rule.place.clone());
                self.allowed.push(Allowed { finding, reason, place });
            }
            _ => self.findings.push(finding),
        }
    }
}

/// Applies what definitions and overlays say to `findings`, which are all that there are to be found in the
/// project. What they allow and nobody found is a finding itself.
pub fn judge(project: &Project, findings: Vec<Finding>) -> Judgement {
    let mut used = Used::default();
    let mut judgement = Judgement::default();
    for finding in findings {
        judgement.add(project, finding, &mut used);
    }
    let rules = all_rules(project).filter(|(_, rule)| !rule.lint.looks_at_images());
    // An allowance of unused allowances is needed for what is found here, so it comes last.
    let (last, first): (Vec<_>, Vec<_>) =
        rules.partition(|(_, rule)| rule.lint.name == UNUSED_ALLOWANCE.name);
    for (origin, rule) in first.into_iter().chain(last) {
        for finding in unused_parts(&origin, rule, &used) {
            judgement.add(project, finding, &mut used);
        }
    }
    judgement
}

/// What the definitions alone show that stops every build, whether or not all templates are in order.
pub fn refused(project: &Project) -> Vec<Finding> {
    let mut used = Used::default();
    let mut judgement = Judgement::default();
    for finding in lint(project) {
        judgement.add(project, finding, &mut used);
    }
    judgement.refused().cloned().collect()
}

/// The allowances for what is found in images that were not needed, of those definitions and sites of which
/// `looked_at` says that every image which they hold for was looked at.
pub fn unused_in_images(
    project: &Project,
    used: &Used,
    looked_at: impl Fn(&Origin) -> bool,
) -> Judgement {
    let mut judgement = Judgement::default();
    let mut ignored = Used::default();
    let rules = all_rules(project).filter(|(_, rule)| rule.lint.looks_at_images());
    for (origin, rule) in rules.filter(|(origin, _)| looked_at(origin)) {
        for finding in unused_parts(&origin, rule, used) {
            judgement.add(project, finding, &mut ignored);
        }
    }
    judgement
}

fn unused_parts(origin: &Origin, rule: &Rule, used: &Used) -> Vec<Finding> {
    let finding = |(what, place): (String, Place)| {
        let message = format!("{what} is allowed and not found");
        let about = (origin.clone(), rule.lint.name);
        Finding::new(&UNUSED_ALLOWANCE, about, message, &place, UNUSED_ALLOWANCE.remedy)
    };
    rule.unused(used).into_iter().map(finding).collect()
}

/// Every rule of the project, and whose it is.
fn all_rules(project: &Project) -> impl Iterator<Item = (Origin, &Rule)> {
    let of_image = |image: &Image| Origin::Image(image.name.clone());
    let of_site = |site: &Overlay| Origin::Site(site.name.clone(), None);
    let images = project
        .images()
        .flat_map(move |image| image.lints.iter().map(move |rule| (of_image(image), rule)));
    let sites = project
        .sites()
        .flat_map(move |site| site.lints.iter().map(move |rule| (of_site(site), rule)));
    images.chain(sites)
}

/// The rules that hold at `origin`, the weakest first.
fn rules_for<'a>(project: &'a Project, origin: &Origin) -> Vec<&'a Rule> {
    let (image, site) = match origin {
        Origin::Image(image) => (Some(image), None),
        Origin::Site(site, image) => (image.as_ref(), Some(site)),
    };
    let stack = image.and_then(|image| project.stack(image.as_str()).ok()).unwrap_or_default();
    let overlays = site.and_then(|site| project.overlays(site.as_str()).ok()).unwrap_or_default();
    let images = stack.into_iter().flat_map(|image| &image.lints);
    images.chain(overlays.into_iter().flat_map(|overlay| &overlay.lints)).collect()
}

impl Project {
    /// The rules that hold for what is built of `stack` at the site of `overlays`, the weakest first.
    pub(in crate::definition) fn rules(stack: &[&Image], overlays: &[&Overlay]) -> Vec<Rule> {
        let images = stack.iter().flat_map(|image| image.lints.clone());
        images.chain(overlays.iter().flat_map(|overlay| overlay.lints.clone())).collect()
    }

    /// The roles that what is said of lints at `origin` holds for.
    pub fn concerned(&self, origin: &Origin) -> BTreeSet<String> {
        let stands_on = |role: &Image, name: &str| {
            let stack = self.stack(role.name.as_str()).unwrap_or_default();
            let machine = self.machine_of(role).map(|(machine, _)| machine);
            stack.into_iter().chain(machine).any(|image| image.name.as_str() == name)
        };
        let concerned = |role: &&Image| match origin {
            Origin::Image(image) => stands_on(role, image.as_str()),
            Origin::Site(site, _) => {
                let nodes = self.nodes(site.as_str()).unwrap_or_default();
                nodes.is_empty() || nodes.iter().any(|node| node.image == role.name)
            }
        };
        self.roles().filter(concerned).map(|role| role.name.to_string()).collect()
    }
}
