//! A site as an operator sees it: deployed, changed, taken back, by the command, on a fake Proxmox VE. Guests of
//! the fake do not run; a server in this process answers for the health of those that the fake says do.

#[path = "swap/bad.rs"]
mod bad;
#[path = "swap/documentation.rs"]
mod documentation;
#[path = "swap/expected.rs"]
mod expected;
#[path = "swap/hosts.rs"]
mod hosts;
#[path = "swap/machines.rs"]
mod machines;
#[path = "swap/order.rs"]
mod order;
#[path = "swap/policy.rs"]
mod policy;
#[path = "swap/preflight.rs"]
mod preflight;
#[path = "support/pve/mod.rs"]
mod pve;
#[path = "swap/secrets.rs"]
mod secrets;
#[path = "swap/sources.rs"]
mod sources;
mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pve::{Flavour, Kind, Pve};
use support::archive::Archive;
use support::base::{Base, base};
use support::programs::read;
use support::project::{Ended, Project};

const NODES: u8 = 3;

const ROLE: &str = r#"
[parameters.health_http_port]
type = "port"
default = 9273
doc = "Where it says how it is"

[parameters.greeting]
type = "string"
default = "hello"
doc = "What it says"

[[state]]
path = "/var/lib/app"
name = "data"
doc = "What must survive"

[secrets.password]
path = "/run/credstore/app.password"
doc = "What nobody knows"

[swap]
order = 10
ready_within = 4

[cluster]
odd = true
"#;

/// A site of three nodes on a fake.
struct Site {
    project: Project,
    /// What its guests are.
    kind: Kind,
    pve: Arc<Pve>,
    /// Images that are never ready.
    sick: Arc<Mutex<BTreeSet<String>>>,
    /// The number of the node that says that it leads; 0 for none.
    leader: Arc<AtomicU8>,
    over: Arc<AtomicBool>,
    _archive: Archive,
}

impl Site {
    fn new(base: &Base, flavour: Flavour) -> Self {
        Self::of(Kind::Lxc, base, flavour)
    }

    /// A site whose guests are machines.
    fn of_machines(base: &Base, flavour: Flavour) -> Self {
        Self::of(Kind::Qemu, base, flavour)
    }

    fn of(kind: Kind, base: &Base, flavour: Flavour) -> Self {
        let machines = kind == Kind::Qemu;
        let packages = if machines { support::machine::packages().to_vec() } else { Vec::new() };
        let archive = Archive::with_base(base, &packages);
        let project = Project::on_base(base, &archive, ROLE);
        if machines {
            project.add_machine();
        }
        project.write(
            "images/app/files/usr/share/greeting.hbs",
            "{{greeting}} {{health_http_port}}\n",
        );
        project.write("images/app/files/var/lib/app/.gitkeep", "");
        let pve = Arc::new(Pve::start(flavour));
        let port = free_port();
        let nodes: String = (1..=NODES)
            .map(|number| {
                format!(
                    "[[nodes]]\nname = \"app{number}\"\nimage = \"app\"\naddress = \"127.77.0.{number}/24\"\nhost = \"pve1\"\n"
                )
            })
            .collect();
        project.write(
            "overlays/campus/overlay.toml",
            &format!(
                "summary = \"A campus\"\n[images.app]\nhealth_http_port = {port}\n\
                 [proxmox]\nurl = \"{}\"\nfingerprint = \"{}\"\npool = \"imgbuild\"\nartifacts = \"local\"\n\
                 storage = \"local-lvm\"\nvmids = [4000, 4099]\n\
                 [guests.app]\nkind = \"{}\"\ncores = 1\nmemory_mib = 512\nbridge = \"vmbr0\"\n\
                 volumes = {{ data = {{ size_gib = 3 }} }}\n{nodes}",
                pve.url(),
                pve.fingerprint(),
                if machines { "machine" } else { "container" },
            ),
        );
        secrets::write(&project, "secrets/all/app.password", secrets::VALUE);
        project.succeed(&["lock"]);
        let site = Self {
            project,
            kind,
            pve,
            sick: Arc::default(),
            leader: Arc::default(),
            over: Arc::default(),
            _archive: archive,
        };
        site.answer_for_guests(port);
        site
    }

