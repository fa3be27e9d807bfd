//! What every verb needs, and the only place that prints.

use std::fs;
use std::io::{self, IsTerminal, Stderr, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, IntoDiagnostic, Report, Result, WrapErr,
};
use serde::Serialize;

use super::output::{Envelope, Output};
use super::progress::{Form, Json};
use super::{Options, progress};
use crate::build::{LockedDisk, LockedPlan, LockedRole, Supplies};
use crate::definition::{Image, Plan, Project, lint};
use crate::fetch::{Fetcher, Network, Policy};
pub(super) use crate::inspect::bytes;
use crate::lock::{Lock, Unlocked, needed_by, wishes};
use crate::progress::Progress;
use crate::render;
use crate::store::Store;

/// The file at the root of a project that pins every download.
pub(super) const LOCK_FILE: &str = "imgbuild.lock";

/// A source that is given by hand: `NAME=PATH`.
#[derive(Clone, Debug)]
pub(super) struct Given {
    name: String,
    path: PathBuf,
}

impl std::str::FromStr for Given {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(Self { name: name.to_owned(), path: path.into() })
            }
            _ => Err("expected NAME=PATH, the name of a source and a file or directory"),
        }
    }
}

/// The columns of a terminal that everybody has.
const COLUMNS: usize = 100;

/// `text` with lines that fit into a terminal, if their words do. What a line goes on with is indented. What
/// stands between backticks is one word, so that it can be copied.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let lines = text.lines().map(|line| {
        if line.chars().count() <= COLUMNS {
            return line.to_owned();
        }
        let (mut whole, mut width) = (String::new(), 0);
        for word in words(line) {
            let length = word.trim_end().chars().count();
            if width + length > COLUMNS && width > indent {
                whole.truncate(whole.trim_end().len());
                whole.push('\n');
                whole.extend(std::iter::repeat_n(' ', indent));
                width = indent;
            }
            whole.push_str(&word);
            width += word.chars().count();
        }
        whole
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The words of a line, each with the blank behind it.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for part in line.split_inclusive(' ') {
        match words.last_mut().filter(|_| open) {
            Some(word) => word.push_str(part),
            None => words.push(part.to_owned()),
        }
        open ^= part.matches('`').count() % 2 == 1;
    }
    // One that is never closed holds nothing together.
    if open { line.split_inclusive(' ').map(str::to_owned).collect() } else { words }
}

/// Options, and what follows from them.
pub(super) struct Context {
    options: Options,
    /// The verb that runs, as it is typed.
    verb: String,
    watcher: Arc<dyn Progress + Send>,
    /// Takes all that is said, if programs read it.
    lines: Option<Arc<Json<Stderr>>>,
    /// Whether what is said is for somebody who watches a terminal, and not for whoever copies paths and digests
    /// from it or looks for lines in a log.
    narrow: AtomicBool,
    /// Whether nobody reads standard output any more (`imgbuild … | head`).
    unread: AtomicBool,
}

impl Context {
    pub(super) fn new(options: Options, verb: String) -> Self {
        let lines = (options.progress == Form::Json)
            .then(|| Arc::new(Json::new(io::stderr(), &verb, options.quiet)));
        let watcher = match &lines {
            Some(lines) => Arc::clone(lines) as Arc<dyn Progress + Send>,
            None if options.quiet => Form::None.watcher(),
            None => options.progress.watcher(),
        };
        if options.verbose {
            progress::tell_details(Arc::clone(&watcher));
        }
        let [narrow, unread] = [false; 2].map(AtomicBool::new);
        Self { options, verb, watcher, lines, narrow, unread }
    }

    pub(super) fn progress(&self) -> &dyn Progress {
        self.watcher.as_ref()
    }

    /// Breaks the lines of what is said, and of errors that show no place in a file, from now on.
    pub(super) fn narrow(&self) {
        self.narrow.store(true, Ordering::Relaxed);
    }

    fn is_narrow(&self) -> bool {
        self.narrow.load(Ordering::Relaxed)
    }

    pub(super) fn json(&self) -> bool {
        self.options.json
    }

    /// Whether programs read what is said.
    pub(super) fn tells_programs(&self) -> bool {
        self.lines.is_some()
    }

    pub(super) fn network(&self) -> Network {
        if self.options.offline { Network::Offline } else { Network::Online }
    }

    /// Refuses a verb that is nothing without the network, if that is forbidden.
    pub(super) fn refuse_offline(&self, verb: &str) -> Result<()> {
        match self.network() {
            Network::Online => Ok(()),
            Network::Offline => Err(miette::miette!(
                help = "run it without `--offline`",
                "`{verb}` needs the network"
            )),
        }
    }

    pub(super) fn fetcher(&self) -> Fetcher {
        Fetcher::new(self.network(), Policy::default())
    }

