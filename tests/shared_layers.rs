//! Machines that share their layers through a registry: each is built by one of them, and what a registry says is
//! held against its digests.
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::archive::Archive;
use support::base::{self, base};
use support::images;
use support::oci::{DockerRegistry, Fault, Reply, Server};
use support::package::Package;
use support::project::{Project, STORE_VARIABLE};
use tempfile::TempDir;

/// Three roles on one base, and where their packages come from. None, and a message, without Debian's mirror.
fn site() -> Option<(Archive, Project)> {
    let base = base()?;
    let roles = ["back", "front", "middle"];
    let packages = roles.map(|name| Package::new(name, "1"));
    let archive = Archive::with_base(base, &packages);
    let project = Project::new();
    project.write("images/base/keys/archive.asc", &Archive::keyring());
    let (debian, install) = (archive.debian(""), base::install());
    project.write(
        "images/base/image.toml",
        &format!(
            "summary = \"What all have\"\nversion = \"1.0.0\"\n\n{debian}\n\
             [packages]\ninstall = {install}\n"
        ),
    );
    project.write("images/base/files/etc/greeting", "Jërëjëf\n");
    for name in roles {
        let image = format!(
            "summary = \"{name}\"\nversion = \"1.0.0\"\nextends = \"base\"\nrole = true\n\n\
             [packages]\ninstall = [\"{name}\"]\n"
        );
        project.write(&format!("images/{name}/image.toml"), &image);
        project.write(&format!("images/{name}/files/etc/{name}.conf"), name);
    }
    project.succeed(&["lock"]);
    Some((archive, project))
}

/// A machine of its own: a store, and a place for artifacts.
struct Runner {
    project: PathBuf,
    directory: TempDir,
}

/// How a build has ended.
struct Build {
    code: Option<i32>,
    /// The layers that were built, by `IMAGE KIND`.
    built: Vec<String>,
    /// The artifacts' digests by role and format.
    artifacts: BTreeMap<(String, String), String>,
    errors: String,
}

impl Runner {
    fn new(project: &Project) -> Self {
        Self::at(&project.path())
    }

    fn at(project: &Path) -> Self {
        Self { project: project.to_owned(), directory: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        command.args(["build", "--json"]).current_dir(&self.project);
        command.env_remove("XDG_CACHE_HOME").env("NO_PROXY", "127.0.0.1");
        command.args(["--progress", "json", "--out"]).arg(self.directory.path().join("out"));
        command.args(arguments).env(STORE_VARIABLE, self.store());
        command
    }

    /// Another verb than `build`: its exit code, and all that it says.
    fn verb(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        command.args(arguments).current_dir(&self.project).env(STORE_VARIABLE, self.store());
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    fn out(&self) -> String {
        self.directory.path().join("out").display().to_string()
    }

    fn build(&self, arguments: &[&str]) -> Build {
        let output = self.command(arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        let events: Vec<Value> =
            errors.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kinds = ["packages", "sources", "run", "files", "boot"];
        let is_layer =
            |label: &&str| label.split_once(' ').is_some_and(|(_, kind)| kinds.contains(&kind));
        let started = events.iter().filter(|event| event["event"] == "started");
        let labels = started.filter_map(|event| event["label"].as_str());
        let built = labels.filter(is_layer).map(str::to_owned).collect();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let artifacts = told["artifacts"].as_array().into_iter().flatten().map(|artifact| {
            let text = |field: &str| artifact[field].as_str().unwrap().to_owned();
            ((text("role"), text("format")), text("sha256"))
        });
        Build { code: output.status.code(), built, artifacts: artifacts.collect(), errors }
    }
}

fn registry(directory: &Path) -> Option<DockerRegistry> {
    DockerRegistry::start(directory, false)
}

#[test]
fn two_machines_that_build_at_once_build_every_layer_once_and_the_same_images() {
    let directory = tempfile::tempdir().unwrap();
    let Some(registry) = registry(directory.path()) else { return };
    let Some((_archive, project)) = site() else { return };
    let layers = format!("{}/campus/layers", registry.host());
    let all = ["--all", "--layers-to", &layers];
    let (one, other) = (Runner::new(&project), Runner::new(&project));
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| other.build(&all));
        (one.build(&all), second.join().unwrap())
    });
    assert_eq!((first.code, second.code), (Some(0), Some(0)), "{}{}", first.errors, second.errors);
    let mut built = [first.built, second.built].concat();
    built.sort();
    let images = ["back", "base", "front", "middle"];
    let mut expected: Vec<String> =
        images.iter().map(|image| format!("{image} packages")).collect();
    // The files of the base lie on the packages of each role.
    expected.extend(["base files"; 3].map(str::to_owned));
    expected.extend(["back", "front", "middle"].map(|image| format!("{image} files")));
    expected.sort();
    assert_eq!(built, expected);

