//! Progress as JSON, an object a line (<https://jsonlines.org>), for programs that watch a build.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use miette::{Diagnostic, LabeledSpan};
use schemars::JsonSchema;
use serde::Serialize;

use super::write_line;
use crate::debian::date::Moment;
use crate::progress::{Event, Progress, StepId};

/// A step that moves bytes says so at most this often.
const PAUSE: Duration = Duration::from_millis(500);

/// One line.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct Line {
    /// When it was written.
    time: Moment,
    #[serde(flatten)]
    what: What,
}

/// What happened.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum What {
    /// The first line.
    Begin {
        /// The version of the form of all lines.
        schema: u32,
        /// The version of imgbuild.
        version: &'static str,
        /// The verb.
        verb: String,
    },
    /// A step has begun.
    Started {
        /// Its number.
        step: u64,
        /// What it does.
        label: String,
        /// Bytes that it moves, if it moves any.
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
    },
    /// A step has moved bytes. Not every step that moves some says so, and none more often than twice a second.
    Advanced {
        /// Its number.
        step: u64,
        /// Bytes that it has moved in all.
        bytes: u64,
    },
    /// A step has ended.
    Finished {
        /// Its number.
        step: u64,
        /// What it does.
        label: String,
        /// How it has ended, in words; empty if there is nothing to say.
        detail: String,
        /// How long it took.
        seconds: f64,
    },
    /// Something that people are told.
    Message {
        /// The text.
        text: String,
    },
    /// Something that is told with `--verbose`.
    Detail {
        /// The text.
        text: String,
    },
    /// Something that does not stop the work.
    Warning(Problem),
    /// Something that did.
    Error(Problem),
}

/// Something that is wrong.
#[derive(Serialize, JsonSchema)]
struct Problem {
    /// What.
    message: String,
    /// Why, and why that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    /// Where it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    places: Vec<Place>,
    /// What else is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<Problem>,
}

/// A place in a file.
#[derive(Serialize, JsonSchema)]
struct Place {
    /// The file.
    file: String,
    /// Its line, from 1.
    line: usize,
    /// The column, in characters, from 1.
    column: usize,
    /// What is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

impl Problem {
    fn text(message: String) -> Self {
        Self { message, causes: Vec::new(), help: None, places: Vec::new(), related: Vec::new() }
    }

    fn of(diagnostic: &dyn Diagnostic) -> Self {
        let mut causes = Vec::new();
        let mut cause = diagnostic.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        let labels = diagnostic.labels().into_iter().flatten();
        Self {
            message: diagnostic.to_string(),
            causes,
            help: diagnostic.help().map(|help| help.to_string()),
            places: labels.filter_map(|label| Place::of(diagnostic, &label)).collect(),
            related: diagnostic.related().into_iter().flatten().map(Self::of).collect(),
        }
    }
}

impl Place {
    fn of(diagnostic: &dyn Diagnostic, label: &LabeledSpan) -> Option<Self> {
        let source = diagnostic.source_code()?;
        // All before it, because miette counts columns in bytes.
        let before = source.read_span(&(0, label.offset()).into(), 0, 0).ok()?;
        let text = String::from_utf8_lossy(before.data());
        let line = text.rsplit('\n').next().unwrap_or_default();
        Some(Self {
            file: before.name().unwrap_or_default().to_owned(),
            line: text.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            label: label.label().map(str::to_owned),
        })
    }
}

/// A step that runs.
struct Running {
    label: String,
    since: Instant,
    bytes: u64,
    told: Instant,
}

/// Writes lines.
pub(in crate::cli) struct Json<W> {
    quiet: bool,
    state: Mutex<State<W>>,
}

struct State<W> {
    output: W,
    running: BTreeMap<StepId, Running>,
}

impl<W: Write + Send> Json<W> {
    /// Writes to `output`; if `quiet`, only what is wrong.
    pub(in crate::cli) fn new(output: W, verb: &str, quiet: bool) -> Self {
        let state = Mutex::new(State { output, running: BTreeMap::new() });
        let json = Self { quiet, state };
        let (schema, version) = (crate::cli::output::SCHEMA, env!("CARGO_PKG_VERSION"));
        json.write(What::Begin { schema, version, verb: verb.to_owned() });
        json
    }

