use super::*;
use crate::progress::Silent;

/// Standard output and exit code, or no answer.
type Answer = Option<(&'static str, i32)>;

/// Answers by script: what a command prints and its exit code, by a part of the command. Each answer
/// is used once, the last one for ever.
struct Scripted {
    answers: Vec<(&'static str, Vec<Answer>)>,
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
        "\u{1b}[0;32mOK\u{1b}[0m started\r\n\r\n\u{1b}M[ \u{1b}[31m*** ] Job a (2s / 3s)\r\n\
         \u{1b}]104\u{7}login:"
            .to_owned()
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