    let alone = Runner::new(&project).build(&["--all"]);
    assert_eq!(first.artifacts, alone.artifacts);
    assert_eq!(second.artifacts, alone.artifacts);
    assert_eq!(alone.artifacts.len(), 3);

    // A third one that comes later builds nothing, and needs no packages.
    let third = Runner::new(&project);
    let found = third.build(&["--all", "--layers-from", &layers]);
    assert_eq!((found.code, found.built.len()), (Some(0), 0), "{}", found.errors);
    assert_eq!(found.artifacts, alone.artifacts);
    assert!(!found.errors.contains(".deb"), "{}", found.errors);
}

#[test]
fn a_registry_that_lies_about_layers_is_caught_and_so_is_a_machine_that_builds_others() {
    let directory = tempfile::tempdir().unwrap();
    let Some(registry) = registry(directory.path()) else { return };
    let Some((_archive, project)) = site() else { return };
    let proxy = Server::before(registry.host());
    let layers = format!("{}/campus/layers", proxy.host());
    let build = Runner::new(&project).build(&["front", "--layers-to", &layers]);
    assert_eq!(build.code, Some(0), "{}", build.errors);

    let other_bytes = |reply: Reply| {
        let mut body = reply.body.clone();
        let middle = body.len() / 2;
        body[middle] ^= 1;
        reply.body(body)
    };
    let another_layer = |reply: Reply| {
        // The same but for the key, with the digest of what is told.
        let text = String::from_utf8(reply.body.clone()).unwrap();
        let place = text.find("\\\"key\\\":\\\"").unwrap() + 10;
        let mut bytes = text.into_bytes();
        bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
        let digest = format!("sha256:{}", imgbuild::digest::Digest::of(&bytes));
        reply.header("Docker-Content-Digest", digest).body(bytes)
    };
    // What the blob is, is another question than what the manifest says that it becomes.
    let rewritten = |from: &'static str, to: &'static str| {
        move |reply: Reply| {
            let text = String::from_utf8(reply.body.clone()).unwrap();
            assert!(text.contains(from), "{text}");
            let text = text.replacen(from, to, 1);
            let digest = format!("sha256:{}", imgbuild::digest::Digest::of(&text));
            let length = text.len().to_string();
            reply
                .header("Docker-Content-Digest", digest)
                .header("Content-Length", length)
                .body(text)
        }
    };
    let shorter = rewritten("\\\"size\\\":", "\\\"size\\\":1,\\\"was\\\":");
    type Change = Box<dyn Fn(Reply) -> Reply + Send>;
    let cases: [(&str, &str, Change, &str); 5] = [
        (
            "a longer archive",
            "/manifests/layer-",
            Box::new(shorter),
            "the packed form of an archive of 1 bytes",
        ),
        (
            "a manifest with two lists of blobs",
            "/manifests/layer-",
            Box::new(rewritten(
                "\"schemaVersion\":2",
                "\"schemaVersion\":2,\"layers\":[],\"was\":0",
            )),
            "is not what it should be",
        ),
        ("other bytes", "/blobs/", Box::new(other_bytes), "sha256"),
        ("another manifest", "/manifests/layer-", Box::new(other_bytes), "sha256"),
        ("another layer", "/manifests/layer-", Box::new(another_layer), "it is the layer of"),
    ];
    for (what, part, change, why) in cases {
        proxy.fault("GET", part, Fault::Change(change));
        let runner = Runner::new(&project);
        let build = runner.build(&["front", "--layers-from", &layers]);
        assert_eq!(build.code, Some(1), "{what}: {}", build.errors);
        assert!(build.errors.contains(why), "{what}: {}", build.errors);
        assert!(build.errors.contains("\"help\""), "{what}: {}", build.errors);
        assert!(!proxy.has_faults(), "{what}");
        assert!(!runner.directory.path().join("out").exists(), "{what}");
        // What was caught has left nothing that a later build would take for good.
        let build = runner.build(&["front", "--layers-from", &layers]);
        assert_eq!((build.code, build.built.len()), (Some(0), 0), "{what}: {}", build.errors);
    }

    // The next one does not see the layer until it has built it itself; then it says that it is another one.
    let hidden = Reply::new(404);
    for _ in 0..2 {
        proxy.fault("GET", "/manifests/layer-", Fault::Instead(hidden.clone()));
    }
    proxy.fault(
        "GET",
        "/manifests/layer-",
        Fault::Change(Box::new(|reply| {
            let text = String::from_utf8(reply.body.clone()).unwrap();
            let place = text.find("\\\"digest\\\":\\\"").unwrap() + 13;
            let mut bytes = text.into_bytes();
            bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
            let digest = format!("sha256:{}", imgbuild::digest::Digest::of(&bytes));
            reply.header("Docker-Content-Digest", digest).body(bytes)
        })),
    );
    let build = Runner::new(&project).build(&["front", "--layers-to", &layers]);
    assert_eq!(build.code, Some(1), "{}", build.errors);
    assert!(build.errors.contains("was built here as"), "{}", build.errors);
}

