//! Watches a guest come up: asks systemd, asks the role's health check, and looks for causes if either is
//! not content.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;

use super::{Error, Output};
use crate::progress::{Progress, Step};

/// How long any question but the two that are waited for may take to be answered.
const QUESTION: Duration = Duration::from_secs(60);

/// How long a health check gets when systemd has found fault already.
const LOST: Duration = Duration::from_secs(15);

/// Lines of a journal that are shown.
const JOURNAL_LINES: &str = "--lines=40";

/// Lines of a console that are shown.
const CONSOLE_LINES: usize = 40;

/// A running guest.
pub trait Guest {
    /// Runs a command in it, its program an absolute path. None if it does not answer, or the command has
    /// not ended, within `timeout`.
    ///
    /// # Errors
    ///
    /// When asking it fails in a way that waiting does not mend.
    fn execute(&mut self, argv: &[&str], timeout: Duration) -> Result<Option<Output>, Error>;

    /// Whether it is not running any more.
    fn has_ended(&mut self) -> bool;

    /// What has been on its console so far, the last 4 MiB of it.
    fn console(&self) -> String;

    /// Bytes of memory that it uses, where that is easily said.
    fn memory(&mut self) -> Option<u64>;

    /// Its addresses, without those of the loopback interface and of single links.
    fn addresses(&mut self) -> Vec<String>;
}

/// When what was reached, in seconds since the guest was started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Seconds {
    /// systemd had started everything, or given up on it.
    pub started: Option<f64>,
    /// The health check succeeded.
    pub healthy: Option<f64>,
}

/// What was seen of a guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Observation {
    /// Whether the health check succeeded and no unit has failed.
    pub healthy: bool,
    /// What systemd says of itself: `running`, `degraded`, …
    pub state: String,
    /// When what was reached.
    pub seconds: Seconds,
    /// What `systemd-analyze time` says, without its line ends.
    pub analysis: Option<String>,
    /// Addresses.
    pub addresses: Vec<String>,
    /// Bytes of memory in use.
    pub memory: Option<u64>,
    /// Units that have failed.
    pub failed_units: Vec<String>,
    /// What may explain why it is not healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What may explain why a guest is not healthy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Failure {
    /// What the health check has written the last time; none if it succeeded or never ran.
    pub health: Option<String>,
    /// The end of the journal: of each failed unit, or else of everything.
    pub journal: String,
    /// The end of the console.
    pub console: String,
}

/// Watches `guest`, started at `started`, until `health` (a program and its arguments) succeeds in it;
/// without one, until systemd has started everything.
///
/// # Errors
///
/// When the guest ends, or does not answer within `timeout` of its start. That it is not healthy by
/// then is an observation.
pub fn observe(
    guest: &mut dyn Guest,
    health: Option<&[String]>,
    started: Instant,
    timeout: Duration,
    progress: &dyn Progress,
) -> Result<Observation, Error> {
    let deadline = started + timeout;
    let mut seen = Observation::default();
    let step = Step::start(progress, "start units", None);
    seen.state = wait_for_systemd(guest, deadline, timeout)?;
    let state_known = seen.state != "starting" && seen.state != "initializing";
    seen.seconds.started = state_known.then(|| seconds_since(started));
    step.finish(format!("{} after {:.1} s", seen.state, seconds_since(started)));
    let mut complaint = None;
    if let Some(health) = health {
        let step = Step::start(progress, "health check", None);
        let patient = if seen.state == "running" { deadline } else { Instant::now() + LOST };
        complaint = wait_for_health(guest, health, patient.min(deadline))?;
        if complaint.is_none() {
            let seconds = seconds_since(started);
            seen.seconds.healthy = Some(seconds);
            step.finish(format!("passed after {seconds:.1} s"));
        } else {
            step.finish("failed");
        }
    }
    seen.failed_units = failed_units(guest)?;
    seen.healthy = seen.state == "running" && complaint.is_none() && seen.failed_units.is_empty();
    seen.analysis = ask(guest, &["/usr/bin/systemd-analyze", "time"])?
        .map(|text| text.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    seen.addresses = guest.addresses();
    seen.memory = guest.memory();
    if !seen.healthy {
        seen.failure = Some(Failure {
            health: complaint,
            journal: journal(guest, &seen.failed_units)?,
            console: console_tail(guest),
        });
    }
    Ok(seen)
}

/// Exact to a millisecond.
fn seconds_since(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

/// The last lines of a guest's console, without what steers a terminal.
pub(super) fn console_tail(guest: &dyn Guest) -> String {
    tail(&guest.console())
}

fn tail(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(printable)
        .filter(|line| !line.trim().is_empty() && !is_animation(line))
        .collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}

/// `line` without control characters and sequences (ECMA-48).
fn printable(line: &str) -> String {
    let mut shown = String::new();
    let mut signs = line.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\u{1b}' => match signs.next() {
                // A control sequence goes to the first letter or the like,
                Some('[') => drop(signs.find(|sign| ('@'..='~').contains(sign))),
                // a command to the terminal to a bell or to `ESC \`, whose second sign is harmless.
                Some(']') => drop(signs.find(|sign| matches!(sign, '\u{7}' | '\u{1b}'))),
                _ => {}
            },
            '\t' => shown.push(' '),
            sign if sign.is_control() => {}
            sign => shown.push(sign),
        }
    }
    shown
}