    /// Something that people are told.
    pub(in crate::cli) fn message(&self, text: &str) {
        if !self.quiet {
            self.write(What::Message { text: text.to_owned() });
        }
    }

    /// Something that does not stop the work.
    pub(in crate::cli) fn warning(&self, diagnostic: &dyn Diagnostic) {
        self.write(What::Warning(Problem::of(diagnostic)));
    }

    /// Something that does.
    pub(in crate::cli) fn error(&self, diagnostic: &dyn Diagnostic) {
        self.write(What::Error(Problem::of(diagnostic)));
    }

    fn write(&self, what: What) {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.write(what);
    }
}

impl<W: Write> State<W> {
    fn write(&mut self, what: What) {
        let time = Moment::from(SystemTime::now());
        // A line of numbers and text always becomes JSON.
        if let Ok(line) = serde_json::to_string(&Line { time, what }) {
            write_line(&mut self.output, &line);
        }
    }

    fn advance(&mut self, step: StepId, bytes: u64) {
        let Some(running) = self.running.get_mut(&step) else { return };
        running.bytes += bytes;
        if running.told.elapsed() >= PAUSE {
            running.told = Instant::now();
            let bytes = running.bytes;
            self.write(What::Advanced { step: step.0, bytes });
        }
    }
}

impl<W: Write + Send> Progress for Json<W> {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match event {
            Event::Warning(text) => state.write(What::Warning(Problem::text(text))),
            _ if self.quiet => {}
            Event::Started { step, label, total } => {
                let now = Instant::now();
                let running = Running { label: label.clone(), since: now, bytes: 0, told: now };
                state.running.insert(step, running);
                state.write(What::Started { step: step.0, label, total });
            }
            Event::Advanced { step, bytes } => state.advance(step, bytes),
            Event::Finished { step, detail } => {
                let Some(running) = state.running.remove(&step) else { return };
                let seconds = running.since.elapsed().as_secs_f64();
                let Running { label, .. } = running;
                state.write(What::Finished { step: step.0, label, detail, seconds });
            }
            Event::Detail(text) => state.write(What::Detail { text }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::progress::Step;

    fn lines(json: Json<Vec<u8>>) -> Vec<Value> {
        let text = String::from_utf8(json.state.into_inner().unwrap().output).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[derive(Debug, thiserror::Error, Diagnostic)]
    #[error("there is no image `haproxi`")]
    #[diagnostic(help("did you mean `haproxy`?"))]
    struct Unknown {
        #[source_code]
        file: miette::NamedSource<String>,
        #[label("here")]
        span: miette::SourceSpan,
        #[source]
        cause: std::fmt::Error,
    }

    #[test]
    fn lines_tell_all_that_happens_and_what_is_wrong_where() {
        let json = Json::new(Vec::new(), "build", false);
        let step = Step::start(&json, "download", Some(10));
        step.advance(10);
        step.finish("done");
        json.event(Event::Detail("GET".to_owned()));
        json.message("hello");
        json.error(&Unknown {
            file: miette::NamedSource::new("image.toml", "a = 1\nb = \"é haproxi\"\n".to_owned()),
            span: (14, 7).into(),
            cause: std::fmt::Error,
        });
        let lines = lines(json);
        let events: Vec<&str> = lines.iter().map(|it| it["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["begin", "started", "finished", "detail", "message", "error"]);
        assert_eq!(lines[0]["verb"], "build");
        assert_eq!(lines[1]["total"], 10);
        assert_eq!(lines[2]["label"], "download");
        let error = &lines[5];
        assert_eq!(error["help"], "did you mean `haproxy`?");
        assert_eq!(error["causes"].as_array().unwrap().len(), 1);
        let place = &error["places"][0];
        assert_eq!((&place["file"], &place["line"]), (&"image.toml".into(), &2.into()));
        assert_eq!((&place["column"], &place["label"]), (&8.into(), &"here".into()));
    }

    #[test]
    fn quiet_lines_tell_only_what_is_wrong() {
        let json = Json::new(Vec::new(), "build", true);
        Step::start(&json, "download", None).finish("");
        json.message("hello");
        json.event(Event::Warning("odd\u{1b}[2J".to_owned()));
        let lines = lines(json);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[1]["event"], "warning");
    }
}
