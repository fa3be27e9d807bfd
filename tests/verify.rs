//! Artifacts that are signed and verified by the command, and by OpenSSH's own programs; and all that is refused.
//!
//! A tiny image is built once. Each case has a copy of its files, changes something, and is looked at.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use imgbuild::debian::date::Moment;
use imgbuild::digest::Digest;
use serde_json::Value;
use support::archive::Archive;
use support::base::{Base, base};
use support::package::Package;
use support::programs::read;
use support::project::{Ended, Project};
use tempfile::TempDir;

#[path = "verify/keys.rs"]
mod keys;
#[path = "verify/pulled.rs"]
mod pulled;
#[path = "verify/refused.rs"]
mod refused;

const NAME: &str = "ci@campus.example";
const POLICY: &str = "[signatures]\n[documents]\nsbom = true\nprovenance = true\n";

/// A project whose role is built, and keys.
struct Built {
    project: Project,
    keys: PathBuf,
    /// Where all files of the artifact begin.
    stem: String,
    _archive: Archive,
}

/// The one that all tests share; none and a message where nothing can be built or signed.
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn built() -> Option<&'static Built> {
    static BUILT: OnceLock<Option<Built>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let has = |program: &str| Command::new(program).arg("-?").output().is_ok();
        if !(has("ssh-keygen") && has("ssh-agent") && has("ssh-add")) {
            eprintln!("skipped: there is no ssh-keygen, ssh-agent or ssh-add");
            return None;
        }
        base().map(build)
    });
    built.as_ref()
}

fn build(base: &'static Base) -> Built {
    let archive = Archive::with_base(base, &[Package::new("web", "1.0")]);
    let mut project = Project::on_base(base, &archive, "[packages]\ninstall = [\"web\"]\n");
    project.store = project.scratch().join("store");
    for (site, extends) in [("region", ""), ("elsewhere", ""), ("campus", "extends = \"region\"\n")]
    {
        let overlay = format!("summary = \"Called {site}\"\n{extends}");
        project.write(&format!("overlays/{site}/overlay.toml"), &overlay);
    }
    project.succeed(&["lock"]);
    project.succeed(&["build", "app", "--site", "campus"]);
    let names = project.artifacts();
    let stem = names.iter().find_map(|name| name.strip_suffix(".tar.zst")).unwrap().to_owned();
    let keys = project.scratch().join("keys");
    fs::create_dir(&keys).unwrap();
    for (name, kind, more) in [
        ("ci", "ed25519", &[][..]),
        ("other", "ed25519", &[]),
        ("authority", "ed25519", &[]),
        ("ecdsa", "ecdsa", &[]),
        ("ecdsa384", "ecdsa", &["-b", "384"]),
        ("rsa", "rsa", &["-b", "2048"]),
    ] {
        let file = keys.join(name);
        let make = &mut keygen(&["-q", "-t", kind, "-N", "", "-C", name]);
        make.args(more).arg("-f").arg(&file);
        // One ECDSA key in 256 is too short for the library, and signs in an agent only.
        while !file.exists() || (kind == "ecdsa" && !is_readable(&file)) {
            let _ = fs::remove_file(&file);
            run(make);
        }
    }
    Built { project, keys, stem, _archive: archive }
}

fn is_readable(file: &Path) -> bool {
    let keys = imgbuild::signature::Keys { key: file.to_owned(), ..Default::default() };
    imgbuild::signature::Signer::open(&keys, now()).is_ok()
}

fn keygen(arguments: &[&str]) -> Command {
    let mut command = Command::new("ssh-keygen");
    command.args(arguments);
    command
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    output
}

impl Built {
    fn key(&self, name: &str) -> PathBuf {
        self.keys.join(name)
    }

    /// The public half of a key.
    fn public(&self, name: &str) -> String {
        fs::read_to_string(self.key(&format!("{name}.pub"))).unwrap()
    }

    /// A copy of the artifact and its manifest, with a policy by which `ci` may sign.
    fn copy(&self) -> Files<'_> {
        let directory = tempfile::tempdir().unwrap();
        for ending in [".tar.zst", ".manifest.json"] {
            let name = format!("{}{ending}", self.stem);
            fs::copy(self.project.out().join(&name), directory.path().join(name)).unwrap();
        }
        let files = Files { built: self, directory };
        files.write("policy.toml", POLICY);
        files.write("allowed_signers", &format!("{NAME} {}", self.public("ci")));
        files
    }

    /// The same, signed by `ci`.
    fn signed(&self) -> Files<'_> {
        let files = self.copy();
        let ended = files.sign(&["--key", self.key("ci").to_str().unwrap()]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        files
    }
}