/// Whether `line` is one of the many with which systemd shows that it is waiting: `[ ***  ] Job …`.
fn is_animation(line: &str) -> bool {
    let inside = line.trim().strip_prefix('[').and_then(|rest| rest.split_once(']'));
    inside.is_some_and(|(sign, _)| {
        sign.contains('*') && sign.chars().all(|sign| matches!(sign, '*' | ' '))
    })
}

fn wait_for_systemd(
    guest: &mut dyn Guest,
    deadline: Instant,
    timeout: Duration,
) -> Result<String, Error> {
    const QUESTION_OF_STATE: [&str; 2] = ["/usr/bin/systemctl", "is-system-running"];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let waiting = [QUESTION_OF_STATE[0], QUESTION_OF_STATE[1], "--wait"];
        let answer = guest.execute(&waiting, left)?.map(|output| output.text());
        // systemd answers as soon as its socket is there; before that asking again is all there is.
        match answer.as_deref() {
            Some("" | "offline" | "unknown" | "initializing" | "starting") | None => {}
            Some(state) => return Ok(state.to_owned()),
        }
        if guest.has_ended() {
            let console = console_tail(guest);
            return Err(Error::Stopped { when: "while it was starting".to_owned(), console });
        }
        if Instant::now() >= deadline {
            // One that starts for ever can still say what it waits for.
            return match guest.execute(&QUESTION_OF_STATE, QUESTION)?.map(|output| output.text()) {
                Some(state) if !state.is_empty() && state != "offline" => Ok(state),
                _ => Err(Error::Timeout {
                    what: "waiting for the guest to start".to_owned(),
                    after: timeout,
                    console: console_tail(guest),
                }),
            };
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the health check succeeds, and returns what it said last if it does not.
fn wait_for_health(
    guest: &mut dyn Guest,
    health: &[String],
    deadline: Instant,
) -> Result<Option<String>, Error> {
    let argv: Vec<&str> = health.iter().map(String::as_str).collect();
    let mut pause = Duration::from_millis(100);
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let said = match guest.execute(&argv, left.min(QUESTION))? {
            Some(output) if output.success() => return Ok(None),
            Some(output) => output.complaint(),
            None => "no answer".to_owned(),
        };
        if guest.has_ended() {
            let when = "before its health check succeeded".to_owned();
            return Err(Error::Stopped { when, console: console_tail(guest) });
        }
        if Instant::now() >= deadline {
            return Ok(Some(tail(&said)));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

fn ask(guest: &mut dyn Guest, argv: &[&str]) -> Result<Option<String>, Error> {
    let output = guest.execute(argv, QUESTION)?;
    Ok(output.filter(Output::success).map(|output| output.text()))
}

fn failed_units(guest: &mut dyn Guest) -> Result<Vec<String>, Error> {
    let argv = ["/usr/bin/systemctl", "--failed", "--plain", "--no-legend", "--no-pager"];
    let text = ask(guest, &argv)?.unwrap_or_default();
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn journal(guest: &mut dyn Guest, units: &[String]) -> Result<String, Error> {
    let start = ["/usr/bin/journalctl", "--no-pager", "--output=short-monotonic", JOURNAL_LINES];
    let mut text = String::new();
    for name in units {
        let unit = format!("--unit={name}");
        let argv: Vec<&str> = start.iter().copied().chain([unit.as_str()]).collect();
        let mut lines = ask(guest, &argv)?.unwrap_or_default();
        // What fails before there is a journal has no entries, and systemd alone knows how it ended.
        if lines.is_empty() || lines.starts_with("-- No entries") {
            let result = ["/usr/bin/systemctl", "show", "--property=Id,Result", name];
            lines = ask(guest, &result)?.unwrap_or_default();
        }
        text.push_str(&lines);
        text.push('\n');
    }
    if units.is_empty() {
        text = ask(guest, &start)?.unwrap_or_default();
    }
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests;