    /// Starts to answer at the address of each node, if a guest of that name runs.
    fn answer_for_guests(&self, port: u16) {
        for number in 1..=NODES {
            let listener = TcpListener::bind((format!("127.77.0.{number}"), port)).unwrap();
            let (pve, sick) = (Arc::clone(&self.pve), Arc::clone(&self.sick));
            let (over, leader) = (Arc::clone(&self.over), Arc::clone(&self.leader));
            std::thread::spawn(move || {
                for mut connection in listener.incoming().flatten() {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let image = image_of_running(&pve, &format!("app{number}"));
                    // A guest that does not run does not answer.
                    let Some(image) = image else { continue };
                    let mut request = [0; 1024];
                    let _ = connection.read(&mut request);
                    let answer = if sick.lock().unwrap().contains(&image) {
                        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 6\r\nConnection: close\r\n\r\nunwell"
                    } else if leader.load(Ordering::Relaxed) == number {
                        "HTTP/1.1 200 OK\r\nImgbuild-Leads: yes\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
                    } else {
                        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
                    };
                    let _ = connection.write_all(answer.as_bytes());
                }
            });
        }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        if arguments.first() == Some(&"swap") {
            command.args(["--secrets", "secrets"]);
        }
        let ended = Ended::from(command.output().unwrap());
        if !arguments.contains(&"--json") {
            fits_a_terminal(&ended);
        }
        ended
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(arguments);
        command.args(["--site", "campus"]).env("IMGBUILD_PROXMOX_TOKEN", self.pve.token());
        command
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}:\n{}\n{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// Builds an image that says `greeting`, and returns the first digits of its digest.
    fn build(&self, greeting: &str) -> String {
        let overlay = self.project.read("images/app/image.toml");
        let before = overlay.split("default = \"hello").next().unwrap().len();
        let after = overlay[before..].find('\n').unwrap() + before;
        let line = format!("default = \"hello{greeting}\"");
        let changed = format!("{}{line}{}", &overlay[..before], &overlay[after..]);
        self.project.write("images/app/image.toml", &changed);
        let format = if self.kind == Kind::Lxc { "lxc" } else { "qcow2" };
        let built = self.project.succeed(&["build", "app", "--site", "campus", "--format", format]);
        let name = built.trim().rsplit('/').next().unwrap();
        let name = name.trim_end_matches(".tar.zst").trim_end_matches(".qcow2");
        name.rsplit('-').next().unwrap().to_owned()
    }

    /// The images that run, by node.
    fn running(&self) -> Vec<Option<String>> {
        (1..=NODES).map(|number| image_of_running(&self.pve, &format!("app{number}"))).collect()
    }

    /// The volumes of 3 GiB, and the running guest that each is attached to.
    fn volumes(&self) -> Vec<(String, Option<u32>)> {
        let cluster = self.pve.cluster();
        let state = cluster.volumes.keys().filter(|volume| {
            cluster.guests.values().any(|guest| {
                guest.config.values().any(|value| {
                    let state = ["mp=/var/lib/app", "serial=state-data"];
                    value.starts_with(volume.as_str()) && state.iter().any(|it| value.contains(it))
                })
            })
        });
        state
            .map(|volume| {
                let holder = cluster.guests.iter().find(|(_, guest)| {
                    guest.running
                        && guest.config.values().any(|value| value.starts_with(volume.as_str()))
                });
                (volume.clone(), holder.map(|(vmid, _)| *vmid))
            })
            .collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// What the record of the running guest called `name` says of its image.
fn image_of_running(pve: &Pve, name: &str) -> Option<String> {
    let cluster = pve.cluster();
    let guest = cluster.guests.values().find(|guest| {
        let own = guest.config.get("hostname").or(guest.config.get("name"));
        guest.running && own.is_some_and(|own| own == name)
    })?;
    let description = guest.config.get("description")?;
    let artifact = description
        .lines()
        .find_map(|line| line.strip_prefix("artifact = \"imgbuild-app-1.0.0-"))?;
    artifact.split('.').next().map(str::to_owned)
}

fn free_port() -> u16 {
    TcpListener::bind("127.77.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_site_is_deployed_changed_taken_back_and_cleaned_up() {
    let Some(base) = base() else { return };
    for flavour in [Flavour::V8, Flavour::V9] {
        let site = Site::new(base, flavour);
        let first = site.build("1");
        deployed(&site, &first);
        let second = site.build("2");
        replaced(&site, &first, &second);
        brought_back(&site, &first);
        site.succeed(&["swap", "--yes"]);
        assert_eq!(site.running(), all(&second));
        let third = site.build("3");
        a_sick_image_is_taken_back(&site, &second, &third);
        cleaned_up(&site);
        assert_eq!(site.pve.take_invalid(), [""; 0]);
    }
}

fn all(image: &str) -> Vec<Option<String>> {
    vec![Some(image.to_owned()); NODES.into()]
}

fn deployed(site: &Site, first: &str) {
    let plan = site.succeed(&["plan"]);
    assert!(plan.contains("to be deployed"), "{plan}");
    assert_eq!(site.running(), vec![None; NODES.into()], "a plan changes nothing");
    site.succeed(&["swap", "--yes"]);
    assert_eq!(site.running(), all(first));
    let volumes = site.volumes();
    assert_eq!(volumes.len(), usize::from(NODES));
    let cluster = site.pve.cluster();
    for guest in cluster.guests.values().filter(|guest| guest.running) {
        assert_eq!(guest.kind, site.kind);
        assert_eq!(guest.pool.as_deref(), Some("imgbuild"));
        assert_eq!(guest.config.get("onboot").map(String::as_str), Some("1"));
        match site.kind {
            Kind::Lxc => assert!(guest.config["features"].contains("nesting=1")),
            Kind::Qemu => assert!(guest.config["scsi0"].contains("iothread=1")),
        }
        assert!(guest.config["description"].contains("site = \"campus\""));
    }
    drop(cluster);
    let plan = site.run(&["plan"]);
    assert_eq!(plan.code, 0);
    assert!(plan.stderr.contains("nothing to do"), "{}", plan.stderr);
    let status = read(&site.succeed(&["status", "--json"]));
    let nodes = status["nodes"].as_array().unwrap();
    assert!(nodes.iter().all(|node| node["ready"] == true), "{status}");
}

fn replaced(site: &Site, first: &str, second: &str) {
    let before = site.volumes().len();
    shown("plan", &site.succeed(&["plan", "app3"]));
    shown("status", &site.succeed(&["status"]));
    let plan = site.succeed(&["plan", "--commands"]);
    for expected in ["move the state volume data", "$ pct start", "$ pct move-volume"] {
        assert!(plan.contains(expected), "{expected}: {plan}");
    }
    site.succeed(&["swap", "--yes", "--canary"]);
    let old = || Some(first.to_owned());
    assert_eq!(site.running(), [old(), old(), Some(second.to_owned())], "the highest number first");
    site.succeed(&["swap", "--yes"]);
    assert_eq!(site.running(), all(second));
    let volumes = site.volumes();
    assert_eq!(volumes.len(), before, "moved, and neither copied nor lost: {volumes:?}");
    assert!(volumes.iter().all(|(_, holder)| holder.is_some()), "{volumes:?}");
}

/// All that an operator reads fits into 100 columns, but for commands that are copied.
#[track_caller]
fn fits_a_terminal(ended: &Ended) {
    for line in ended.stdout.lines().chain(ended.stderr.lines()) {
        let command = line.trim_start().starts_with("$ ");
        assert!(command || line.chars().count() <= 100, "too wide for a terminal: {line}");
    }
}

/// What an operator reads.
fn shown(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter("[0-9a-f]{12}", "000000000000");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn a_sick_image_is_taken_back(site: &Site, second: &str, third: &str) {
    site.sick.lock().unwrap().insert(third.to_owned());
    let ended = site.run(&["swap", "--yes"]);
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    assert!(ended.stderr.contains("unwell"), "{}", ended.stderr);
    assert_eq!(site.running(), all(second));
    let ended = site.run(&["swap", "--yes", "--json"]);
    let told = read(&ended.stdout);
    assert_eq!((ended.code, &told["outcome"]), (4, &"rolled-back".into()), "{told}");
    let volumes = site.volumes();
    assert!(volumes.iter().all(|(_, holder)| holder.is_some()), "{volumes:?}");
}

fn brought_back(site: &Site, first: &str) {
    let told = read(&site.succeed(&["rollback", "--yes", "--json"]));
    assert_eq!(told["outcome"], "done", "{told}");
    assert!(told["steps"].as_array().unwrap().len() > usize::from(NODES), "{told}");
    assert_eq!(site.running(), all(first));
    let volumes = site.volumes();
    assert!(volumes.iter().all(|(_, holder)| holder.is_some()), "{volumes:?}");
}

/// Nothing is destroyed before its time, and never anything with state.
fn cleaned_up(site: &Site) {
    let guests = site.pve.cluster().guests.len();
    let ended = site.run(&["prune", "--yes"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("is kept"), "{}", ended.stderr);
    let overlay = site.project.read("overlays/campus/overlay.toml");
    let overlay = overlay.replace("vmids = ", "grace_days = 0\nvmids = ");
    site.project.write("overlays/campus/overlay.toml", &overlay);
    let told = read(&site.succeed(&["prune", "--yes", "--json"]));
    assert!(!told["steps"].as_array().unwrap().is_empty(), "{told}");
    let cluster = site.pve.cluster();
    assert!(cluster.guests.len() < guests, "{} of {guests} guests are left", cluster.guests.len());
    // What they were made from is gone, too, and what others were made from is not.
    let (named, stored) = artifacts(&cluster);
    assert!(stored.is_subset(&named), "{stored:?} beside {named:?}");
    drop(cluster);
    let volumes = site.volumes();
    assert_eq!(volumes.len(), usize::from(NODES));
    assert!(volumes.iter().all(|(_, holder)| holder.is_some()), "{volumes:?}");
}

/// The artifacts that guests say they were made from, and those on the storage.
fn artifacts(cluster: &pve::Cluster) -> (BTreeSet<String>, BTreeSet<String>) {
    let line = |guest: &pve::Guest| {
        let text = guest.config.get("description")?.clone();
        let name = text.lines().find_map(|line| line.strip_prefix("artifact = \""))?;
        Some(name.trim_end_matches('"').to_owned())
    };
    let stored = cluster.volumes.keys().filter_map(|volume| Some(volume.rsplit_once('/')?.1));
    let stored = stored.filter(|name| name.starts_with("imgbuild-app-")).map(str::to_owned);
    (cluster.guests.values().filter_map(line).collect(), stored.collect())
}

#[test]
fn a_swap_that_was_cut_off_goes_on() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    let first = site.build("1");
    site.succeed(&["swap", "--yes"]);
    assert_eq!(site.running(), all(&first));
    let second = site.build("2");
    // Whatever call of the run it is that never ends: the process is killed there.
    for calls in [30, 60, 90] {
        swap_until_killed(&site, calls);
    }
    site.succeed(&["swap", "--yes"]);
    assert_eq!(site.running(), all(&second));
    let volumes = site.volumes();
    assert_eq!(volumes.len(), usize::from(NODES));
    assert!(volumes.iter().all(|(_, holder)| holder.is_some()), "{volumes:?}");
}

/// Runs `swap`, and kills it after so many calls.
fn swap_until_killed(site: &Site, calls: usize) {
    let (all_calls, _) = site.pve.counted();
    swap_until(site, |pve| pve.counted().0 >= all_calls + calls);
}

/// Runs `swap`, and kills it when `reached`; says whether it came to that.
fn swap_until(site: &Site, reached: impl Fn(&Pve) -> bool) -> bool {
    let mut command = site.command(&["swap", "--yes", "--secrets", "secrets"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = command.spawn().unwrap();
    let mut met = reached(&site.pve);
    while !met && process.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
        met = reached(&site.pve);
    }
    process.kill().unwrap();
    process.wait().unwrap();
    // The right of the dead process would run out by itself.
    forget_lease(site);
    met
}

/// Makes the lease of a killed process run out now.
fn forget_lease(site: &Site) {
    let mut cluster = site.pve.cluster();
    if let Some(machine) = cluster.guests.get_mut(&4000) {
        machine.config.insert("description".to_owned(), "Who may change the site.".to_owned());
    }
}

#[test]
fn what_stands_in_the_way_is_said_before_anything_is_changed() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    let ended = site.run(&["plan"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("imgbuild build app --site campus"), "{}", ended.stderr);
    site.build("1");
    // Somebody else's guest with the name of a node.
    {
        let mut cluster = site.pve.cluster();
        let mut guest = pve::Guest::new("pve1", Kind::Lxc);
        guest.pool = Some("imgbuild".to_owned());
        guest.config.insert("hostname".to_owned(), "app2".to_owned());
        cluster.guests.insert(150, guest);
    }
    let ended = site.run(&["swap", "--yes"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("guest 150"), "{}", ended.stderr);
    site.pve.cluster().guests.remove(&150);
    // A token that nobody knows.
    let mut command = site.project.command(&["status", "--site", "campus"]);
    command.env("IMGBUILD_PROXMOX_TOKEN", "imgbuild@pve!test=11111111-1111-1111-1111-111111111111");
    let ended = Ended::from(command.output().unwrap());
    assert!(ended.stderr.contains("token"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("11111111-1111"), "the secret is shown: {}", ended.stderr);
    // No token at all, and a name that there is not.
    let mut command = site.project.command(&["status", "--site", "campus"]);
    command.env_remove("IMGBUILD_PROXMOX_TOKEN");
    let ended = Ended::from(command.output().unwrap());
    assert!(ended.stderr.contains("IMGBUILD_PROXMOX_TOKEN"), "{}", ended.stderr);
    let ended = site.run(&["plan", "app9"]);
    assert!(ended.stderr.contains("app"), "{}", ended.stderr);
    assert!(site.pve.changes().is_empty(), "{:?}", site.pve.changes());
    // A file with the name of the artifact that is something else.
    let artifact = site.project.artifacts().into_iter().find(|name| name.ends_with(".tar.zst"));
    let key = ("pve1".to_owned(), format!("local:vztmpl/{}", artifact.unwrap()));
    site.pve.cluster().files.insert(
        key.clone(),
        pve::cluster::Volume { node: Some("pve1".to_owned()), size: 7, identity: 0, digest: None },
    );
    let ended = site.run(&["swap", "--yes"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("of 7 bytes"), "{}", ended.stderr);
    assert!(site.running().iter().all(Option::is_none), "{}", ended.stderr);
    site.pve.cluster().files.remove(&key);
}
