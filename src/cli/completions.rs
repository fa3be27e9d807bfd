//! `imgbuild completions`

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use miette::Result;
use schemars::JsonSchema;
use serde::Serialize;

use super::CommandLine;
use super::context::Context;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Where shells look for them:
  bash  imgbuild completions bash > ~/.local/share/bash-completion/completions/imgbuild
  zsh   imgbuild completions zsh > DIR/_imgbuild, where DIR is in $fpath
  fish  imgbuild completions fish > ~/.config/fish/completions/imgbuild.fish")]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// What a shell completes by.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// The shell.
    shell: String,
    /// The script, in its language.
    script: String,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["completions"];
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let mut script = Vec::new();
    let mut command = CommandLine::command();
    clap_complete::generate(arguments.shell, &mut command, "imgbuild", &mut script);
    let script = String::from_utf8_lossy(&script).trim_end().to_owned();
    match context.json() {
        true => context.output(&Output { shell: arguments.shell.to_string(), script })?,
        false => context.data(script)?,
    }
    Ok(ExitCode::SUCCESS)
}