#[test]
fn a_registry_that_is_away_costs_a_warning_and_no_build() {
    let Some((_archive, project)) = site() else { return };
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let layers = format!("{gone}/campus/layers");
    let build = Runner::new(&project).build(&["front", "--layers-to", &layers]);
    assert_eq!((build.code, build.built.len()), (Some(0), 4), "{}", build.errors);
    assert_eq!(build.errors.matches("layers are not shared from here on").count(), 1);
}

/// A new key, and its line in a file of those who may sign.
fn key(directory: &Path, name: &str) -> Option<(PathBuf, String)> {
    let path = directory.join(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&path)
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no ssh-keygen; Debian's package `openssh-client` has it");
        return None;
    }
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    Some((path, format!("{name}@campus.example {public}")))
}

#[test]
fn where_a_policy_demands_it_layers_are_taken_only_from_whom_it_allows() {
    let directory = tempfile::tempdir().unwrap();
    let Some(registry) = registry(directory.path()) else { return };
    let Some((_archive, project)) = site() else { return };
    let Some((ci, ci_line)) = key(directory.path(), "ci") else { return };
    let Some((_, other_line)) = key(directory.path(), "other") else { return };
    let proxy = Server::before(registry.host());
    let layers = format!("{}/campus/layers", proxy.host());
    let policy = |signers: &str| {
        project.write("policy.toml", "[signatures]\nrequired = true\n");
        project.write("allowed_signers", signers);
    };

    policy(&ci_line);
    let none = Runner::new(&project).build(&["front", "--layers-to", &layers]);
    assert_eq!((none.code, none.built.len()), (Some(1), 0), "{}", none.errors);
    assert!(none.errors.contains("IMGBUILD_SIGNING_KEY"), "{}", none.errors);
    let runner = Runner::new(&project);
    let mut command = runner.command(&["front", "--layers-to", &layers]);
    let output = command.env("IMGBUILD_SIGNING_KEY", &ci).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let take = ["front", "--layers-from", &layers];
    let found = Runner::new(&project).build(&take);
    assert_eq!((found.code, found.built.len()), (Some(0), 0), "{}", found.errors);

    // What is told is changed after it was signed; digests of the registry fit.
    proxy.fault(
        "GET",
        "/manifests/layer-",
        Fault::Change(Box::new(|reply| {
            let text = String::from_utf8(reply.body.clone()).unwrap();
            let place = text.find("\\\"entries\\\":").unwrap() + 12;
            let bytes = [&text.as_bytes()[..place], b"1", &text.as_bytes()[place..]].concat();
            let digest = format!("sha256:{}", imgbuild::digest::Digest::of(&bytes));
            let length = bytes.len().to_string();
            reply
                .header("Docker-Content-Digest", digest)
                .header("Content-Length", length)
                .body(bytes)
        })),
    );
    let changed = Runner::new(&project).build(&take);
    assert_eq!((changed.code, changed.built.len()), (Some(1), 0), "{}", changed.errors);
    assert!(changed.errors.contains("its signature is not of it"), "{}", changed.errors);

    policy(&other_line);
    let stranger = Runner::new(&project).build(&take);
    assert_eq!((stranger.code, stranger.built.len()), (Some(0), 4), "{}", stranger.errors);
    assert!(stranger.errors.contains("is not to be trusted"), "{}", stranger.errors);

    // Unsigned layers are for those who demand nothing.
    let unsigned = format!("{}/campus/unsigned", proxy.host());
    std::fs::remove_file(project.path().join("policy.toml")).unwrap();
    let runner = Runner::new(&project);
    assert_eq!(runner.build(&["front", "--layers-from", &layers]).code, Some(0));
    std::fs::remove_dir_all(runner.store().join("keys")).unwrap();
    assert_eq!(runner.build(&["front", "--layers-to", &unsigned]).code, Some(0));
    policy(&ci_line);
    let nobody = Runner::new(&project).build(&["front", "--layers-from", &unsigned]);
    assert_eq!((nobody.code, nobody.built.len()), (Some(0), 4), "{}", nobody.errors);
    assert!(nobody.errors.contains("nobody has signed it"), "{}", nobody.errors);
}

