//! The command line: one file a verb. Verbs parse, call the stages, and print; they hold no logic.
//!
//! People read stderr, programs read stdout: a path of a finished artifact a line, or with
//! `--json` one object. Exit codes: 0 done, 1 failed, 2 usage, 3 verification failed, 4 a health gate stayed
//! red and the node runs what it ran before, 5 known vulnerabilities were found.

mod artifacts;
mod audit;
mod boot;
mod build;
mod check;
mod completions;
mod context;
mod diff;
mod document;
mod expected;
mod explain;
mod gc;
mod graph;
mod init;
mod lab;
mod layers;
mod lint;
mod lock;
mod man;
mod new;
mod output;
mod plan;
mod preflight;
mod progress;
mod provenance;
mod prune;
mod pull;
mod push;
mod registry;
mod report;
mod rollback;
mod sbom;
mod schema;
mod sign;
mod site;
mod status;
mod subject;
mod swap;
mod teller;
mod trust;
mod verify;
mod why;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use context::Context;

/// Something was verified and is not what it should be.
const VERIFICATION_FAILED: u8 = 3;

/// Known vulnerabilities were found that nobody accepts.
const FOUND: u8 = 5;

/// Builds appliance images for Proxmox VE from layered definitions.
#[derive(Debug, Parser)]
#[command(name = "imgbuild", version, disable_help_subcommand = true)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Args)]
struct Options {
    /// The project: a directory with `images/` [default: the nearest one above the current directory]
    #[arg(long, short = 'C', global = true, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Where downloads and layers are kept [default: $XDG_CACHE_HOME/imgbuild]
    #[arg(long, global = true, value_name = "DIR", env = "IMGBUILD_STORE")]
    store: Option<PathBuf>,
    /// Use no network; fail where something would have to be fetched
    #[arg(long, global = true)]
    offline: bool,
    /// Print one JSON object on stdout
    #[arg(long, global = true)]
    json: bool,
    /// Show warnings and errors only
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Show details: requests and answers, what scripts of packages print, which layers the store has
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// How progress is shown
    #[arg(
        long,
        global = true,
        value_name = "FORM",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    progress: progress::Form,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lay down a whole small project that builds
    Init(init::Arguments),
    /// Add a role that builds to a project
    New(new::Arguments),
    /// Resolve packages and pin them in imgbuild.lock
    Lock(lock::Arguments),
    /// Build images
    Build(build::Arguments),
    /// Boot an image here, throw-away, and see whether it is well
    Boot(boot::Arguments),
    /// Validate all definitions, overlays and the lock, offline
    Check(check::Arguments),
    /// Hold definitions, and images as they are built, against all lints
    Lint(lint::Arguments),
    /// Hold the locked packages against what Debian knows of vulnerabilities
    Audit(audit::Arguments),
    /// Show the layers of a role, and why each was built or reused
    Explain(explain::Arguments),
    /// Show how two images differ
    Diff(diff::Arguments),
    /// Show why a role has a package or path
    Why(why::Arguments),
    /// Write a page that says what a role or a site is made of
    Report(report::Arguments),
    /// Draw how definitions, layers or the roles of a site hang together
    Graph(graph::Arguments),
    /// Write a bill of materials of an image: its packages, sources, licences and files
    Sbom(sbom::Arguments),
    /// Write how an artifact was built, and of what (SLSA provenance)
    Provenance(provenance::Arguments),
    /// Push images that were built, and what is about them, to a registry
    Push(push::Arguments),
    /// Pull images from a registry, as if they had been built here
    Pull(pull::Arguments),
    /// Sign artifacts with an SSH key, and write beside them what is signed
    Sign(sign::Arguments),
    /// See whether artifacts can be trusted: their bytes, signatures, documents, and what policies say
    Verify(verify::Arguments),
    /// See whether everything is there that a swap of a site needs
    Preflight(preflight::Arguments),
    /// Show what a swap would do to a site, step by step
    Plan(plan::Arguments),
    /// Deploy a site, or replace its guests by new ones from new images
    Swap(swap::Arguments),
    /// Bring back what the guests of a site ran before
    Rollback(site::ChangeArguments),
    /// Show what runs at a site, and how it is
    Status(status::Arguments),
    /// Destroy replaced guests that nobody needs any more
    Prune(site::ChangeArguments),
    /// Run a site here, every node a container, and swap its guests as on Proxmox
    Lab(lab::Arguments),
    /// Delete from the store what nothing needs
    Gc(gc::Arguments),
    /// Print a script by which a shell completes verbs and options
    Completions(completions::Arguments),
    /// Print the JSON Schema of a file, or of what programs read
    Schema(schema::Arguments),
    /// Print or install manual pages
    Man(man::Arguments),
}

