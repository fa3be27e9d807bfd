//! `imgbuild lab up`

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use miette::{Result, miette};

use super::{LabArguments, Opened, POLL, executable, lab_site};
use crate::cli::context::Context;
use crate::cli::site::concerns;
use crate::cli::teller::{More, Teller};
use crate::lab::{self, Bind, Error, Local, Settings};
use crate::swap::{Goal, Health, Outcome, Scope, Standing, admit_all, differences};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The roles to have in the lab, besides those that are in it [default: all of the site]
    #[arg(value_name = "ROLE")]
    roles: Vec<String>,
    #[command(flatten)]
    lab: LabArguments,
    /// Give guests of a node or role a directory of this machine; may be repeated
    #[arg(long = "bind", value_name = "NODE-OR-ROLE:DIRECTORY:PATH")]
    binds: Vec<Bind>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let opened = open(context, arguments)?;
    let started = opened.local.start_with_host(|guest, record| {
        context.say(format!("{}: start guest {guest}, which has the node", record.node));
    });
    started.map_err(|error| miette!("cannot start the guests that have nodes: {error}"))?;
    let managed = opened.managed();
    let survey = managed.survey()?;
    let standing = differences(&opened.wanted, &survey);
    let named = &arguments.roles;
    let undone =
        |standing| matches!(standing, Standing::Missing | Standing::Unfinished | Standing::Stopped);
    let nodes: Vec<_> = standing
        .iter()
        .filter(|one| undone(one.standing))
        .filter(|one| named.is_empty() || named.iter().any(|role| *role == one.role.name.as_str()))
        .map(|one| one.node.name.clone())
        .collect();
    let outdated: Vec<&str> = standing
        .iter()
        .filter(|one| one.standing == Standing::Outdated && !one.role.artifact.is_empty())
        .map(|one| one.node.name.as_str())
        .collect();
    let teller = Teller::new(context);
    let outcome = match nodes.is_empty() {
        true => Outcome::Done,
        false => {
            let scope = Scope { nodes, ..Scope::default() };
            let site = opened.local.site();
            site.require_artifacts(|role| concerns(&opened.wanted, &scope, role))?;
            let goal = Goal::Deploy { scope, canary: false, pause_after: None };
            managed.operate(&teller, &goal, "lab up", &admit_all)?
        }
    };
    if matches!(outcome, Outcome::Done) {
        wait_for_all(context, &opened)?;
        if !outdated.is_empty() {
            context.say(format!(
                "{}: there is a newer image; `imgbuild lab swap` takes it",
                outdated.join(", ")
            ));
        }
    }
    let directory = opened.local.place().root();
    context.say(format!("the lab is in {}", directory.display()));
    teller.end(&outcome, More { lab: Some(directory.to_owned()), ..More::default() })
}

/// The lab, made if need be, with its host.
fn open(context: &Context, arguments: &Arguments) -> Result<Opened> {
    let place = arguments.lab.place.place()?;
    place.check_free()?;
    let name = &arguments.lab.place.site;
    let mut settings = match place.exists() {
        true => place.read_settings()?,
        false => Settings::new(name.clone()),
    };
    if settings.site != *name {
        let (directory, is) = (place.root().to_owned(), settings.site);
        return Err(Error::OtherSite { directory, is }.into());
    }
    let project = context.project()?;
    let before = settings.roles.clone();
    // Without names: those that are in the lab, and all in a new one.
    if !arguments.roles.is_empty() || before.is_empty() {
        let site = project.settled_site(name.as_str())?;
        settings.roles.extend(lab::roles(&site, &arguments.roles)?);
    }
    let site = lab_site(context, &project, &settings, &arguments.lab.artifacts)?;
    settings.bind(&arguments.binds, &site)?;
    let wanted = site.wanted()?;
    let executable = executable()?;
    // Before anything is made, or remembered.
    site.require_artifacts(|role| !before.contains(role))?;
    site.check_limits()?;
    if place.set_up(&settings, &site, &executable)? {
        context.say(format!("started the lab's host for {name}"));
    }
    let local = Local::open(place, settings, site, &executable)?;
    Ok(Opened { local, wanted })
}

/// Waits until every node that has a guest is ready, as long as its role may take for that.
fn wait_for_all(context: &Context, opened: &Opened) -> Result<()> {
    let patience = opened.wanted.roles().map(|role| role.ready_within).max().unwrap_or_default();
    let start = Instant::now();
    let mut said = Vec::new();
    loop {
        let unready = unready(opened)?;
        if unready.is_empty() {
            return Ok(());
        }
        let seconds = patience.as_secs();
        if start.elapsed() > patience {
            let lines = unready.iter().map(|(node, says)| format!("\n  {node}: {says}"));
            return Err(miette!(
                help = "look around with `imgbuild lab shell NODE`",
                "not ready after {seconds} s:{}",
                lines.collect::<String>()
            ));
        }
        // What they say changes all the time; who says it does not.
        let names: Vec<String> = unready.into_keys().collect();
        if names != said {
            context.say(format!("  waiting, up to {seconds} s: not ready: {}", names.join(", ")));
            said = names;
        }
        std::thread::sleep(POLL);
    }
}

/// The nodes that have a guest and are not ready, and what they say.
fn unready(opened: &Opened) -> Result<BTreeMap<String, String>> {
    let managed = opened.managed();
    let survey = managed.survey()?;
    let mut health = managed.health().0;
    let standing = differences(&opened.wanted, &survey);
    let nodes = standing.iter().filter(|one| one.current.is_some());
    let unready = nodes.filter_map(|one| {
        let name = &one.node.name;
        match health.remove(name)? {
            Health::Ready { .. } => None,
            Health::NotReady(says) | Health::Silent(says) => Some((name.to_string(), says)),
        }
    });
    Ok(unready.collect())
}
