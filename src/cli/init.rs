//! `imgbuild init`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use miette::Result;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::{Context, shown};
use crate::scaffold::{self, Entry, FIRST_ROLE};

/// The parts of a project that are moved to their places as a whole.
const PARTS: [&str; 4] = ["images", "overlays", "README.md", ".gitignore"];

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild init campus       makes the directory campus with a project in it
  imgbuild init              makes a project in the current directory")]
pub(super) struct Arguments {
    /// Where; made if it is not there [default: the current directory]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// What was written.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// The project.
    directory: PathBuf,
    /// The role that was added.
    role: String,
    /// What was written, relative to the project.
    files: Vec<PathBuf>,
    /// The commands that come next.
    next: Vec<String>,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["init", "new"];
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let start = context.project_option().unwrap_or(Path::new(""));
    let directory = start.join(arguments.directory.as_deref().unwrap_or(Path::new("")));
    let directory = if directory.as_os_str().is_empty() { ".".into() } else { directory };
    // So that messages can say where `.` is.
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let entries = scaffold::project();
    let help =
        "name another directory, or move it away; `imgbuild new ROLE` adds a role to a project";
    scaffold::write(&directory, &PARTS.map(PathBuf::from), &entries, help)?.keep();
    // Nothing is locked yet, so all of it can be.
    let mut next = next(FIRST_ROLE);
    next[0] = "imgbuild lock".to_owned();
    tell(context, &directory, FIRST_ROLE, &entries, next, || {
        if arguments.directory.is_some() {
            context.say(format!("  cd {}", shown(&directory)));
        }
    })
}

/// The commands that come after a role was added.
pub(super) fn next(role: &str) -> Vec<String> {
    vec![
        format!("imgbuild lock {role}"),
        format!("imgbuild build {role}"),
        format!("imgbuild boot {role}"),
    ]
}

/// Says what was written and what comes next.
pub(super) fn tell(
    context: &Context,
    directory: &Path,
    role: &str,
    entries: &[Entry],
    next: Vec<String>,
    before: impl Fn(),
) -> Result<ExitCode> {
    let files: Vec<PathBuf> = entries.iter().map(|entry| entry.path.clone()).collect();
    if context.json() {
        let (directory, role) = (directory.to_owned(), role.to_owned());
        context.output(&Output { directory, role, files, next })?;
        return Ok(ExitCode::SUCCESS);
    }
    // Of an image that is the same in every project, its name is enough.
    let own = |path: &&PathBuf| {
        path.starts_with(Path::new("images").join(role)) || !path.starts_with("images")
    };
    for path in files.iter().filter(own) {
        context.data(shown(&directory.join(path)))?;
    }
    context.say("next:");
    before();
    for command in next {
        context.say(format!("  {command}"));
    }
    Ok(ExitCode::SUCCESS)
}