/// What is understood on the command line, to hold documentation against it.
#[must_use]
pub fn command() -> clap::Command {
    CommandLine::command()
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let matches = without_empty_variables(CommandLine::command()).get_matches();
    let name = full_name(&matches);
    let parsed = CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let CommandLine { options, verb } = parsed;
    let context = Context::new(options, name);
    let outcome = match verb {
        Verb::Init(arguments) => init::run(&context, &arguments),
        Verb::New(arguments) => new::run(&context, &arguments),
        Verb::Lock(arguments) => lock::run(&context, arguments),
        Verb::Build(arguments) => build::run(&context, &arguments),
        Verb::Boot(arguments) => boot::run(&context, &arguments),
        Verb::Check(arguments) => check::run(&context, &arguments),
        Verb::Lint(arguments) => lint::run(&context, &arguments),
        Verb::Audit(arguments) => audit::run(&context, &arguments),
        Verb::Explain(arguments) => explain::run(&context, &arguments),
        Verb::Diff(arguments) => diff::run(&context, &arguments),
        Verb::Why(arguments) => why::run(&context, &arguments),
        Verb::Report(arguments) => report::run(&context, &arguments),
        Verb::Graph(arguments) => graph::run(&context, &arguments),
        Verb::Sbom(arguments) => sbom::run(&context, &arguments),
        Verb::Provenance(arguments) => provenance::run(&context, &arguments),
        Verb::Push(arguments) => push::run(&context, &arguments),
        Verb::Pull(arguments) => pull::run(&context, &arguments),
        Verb::Sign(arguments) => sign::run(&context, &arguments),
        Verb::Verify(arguments) => verify::run(&context, &arguments),
        Verb::Preflight(arguments) => preflight::run(&context, &arguments),
        Verb::Plan(arguments) => plan::run(&context, &arguments),
        Verb::Swap(arguments) => swap::run(&context, &arguments),
        Verb::Rollback(arguments) => rollback::run(&context, &arguments),
        Verb::Status(arguments) => status::run(&context, &arguments),
        Verb::Prune(arguments) => prune::run(&context, &arguments),
        Verb::Lab(arguments) => lab::run(&context, &arguments),
        Verb::Gc(arguments) => gc::run(&context, &arguments),
        Verb::Completions(arguments) => completions::run(&context, &arguments),
        Verb::Schema(arguments) => schema::run(&context, &arguments),
        Verb::Man(arguments) => man::run(&context, &arguments),
    };
    outcome.unwrap_or_else(|report| {
        context.error(&report);
        ExitCode::FAILURE
    })
}

/// `command`, for which variables of the environment that are empty are not there: pipelines have no other way to say so.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|argument| match argument.get_env().is_some_and(is_empty) {
        true => argument.env(None::<&'static str>),
        false => argument,
    });
    command.mut_subcommands(without_empty_variables)
}

/// The verb as it is typed: `lab up`.
fn full_name(matches: &ArgMatches) -> String {
    let mut names = Vec::new();
    let mut matches = Some(matches);
    while let Some((name, below)) = matches.and_then(ArgMatches::subcommand) {
        names.push(name);
        matches = Some(below);
    }
    names.join(" ")
}
