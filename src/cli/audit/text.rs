//! An audit in words.

use std::collections::BTreeSet;

use miette::{Result, miette};

use super::Output;
use crate::audit::{Certainty, Finding, Severity, Status, Urgency};
use crate::cli::context::{Context, wrapped};

/// After so many days data are called old. The tracker changes several times a day.
const OLD_DAYS: u64 = 7;

/// Names that are shown of a list.
const SHOWN: usize = 6;

/// One finding, in a few lines.
pub(super) fn show(context: &Context, finding: &Finding, all_roles: usize) -> Result<()> {
    let Finding { id, source, version, packages, roles, .. } = finding;
    let word = finding.severity.word();
    context.data(format!("{word:<11}  {id}  {source} {version}"))?;
    let indent = |text: String| wrapped(&format!("             {text}"), 13);
    context.data(indent(standing(finding)))?;
    let roles = match roles.len() {
        1 => listed(roles),
        count if count == all_roles => format!("all {count} roles"),
        _ => listed(roles),
    };
    context.data(indent(format!("{roles}: {}", listed(packages))))
}

/// What can be done about a finding.
fn standing(finding: &Finding) -> String {
    let mut text = match (&finding.fixed, finding.status) {
        (Some(fixed), _) => format!("fixed in {fixed}"),
        (None, Status::Undetermined) => "nobody has found out whether it is there".to_owned(),
        (None, _) if finding.urgency == Urgency::EndOfLife => {
            "no fix: the package is no longer supported in this release".to_owned()
        }
        (None, _) => "no fix yet".to_owned(),
    };
    match &finding.update {
        Some(update) if update.brings_fix => {
            text += &format!("; `imgbuild lock --update` brings {}", update.version);
        }
        Some(update) if finding.is_out_of_reach() && finding.fixed.is_some() => {
            let images = listed(&update.out_of_reach);
            text += &format!(
                "; `imgbuild lock --update` does not bring it to {images}: a repository cannot be used"
            );
        }
        Some(_) if finding.fixed.is_some() => text += "; the repositories do not have it yet",
        _ => {}
    }
    if let Some(no_dsa) = finding.no_dsa.as_ref().filter(|_| finding.fixed.is_none()) {
        let decision = match no_dsa.decision.as_str() {
            "ignored" => "Debian will not fix it in this release",
            "postponed" => "Debian will fix it together with others",
            _ => "no advisory for it alone",
        };
        text += &format!("; {decision}: {}", no_dsa.reason);
    }
    if let Some(accepted) = &finding.accepted {
        let state = if accepted.expired { "was accepted" } else { "accepted" };
        text += &format!("; {state} until {}: {}", accepted.until, accepted.reason);
    }
    // What is open has it in every version.
    if finding.certainty == Certainty::Assumed && finding.fixed.is_some() {
        text += "; the version of the source package is assumed";
    }
    text
}

/// The first few of `names`.
fn listed(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What it comes to, and what is to be done.
pub(super) fn conclude(
    context: &Context,
    output: &Output,
    age_days: Option<u64>,
    (all, severity): (bool, Severity),
    asked: &Asked<'_>,
) {
    say_gaps(context, output);
    let Output { data, roles, findings, .. } = output;
    if let Some(days) = age_days.filter(|days| *days > OLD_DAYS) {
        let old = miette!(
            severity = miette::Severity::Warning,
            help = "get newer ones: the tracker changes several times a day",
            "the data of {} are {days} days old",
            data.from
        );
        context.report(old.as_ref());
    }
    if !all && !context.json() {
        say_hidden(context, findings, severity);
    }
    let day = match (data.changed, data.asked) {
        (Some(moment), _) | (None, Some(moment)) => format!(" by data of {moment}"),
        (None, None) => String::new(),
    };
    let (sources, count) = (output.sources, roles.len());
    let word = if count == 1 { "role" } else { "roles" };
    let looked = format!("{sources} source packages of {count} {word}{day}");
    if output.counted == 0 {
        return context.say(format!("{looked}: nothing that counts"));
    }
    let levels = [
        Severity::High,
        Severity::Medium,
        Severity::Unassigned,
        Severity::Low,
        Severity::Unimportant,
    ];
    let levels = levels.into_iter().filter_map(|level| {
        let count = findings.iter().filter(|it| it.counts && it.severity == level).count();
        (count > 0).then(|| format!("{count} {}", level.word()))
    });
    let levels: Vec<String> = levels.collect();
    context.say(format!("{looked}: {} vulnerabilities: {}", output.counted, levels.join(", ")));
    context.say(next(output, asked));
}

/// What an audit was asked about.
pub(super) struct Asked<'a> {
    /// The roles, if they were named.
    pub(super) roles: &'a [String],
    /// The site, if it was.
    pub(super) site: Option<&'a str>,
}

