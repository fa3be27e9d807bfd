//! The resolver against apt, on the packages of Debian 13.
//!
//! Needs the network, apt-get and Debian's keyrings:
//! `cargo test --test resolver -- --ignored --nocapture`

#![expect(clippy::print_stdout, reason = "the numbers are what one runs it for")]

#[path = "support/debian.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

use imgbuild::debian::control;
use imgbuild::debian::packages::{PackageId, Universe};
use imgbuild::debian::relation;
use imgbuild::debian::resolve::{Failure, Request, resolve};
use rayon::prelude::*;
use support::{DEBIAN, Network, repository};

/// How many random sets are compared.
const SETS: usize = 240;

/// Of how many sets one is also given to apt to solve, which takes it long.
const COMPARED: usize = 12;

/// A root directory for apt.
struct Apt {
    root: PathBuf,
}

impl Apt {
    /// One where the packages of `index` are on offer and those of `status` are installed.
    fn new(name: &str, index: &str, status: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("apt").join(name);
        let _ = fs::remove_dir_all(&root);
        for directory in [
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "etc/apt/sources.list.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "repository",
        ] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(root.join("status"), status).unwrap();
        fs::write(root.join("repository/Packages"), index).unwrap();
        let source = format!("deb [trusted=yes] file:{}/repository ./\n", root.display());
        fs::write(root.join("etc/apt/sources.list"), source).unwrap();
        // Read before all other configuration, so that none of this machine's is.
        let root_text = root.display();
        let configuration = format!(
            "Dir \"{root_text}\";\nDir::State::status \"{root_text}/status\";\n\
             APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n\
             Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n\
             APT::Install-Recommends \"false\";\n"
        );
        fs::write(root.join("apt.conf"), configuration).unwrap();
        let apt = Self { root };
        if index.is_empty() {
            return apt;
        }
        let update = apt.command("apt-get").arg("update").output().unwrap();
        assert!(update.status.success(), "{}", String::from_utf8_lossy(&update.stderr));
        // Builds the cache that all further runs share.
        apt.command("apt-cache").arg("gencaches").output().unwrap();
        apt
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("APT_CONFIG", self.root.join("apt.conf"));
        command
    }

    /// Whether everything that is installed has what it needs and conflicts with nothing.
    fn check(&self) -> Result<(), String> {
        let output = self.command("apt-get").arg("check").output().unwrap();
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// What installing `packages` into an empty root installs, with versions. The error is what
    /// apt says.
    fn simulate(&self, packages: &[String]) -> Result<BTreeSet<String>, String> {
        let output = self
            .command("apt-get")
            .args(["--simulate", "install", "--"])
            .args(packages)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(text + &String::from_utf8_lossy(&output.stderr));
        }
        // `Inst haproxy (3.0.11-1 localhost [amd64])`
        let parse = |line: &str| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
            Some(format!("{name}={}", rest.split(' ').next()?))
        };
        Ok(text.lines().filter_map(parse).collect())
    }
}

/// Numbers that look random and are the same in each run (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

fn solve(universe: &Universe<'_>, names: &[String]) -> Result<Vec<PackageId>, Failure> {
    let wanted: Vec<_> = names.iter().map(|name| relation::parse_wanted(name).unwrap()).collect();
    let request = Request {
        architecture: "amd64",
        wanted: &wanted,
        essential: true,
        excluded: &BTreeMap::new(),
        fixed: &[],
        preferred: &BTreeMap::new(),
    };
    resolve(universe, &request)
}

#[test]
#[ignore = "needs the network, apt-get and some minutes"]
fn apt_installs_every_solution_without_changing_it() {
    let contents = repository(DEBIAN, "trixie")
        .read(&Network::new(), "amd64", None, SystemTime::now().into())
        .unwrap();
    let started = Instant::now();
    let mut universe = Universe::new();
    universe.add(0, &contents.indexes[0], "amd64", &[]).unwrap();
    println!("{} packages indexed in {:?}", universe.packages().count(), started.elapsed());
    let world = World {
        universe: &universe,
        paragraphs: control::paragraphs(&contents.indexes[0])
            .map(|paragraph| (control::field(paragraph, "Package").unwrap().unwrap(), paragraph))
            .collect(),
        apt: Apt::new("offer", &contents.indexes[0], ""),
    };
    let sets = sets(&universe);
    let outcomes: Vec<Outcome> =
        sets.par_iter().enumerate().map(|(index, names)| world.compare(index, names)).collect();
    let of = |kind: Outcome| outcomes.iter().filter(|outcome| **outcome == kind).count();
    println!(
        "{} sets: {} solved, {} just as apt does, {} otherwise, {} impossible, {} for apt only",
        sets.len(),
        of(Outcome::Solved),
        of(Outcome::Same),
        of(Outcome::Otherwise),
        of(Outcome::Impossible),
        of(Outcome::OnlyOurs),
    );
    assert!(of(Outcome::Impossible) < SETS / 2, "the test compares too little");
}

