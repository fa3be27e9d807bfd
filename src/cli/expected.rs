//! A plan that somebody has seen, against the one that is made when it is to be carried out.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use miette::{Result, miette};
use serde::Deserialize;
use similar::{ChangeTag, TextDiff};

use super::context::shown;
use super::output::{Ended, NodeStanding, PlannedStep, SCHEMA, SitePlan};
use super::plan::standing_text;
use crate::swap::Refusal;

/// The longest file that is read, in bytes. The plan of a site of a thousand nodes is not a tenth of that.
const LIMIT: u64 = 64 << 20;

/// So many lines that differ are shown.
const SHOWN: usize = 20;

/// A plan that somebody has seen, and nothing else is to be done.
pub(super) struct Expected {
    path: PathBuf,
    plan: SitePlan,
}

/// What every object begins with.
#[derive(Deserialize)]
struct Head {
    verb: String,
    schema: u32,
}

impl Expected {
    /// What `imgbuild plan` has written to the file at `path`, about `site`.
    pub(super) fn read(path: &Path, site: &str) -> Result<Self> {
        let help = format!("make one: `imgbuild plan --site {site} --out {}`", shown(path));
        let text = text(path).map_err(|error| {
            miette!(help = help.clone(), "{error}")
                .wrap_err(format!("cannot read the plan in {}", shown(path)))
        })?;
        let plan = parse(&text, site).map_err(|why| {
            miette!(
                help = help.clone(),
                "{} is no plan that a swap of {site} could be held to: {}",
                shown(path),
                printable(&why)
            )
        })?;
        Ok(Self { path: path.to_owned(), plan })
    }

    /// Refuses `now` if it would do something else. What is waited for on the way may differ: who is not ready, and why,
    /// changes by itself.
    pub(super) fn require(&self, now: &SitePlan) -> Result<(), Box<Refusal>> {
        let SitePlan { site, nodes, steps, ending, .. } = now;
        let same = self.plan.site == *site
            && self.plan.nodes == *nodes
            && changes(&self.plan.steps).eq(changes(steps))
            && self.plan.ending == *ending;
        if same {
            return Ok(());
        }
        let (plan, site) = (shown(&self.path), site.clone());
        let differ = |commands| differences(&lines(&self.plan, commands), &lines(now, commands));
        // Commands say the same at greater length, but for what only they say: how large a guest is.
        let lines = Some(differ(false)).filter(|lines| !lines.is_empty());
        let lines = lines.unwrap_or_else(|| differ(true));
        Err(Box::new(Refusal::NotExpected { plan, site, lines }))
    }
}

fn text(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(LIMIT + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The plan for `site` in `text`, or why there is none.
fn parse(text: &[u8], site: &str) -> Result<SitePlan, String> {
    if text.len() as u64 > LIMIT {
        return Err(format!("it has more than {} MiB", LIMIT >> 20));
    }
    let head: Head = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if head.verb != "plan" {
        return Err(format!("`imgbuild {}` wrote it", head.verb));
    }
    if head.schema != SCHEMA {
        return Err(format!("it has the form {}, and this imgbuild knows {SCHEMA}", head.schema));
    }
    let plan: SitePlan = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if plan.site != site {
        return Err(format!("it is of the site {}", plan.site));
    }
    Ok(plan)
}

fn changes(steps: &[PlannedStep]) -> impl Iterator<Item = &PlannedStep> {
    steps.iter().filter(|step| step.changes)
}

/// What has to be the same of a plan, for people.
fn lines(plan: &SitePlan, with_commands: bool) -> Vec<String> {
    let mut lines: Vec<String> = plan.nodes.iter().map(standing).collect();
    for PlannedStep { node, step, commands, .. } in changes(&plan.steps) {
        lines.push(format!("{node}: {step}"));
        let commands = commands.iter().filter(|_| with_commands);
        lines.extend(commands.map(|command| format!("{node}: $ {command}")));
    }
    lines.push(match plan.ending {
        Ended::Done => "to its end".to_owned(),
        Ended::Paused => "up to a pause".to_owned(),
        Ended::Refused => "nothing: it was refused".to_owned(),
        Ended::Endless => "without end".to_owned(),
    });
    lines.iter().map(|line| printable(line)).collect()
}

fn standing(one: &NodeStanding) -> String {
    let NodeStanding { node, role, host, guest, runs, wanted, standing } = one;
    let guest = guest.map_or_else(|| "no guest".to_owned(), |guest| format!("guest {guest}"));
    let [runs, wanted] =
        [runs, wanted].map(|it| it.map_or_else(|| "nothing".to_owned(), |image| image.short()));
    let standing = standing_text(*standing);
    format!("{node}: {role} on {host}, {guest} runs {runs}, wanted {wanted}: {standing}")
}

fn differences(old: &[String], new: &[String]) -> Vec<String> {
    let [old, new] = [old, new].map(|lines| lines.iter().map(String::as_str).collect::<Vec<_>>());
    let diff = TextDiff::from_slices(&old, &new);
    let differ = diff.iter_all_changes().filter_map(|change| match change.tag() {
        ChangeTag::Equal => None,
        ChangeTag::Delete => Some(format!("- {}", change.value())),
        ChangeTag::Insert => Some(format!("+ {}", change.value())),
    });
    let mut lines: Vec<String> = differ.collect();
    let more = lines.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.truncate(SHOWN);
        lines.push(format!("… and {more} more"));
    }
    lines
}

/// `text` in one line that steers no terminal: the file may be anybody's.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}