    /// What `--project` names.
    pub(super) fn project_option(&self) -> Option<&Path> {
        self.options.project.as_deref()
    }

    /// The directory of the project.
    pub(super) fn root(&self) -> Result<PathBuf> {
        match &self.options.project {
            Some(directory) => Ok(directory.clone()),
            None => {
                let here = std::env::current_dir().into_diagnostic();
                Ok(Project::find(&here.wrap_err("cannot find the current directory")?)?)
            }
        }
    }

    pub(super) fn project(&self) -> Result<Project> {
        Ok(Project::load(&self.root()?)?)
    }

    /// Refuses a project of which a lint denies anything: images must not even be made of what is a secret.
    pub(super) fn refuse_denied(&self, project: &Project) -> Result<()> {
        match lint::refused(project).into_iter().next() {
            Some(finding) => Err(finding.into()),
            None => Ok(()),
        }
    }

    pub(super) fn store(&self) -> Result<Store> {
        Ok(Store::open(self.options.store.as_deref())?)
    }

    pub(super) fn lock_path(&self, project: &Project) -> PathBuf {
        project.root().join(LOCK_FILE)
    }

    /// The lock, as it is.
    pub(super) fn lock(&self, project: &Project) -> Result<Lock> {
        Ok(Lock::read(&self.lock_path(project))?)
    }

    /// The images that were never locked, since nobody has reached their repositories; the lock must
    /// fit the definitions of all others.
    pub(super) fn check_lock(&self, project: &Project) -> Result<Vec<Unlocked>> {
        let lock = self.lock(project)?;
        let mut wishes = wishes(project)?;
        let unlocked = lock.unlocked(&wishes);
        wishes.retain(|it| !unlocked.iter().any(|unlocked| unlocked.image == it.image));
        lock.check(&wishes)?;
        Ok(unlocked)
    }

    /// The plan of `role`, with everything pinned.
    fn locked_plan(
        &self,
        project: &Project,
        lock: &Lock,
        role: &str,
        site: Option<&str>,
    ) -> Result<LockedPlan> {
        locked(project, lock, project.plan(role, site)?, &project.stack(role)?)
    }

    /// `role`, with everything pinned that it takes in any format. The lock must fit its definitions.
    pub(super) fn locked_role(
        &self,
        project: &Project,
        lock: &Lock,
        role: &str,
        site: Option<&str>,
    ) -> Result<LockedRole> {
        project.role(role)?;
        let needed = needed_by(project, role)?;
        let mut wishes = wishes(project)?;
        wishes.retain(|wishes| needed.contains(&wishes.image));
        if let Some(unlocked) = lock.unlocked(&wishes).into_iter().find(|it| it.image == role) {
            return Err(unlocked.into());
        }
        lock.check(&wishes)?;
        let plan = self.locked_plan(project, lock, role, site)?;
        let Some(disk) = project.disk_plan(role, site)? else {
            return Ok(LockedRole { plan, disk: None });
        };
        let image = project.image(role)?;
        let machine = project.machine_of(image).map(|(machine, _)| machine);
        let stack: Vec<&Image> = project.stack(role)?.into_iter().chain(machine).collect();
        let machine = locked(project, lock, disk.machine, &stack)?;
        let boot_stack = project.stack(disk.boot.role.as_str())?;
        let boot = locked(project, lock, disk.boot, &boot_stack)?;
        Ok(LockedRole { plan, disk: LockedDisk::new(machine, boot, &disk.boot_command) })
    }

    /// What `--source` gives, in the store from now on.
    pub(super) fn supplies(
        &self,
        project: &Project,
        store: &Store,
        given: &[Given],
    ) -> Result<Supplies> {
        let given: Vec<(String, PathBuf)> =
            given.iter().map(|Given { name, path }| (name.clone(), path.clone())).collect();
        Ok(Supplies::read(project, store, &given)?)
    }

    /// As [`Context::supplies`], for what a lock can need: packages.
    pub(super) fn supplied_packages(
        &self,
        project: &Project,
        store: &Store,
        given: &[Given],
    ) -> Result<Supplies> {
        let others = project
            .images()
            .flat_map(|image| image.sources.values())
            .filter(|source| !source.is_package());
        let names: Vec<&str> = others.map(|source| source.name.as_str()).collect();
        if let Some(Given { name, .. }) = given.iter().find(|it| names.contains(&it.name.as_str()))
        {
            let message =
                format!("the source `{name}` is no package, and a lock needs no bytes of others");
            return Err(miette::miette!(help = "give it to `imgbuild build`", "{message}"));
        }
        self.supplies(project, store, given)
    }

