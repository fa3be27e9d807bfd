//! Watches a guest come up: asks systemd, asks the role's health check, and looks for causes if either is
//! not content.

use std::time::{Duration, Instant};

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

    /// Everything on its console so far.
    fn console(&self) -> String;

    /// Bytes of memory that it uses, where that is easily said.
    fn memory(&mut self) -> Option<u64>;

    /// Its addresses, without those of the loopback interface and of single links.
    fn addresses(&mut self) -> Vec<String>;
}

/// When what was reached, in seconds since the guest was started.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// systemd had started everything, or given up on it.
    pub started: Option<f64>,
    /// The health check succeeded.
    pub healthy: Option<f64>,
}

/// What was seen of a guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
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
    seen.seconds.started = state_known.then(|| started.elapsed().as_secs_f64());
    step.finish(format!("{} after {:.1} s", seen.state, started.elapsed().as_secs_f64()));
    let mut complaint = None;
    if let Some(health) = health {
        let step = Step::start(progress, "health check", None);
        let patient = if seen.state == "running" { deadline } else { Instant::now() + LOST };
        complaint = wait_for_health(guest, health, patient.min(deadline))?;
        if complaint.is_none() {
            let seconds = started.elapsed().as_secs_f64();
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

/// The last lines of a guest's console, without what steers a terminal.
pub(super) fn console_tail(guest: &dyn Guest) -> String {
    tail(&guest.console())
}

fn tail(text: &str) -> String {
    let printable = |line: &str| -> String {
        // Escape sequences (ECMA-48, control sequences): to the letter that ends them.
        let mut shown = String::new();
        let mut signs = line.chars().peekable();
        while let Some(sign) = signs.next() {
            match sign {
                '\u{1b}' if signs.peek() == Some(&'[') => {
                    signs.next();
                    let _ = signs.find(|sign| ('@'..='~').contains(sign));
                }
                '\u{1b}' => drop(signs.next()),
                '\t' => shown.push(' '),
                sign if sign.is_control() => {}
                sign => shown.push(sign),
            }
        }
        shown
    };
    let lines: Vec<String> =
        text.lines().map(printable).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
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
    for unit in units {
        let unit = format!("--unit={unit}");
        let argv: Vec<&str> = start.iter().copied().chain([unit.as_str()]).collect();
        text.push_str(&ask(guest, &argv)?.unwrap_or_default());
        text.push('\n');
    }
    if units.is_empty() {
        text = ask(guest, &start)?.unwrap_or_default();
    }
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    /// Answers by script: what a command prints and its exit code, by a part of the command. Each answer
    /// is used once, the last one for ever.
    struct Scripted {
        answers: Vec<(&'static str, Vec<Option<(&'static str, i32)>>)>,
        ended: bool,
    }

    impl Guest for Scripted {
        fn execute(&mut self, argv: &[&str], _: Duration) -> Result<Option<Output>, Error> {
            let command = argv.join(" ");
            let found = self.answers.iter_mut().find(|(part, _)| command.contains(part));
            let (text, code) = match found {
                Some((_, answers)) if answers.len() > 1 => match answers.remove(0) {
                    Some(answer) => answer,
                    None => return Ok(None),
                },
                Some((_, answers)) => match answers[0] {
                    Some(answer) => answer,
                    None => return Ok(None),
                },
                None => ("", 0),
            };
            let stdout = text.as_bytes().to_vec();
            Ok(Some(Output { code: Some(code), stdout, stderr: Vec::new() }))
        }

        fn has_ended(&mut self) -> bool {
            self.ended
        }

        fn console(&self) -> String {
            "\u{1b}[0;32mOK\u{1b}[0m started\r\n\r\nlogin:".to_owned()
        }

        fn memory(&mut self) -> Option<u64> {
            None
        }

        fn addresses(&mut self) -> Vec<String> {
            vec!["10.0.0.1".to_owned()]
        }
    }

    fn watch(guest: &mut Scripted, seconds: f64) -> Result<Observation, Error> {
        let health = ["/check".to_owned()];
        let timeout = Duration::from_secs_f64(seconds);
        observe(guest, Some(&health), Instant::now(), timeout, &Silent)
    }

    #[test]
    fn a_guest_is_healthy_once_its_check_succeeds() {
        let mut guest = Scripted {
            answers: vec![
                ("is-system-running", vec![None, Some(("", 1)), Some(("running\n", 0))]),
                ("/check", vec![Some(("no", 1)), None, Some(("", 0))]),
                ("analyze", vec![Some(("Startup finished\n  in 1s", 0))]),
            ],
            ended: false,
        };
        let seen = watch(&mut guest, 60.0).unwrap();
        assert!(seen.healthy && seen.failure.is_none(), "{seen:?}");
        assert_eq!(seen.analysis.as_deref(), Some("Startup finished in 1s"));
        assert!(seen.seconds.healthy >= seen.seconds.started);
    }

    #[test]
    fn failed_units_are_named_with_their_journal() {
        let mut guest = Scripted {
            answers: vec![
                ("is-system-running", vec![Some(("degraded", 1))]),
                ("--failed", vec![Some(("a.service loaded failed failed A\nb.mount x\n", 0))]),
                ("--unit=a.service", vec![Some(("a says", 0))]),
                ("--unit=b.mount", vec![Some(("b says", 0))]),
            ],
            ended: false,
        };
        let seen = watch(&mut guest, 60.0).unwrap();
        assert!(!seen.healthy);
        assert_eq!(seen.failed_units, ["a.service", "b.mount"]);
        let failure = seen.failure.unwrap();
        assert_eq!(failure.journal, "a says\nb says");
        assert_eq!(failure.console, "OK started\nlogin:");
        assert_eq!(failure.health, None);
    }

    #[test]
    fn a_check_that_never_succeeds_is_told_with_what_it_says() {
        let mut guest = Scripted {
            answers: vec![
                ("is-system-running", vec![Some(("running", 0))]),
                ("/check", vec![Some(("not yet", 1))]),
                ("journalctl", vec![Some(("everything", 0))]),
            ],
            ended: false,
        };
        let failure = watch(&mut guest, 0.5).unwrap().failure.unwrap();
        assert_eq!(failure.health.as_deref(), Some("not yet"));
        assert_eq!(failure.journal, "everything");
    }

    #[test]
    fn a_guest_that_ends_or_never_answers_is_an_error() {
        let silent = || vec![("is-system-running", vec![None])];
        let mut guest = Scripted { answers: silent(), ended: true };
        let error = watch(&mut guest, 60.0).unwrap_err();
        assert!(error.to_string().contains("stopped by itself while it was starting"), "{error}");
        let mut guest = Scripted { answers: silent(), ended: false };
        let error = watch(&mut guest, 0.2).unwrap_err().to_string();
        assert!(error.contains("gave up") && error.contains("login:"), "{error}");
    }

    #[test]
    fn one_that_starts_for_ever_is_asked_why() {
        let mut guest = Scripted {
            answers: vec![
                ("--wait", vec![None]),
                ("is-system-running", vec![Some(("starting", 1))]),
                ("/check", vec![Some(("", 0))]),
            ],
            ended: false,
        };
        let seen = watch(&mut guest, 0.2).unwrap();
        assert!(!seen.healthy && seen.state == "starting" && seen.seconds.started.is_none());
    }
}