/// A policy that demands signatures comes after layers were taken that have none: whatever the store has of them is
/// judged by whoever builds now.
#[test]
fn a_store_does_not_bring_layers_past_a_policy_that_were_taken_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let Some(registry) = registry(directory.path()) else { return };
    let Some((_archive, project)) = site() else { return };
    let Some((ci, ci_line)) = key(directory.path(), "ci") else { return };
    let unsigned = format!("{}/campus/unsigned", registry.host());
    let campus = ["front", "--site", "campus"];
    project.write("overlays/campus/overlay.toml", "summary = \"A campus\"\n");
    project.write("overlays/campus/files/front/etc/front.conf", "of the campus");
    let maker =
        Runner::new(&project).build(&["front", "--site", "campus", "--layers-to", &unsigned]);
    assert_eq!(maker.code, Some(0), "{}", maker.errors);

    let runner = Runner::new(&project);
    let from_unsigned = [&campus[..], &["--layers-from", &unsigned]].concat();
    for arguments in [&from_unsigned[..], &campus] {
        let taken = runner.build(arguments);
        assert_eq!((taken.code, taken.built.len()), (Some(0), 0), "{}", taken.errors);
    }
    let explained = || runner.verb(&["explain", "front", "--site", "campus", "--json"]).1;
    assert!(!explained().contains("\"reused\": false"), "{}", explained());
    let (key, out) = (ci.display().to_string(), runner.out());
    let sign = || {
        let options = ["--key", &key, "--artifacts", &out];
        runner.verb(&[&["sign"], &campus[..], &options].concat())
    };

    // That of the site, and not of the project.
    project.write("overlays/campus/policy.toml", "[signatures]\nrequired = true\n");
    project.write("allowed_signers", &ci_line);
    let next = explained();
    let next = next.split_once("\"next\"").unwrap().1;
    assert!(!next.contains("\"reused\": true"), "{next}");
    let (code, said) = sign();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("one of another machine, and not to be trusted"), "{said}");
    let alone = runner.build(&from_unsigned);
    assert_eq!((alone.code, alone.built.len()), (Some(0), 4), "{}", alone.errors);
    let told = "base packages: the layer in the store is one of another machine, and is not used: nobody has";
    assert_eq!(alone.errors.matches(told).count(), 1, "{}", alone.errors);
    let told = "base packages is built here: ";
    assert_eq!(alone.errors.matches(told).count(), 1, "{}", alone.errors);
    assert_eq!(alone.artifacts, maker.artifacts, "what was built elsewhere was right by chance");
    let (code, said) = sign();
    assert_eq!(code, Some(0), "{said}");
    for arguments in [&from_unsigned[..], &campus] {
        let again = runner.build(arguments);
        assert_eq!((again.code, again.built.len()), (Some(0), 0), "{}", again.errors);
        assert!(!again.errors.contains("another machine"), "{}", again.errors);
    }

    // The same without a registry at all.
    let runner = Runner::new(&project);
    let nobody = ["front", "--layers-from", &unsigned];
    assert_eq!(runner.build(&nobody).code, Some(0));
    let alone = runner.build(&campus);
    assert_eq!((alone.code, alone.built.len()), (Some(0), 4), "{}", alone.errors);
}