impl Asked<'_> {
    /// The option that names the site.
    fn site(&self) -> String {
        self.site.map(|site| format!(" --site {site}")).unwrap_or_default()
    }

    /// The same audit as it is typed, with more options to come.
    fn command(&self) -> String {
        let roles: String = self.roles.iter().map(|role| format!(" {role}")).collect();
        format!("imgbuild audit{roles}{}", self.site())
    }
}

/// What to do about what was found.
fn next(output: &Output, asked: &Asked<'_>) -> String {
    let counting = || output.findings.iter().filter(|it| it.counts);
    let fixable = counting().filter(|it| it.fixed.is_some()).count();
    let brought = counting().filter(|it| it.is_brought()).count();
    let out_of_reach = counting().filter(|it| it.fixed.is_some() && it.is_out_of_reach()).count();
    match &output.changing {
        Some(changing) if brought > 0 => {
            let roles: Vec<&str> = changing.iter().map(String::as_str).collect();
            format!(
                "{} mended by `imgbuild lock --update`; then `imgbuild build {}{}`",
                of_them(brought, "is", "are"),
                roles.join(" "),
                asked.site()
            )
        }
        _ if fixable == 0 => "none of them has a fix in the release".to_owned(),
        Some(_) if out_of_reach > 0 => format!(
            "{} a fix; the repositories do not have it yet, or cannot be used",
            of_them(fixable, "has", "have")
        ),
        Some(_) => format!(
            "{} a fix, which the repositories do not have yet",
            of_them(fixable, "has", "have")
        ),
        None => format!(
            "{} a fix; `{} --updates` says whether `imgbuild lock --update` brings it",
            of_them(fixable, "has", "have"),
            asked.command()
        ),
    }
}

/// Says what was not looked at, what is not certain, and what of `audit.toml` is over.
fn say_gaps(context: &Context, output: &Output) {
    let Output { findings, overlooked, assumed, unused, .. } = output;
    if !overlooked.is_empty() {
        let names = overlooked.iter().map(|it| format!("{} {}: {}", it.name, it.version, it.why));
        let names: Vec<String> = names.take(SHOWN).collect();
        let more = match overlooked.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!("\n  and {more} more: `--json` has them all"),
        };
        context.say(format!("nobody looked at:\n  {}{more}", names.join("\n  ")));
    }
    if !assumed.is_empty() {
        context.say(format!(
            "the version of the source package is assumed: {}; `--updates`, or `imgbuild build`, finds out",
            listed(assumed)
        ));
    }
    for entry in unused {
        context.say(format!("{entry} was not found in these roles; is the entry still needed?"));
    }
    for finding in findings {
        if let Some(accepted) = finding.accepted.as_ref().filter(|it| it.expired) {
            let (place, until) = (&accepted.place, &accepted.until);
            let text = format!("{place}: {} was accepted until {until}", finding.id);
            context.say(format!("{text}, and counts again"));
        }
    }
}

fn of_them(count: usize, one: &str, several: &str) -> String {
    format!("{count} of them {}", if count == 1 { one } else { several })
}

/// Says how many findings are not shown, and why they do not count.
fn say_hidden(context: &Context, findings: &[Finding], severity: Severity) {
    let [mut accepted, mut undetermined, mut mild, mut unfixed] = [0; 4];
    for finding in findings.iter().filter(|it| !it.counts) {
        *match finding {
            _ if finding.accepted.as_ref().is_some_and(|it| !it.expired) => &mut accepted,
            _ if finding.status == Status::Undetermined => &mut undetermined,
            _ if finding.severity < severity => &mut mild,
            _ => &mut unfixed,
        } += 1;
    }
    let parts = [
        (accepted, "accepted"),
        (undetermined, "undetermined"),
        (mild, "less severe"),
        (unfixed, "without a fix"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, what)| format!("{count} {what}")).collect();
    if !parts.is_empty() {
        context.say(format!("not shown: {}; `--all` shows them", parts.join(", ")));
    }
}
