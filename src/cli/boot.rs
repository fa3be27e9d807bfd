//! `imgbuild boot`

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use miette::{Diagnostic, IntoDiagnostic, Result, WrapErr};
use schemars::JsonSchema;
use serde::Serialize;

use super::context::{Context, Given, bytes, shown};
use super::layers::LayerOptions;
use super::trust::trust;
use crate::boot::container::{self, Container};
use crate::boot::qemu::{self, Accelerator, Machine};
use crate::boot::{self, Guest, Identity, Observation, Secrets, Volume, observe, random_digits};
use crate::build::{Archives, Builder, LockedPlan, LockedRole, SharedLayers};
use crate::publish::layers::Voucher;
use crate::store::Store;

/// How long a guest may take: on the machine's own processors, and when they are emulated.
const PATIENCE: Duration = Duration::from_secs(180);
const PATIENCE_WITH_EMULATION: Duration = Duration::from_secs(600);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The role to boot
    #[arg(value_name = "ROLE")]
    role: String,
    /// What to boot: the container template or the disk [default: the template if containers can be
    /// booted here, else the disk]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Open a shell in the guest once it is up
    #[arg(long)]
    shell: bool,
    /// Boot it as a node of this site
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Boot it as this node [default: the site's first of that role]
    #[arg(long, value_name = "NODE", requires = "site")]
    node: Option<String>,
    /// What starts a disk
    #[arg(long, value_name = "FIRMWARE", default_value = "seabios")]
    firmware: Firmware,
    /// Memory of a disk's machine, in MiB
    #[arg(long, value_name = "MIB", default_value = "2048",
          value_parser = clap::value_parser!(u32).range(128..))]
    memory: u32,
    /// Give up after this time [default: 180, with software emulation 600]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
    /// Take this file or directory for a source, whatever its definition pins
    #[arg(long = "source", value_name = "NAME=PATH")]
    sources: Vec<Given>,
    /// Where artifacts go
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    #[command(flatten)]
    layers: LayerOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// The template, as an unprivileged container
    Lxc,
    /// The disk, as a virtual machine
    Qcow2,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Firmware {
    /// A BIOS, the default of Proxmox VE
    Seabios,
    /// UEFI
    Ovmf,
}

impl From<Firmware> for qemu::Firmware {
    fn from(firmware: Firmware) -> Self {
        match firmware {
            Firmware::Seabios => Self::SeaBios,
            Firmware::Ovmf => Self::Ovmf,
        }
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    if arguments.shell && !io::stdin().is_terminal() {
        return Err(NoTerminal.into());
    }
    let format = format(context, arguments.format)?;
    let project = context.project()?;
    context.refuse_denied(&project)?;
    let lock = context.lock(&project)?;
    let site = arguments.site.as_deref();
    let mut role = context.locked_role(&project, &lock, &arguments.role, site)?;
    let store = context.store()?;
    context.supplies(&project, &store, &arguments.sources)?.give(&mut role);
    let plan = &role.plan;
    let identity = Identity::of(&plan.plan, arguments.node.as_deref())?;
    let secrets = Secrets::for_trial(&plan.plan, &identity)
        .into_diagnostic()
        .wrap_err("cannot get random numbers for secrets")?;
    let executable = std::env::current_exe()
        .into_diagnostic()
        .wrap_err("cannot find imgbuild's own executable")?;
    let trust = trust(&project, site)?;
    let artifact = artifact(context, arguments, (&store, &trust), &role, format, &executable)?;
    let trial = Trial { context, arguments, plan, format, artifact, identity, executable };
    match format {
        Format::Lxc => trial.container(secrets),
        Format::Qcow2 => trial.machine(secrets),
    }
}

/// What can be booted here, if it is not said.
fn format(context: &Context, wanted: Option<Format>) -> Result<Format> {
    match (wanted, container::available()) {
        (Some(Format::Lxc), available) => available.map(|()| Format::Lxc).map_err(Into::into),
        (Some(Format::Qcow2), _) => Ok(qemu::available().map(|()| Format::Qcow2)?),
        (None, Ok(())) => Ok(Format::Lxc),
        (None, Err(reason)) => {
            qemu::available()?;
            context.say(format!("booting the disk, not the template: {reason}"));
            Ok(Format::Qcow2)
        }
    }
}

/// The artifact to boot, built if need be.
fn artifact(
    context: &Context,
    arguments: &Arguments,
    (store, trust): (&Store, &Voucher),
    role: &LockedRole,
    format: Format,
    executable: &Path,
) -> Result<PathBuf> {
    let fetcher = context.fetcher();
    let shared = arguments.layers.open(context, &trust.rules)?;
    let builder = Builder {
        store,
        downloads: store,
        progress: context.progress(),
        fetcher: &fetcher,
        shared: shared.as_ref().map(|layers| layers as &dyn SharedLayers),
        trust,
        role: arguments.role.clone(),
        site: arguments.site.clone(),
        executable: executable.to_owned(),
        archives: Archives::default(),
        threads: thread::available_parallelism().map_or(1, Into::into),
        debug_shell: false,
    };
    let format = match format {
        Format::Lxc => crate::artifact::name::Format::LxcTemplate,
        Format::Qcow2 => crate::artifact::name::Format::Qcow2,
    };
    let artifacts = builder.build(role, &[format], &arguments.out)?;
    let artifact = artifacts.into_iter().next();
    artifact.map(|artifact| artifact.path).ok_or_else(|| miette::miette!("nothing was built"))
}

/// One run of one artifact.
struct Trial<'a> {
    context: &'a Context,
    arguments: &'a Arguments,
    plan: &'a LockedPlan,
    format: Format,
    artifact: PathBuf,
    identity: Identity,
    executable: PathBuf,
}

