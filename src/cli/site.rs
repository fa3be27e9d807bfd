//! What the verbs share that look after a running site.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use clap::Args;
use miette::{IntoDiagnostic, Report, Result, WrapErr, miette};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::context::Context;
use super::teller::{More, Teller};
use crate::artifact::manifest::Manifest;
use crate::debian::date::Moment;
use crate::definition::{Hostname, ImageName, Project, Trust};
use crate::lock::Lock;
use crate::proxmox::{self, Client, Token};
use crate::signature::files::Files;
use crate::swap::proxmox::{Proxmox, SECRETS};
use crate::swap::site::{Artifact, Deployment};
use crate::swap::{
    Admit, Goal, Guest, Holder, Known, NewGuest, Operator, Outcome, Plan, Planned, Platform, Scope,
    Settings, Step, Stop, Survey, SystemClock, Wanted,
};
use crate::verify::{self, Judge, Rules, Verdict, Verifier};

/// Where the token comes from if not from a file. Never from the command line, which every user of the
/// machine can read.
const TOKEN: &str = "IMGBUILD_PROXMOX_TOKEN";

/// Which site, and how to get at it.
#[derive(Debug, Args)]
pub(super) struct SiteArguments {
    /// The site
    #[arg(long, value_name = "SITE")]
    pub(super) site: String,
    /// Where its artifacts are
    #[arg(long, value_name = "DIR", default_value = "out")]
    artifacts: PathBuf,
    /// A file with the token of Proxmox's API, `user@realm!name=secret` [default: the environment's
    /// IMGBUILD_PROXMOX_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Which nodes of a site to change.
#[derive(Debug, Args)]
pub(super) struct ChangeArguments {
    /// Roles and nodes [default: all of the site]
    #[arg(value_name = "NAME")]
    pub(super) names: Vec<String>,
    #[command(flatten)]
    pub(super) site: SiteArguments,
    /// Do not ask
    #[arg(long, short)]
    pub(super) yes: bool,
}

/// A site on Proxmox VE that can be looked at and changed.
pub(super) struct Opened {
    pub(super) deployment: Deployment,
    pub(super) wanted: Wanted,
    pub(super) platform: Proxmox,
    project: Project,
    lock: Lock,
}

/// A site that can be looked at and changed, wherever it is.
pub(super) struct Managed<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) platform: &'a dyn Platform,
    /// How patient a run is.
    pub(super) settings: Settings,
}

/// Says which artifacts were built from something that the lock does not pin.
pub(super) fn say_unpinned<'a>(context: &Context, artifacts: impl Iterator<Item = &'a Artifact>) {
    for manifest in artifacts.map(|artifact| &artifact.manifest) {
        for source in &manifest.unpinned {
            context.say(format!("{}: unpinned: {source}", manifest.role));
        }
    }
}

impl Opened {
    pub(super) fn new(context: &Context, arguments: &SiteArguments) -> Result<Self> {
        context.narrow();
        let project = context.project()?;
        crate::definition::site::prove(&project)?;
        let lock = context.lock(&project)?;
        let site = arguments.site.as_str();
        let deployment =
            Deployment::new::<Report>(&project, site, &arguments.artifacts, |role, manifest| {
                // A role that cannot be locked here has no artifact that is known to be up to date.
                let role = context.locked_role(&project, &lock, role.as_str(), Some(site));
                Ok(role.is_ok_and(|role| crate::build::is_current(&role, manifest)))
            })?;
        say_unpinned(context, deployment.artifacts());
        let wanted = deployment.wanted()?;
        let hosting = &deployment.hosting;
        let trust = match &hosting.trust {
            Trust::System => proxmox::Trust::Public,
            Trust::Fingerprint(fingerprint) => proxmox::Trust::Certificate(*fingerprint),
            Trust::Authority(path) => {
                let path = project.root().join("overlays").join(site).join(path);
                let pem = std::fs::read(&path).into_diagnostic();
                let pem = pem.wrap_err_with(|| format!("cannot read {}", path.display()))?;
                proxmox::Trust::authorities(&pem)?
            }
        };
        let client = Client::new(&hosting.url.to_string(), &trust, token(arguments)?)?;
        let platform = Proxmox::new(client, deployment.place());
        Ok(Self { deployment, wanted, platform, project, lock })
    }

    /// What policies say of those artifacts of the site for which `is_asked` holds. None if there is no policy. Policies are read
    /// only where something is deployed: what runs can be looked at and taken back whatever they say.
    pub(super) fn verdicts(
        &self,
        context: &Context,
        is_asked: impl Fn(&Artifact) -> bool,
    ) -> Result<Option<Vec<Verdict>>> {
        let site = self.wanted.site().as_str();
        let rules = Rules::of::<Report>(&self.project, Some(site))?;
        if rules.is_empty() {
            return Ok(None);
        }
        // Layers are looked at if there are any. The bytes that are uploaded are in the artifact.
        let store = context.store().ok();
        let verifier = Verifier {
            judge: Judge::Policies(&rules),
            site: Some(Some(site)),
            store: store.as_ref(),
            layers: false,
            now: Moment::from(SystemTime::now()),
        };
        let repositories = |manifest: &Manifest| {
            let role = context.locked_role(&self.project, &self.lock, &manifest.role, Some(site));
            let role = role.ok().filter(|role| crate::build::is_current(role, manifest))?;
            verify::newest_repository(&self.lock, &role, manifest.artifact.format)
        };
        let asked = self.deployment.artifacts().filter(|artifact| is_asked(artifact));
        let one = |artifact: &Artifact| match Files::of(&artifact.path) {
            // What is uploaded has the SHA-256 that was read first.
            Some(files) => verifier.check(&files, repositories).of(&artifact.manifest),
            None => Verdict::of_no_artifact(&artifact.path),
        };
        Ok(Some(asked.map(one).collect()))
    }

