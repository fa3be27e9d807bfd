//! `imgbuild man`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use schemars::JsonSchema;
use serde::Serialize;

use super::CommandLine;
use super::context::{Context, shown};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild man diff > diff.1; man ./diff.1            read the page of a verb
  imgbuild man --dir ~/.local/share/man/man1          install all of them: then `man imgbuild-diff`")]
pub(super) struct Arguments {
    /// The verb whose page is printed, and a verb of that [default: the page of imgbuild itself]
    #[arg(value_name = "VERB", num_args = 0..=2)]
    verbs: Vec<String>,
    /// Write the pages of imgbuild and of all verbs to this directory, which is made if need be
    #[arg(long, value_name = "DIR", conflicts_with = "verbs")]
    dir: Option<PathBuf>,
}

/// Manual pages.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// The page, in the language of groff_man(7); none if pages were written to a directory.
    page: Option<String>,
    /// The files that were written.
    written: Vec<PathBuf>,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["man"];
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let mut command = CommandLine::command();
    // Gives every verb the options of all verbs, and its full name.
    command.build();
    let Some(directory) = &arguments.dir else {
        let page = page(find(&command, &arguments.verbs)?)?;
        let page = String::from_utf8_lossy(&page).trim_end().to_owned();
        match context.json() {
            true => context.output(&Output { page: Some(page), written: Vec::new() })?,
            false => context.data(page)?,
        }
        return Ok(ExitCode::SUCCESS);
    };
    fs::create_dir_all(directory).map_err(|error| {
        miette!(
            help = "give a directory that you may write to: `--dir ~/.local/share/man/man1`",
            "cannot create {}: {error}",
            directory.display()
        )
    })?;
    let mut written = Vec::new();
    write_all(&command, directory, &mut written)?;
    match context.json() {
        true => context.output(&Output { page: None, written })?,
        false => written.iter().try_for_each(|path| context.data(shown(path)))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The verb that `names` lead to.
fn find<'a>(command: &'a Command, names: &[String]) -> Result<&'a Command> {
    names.iter().try_fold(command, |command, name| {
        let known = command.get_subcommands().map(Command::get_name);
        let help = format!("verbs: {}", known.collect::<Vec<_>>().join(", "));
        let name = name.as_str();
        command
            .find_subcommand(name)
            .ok_or_else(|| miette::miette!(help = help, "there is no verb `{name}`"))
    })
}

/// The page of one verb, in the language of man(7).
fn page(command: &Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let source = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source).manual("imgbuild manual");
    man.render(&mut text).into_diagnostic()?;
    Ok(text)
}

/// Writes the pages of `command` and of all verbs below it.
fn write_all(command: &Command, directory: &Path, written: &mut Vec<PathBuf>) -> Result<()> {
    let path = directory.join(Man::new(command.clone()).get_filename());
    fs::write(&path, page(command)?)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot write {}", path.display()))?;
    written.push(path);
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    verbs.into_iter().try_for_each(|verb| write_all(verb, directory, written))
}