impl Trial<'_> {
    fn container(&self, secrets: Secrets) -> Result<ExitCode> {
        self.announce("a container");
        let spec = container::Spec {
            executable: self.executable.clone(),
            template: self.artifact.clone(),
            identity: self.identity.clone(),
            volumes: self.volumes(),
            secrets,
        };
        let mut guest = Container::start(&spec, self.context.progress())?;
        let started = guest.started();
        let seen = self.observe(&mut guest, started, PATIENCE);
        let outcome = self.tell(seen, None);
        if self.arguments.shell && !guest.has_ended() {
            self.context.say("a shell in the container; it ends with it");
            guest.shell()?;
        }
        guest.close()?;
        outcome
    }

    fn machine(&self, secrets: Secrets) -> Result<ExitCode> {
        let accelerator = Accelerator::detect(&self.executable)?;
        let patience = match accelerator {
            Accelerator::Kvm => PATIENCE,
            Accelerator::Emulation => {
                self.context.say(
                    "KVM does not work here: the processor is emulated, which is 10 to 20 times slower",
                );
                PATIENCE_WITH_EMULATION
            }
        };
        let password = match self.arguments.shell {
            true => {
                let digits = random_digits().into_diagnostic();
                Some(digits.wrap_err("cannot make a password")?.split_off(16))
            }
            false => None,
        };
        self.announce("a virtual machine");
        let mut guest = Machine::start(&qemu::Spec {
            executable: self.executable.clone(),
            disk: self.artifact.clone(),
            accelerator,
            firmware: self.arguments.firmware.into(),
            bus: qemu::Bus::default(),
            memory_mib: self.arguments.memory,
            volumes: self.volumes(),
            secrets,
            identity: Some(self.identity.clone()),
            password: password.clone(),
            extra_arguments: Vec::new(),
        })?;
        let started = guest.started();
        let seen = self.observe(&mut guest, started, patience);
        let outcome = self.tell(seen, Some(accelerator));
        if let Some(password) = password.filter(|_| !guest.has_ended()) {
            self.context.say(format!(
                "the serial console; log in as root with the password {password}, leave with Ctrl-]"
            ));
            guest.shell()?;
        }
        guest.close()?;
        outcome
    }

    fn announce(&self, what: &str) {
        let Identity { name, address, .. } = &self.identity;
        let artifact = shown(&self.artifact);
        self.context.say(format!("booting {artifact} as {name}, {address}, in {what}"));
    }

    fn volumes(&self) -> Vec<Volume> {
        let volume = |state: &crate::definition::State| Volume {
            name: state.name.to_string(),
            path: state.path.to_string(),
            disk: None,
        };
        self.plan.plan.states.iter().map(volume).collect()
    }

    fn observe(
        &self,
        guest: &mut dyn Guest,
        started: std::time::Instant,
        patience: Duration,
    ) -> Result<Observation, boot::Error> {
        let health = &self.plan.plan.health;
        let health = health.ready.as_ref().or(health.live.as_ref());
        let seconds = self.arguments.timeout.map(|seconds| Duration::from_secs(seconds.into()));
        let timeout = seconds.unwrap_or(patience);
        observe(guest, health.map(Vec::as_slice), started, timeout, self.context.progress())
    }

    /// Tells what was seen. An error is the outcome only if there is no shell to find its cause in.
    fn tell(
        &self,
        seen: Result<Observation, boot::Error>,
        accelerator: Option<Accelerator>,
    ) -> Result<ExitCode> {
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) if self.arguments.shell => {
                self.context.error(&error.into());
                return Ok(ExitCode::FAILURE);
            }
            Err(error) => return Err(error.into()),
        };
        let name = self.identity.name.as_str();
        if seen.healthy {
            self.context.say(format!("{name}: {}", well(&seen)));
        } else {
            self.context.report(&Unhealthy::new(name, &seen));
        }
        if self.context.json() {
            self.context.output(&Output {
                role: self.plan.role(),
                format: self.format,
                artifact: &self.artifact,
                node: name,
                address: self.identity.address.to_string(),
                firmware: accelerator.map(|_| self.arguments.firmware.into()),
                accelerator,
                seen: &seen,
            })?;
        }
        Ok(if seen.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What was seen of a guest.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output<'a> {
    /// The role.
    role: &'a str,
    /// What was booted.
    format: Format,
    /// The file that was booted.
    artifact: &'a Path,
    /// The node that it was booted as.
    node: &'a str,
    /// The address that it was given.
    address: String,
    /// What has started the disk; none for a container.
    firmware: Option<qemu::Firmware>,
    /// What has run the disk; none for a container.
    accelerator: Option<Accelerator>,
    #[serde(flatten)]
    seen: &'a Observation,
}

