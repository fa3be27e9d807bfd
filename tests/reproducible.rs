//! The same definitions and lock give the same bytes: wherever, whenever and by whomever they are built.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use imgbuild::digest::Digest;
use support::archive::Archive;
use support::base::{Base, base};
use support::machine;
use support::package::Package;
use support::project::{Ended, Project, STORE_VARIABLE};

/// A package whose script asks for everything that it should not depend on.
fn curious() -> Package {
    let script = "umask > /etc/curious\nlocale_says=$LC_ALL; echo \"$locale_says $TZ $HOME\" >> \
                  /etc/curious\necho \"${LD_PRELOAD:-none} $(id -u) $(pwd)\" >> /etc/curious\n\
                  mkdir /var/lib/curious; for name in c b a; do echo $name > \
                  /var/lib/curious/$name; done\nuname -n >> /etc/curious";
    Package::new("curious", "1.0").file("usr/share/curious/x", "x").script("postinst", script)
}

/// That one, and what disks are made of.
fn packages() -> Vec<Package> {
    [curious()].into_iter().chain(machine::packages()).collect()
}

const APP: &str = "[packages]\ninstall = [\"curious\"]\n[users.app]\nuid = 990\n[[run]]\n\
                   command = [\"/bin/sh\", \"-c\", \"ls /var/lib/curious > /etc/list\"]\n\
                   [[files]]\npath = \"/etc/app.conf\"\nowner = \"app\"\nmode = \"0640\"\n";

/// A project with the lock of `locked`, if that is given.
fn project(base: &Base, archive: &Archive, app: &str, locked: Option<&Project>) -> Project {
    let mut project = Project::on_base(base, archive, app);
    project.store = project.scratch().join("store");
    project.write("images/app/files/etc/app.conf.hbs", "# {{image.name}} {{image.version}}\n");
    project.add_machine();
    match locked {
        Some(other) => project.write("imgbuild.lock", &other.read("imgbuild.lock")),
        None => {
            project.succeed(&["lock"]);
        }
    }
    project
}

/// The names and digests of what was published.
#[track_caller]
fn artifact(project: &Project) -> Vec<(String, Digest)> {
    let names = project.artifacts();
    assert_eq!(names.len(), 4, "{names:?}");
    let digest = |name: &String| Digest::of(fs::read(project.out().join(name)).unwrap());
    names.iter().map(|name| (name.clone(), digest(name))).collect()
}

/// How a build differs from the first.
struct Variation {
    name: &'static str,
    /// What stands before the command, as words of a shell.
    before: String,
    jobs: &'static str,
    environment: &'static [(&'static str, &'static str)],
}

/// Every variation that this machine allows; a message for each that it does not.
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn variations() -> Vec<Variation> {
    let mut variations = vec![Variation {
        name: "umask, locale, time zone, one job",
        before: "umask 077; exec".to_owned(),
        jobs: "1",
        environment: &[
            ("LC_ALL", "tr_TR.UTF-8"),
            ("LANG", "de_DE.UTF-8"),
            ("TZ", "Asia/Kathmandu"),
        ],
    }];
    let root = rustix::process::geteuid().is_root();
    if root {
        variations.push(Variation {
            name: "host name, no umask at all",
            before: "umask 000; exec unshare --uts sh -c 'hostname elsewhere 2>/dev/null || echo \
                     elsewhere > /proc/sys/kernel/hostname; exec \"$@\"' sh"
                .to_owned(),
            jobs: "2",
            environment: &[("HOSTNAME", "elsewhere")],
        });
    } else {
        eprintln!("skipped: only root can build under another host name");
    }
    match faketime() {
        Some(library) => variations.push(Variation {
            name: "another day",
            // Only imgbuild itself sees this clock: what runs in the sandbox starts from an empty environment,
            // as it does without it, and sees the real one.
            before: format!("exec env LD_PRELOAD={} FAKETIME=+400d", library.display()),
            jobs: "2",
            environment: &[("FAKETIME_DONT_FAKE_MONOTONIC", "1")],
        }),
        None => eprintln!("skipped: a build on another day needs the Debian package `faketime`"),
    }
    match (root, user_with_subordinate_ids()) {
        (true, Some(user)) => variations.push(Variation {
            name: "a plain user",
            before: format!("exec setpriv --reuid={user} --regid={user} --init-groups"),
            jobs: "2",
            environment: &[("HOME", "/nonexistent")],
        }),
        _ => eprintln!("skipped: a build as a plain user needs root and a user in /etc/subuid"),
    }
    variations
}

