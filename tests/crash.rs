//! Builds that are killed, that run at the same time, and that run out of disk.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use imgbuild::digest::Digest;
use support::archive::Archive;
use support::base::{Base, base};
use support::disk::SmallDisk;
use support::harm::{check_blobs, copy_store, processes};
use support::machine;
use support::package::Package;
use support::project::{Ended, Project};

/// How many builds are killed; `IMGBUILD_TEST_KILLS` says another number.
const KILLS: u32 = 10;

/// Packages with scripts that take a moment each, so that there is a process of the image to leave behind.
fn packages() -> Vec<Package> {
    let text = "a line of documentation\n".repeat(4000);
    let package = |name: &str| {
        Package::new(name, "1.0")
            .file(&format!("usr/share/doc/{name}/manual"), &text)
            .script("postinst", "sleep 0.05; echo \"$DPKG_MAINTSCRIPT_PACKAGE\" >> /etc/installed")
    };
    let mut packages = ["ant", "bee", "cicada"].map(package).to_vec();
    packages.extend(machine::packages());
    packages
}

const APP: &str = "[packages]\ninstall = [\"ant\", \"bee\", \"cicada\"]\n[[run]]\n\
                   command = [\"/bin/sh\", \"-c\", \"sleep 0.05; sort /etc/installed > /etc/sorted\"]\n\
                   [[check]]\ncommand = [\"grep\", \"-q\", \"bee\", \"/etc/sorted\"]\n\
                   covers = [\"/etc/app.conf\"]\n";

/// A locked project in a directory of its own, with a store of its own.
fn project(base: &Base, archive: &Archive) -> Project {
    let mut project = Project::on_base(base, archive, APP);
    project.store = project.scratch().join("store");
    project.write("images/app/files/etc/app.conf.hbs", "# {{image.name}} {{image.version}}\n");
    project.add_machine();
    project.succeed(&["lock"]);
    project
}

/// The digests of template, disk and manifests, the only files in the project's `out`.
#[track_caller]
fn artifact(project: &Project) -> Vec<(String, Digest)> {
    let names = project.artifacts();
    assert_eq!(names.len(), 4, "{names:?}");
    let digest = |name: &String| Digest::of(fs::read(project.out().join(name)).unwrap());
    names.iter().map(|name| (name.clone(), digest(name))).collect()
}

/// A copy of the program by which its processes are known.
fn program(project: &Project) -> PathBuf {
    let program = project.scratch().join("imgbuild-under-test");
    fs::copy(env!("CARGO_BIN_EXE_imgbuild"), &program).unwrap();
    program
}

/// Starts a build as a process that can be killed.
fn start(program: &Path, project: &Project) -> Child {
    let template = project.command(&["build", "app", "--quiet"]);
    let mut command = Command::new(program);
    command.args(template.get_args()).current_dir(project.path());
    for (name, value) in template.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// What a build finds in its store.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// Nothing: it downloads, and builds everything.
    Nothing,
    /// The downloads.
    Downloads,
    /// The downloads and the layer of the base.
    Base,
}

/// Numbers that look random and are the same in every run (xorshift, G. Marsaglia 2003).
struct Random(u64);

