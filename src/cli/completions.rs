//! `imgbuild completions`

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use miette::Result;

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

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let mut script = Vec::new();
    let mut command = CommandLine::command();
    clap_complete::generate(arguments.shell, &mut command, "imgbuild", &mut script);
    context.data(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
