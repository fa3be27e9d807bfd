//! `imgbuild check`

use std::process::ExitCode;

use miette::Result;

use super::context::Context;
use crate::definition::lint;
use crate::render;

/// Takes nothing but the options of every verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(context: &Context, _arguments: &Arguments) -> Result<ExitCode> {
    let project = context.project()?;
    render::check(&project)?;
    let mut plans = 0;
    let sites: Vec<String> = project.sites().map(|site| site.name.to_string()).collect();
    for image in project.roles() {
        let role = image.name.as_str();
        for site in sites.iter().map(|site| Some(site.as_str())).chain([None]) {
            // Without a site, only what needs none can be planned.
            match (project.plan(role, site), site) {
                (Ok(plan), _) => {
                    render::render(&project, &plan)?;
                    plans += 1;
                }
                (Err(error), Some(_)) => return Err(error.into()),
                (Err(error), None) if sites.is_empty() => return Err(error.into()),
                (Err(_), None) => {}
            }
        }
    }
    let findings = Vec::<lint::Finding>::new();
    for finding in &findings {
        context.say(format!("{}: {} [{}]", finding.place, finding.message, finding.name));
    }
    context.current_lock(&project)?;
    if !findings.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    context.say(format!(
        "{} definitions, {} sites, {plans} plans: all well",
        project.images().count(),
        sites.len()
    ));
    Ok(ExitCode::SUCCESS)
}
