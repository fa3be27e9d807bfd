//! From a locked plan to the layers of its stack.

use std::path::PathBuf;
use std::time::Instant;

use super::known::Found;
use super::session::Session;
use super::{
    Builder, Error, Inputs, LAYER, Layer, LayerKind, LayerRecord, LockedImage, LockedPlan,
    Obtained, TAKEN, files,
};
use crate::digest::Digest;
use crate::fetch::Request as Download;
use crate::layer::lay::Extent;
use crate::layer::request::{Answer, Built, Output, PackageFile, Packages, Request, Run};
use crate::progress::{Event, Step};
use crate::render::RenderedLayer;

/// Unpacked packages take about this many times the bytes of their archives.
const EXPANSION: u64 = 5;

/// Downloads at a time. They wait for the mirror more than for a processor.
pub(super) const DOWNLOADS: usize = 8;

impl Builder<'_> {
    /// Builds whatever layer of `plan` is not in the store. `ready` is called with each layer as soon as
    /// it is there, in order.
    ///
    /// # Errors
    /// When a download, a script or a rendered file fails.
    pub fn layers(
        &self,
        plan: &LockedPlan,
        ready: &dyn Fn(&Layer),
    ) -> Result<(Vec<Layer>, BuiltTree<'_, '_>), Error> {
        let bytes = plan.packages().map(|package| package.package.size).sum();
        let mut session = self.session(bytes);
        let mut layers: Vec<Layer> = Vec::new();
        for (position, image) in plan.images.iter().enumerate() {
            self.system_layers(image, &plan.images[position..], &mut layers, &mut session, ready)?;
        }
        for rendered in plan.rendered.iter().filter(|rendered| !rendered.entries.is_empty()) {
            let layer = self.files_layer(rendered, &layers)?;
            ready(&layer);
            layers.push(layer);
        }
        Ok((layers, BuiltTree { session }))
    }

    /// A tree for packages whose archives have so many bytes together.
    pub(super) fn session(&self, bytes: u64) -> Session<'_, '_> {
        Session::new(self, Extent::Whole, bytes * EXPANSION)
    }

    /// Adds the layers of the packages, sources and commands of `image` to `layers`. `rest` begins with it and goes
    /// on with the images above.
    pub(super) fn system_layers(
        &self,
        image: &LockedImage,
        rest: &[LockedImage],
        layers: &mut Vec<Layer>,
        session: &mut Session<'_, '_>,
        ready: &dyn Fn(&Layer),
    ) -> Result<(), Error> {
        if !image.packages.is_empty() {
            let layer = self.packages_layer(image, rest, layers, session)?;
            ready(&layer);
            layers.push(layer);
        }
        if !image.sources.is_empty() {
            let layer = self.sources_layer(image, layers)?;
            ready(&layer);
            layers.push(layer);
        }
        if !image.commands.is_empty() {
            let layer = self.command_layer(image, LayerKind::Run, layers, session)?;
            ready(&layer);
            layers.push(layer);
        }
        Ok(())
    }

    /// The layer of `inputs`: from the store, or made by `make`, once even when several builds want it.
    pub(super) fn layer(
        &self,
        image: &str,
        kind: LayerKind,
        inputs: Inputs,
        make: impl FnOnce(&Step<'_>) -> Result<LayerRecord, Error>,
    ) -> Result<Layer, Error> {
        let key = inputs.key();
        let found = |record: LayerRecord, inputs: Inputs, reused| {
            let blob = self.store.blob(&record.digest)?;
            let archive = blob.path().to_owned();
            Some(Layer { image: image.to_owned(), kind, inputs, record, archive, reused })
        };
        if let Found::Layer(record) = self.known().find(&key)
            && let Some(layer) = found(record, inputs.clone(), true)
        {
            log::debug!("{image} {}: {}, as it is in the store", kind.name(), layer.record.digest);
            return Ok(layer);
        }
        log::debug!("{image} {}: nothing in the store has the key {key}", kind.name());
        let _lock = self.store.lock_key(LAYER, &key)?;
        let label = format!("{image} {}", kind.name());
        match self.known().find(&key) {
            Found::Layer(record) => {
                if let Some(layer) = found(record, inputs.clone(), true) {
                    return Ok(layer);
                }
            }
            // Told here, where only one at a time comes of those who want the layer.
            Found::Distrusted(why) => self.progress.event(Event::Warning(format!(
                "{label}: the layer in the store is one of another machine, and is not used: {why}"
            ))),
            Found::Nothing => {}
        }
        let gone = || Error::Step {
            action: format!("find the {} layer of {image} again", kind.name()),
            chain: vec!["it was deleted from the store while it was in use".to_owned()],
            output: String::new(),
            help: Some("build again, and do not delete files of the store by hand".to_owned()),
        };
        let pledge = match self.obtain(&key, &label)? {
            Some(Obtained::Layer { record, taken }) => {
                self.store.put_key(TAKEN, &key, &taken)?;
                return found(record, inputs, true).ok_or_else(gone);
            }
            Some(Obtained::Build(pledge)) => Some(pledge),
            None => None,
        };
        let step = Step::start(self.progress, label, None);
        let record = make(&step)?;
        self.store.put_key(LAYER, &key, &record)?;
        step.finish(format!("{} paths in {:.1} s", record.entries, record.seconds));
        let layer = found(record, inputs, false).ok_or_else(gone)?;
        if let Some(pledge) = pledge {
            pledge.keep(&layer.record, &layer.archive, self.store, self.progress)?;
        }
        Ok(layer)
    }

    /// What other machines have of the layer of `key`, if layers are shared.
    fn obtain(&self, key: &Digest, label: &str) -> Result<Option<Obtained<'_>>, Error> {
        let Some(shared) = self.shared else { return Ok(None) };
        Ok(Some(shared.obtain(key, label, self.store, self.progress)?))
    }

    fn packages_layer(
        &self,
        image: &LockedImage,
        rest: &[LockedImage],
        below: &[Layer],
        session: &mut Session<'_, '_>,
    ) -> Result<Layer, Error> {
        let inputs = packages_inputs(image, top(below));
        let key = inputs.key();
        self.layer(&image.name, LayerKind::Packages, inputs, |_step| {
            // Before minutes are spent on packages: a source is what is most likely out of reach.
            self.fetch_sources(rest)?;
            let packages = self.fetch(image, rest)?;
            let started = Instant::now();
            let job = Job::new(self, image, LayerKind::Packages, &key);
            let request = Request::Packages(Packages {
                packages,
                users: image.users.clone(),
                groups: image.groups.clone(),
                threads: self.threads,
                layer: self.output(&job, below),
            });
            let built = self.built(session, below, &request, &job)?;
            Ok(record(built, started))
        })
    }

    /// The layer that the commands of `image` make.
    pub(super) fn command_layer(
        &self,
        image: &LockedImage,
        kind: LayerKind,
        below: &[Layer],
        session: &mut Session<'_, '_>,
    ) -> Result<Layer, Error> {
        let inputs = command_inputs(image, kind, top(below));
        let key = inputs.key();
        self.layer(&image.name, kind, inputs, |_step| {
            let started = Instant::now();
            let job = Job::new(self, image, kind, &key);
            let request = Request::Run(Run {
                commands: image.commands.clone(),
                layer: self.output(&job, below),
            });
            let built = self.built(session, below, &request, &job)?;
            Ok(record(built, started))
        })
    }

    pub(super) fn files_layer(
        &self,
        rendered: &RenderedLayer,
        below: &[Layer],
    ) -> Result<Layer, Error> {
        if below.is_empty() {
            return Err(no_packages(format!("render the files of {}", rendered.image)));
        }
        let inputs = files::inputs(rendered, top(below));
        self.layer(&rendered.image, LayerKind::Files, inputs, |_step| {
            files::build(self, rendered, below)
        })
    }

    /// Gets the packages of `image`. Those of the definitions above it come along: they will be
    /// needed next, and the mirror is asked for all of them at once.
    fn fetch(&self, image: &LockedImage, rest: &[LockedImage]) -> Result<Vec<PackageFile>, Error> {
        let requests: Vec<Download> = rest
            .iter()
            .flat_map(|image| &image.packages)
            .map(|pinned| Download {
                label: format!("{} {}", pinned.package.name, pinned.package.version),
                urls: pinned.urls.clone(),
                digest: pinned.package.sha256,
                size: Some(pinned.package.size),
            })
            .collect();
        let verified =
            self.fetcher.download(&requests, self.downloads, DOWNLOADS, self.progress)?;
        let own = image.packages.iter().zip(verified);
        Ok(own
            .map(|(pinned, file)| PackageFile {
                path: file.path().to_owned(),
                name: pinned.package.name.clone(),
                version: pinned.package.version.clone(),
                architecture: pinned.package.architecture.clone(),
            })
            .collect())
    }

    fn output(&self, job: &Job<'_>, below: &[Layer]) -> Output {
        let epoch = below.last().map_or(0, |layer| layer.record.epoch);
        let (store, log) = (self.store.root().to_owned(), job.log.clone());
        Output { store, log, state: job.image.state.clone(), epoch }
    }

    fn built(
        &self,
        session: &mut Session<'_, '_>,
        below: &[Layer],
        request: &Request,
        job: &Job<'_>,
    ) -> Result<Built, Error> {
        let Job { image, kind, log } = job;
        match session.request(below, request, &format!("{} {}", image.name, kind.name()))? {
            Answer::Built(built) => {
                if log::log_enabled!(log::Level::Debug)
                    && let Ok(text) = std::fs::read(log)
                {
                    log::debug!("{}", String::from_utf8_lossy(&text).trim_end());
                }
                // Nobody will be told of it.
                let _ = std::fs::remove_file(log);
                session.built_one();
                Ok(built)
            }
            Answer::Failed(failure) => {
                if self.debug_shell {
                    let epoch = below.last().map_or(0, |layer| layer.record.epoch);
                    session.send(&Request::Shell { epoch }, "")?;
                }
                let site = self.site.as_ref().map(|site| format!(" --site {site}"));
                let help = failure.command.is_some().then(|| {
                    format!(
                        "the whole log is {}\nfor a shell in the tree at this very point: \
                         imgbuild build {}{} --debug-shell",
                        log.display(),
                        self.role,
                        site.unwrap_or_default()
                    )
                });
                let mut action = format!("build the {} layer of {}", kind.name(), image.name);
                if let Some(place) = image.place_of(failure.command.as_deref()) {
                    action = format!("{action} ({place})");
                }
                Err(Error::from_failure(action, failure, help))
            }
            _ => Err(crate::sandbox::Error::Protocol("not an answer to this".to_owned()).into()),
        }
    }
}