    /// The artifacts that `planned` makes guests of and policies refuse. From then on no other artifact is uploaded than those
    /// that `planned` takes.
    pub(super) fn refuse_untrusted(
        &mut self,
        context: &Context,
        planned: &Plan,
    ) -> Result<Option<verify::Refused>> {
        let taken: BTreeSet<&str> = taken_by(planned).collect();
        let is_taken = |artifact: &Artifact| taken.contains(&*artifact.manifest.artifact.name);
        let Some(verdicts) = self.verdicts(context, is_taken)? else {
            if !taken.is_empty() {
                context.say(
                    "note: there is no policy.toml that says who has to sign what this site runs (docs/policy.md)",
                );
            }
            return Ok(None);
        };
        self.platform.keep_artifacts(|name| taken.contains(name));
        let artifacts: Vec<Verdict> = verdicts.into_iter().filter(|it| !it.trusted).collect();
        let site = self.wanted.site().to_string();
        Ok((!artifacts.is_empty()).then_some(verify::Refused { site, artifacts }))
    }

    /// The required secrets that guests would be made without, by node.
    pub(super) fn missing_secrets(&self, planned: &Plan) -> Vec<(Hostname, Vec<String>)> {
        let declared = self.deployment.declared_secrets();
        let made = planned.steps.iter().filter_map(|step| match step {
            Planned::Step(Step::Create(new)) if makes_secrets(new) => Some(&new.record.node),
            _ => None,
        });
        let missing = made.map(|node| {
            let given = self.platform.secrets_of(node);
            let required = declared.get(node).into_iter().flat_map(|one| &one.files);
            let missing = required
                .filter(|(name, required)| {
                    **required && !given.iter().any(|file| file.name == **name)
                })
                .map(|(name, _)| name.clone());
            (node.clone(), missing.collect::<Vec<_>>())
        });
        missing.filter(|(_, names)| !names.is_empty()).collect()
    }

    /// Refuses what would make guests without secrets that they need, or could not deliver them.
    pub(super) fn require_secrets(&self, planned: &Plan) -> Result<()> {
        let missing = self.missing_secrets(planned);
        if !missing.is_empty() {
            let nodes: Vec<String> = missing
                .iter()
                .map(|(node, names)| format!("{node} ({})", names.join(", ")))
                .collect();
            return Err(miette!(
                help = "put them into files DIR/NODE/NAME or DIR/all/NAME that only you can read, and give \
                        `--secrets DIR` (docs/swap.md#secrets)",
                "secrets are missing for the first guest of {}",
                nodes.join(", ")
            ));
        }
        let delivers = planned.steps.iter().any(|step| match step {
            Planned::Step(Step::Create(new)) => {
                makes_secrets(new) && !self.platform.secrets_of(&new.record.node).is_empty()
            }
            _ => false,
        });
        if delivers {
            self.platform.may_deliver().map_err(|error| miette!("{error}"))?;
        }
        Ok(())
    }

    /// The nodes of `goal` that were given secrets and do not take them, because they have theirs already.
    pub(super) fn unused_secrets(&self, goal: &Goal, planned: &Plan) -> Vec<Hostname> {
        let Goal::Deploy { scope, .. } = goal else { return Vec::new() };
        let takes = |name: &Hostname| {
            planned.steps.iter().any(|step| match step {
                Planned::Step(Step::Create(new)) => makes_secrets(new) && new.record.node == *name,
                _ => false,
            })
        };
        let nodes = self.wanted.nodes().iter().filter(|node| scope.holds(node));
        let names = nodes.map(|node| &node.name);
        let given = names.filter(|name| !self.platform.secrets_of(name).is_empty());
        given.filter(|name| !takes(name)).cloned().collect()
    }

    /// The site, wherever it is.
    pub(super) fn managed(&self) -> Managed<'_> {
        let (wanted, platform) = (&self.wanted, &self.platform);
        Managed { wanted, platform, settings: Settings::default() }
    }
}