#[test]
fn who_may_sign_no_more_has_signed_no_layer_of_any_store_either() {
    let directory = tempfile::tempdir().unwrap();
    let Some(registry) = registry(directory.path()) else { return };
    let Some((_archive, project)) = site() else { return };
    let Some((ci, ci_line)) = key(directory.path(), "ci") else { return };
    let Some((other, other_line)) = key(directory.path(), "other") else { return };
    let layers = format!("{}/campus/layers", registry.host());
    project.write("policy.toml", "[signatures]\n");
    project.write("allowed_signers", &ci_line);
    let maker = Runner::new(&project);
    let mut command = maker.command(&["front", "--layers-to", &layers]);
    let output = command.env("IMGBUILD_SIGNING_KEY", &ci).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let taking = || {
        let runner = Runner::new(&project);
        let taken = runner.build(&["front", "--layers-from", &layers]);
        assert_eq!((taken.code, taken.built.len()), (Some(0), 0), "{}", taken.errors);
        runner
    };

    let (removed, revoked) = (taking(), taking());
    project.write("allowed_signers", &other_line);
    let alone = removed.build(&["front"]);
    assert_eq!((alone.code, alone.built.len()), (Some(0), 4), "{}", alone.errors);
    assert!(alone.errors.contains("allows nobody to sign with the key"), "{}", alone.errors);

    project.write("allowed_signers", &ci_line);
    project.write("policy.toml", "[signatures]\nrevoked = \"revoked_keys\"\n");
    project.write("revoked_keys", ci_line.split_once(' ').unwrap().1);
    let again = revoked.build(&["front", "--layers-from", &layers]);
    assert_eq!((again.code, again.built.len()), (Some(0), 4), "{}", again.errors);
    assert_eq!(again.errors.matches("is built here: ").count(), 4, "{}", again.errors);
    assert!(again.errors.contains("is revoked"), "{}", again.errors);

    // Nobody gives away what the others would not take, and whoever may puts theirs in the place of what nobody takes.
    let give = |key: &Path| {
        let runner = Runner::new(&project);
        let mut command = runner.command(&["front", "--layers-to", &layers]);
        let output = command.env("IMGBUILD_SIGNING_KEY", key).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, errors) = give(&ci);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("is not given to the others"), "{errors}");
    project.write("allowed_signers", &format!("{ci_line}\n{other_line}"));
    let (code, errors) = give(&other);
    assert_eq!(code, Some(0), "{errors}");
    let taken = Runner::new(&project).build(&["front", "--layers-from", &layers]);
    assert_eq!((taken.code, taken.built.len()), (Some(0), 0), "{}", taken.errors);
}

/// The site of this project, as templates and as disks, with what `support::images::with_given_sources` finds.
#[test]
#[ignore = "builds the roles of the project's own, from Debian's mirror, four times"]
fn two_machines_build_a_site_with_every_layer_once() {
    let directory = tempfile::tempdir().unwrap();
    let Some(registry) = registry(directory.path()) else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let layers = format!("{}/campus/layers", registry.host());
    let (more, sources) = images::with_given_sources();
    let roles = [&["haproxy", "galera", "cache", "files"], &more[..]].concat();
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let alone = [&roles[..], &["--site", "campus"], &sources[..]].concat();
    let giving = [&alone[..], &["--layers-to", &layers]].concat();
    let taking = [&alone[..], &["--layers-from", &layers]].concat();
    let (one, other) = (Runner::at(root), Runner::at(root));
    let timed = |runner: &Runner, arguments: &[&str]| {
        let started = std::time::Instant::now();
        let build = runner.build(arguments);
        assert_eq!(build.code, Some(0), "{}", build.errors);
        (build, started.elapsed().as_secs())
    };
    let ((first, seconds), (second, _)) = std::thread::scope(|scope| {
        let second = scope.spawn(|| timed(&other, &giving));
        (timed(&one, &giving), second.join().unwrap())
    });
    let (third, seconds_taking) = timed(&Runner::at(root), &taking);
    let (alone, seconds_alone) = timed(&Runner::at(root), &alone);
    eprintln!(
        "{} artifacts; two at once: {} and {} layers built, {seconds} s; a third one: {}, {seconds_taking} s; \
         alone: {}, {seconds_alone} s",
        alone.artifacts.len(),
        first.built.len(),
        second.built.len(),
        third.built.len(),
        alone.built.len()
    );
    let sorted = |mut layers: Vec<String>| {
        layers.sort();
        layers
    };
    assert!(alone.built.len() > 10, "{:?}", alone.built);
    assert_eq!(sorted([first.built, second.built].concat()), sorted(alone.built));
    assert!(third.built.is_empty(), "{:?}", third.built);
    for artifacts in [first.artifacts, second.artifacts, third.artifacts] {
        assert_eq!(artifacts, alone.artifacts);
    }
}