/// A layer that is being built by scripts.
struct Job<'a> {
    image: &'a LockedImage,
    kind: LayerKind,
    /// Takes what the scripts write. Its name has the layer's key, because builds of other projects
    /// may use the store at the same time.
    log: PathBuf,
}

impl<'a> Job<'a> {
    fn new(builder: &Builder<'_>, image: &'a LockedImage, kind: LayerKind, key: &Digest) -> Self {
        let name = format!("{}-{}-{}.log", image.name, kind.name(), key.short());
        Self { image, kind, log: builder.store.root().join("logs").join(name) }
    }
}

/// The tree that was built in, which checks can go on using.
pub struct BuiltTree<'a, 'b> {
    pub(super) session: Session<'a, 'b>,
}

pub(super) fn packages_inputs(image: &LockedImage, below: Option<&Digest>) -> Inputs {
    let mut inputs = Inputs::new(LayerKind::Packages.name(), below);
    for pinned in &image.packages {
        inputs.add(format!("package {}", pinned.package.name), pinned.input());
    }
    for user in &image.users {
        let value =
            format!("{} {} {} {} {}", user.uid, user.gid, user.home, user.shell, user.comment);
        inputs.add(format!("user {}", user.name), value);
    }
    for group in &image.groups {
        inputs.add(format!("group {}", group.name), group.gid.to_string());
    }
    for path in &image.state {
        inputs.add(format!("volume /{}", path.display()), "");
    }
    inputs
}

pub(super) fn command_inputs(
    image: &LockedImage,
    kind: LayerKind,
    below: Option<&Digest>,
) -> Inputs {
    let mut inputs = Inputs::new(kind.name(), below);
    for (number, command) in image.commands.iter().enumerate() {
        inputs.add(format!("command {number:03}"), command.join("\0"));
    }
    for path in &image.state {
        inputs.add(format!("volume /{}", path.display()), "");
    }
    inputs
}

pub(super) fn top(layers: &[Layer]) -> Option<&Digest> {
    layers.last().map(|layer| &layer.record.digest)
}

/// The error that there is nothing to lay anything on.
pub(super) fn no_packages(action: String) -> Error {
    Error::Step {
        action,
        chain: vec!["the stack installs no packages".to_owned()],
        output: String::new(),
        help: Some("give the root definition [packages]".to_owned()),
    }
}

fn record(built: Built, started: Instant) -> LayerRecord {
    LayerRecord {
        digest: built.digest,
        size: built.size,
        entries: built.entries,
        epoch: built.epoch,
        accounts: built.accounts,
        seconds: started.elapsed().as_secs_f64(),
    }
}