/// The library that fakes the time.
fn faketime() -> Option<PathBuf> {
    let directories = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/faketime"];
    let libraries = directories.map(|directory| Path::new(directory).join("libfaketimeMT.so.1"));
    libraries.into_iter().find(|library| library.exists())
}

/// The first user who has ids to build with.
fn user_with_subordinate_ids() -> Option<String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (users, groups, passwd) = (read("/etc/subuid"), read("/etc/subgid"), read("/etc/passwd"));
    let named = |text: &str, name: &str| {
        text.lines().any(|line| {
            let mut fields = line.split(':');
            let count = fields.clone().nth(2).and_then(|count| count.parse().ok());
            fields.next() == Some(name) && count.unwrap_or(0) >= 65_535
        })
    };
    let names = passwd.lines().filter_map(|line| line.split(':').next());
    let mut names = names.filter(|name| *name != "root");
    names.find(|name| named(&users, name) && named(&groups, name)).map(str::to_owned)
}

#[test]
fn the_same_bytes_wherever_whenever_and_by_whomever() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &packages());
    let first = project(base, &archive, APP, None);
    first.succeed(&["build", "app"]);
    let expected = artifact(&first);
    for variation in variations() {
        let project = project(base, &archive, APP, Some(&first));
        open_to_everybody(project.scratch());
        let program = project.scratch().join("imgbuild");
        fs::copy(env!("CARGO_BIN_EXE_imgbuild"), &program).unwrap();
        let output = Command::new("sh")
            .args(["-c", &format!("{} \"$@\"", variation.before), "sh"])
            .arg(&program)
            .args(["build", "app", "--quiet", "--jobs", variation.jobs])
            .current_dir(project.path())
            .env(STORE_VARIABLE, &project.store)
            .env("NO_PROXY", "127.0.0.1")
            .envs(variation.environment.iter().copied())
            .output()
            .unwrap();
        let ended = Ended::from(output);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", variation.name);
        assert_eq!(artifact(&project), expected, "{}", variation.name);
    }
}

/// Lets any user build in a project.
fn open_to_everybody(directory: &Path) {
    for entry in walkdir::WalkDir::new(directory) {
        let entry = entry.unwrap();
        let mode = if entry.file_type().is_dir() { 0o777 } else { 0o666 };
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn building_twice_shows_what_a_command_makes_anew_each_time() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &packages());
    let random = format!(
        "{APP}\n[[run]]\ncommand = [\"cp\", \"/proc/sys/kernel/random/uuid\", \"/etc/identity\"]\n"
    );
    let project = project(base, &archive, &random, None);
    let command = project.command(&["build", "app", "--check"]).output().unwrap();
    let ended = Ended::from(command);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    let text = &ended.stderr;
    assert!(text.contains("DIFFERENT bytes"), "{text}");
    assert!(text.contains("layer app run differs:\n    /etc/identity: content differs"), "{text}");
    assert!(!text.contains("layer base packages differs"), "{text}");
}

#[test]
fn building_twice_confirms_what_is_the_same() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &packages());
    let project = project(base, &archive, APP, None);
    let ended = Ended::from(project.command(&["build", "app", "--check"]).output().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("built twice, the same bytes"), "{}", ended.stderr);
}