    /// Says something to a person.
    pub(super) fn say(&self, text: impl AsRef<str>) {
        if let Some(lines) = &self.lines {
            lines.message(text.as_ref());
        } else if !self.options.quiet {
            // Nobody reads stderr when it is closed.
            let text = text.as_ref();
            let _ = match self.is_narrow() {
                true => writeln!(io::stderr(), "{}", wrapped(text, 4)),
                false => writeln!(io::stderr(), "{text}"),
            };
        }
    }

    /// Hands a line of data to a program.
    pub(super) fn data(&self, line: impl AsRef<str>) -> Result<()> {
        self.write_line(line.as_ref())
    }

    /// Hands what a verb has to say to a program.
    pub(super) fn output<T: Output>(&self, output: &T) -> Result<()> {
        self.object(&Envelope::new(&self.verb, output))
    }

    /// Writes to a file what [`Context::output`] would hand to a program.
    pub(super) fn write_output<T: Output>(&self, path: &Path, output: &T) -> Result<()> {
        let envelope = Envelope::new(&self.verb, output);
        self.write(path, &(serde_json::to_string_pretty(&envelope).into_diagnostic()? + "\n"))
    }

    /// Hands an object to a program.
    pub(super) fn object(&self, value: &impl Serialize) -> Result<()> {
        self.write_line(&serde_json::to_string_pretty(value).into_diagnostic()?)
    }

    /// Writes a line to standard output. Whoever has closed that has read enough, and knows of the rest only how the verb
    /// ends: so it goes on, and must not end as if all were well.
    fn write_line(&self, line: &str) -> Result<()> {
        if self.unread.load(Ordering::Relaxed) {
            return Ok(());
        }
        match writeln!(io::stdout(), "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.unread.store(true, Ordering::Relaxed);
                Ok(())
            }
            other => other.into_diagnostic().wrap_err("cannot write to standard output"),
        }
    }

    /// Writes a file that the user has asked for, whole or not at all. What is there and no file, such as a pipe
    /// or a link, stays what it is and is written to.
    pub(super) fn write(&self, path: &Path, text: &str) -> Result<()> {
        let write = || -> io::Result<()> {
            if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
                return fs::write(path, text);
            }
            crate::signature::files::write(path, text)
        };
        let help = "name a file in a directory that exists and can be written to";
        write().map_err(|error| {
            miette::miette!(help = help, "{error}")
                .wrap_err(format!("cannot write {}", shown(path)))
        })
    }

    /// Reports something that does not stop the work.
    pub(super) fn report(&self, diagnostic: &dyn Diagnostic) {
        if let Some(lines) = &self.lines {
            return lines.warning(diagnostic);
        }
        let _ = writeln!(io::stderr(), "{}", drawn(diagnostic));
    }

    /// Reports what stopped the work.
    pub(super) fn error(&self, report: &Report) {
        if let Some(lines) = &self.lines {
            return lines.error(report.as_ref());
        }
        let mut text = drawn(report.as_ref());
        if self.is_narrow() && report.source_code().is_none() {
            text = wrapped(&text, 4);
        }
        let _ = writeln!(io::stderr(), "error:\n{text}");
    }
}

/// `plan`, whose definitions are `stack`, with everything pinned.
fn locked(project: &Project, lock: &Lock, plan: Plan, stack: &[&Image]) -> Result<LockedPlan> {
    let rendered = render::render(project, &plan)?;
    Ok(LockedPlan::new(project.root().to_owned(), plan, stack, lock, rendered))
}

/// A diagnostic with its place underlined. Lines are not wrapped: URLs and paths must stay whole to be
/// copied.
fn drawn(diagnostic: &dyn Diagnostic) -> String {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false);
    let handler = handler.with_width(100).with_wrap_lines(false).with_break_words(false);
    let mut text = String::new();
    match handler.render_report(&mut text, diagnostic) {
        // The handler announces each of several errors by this line of its own.
        Ok(()) => text.trim_end().replace("\nError: \n", "\n"),
        Err(_) => diagnostic.to_string(),
    }
}

/// A path as shown to the user: relative to the current directory where it lies below it.
pub(super) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words() {
        assert_eq!(wrapped("short\nlines", 4), "short\nlines");
        let words = format!("  {}", "nine chars ".repeat(20).trim_end());
        let lines = wrapped(&words, 4);
        assert!(lines.lines().count() > 2, "{lines}");
        assert!(lines.lines().skip(1).all(|it| it.starts_with("    ")), "{lines}");
        assert!(lines.lines().all(|line| line.chars().count() <= COLUMNS && !line.ends_with(' ')));
        assert_eq!(lines.split_whitespace().count(), 40);
        let command = format!("{} `mv a b`", "x".repeat(95));
        assert!(wrapped(&command, 4).ends_with("\n    `mv a b`"));
        // A word that fits nowhere stays whole.
        let path = "x".repeat(300);
        assert_eq!(wrapped(&path, 4), path);
        assert_eq!(wrapped(&format!("a {path} b"), 4).lines().count(), 2);
    }
}