impl Random {
    /// A fraction of one.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[test]
fn a_build_killed_at_any_instant_leaves_a_store_that_the_next_one_uses() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &packages());
    let project = project(base, &archive);
    let program = program(&project);
    let seeds = seeds(&project);
    let expected = artifact(&project);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut killed = 0;
    let kills = std::env::var("IMGBUILD_TEST_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    for round in 0..kills {
        let (start_with, seed, usual) = match round % 5 {
            0 => &seeds[0],
            1 => &seeds[1],
            _ => &seeds[2],
        };
        let _ = fs::remove_dir_all(&project.store);
        let _ = fs::remove_dir_all(project.out());
        copy_store(seed, &project.store);
        let mut child = start(&program, &project);
        std::thread::sleep(usual.mul_f64(random.next()));
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let context = format!("round {round}, from {start_with:?}");
        assert_gone(&program, &project, &context);
        check_blobs(&project.store);
        assert_published_whole(&project, &expected, &context);
        let ended = project.run(&["build", "app"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{context}");
        assert_eq!(artifact(&project), expected, "{context}");
        check_blobs(&project.store);
        let left: Vec<_> = fs::read_dir(project.store.join("work")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{context}: {left:?}");
    }
    assert!(killed > kills / 2, "only {killed} builds were still running when they were killed");
}

/// Builds once without disturbance, and keeps stores to start from on the way, each with the time that a
/// build takes from there.
fn seeds(project: &Project) -> [(Start, PathBuf, Duration); 3] {
    let timed = |seed: &Path| {
        let _ = fs::remove_dir_all(&project.store);
        let _ = fs::remove_dir_all(project.out());
        copy_store(seed, &project.store);
        let started = Instant::now();
        project.succeed(&["build", "app"]);
        started.elapsed()
    };
    let seed = |name: &str| {
        let seed = project.scratch().join(name);
        fs::create_dir(&seed).unwrap();
        seed
    };
    let nothing = seed("nothing");
    let from_nothing = timed(&nothing);
    // A store without records: the downloads are still found by their digests.
    let downloads = seed("downloads");
    copy_store(&project.store, &downloads);
    fs::remove_dir_all(downloads.join("keys")).unwrap();
    let with_base = seed("base");
    copy_store(&downloads, &with_base);
    // Building the base alone: the layer that the application stands on.
    let definition = project.read("images/app/image.toml");
    let lock = project.read("imgbuild.lock");
    project.write("images/app/image.toml", definition.split("[packages]").next().unwrap());
    project.succeed(&["lock"]);
    let full = project.scratch().join("full");
    fs::rename(&project.store, &full).unwrap();
    fs::rename(&with_base, &project.store).unwrap();
    project.succeed(&["build", "app"]);
    fs::rename(&project.store, &with_base).unwrap();
    fs::rename(&full, &project.store).unwrap();
    project.write("images/app/image.toml", &definition);
    project.write("imgbuild.lock", &lock);
    let from_downloads = timed(&downloads);
    let from_base = timed(&with_base);
    [
        (Start::Nothing, nothing, from_nothing),
        (Start::Downloads, downloads, from_downloads),
        (Start::Base, with_base, from_base),
    ]
}

/// No process of a killed build lives on. Death takes a moment: each process goes with its parent.
#[track_caller]
fn assert_gone(program: &Path, project: &Project, context: &str) {
    let mark = project.store.display().to_string();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let left = processes(program, &mark);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{context}: still running: {left:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a killed build has published is whole, and it has left nothing else.
#[track_caller]
fn assert_published_whole(project: &Project, expected: &[(String, Digest)], context: &str) {
    for name in &project.artifacts() {
        let found = Digest::of(fs::read(project.out().join(name)).unwrap());
        assert!(expected.contains(&(name.clone(), found)), "{context}: {name} is not whole");
    }
}

#[test]
fn two_builds_at_once_on_one_store_both_succeed() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &packages());
    let one = project(base, &archive);
    let mut other = project(base, &archive);
    other.store = one.store.clone();
    let children = [&one, &other].map(|project| {
        let mut command = project.command(&["build", "app", "--quiet"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for child in children {
        let ended = Ended::from(child.wait_with_output().unwrap());
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    }
    assert_eq!(artifact(&one), artifact(&other));
    check_blobs(&one.store);
    for package in packages() {
        let path = format!("/{}", support::archive::pool_path(&package));
        assert_eq!(archive.server.count(&path), 1, "each package is fetched once");
    }
}

#[test]
fn a_full_disk_under_the_store_is_named_and_leaves_nothing_behind() {
    let Some(base) = base() else { return };
    let Some(disk) = SmallDisk::mount() else { return };
    let archive = Archive::with_base(base, &packages());
    let mut project = project(base, &archive);
    project.store = disk.path().join("store");
    let ended = project.run(&["build", "app"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("no space left"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--store"), "no remedy: {}", ended.stderr);
    assert!(project.artifacts().is_empty(), "{:?}", project.artifacts());
    check_blobs(&project.store);
}

#[test]
fn a_full_disk_under_the_artifacts_is_named_and_leaves_nothing_behind() {
    let Some(base) = base() else { return };
    let Some(disk) = SmallDisk::mount() else { return };
    let archive = Archive::with_base(base, &packages());
    let project = project(base, &archive);
    let out = disk.path().join("out");
    let ended = project.run(&["build", "app", "--out", out.to_str().unwrap()]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("no space left"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--out"), "no remedy: {}", ended.stderr);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "left behind in {}", out.display());
    project.succeed(&["build", "app"]);
}