impl super::output::Output for Output<'_> {
    const VERBS: &'static [&'static str] = &["boot"];
}

/// What there is to say of a guest that is well.
fn well(seen: &Observation) -> String {
    let mut text = match (seen.seconds.healthy, seen.seconds.started) {
        (Some(seconds), _) => format!("healthy after {seconds:.1} s"),
        (None, Some(seconds)) => format!("running after {seconds:.1} s"),
        (None, None) => "running".to_owned(),
    };
    for address in &seen.addresses {
        // Writing to a string cannot fail.
        let _ = write!(text, ", {address}");
    }
    if let Some(memory) = seen.memory {
        let _ = write!(text, ", {} of memory in use", bytes(memory));
    }
    if let Some(analysis) = &seen.analysis {
        let _ = write!(text, "\n  {analysis}");
    }
    text
}

/// A shell was asked for where nobody can type.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("there is no terminal for a shell")]
#[diagnostic(help("run `imgbuild boot` on a terminal, or leave out `--shell`"))]
struct NoTerminal;

/// A guest that is not well.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{node} is not healthy: {causes}{details}")]
#[diagnostic(help("look around in the guest: the same command with `--shell`"))]
struct Unhealthy {
    node: String,
    causes: String,
    details: String,
}

impl Unhealthy {
    fn new(node: &str, seen: &Observation) -> Self {
        let mut causes = Vec::new();
        if !seen.failed_units.is_empty() {
            causes.push(format!("failed units: {}", seen.failed_units.join(", ")));
        } else if seen.state != "running" {
            causes.push(format!("systemd is {}", seen.state));
        }
        let failure = seen.failure.clone().unwrap_or_default();
        if failure.health.is_some() {
            causes.push("its health check fails".to_owned());
        }
        let mut details = String::new();
        let parts = [
            ("the health check says", failure.health.unwrap_or_default()),
            ("the end of the journal", failure.journal),
            ("the end of the console", failure.console),
        ];
        for (title, text) in parts {
            if !text.trim().is_empty() {
                let lines = text.lines().map(|line| format!("\n    {line}"));
                let _ = write!(details, "\n  {title}:{}", lines.collect::<String>());
            }
        }
        Self { node: node.to_owned(), causes: causes.join("; "), details }
    }
}