impl Managed<'_> {
    pub(super) fn survey(&self) -> Result<Survey> {
        self.platform.survey().map_err(|error| miette!("cannot survey the site: {error}"))
    }

    /// What all nodes that run say of themselves.
    pub(super) fn health(&self) -> Known {
        let nodes: Vec<_> = self.wanted.nodes().iter().collect();
        let answers = self.platform.health(&nodes);
        Known(nodes.iter().map(|node| node.name.clone()).zip(answers).collect())
    }

    /// Goes for `goal`, if `admit` finds nothing against it, and says what happens; programs are told what else there is.
    pub(super) fn run(
        &self,
        context: &Context,
        goal: &Goal,
        purpose: &str,
        admit: &Admit<'_>,
        more: More,
    ) -> Result<ExitCode> {
        let teller = Teller::new(context);
        let outcome = self.operate(&teller, goal, purpose, admit)?;
        teller.end(&outcome, more)
    }

    /// Goes for `goal`, if `admit` finds nothing against it, and says what is done.
    pub(super) fn operate(
        &self,
        teller: &Teller<'_>,
        goal: &Goal,
        purpose: &str,
        admit: &Admit<'_>,
    ) -> Result<Outcome> {
        let signals = Arc::new(AtomicU32::new(0));
        listen(Arc::clone(&signals))?;
        let operator = Operator {
            platform: self.platform,
            clock: &SystemClock::new(),
            wanted: self.wanted,
            holder: Holder::new(who()),
            settings: self.settings.clone(),
            stop: &|| match signals.load(Ordering::Relaxed) {
                0 => Stop::No,
                1 => Stop::BetweenNodes,
                _ => Stop::AtOnce,
            },
            admit,
            tell: &|event| teller.tell(event),
        };
        Ok(operator.run(goal, purpose))
    }
}

/// Says of guests why a prune keeps them.
pub(super) fn say_kept(context: &Context, remains: &[(&Guest, Option<String>)]) {
    for (guest, kept) in remains {
        if let Some(why) = kept {
            context.say(format!("{}: guest {} is kept: {why}", guest.record.node, guest.id));
        }
    }
}

/// The artifacts that `planned` brings or makes guests of.
pub(super) fn taken_by(planned: &Plan) -> impl Iterator<Item = &str> {
    planned.steps.iter().filter_map(|step| match step {
        Planned::Step(Step::Create(new)) => Some(new.artifact.as_str()),
        Planned::Step(Step::Upload { artifact, .. }) => Some(artifact.as_str()),
        _ => None,
    })
}

/// Whether a volume of secrets is made with the guest.
fn makes_secrets(guest: &NewGuest) -> bool {
    guest.fresh.keys().any(|name| name.as_str() == SECRETS)
}

/// Counts signals. The first one stops the run before the next node, the second one at once, the third one ends
/// the process where it is; whatever was begun, the next run goes on from there.
fn listen(count: Arc<AtomicU32>) -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).into_diagnostic().wrap_err("cannot wait for signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if count.fetch_add(1, Ordering::Relaxed) == 2 {
                // Nothing has to be tidied up: all that there is stands on the guests.
                std::process::exit(128 + signal);
            }
        }
    });
    Ok(())
}

/// `jane@admin1`, for the next operator who comes while this one works.
fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME", "GITLAB_USER_LOGIN", "GITHUB_ACTOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "somebody".to_owned());
    let host = rustix::system::uname();
    format!("{user}@{}", host.nodename().to_string_lossy())
}

fn token(arguments: &SiteArguments) -> Result<Token> {
    let text = match &arguments.token_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).into_diagnostic();
            text.wrap_err_with(|| format!("cannot read the token in {}", path.display()))?
        }
        None => std::env::var(TOKEN).map_err(|_| {
            miette!(
                help = format!(
                    "make one as docs/proxmox.md says, then `export {TOKEN}='user@realm!name=secret'` or \
                     `--token-file FILE`"
                ),
                "there is no token for Proxmox's API"
            )
        })?,
    };
    Ok(text.trim().parse::<Token>()?)
}

/// The roles and nodes that an operator names; each must be one of the site.
pub(super) fn scope(wanted: &Wanted, names: &[String]) -> Result<Scope> {
    let mut scope = Scope::default();
    for name in names {
        if let Some(node) = wanted.node(name) {
            scope.nodes.push(node.name.clone());
        } else if let Some(role) = wanted.role_named(name) {
            scope.roles.push(role.name.clone());
        } else {
            return Err(unknown(wanted, name));
        }
    }
    Ok(scope)
}

fn unknown(wanted: &Wanted, name: &str) -> Report {
    let known: Vec<&str> = wanted
        .roles()
        .map(|role| role.name.as_str())
        .chain(wanted.nodes().iter().map(|node| node.name.as_str()))
        .collect();
    let help = crate::definition::did_you_mean(name, known.iter().copied())
        .unwrap_or_else(|| format!("it has: {}", known.join(", ")));
    miette!(help = help, "the site {} has no role and no node `{name}`", wanted.site())
}

/// Whether `role` has a node in `scope`.
pub(super) fn concerns(wanted: &Wanted, scope: &Scope, role: &ImageName) -> bool {
    let all = scope.roles.is_empty() && scope.nodes.is_empty();
    let of_role =
        |name: &Hostname| wanted.node(name.as_str()).is_some_and(|node| node.role == *role);
    all || scope.roles.contains(role) || scope.nodes.iter().any(of_role)
}