/// An artifact and what lies beside it, in a directory of its own.
struct Files<'a> {
    built: &'a Built,
    directory: TempDir,
}

impl Files<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file of the artifact, by what its name ends with.
    fn of(&self, ending: &str) -> PathBuf {
        self.path(&format!("{}{ending}", self.built.stem))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Changes a file of the artifact.
    fn edit(&self, ending: &str, change: impl FnOnce(String) -> String) {
        let old = fs::read_to_string(self.of(ending)).unwrap();
        let new = change(old.clone());
        assert_ne!(old, new, "nothing was changed in {ending}");
        fs::write(self.of(ending), new).unwrap();
    }

    /// Changes a file of the artifact that holds JSON.
    fn edit_json(&self, ending: &str, change: impl FnOnce(&mut Value)) {
        self.edit(ending, |text| {
            let mut value = serde_json::from_str(&text).unwrap();
            change(&mut value);
            serde_json::to_string_pretty(&value).unwrap() + "\n"
        });
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.built.project.command(&["--quiet"]);
        command.args(arguments);
        command.env_remove("SSH_AUTH_SOCK").env_remove("IMGBUILD_SIGNING_KEY");
        command
    }

    fn sign(&self, more: &[&str]) -> Ended {
        let mut command = self.command(&["sign"]);
        Ended::from(command.arg(self.of(".tar.zst")).args(more).output().unwrap())
    }

    /// Writes the list of files anew, as of `signed`, and has OpenSSH sign it.
    fn sign_again(&self, key: &str, namespace: &str, signed: Moment) {
        let list = fs::read_to_string(self.of(".sha256sums")).unwrap();
        let line = |line: &str| match line.split_once("  ") {
            Some((_, name)) => {
                format!("{}  {name}", Digest::of(fs::read(self.path(name)).unwrap()))
            }
            None if line.starts_with("# signed ") => format!("# signed {signed}"),
            None => line.to_owned(),
        };
        let list: Vec<String> = list.lines().map(line).collect();
        fs::write(self.of(".sha256sums"), list.join("\n") + "\n").unwrap();
        self.sign_list(key, namespace);
    }

    /// Has OpenSSH sign the list of files as it is.
    fn sign_list(&self, key: &str, namespace: &str) {
        let _ = fs::remove_file(self.of(".sha256sums.sig"));
        let mut sign = keygen(&["-q", "-Y", "sign", "-n", namespace, "-f"]);
        run(sign.arg(self.built.key(key)).arg(self.of(".sha256sums")));
    }

    fn verify(&self, more: &[&str]) -> (i32, Value) {
        let mut command = self.command(&["verify", "--json", "--policy"]);
        command.arg(self.path("policy.toml")).arg(self.of(".tar.zst")).args(more);
        let ended = Ended::from(command.output().unwrap());
        assert!(!ended.stdout.is_empty(), "{}", ended.stderr);
        (ended.code, read(&ended.stdout))
    }

    /// Verifies what has to be trusted.
    #[track_caller]
    fn trusted(&self) -> Value {
        let (code, told) = self.verify(&[]);
        assert_eq!((code, &told["trusted"]), (0, &Value::Bool(true)), "{told:#}");
        told["artifacts"][0].clone()
    }

    /// Whether OpenSSH and coreutils say that all is well.
    fn checked_by_others(&self) -> bool {
        let list = self.of(".sha256sums");
        let mut verify = keygen(&["-Y", "verify", "-I", NAME, "-n", "imgbuild", "-f"]);
        verify.arg(self.path("allowed_signers")).arg("-s").arg(self.of(".sha256sums.sig"));
        let verified = verify.stdin(Stdio::from(fs::File::open(&list).unwrap())).output().unwrap();
        let mut check = Command::new("sha256sum");
        check.args(["--check", "--strict"]).arg(&list).current_dir(self.directory.path());
        verified.status.success() && check.output().unwrap().status.success()
    }
}

/// `set -o pipefail; imgbuild verify … | grep -q …` would go on to deploy it.
#[test]
fn what_is_refused_is_refused_though_nobody_reads_why() {
    let Some(built) = built() else { return };
    let files = built.copy();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = files.command(&["verify", "--policy"]);
    command.arg(files.path("policy.toml")).args([files.of(".tar.zst"), files.of(".tar.zst")]);
    let ended = Ended::from(command.stdout(writer).output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (3, ""));
}

fn now() -> Moment {
    std::time::SystemTime::now().into()
}

/// A moment so many seconds ago.
fn ago(seconds: u64) -> Moment {
    Moment::from_unix(now().unix() - seconds)
}

/// Copies a store so that its files can be changed one by one.
fn copy_store(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}