/// Sets like those of real images, then random ones.
fn sets(universe: &Universe<'_>) -> Vec<Vec<String>> {
    let mut sets: Vec<Vec<String>> = [
        "systemd-sysv haproxy linux-image-cloud-amd64 apache2 php8.4-fpm mariadb-server",
        "postgresql redis-server nginx docker.io nodejs npm",
        "exim4 roundcube phpmyadmin",
        "galera-4 keepalived chrony nftables openssh-server",
        "gnome",
        "postfix exim4-daemon-light",
        "systemd-sysv sysvinit-core",
    ]
    .into_iter()
    .map(|names| names.split(' ').map(str::to_owned).collect())
    .collect();
    let count = universe.packages().count();
    let mut numbers = Numbers(20_260_912);
    while sets.len() < SETS {
        let size = [1, 1, 2, 3, 5, 8, 13, 21][numbers.below(8)];
        let name = |_| {
            let id = PackageId::from_index(numbers.below(count));
            universe.package(id).name.to_owned()
        };
        sets.push((0..size).map(name).collect());
    }
    sets
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// There is a solution, and apt finds nothing wrong with it.
    Solved,
    /// It is also the one that apt finds.
    Same,
    /// Apt finds another one.
    Otherwise,
    /// Neither finds one.
    Impossible,
    /// Apt finds none, but nothing wrong with ours either.
    OnlyOurs,
}

struct World<'a> {
    universe: &'a Universe<'a>,
    paragraphs: HashMap<&'a str, &'a str>,
    apt: Apt,
}

impl World<'_> {
    fn compare(&self, index: usize, names: &[String]) -> Outcome {
        let solution = solve(self.universe, names);
        assert_eq!(solution, solve(self.universe, names), "{names:?} has two results");
        let chosen = match solution {
            Ok(chosen) => chosen,
            Err(failure) => {
                let text = self.simulate(names).expect_err(&format!("apt can: {failure:?}"));
                assert!(text.contains("unmet dependencies"), "{text}");
                return Outcome::Impossible;
            }
        };
        self.check(index, names, &chosen);
        if index > 7 && !index.is_multiple_of(COMPARED) {
            return Outcome::Solved;
        }
        let package = |&id: &PackageId| self.universe.package(id);
        let ours: BTreeSet<String> = chosen
            .iter()
            .map(package)
            .map(|package| format!("{}={}", package.name, package.version))
            .collect();
        let Ok(theirs) = self.simulate(names) else {
            println!("{names:?}: only we have a solution");
            return Outcome::OnlyOurs;
        };
        if ours == theirs {
            return Outcome::Same;
        }
        let only_ours: Vec<_> = ours.difference(&theirs).collect();
        let only_theirs: Vec<_> = theirs.difference(&ours).collect();
        println!("{names:?}: ours {only_ours:?}, apt's {only_theirs:?}");
        Outcome::Otherwise
    }

    /// Lets apt check a system that has just the chosen packages.
    fn check(&self, index: usize, names: &[String], chosen: &[PackageId]) {
        let mut status = String::new();
        for &id in chosen {
            let paragraph = self.paragraphs[self.universe.package(id).name];
            status.push_str(&format!("{paragraph}\nStatus: install ok installed\n\n"));
        }
        let root = format!("set-{index}");
        let apt = Apt::new(&root, "", &status);
        if let Err(text) = apt.check() {
            panic!("apt finds fault with our choice for {names:?}: {text}");
        }
        for name in names {
            assert!(
                chosen.iter().any(|&id| self.universe.package(id).name == name),
                "{name} is missing from its own set"
            );
        }
        fs::remove_dir_all(apt.root).unwrap();
    }

    fn simulate(&self, names: &[String]) -> Result<BTreeSet<String>, String> {
        let essential = self.universe.packages().filter(|(_, package)| package.essential);
        let mut roots: Vec<String> =
            essential.map(|(_, package)| package.name.to_owned()).collect();
        roots.extend(names.iter().cloned());
        self.apt.simulate(&roots)
    }
}
