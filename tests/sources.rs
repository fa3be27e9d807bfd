//! Archives, files, packages and parts of OCI images from anywhere, from the definition to the artifact.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use imgbuild::digest::Digest;
use support::archive::Archive;
use support::base::{Base, base};
use support::http::{Fault, Server};
use support::package::Package;
use support::project::Project;
use support::registry::{Image, layer};

/// What the archive unpacks to, and the archive.
fn code() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode, content: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_mtime(4_000_000_000);
        header.set_uid(1000);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    };
    add("code-1.0/index.php", 0o664, "<?php\n");
    add("code-1.0/bin/run", 0o700, "#!/bin/sh\n");
    let tar = builder.into_inner().unwrap();
    zstd::encode_all(&tar[..], 1).unwrap()
}

const GEM: &[u8] = b"a gem\n";

struct Setup {
    server: Server,
    _archive: Archive,
    project: Project,
}

fn setup(base: &Base) -> Setup {
    let server = Server::start();
    let (code, gem) = (Digest::of(code()), Digest::of(GEM));
    let urls = [server.url("/gone/code.tar.zst"), server.url("/code.tar.zst")];
    let definition = format!(
        "[sources.code]\ntype = \"archive\"\nurls = {urls:?}\nsha256 = \"{code}\"\npublished = \"a test\"\n\
         into = \"/usr/share/code\"\nstrip = 1\n\
         [sources.gem]\ntype = \"file\"\nurls = [\"{}\"]\nsha256 = \"{gem}\"\npublished = \"a test\"\n\
         into = \"/usr/share/gems/a.gem\"\nmode = \"0640\"\n\
         [[run]]\ncommand = [\"/bin/sh\", \"-c\", \"cat /usr/share/code/index.php > /usr/share/seen; \
         test -x /usr/share/code/bin/run\"]\n",
        server.url("/a.gem")
    );
    let archive = Archive::with_base(base, &[]);
    let mut project = Project::on_base(base, &archive, &definition);
    project.store = project.scratch().join("store");
    Setup { server, _archive: archive, project }
}

fn manifest(project: &Project) -> serde_json::Value {
    let names = project.artifacts();
    let name = names.iter().find(|name| name.ends_with(".json")).unwrap();
    serde_json::from_slice(&fs::read(project.out().join(name)).unwrap()).unwrap()
}

#[test]
fn sources_become_a_layer_between_packages_and_commands() {
    let Some(base) = base() else { return };
    let Setup { server, project, .. } = setup(base);
    server.file("/code.tar.zst", code());
    server.file("/a.gem", GEM);
    server.faults("/code.tar.zst", [Fault::Truncate(40), Fault::Corrupt]);
    project.succeed(&["lock"]);
    assert_eq!(server.seen().len(), 0, "a lock takes no bytes of a source");
    project.succeed(&["build", "app"]);
    let manifest = manifest(&project);
    let kinds: Vec<&str> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["packages", "sources", "run"]);
    assert_eq!(manifest["unpinned"], serde_json::json!([]));
    assert_eq!(manifest["sources"][0]["sha256"], Digest::of(code()).to_string());
    assert_eq!(manifest["sources"][1]["path"], "/usr/share/gems/a.gem");
    let expected = [
        ("usr/share/code/bin/run", 0o755, "#!/bin/sh\n"),
        ("usr/share/code/index.php", 0o644, "<?php\n"),
        ("usr/share/gems/a.gem", 0o640, "a gem\n"),
        ("usr/share/seen", 0o644, "<?php\n"),
    ];
    let members = members(&project);
    for (path, mode, content) in expected {
        let (found, mtime, bytes) = &members[path];
        assert_eq!((*found, bytes.as_str()), (mode, content), "{path}");
        assert!(*mtime < 4_000_000_000, "{path} is younger than the packages");
    }
}

/// Mode, time and content of what the sources and the command have put into the template. All of it
/// belongs to root.
fn members(project: &Project) -> BTreeMap<String, (u32, u64, String)> {
    let names = project.artifacts();
    let name = names.iter().find(|name| name.ends_with(".tar.zst")).unwrap();
    let file = fs::File::open(project.out().join(name)).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(file).unwrap());
    let mut members = BTreeMap::new();
    for member in archive.entries().unwrap() {
        let mut member = member.unwrap();
        let path = member.path().unwrap().display().to_string();
        let path = path.trim_start_matches("./").to_owned();
        let ours = ["usr/share/code/", "usr/share/gems/", "usr/share/seen"];
        if !ours.iter().any(|start| path.starts_with(start)) {
            continue;
        }
        let header = member.header().clone();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0), "{path}");
        let mut content = String::new();
        member.read_to_string(&mut content).unwrap();
        members.insert(path, (header.mode().unwrap(), header.mtime().unwrap(), content));
    }
    members
}

#[test]
fn what_is_given_by_hand_counts_as_fetched_if_it_is_what_is_pinned() {
    let Some(base) = base() else { return };
    let Setup { server, project, .. } = setup(base);
    project.succeed(&["lock"]);
    let scratch = project.scratch();
    fs::write(scratch.join("code"), code()).unwrap();
    fs::write(scratch.join("gem"), GEM).unwrap();
    let code = format!("code={}", scratch.join("code").display());
    let gem = format!("gem={}", scratch.join("gem").display());
    project.succeed(&["build", "app", "--source", &code, "--source", &gem]);
    assert_eq!(server.seen().len(), 0);
    let pinned = manifest(&project);
    assert_eq!(pinned["unpinned"], serde_json::json!([]));
    assert_eq!(pinned["sources"][0]["published"], "a test");
    // From now on it is in the store.
    fs::remove_dir_all(project.out()).unwrap();
    project.succeed(&["build", "app", "--offline"]);
    assert_eq!(manifest(&project), pinned);

    // A directory is what the archive would be unpacked to; here it is a changed one.
    let tree = scratch.join("tree");
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::write(tree.join("index.php"), "<?php // of mine\n").unwrap();
    fs::write(tree.join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir_all(project.out()).unwrap();
    let tree = format!("code={}", tree.display());
    let ended = project.run(&["build", "app", "--source", &tree, "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("\"unpinned\""), "{}", ended.stdout);
    let unpinned = manifest(&project);
    assert!(unpinned["unpinned"][0].as_str().unwrap().starts_with("source code: "), "{unpinned}");
    assert_eq!(unpinned["sources"][0]["published"], serde_json::Value::Null);
    assert_ne!(unpinned["digest"], pinned["digest"]);
    assert_eq!(members(&project)["usr/share/seen"].2, "<?php // of mine\n");
    let explained = project.succeed(&["explain", "app"]);
    assert!(explained.contains("unpinned: source code: sha256 "), "{explained}");
    assert!(explained.contains("app sources"), "{explained}");
}

/// Runs `git` in `directory`; none where there is no `git`.
fn git(directory: &std::path::Path, arguments: &[&str]) -> Option<String> {
    let mut command = std::process::Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-C"]);
    let output = command.arg(directory).args(arguments).output().ok()?;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn a_commit_is_taken_from_a_repository_and_verified() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &[]);
    let mut project = Project::on_base(base, &archive, "");
    project.store = project.scratch().join("store");
    let repository = project.scratch().join("repository");
    fs::create_dir(&repository).unwrap();
    if git(&repository, &["init", "--quiet"]).is_none() {
        return;
    }
    fs::write(repository.join("index.php"), "<?php\n").unwrap();
    git(&repository, &["add", "--all"]);
    git(&repository, &["commit", "--quiet", "--message", "first"]);
    let commit = git(&repository, &["rev-parse", "HEAD"]).unwrap();
    let definition = format!(
        "[sources.code]\ntype = \"git\"\nurls = [\"http://127.0.0.1:9/code\"]\n\
         commit = \"{commit}\"\ninto = \"/usr/share/code\"\n"
    );
    project.append("images/app/image.toml", &definition);
    project.succeed(&["lock"]);
    let ended = project.run(&["build", "app"]);
    assert_eq!(ended.code, 1);
    for part in ["http://127.0.0.1:9/code: ", &format!("commit {commit}"), "--source code=PATH"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    let given = format!("code={}", repository.display());
    project.succeed(&["build", "app", "--source", &given]);
    let pinned = manifest(&project);
    assert_eq!(pinned["unpinned"], serde_json::json!([]));
    assert_eq!(pinned["sources"][0]["commit"], commit);
    assert_eq!(members(&project)["usr/share/code/index.php"].2, "<?php\n");

    // The same from a URL, into another store.
    let definition = project.read("images/app/image.toml");
    let url = format!("file://{}", repository.display());
    project.write("images/app/image.toml", &definition.replace("http://127.0.0.1:9/code", &url));
    project.succeed(&["lock"]);
    project.store = project.scratch().join("other");
    fs::remove_dir_all(project.out()).unwrap();
    project.succeed(&["build", "app"]);
    assert_eq!(manifest(&project)["digest"], pinned["digest"]);
}

/// A project whose role takes a part of an image from `server`.
fn with_image(base: &Base, server: &Server, digest: &Digest) -> (Archive, Project) {
    let image = server.url("/library/app");
    let definition = format!(
        "[sources.code]\ntype = \"oci\"\nimage = \"{image}\"\ndigest = \"sha256:{digest}\"\n\
         path = \"/srv/app\"\ninto = \"/usr/share/code\"\n"
    );
    let archive = Archive::with_base(base, &[]);
    let mut project = Project::on_base(base, &archive, &definition);
    project.store = project.scratch().join("store");
    (archive, project)
}

fn application() -> Image {
    let lower = [
        ("etc/passwd", 0o644, "root"),
        ("usr/bin/su", 0o4755, "no part of this"),
        ("etc/shared", 0o644, "shared\n"),
        ("srv/app/index.php", 0o664, "<?php\n"),
        ("srv/app/bin/run", 0o700, "#!/bin/sh\n"),
        ("srv/app/secret", 0o600, "gone\n"),
        ("srv/app/cache/a", 0o644, "gone\n"),
    ];
    let upper = [
        ("srv/app/.wh.secret", 0o644, ""),
        ("srv/app/cache/.wh..wh..opq", 0o644, ""),
        ("srv/app/cache/b", 0o644, "new\n"),
        ("srv/app/again", 0o644, "=> srv/app/index.php"),
        ("srv/app/shared", 0o644, "=> etc/shared"),
    ];
    Image::new(vec![layer(&lower), layer(&upper)])
}

#[test]
fn a_part_of_an_image_is_taken_from_a_registry_and_verified() {
    let Some(base) = base() else { return };
    let (server, blobs) = (Server::start(), Server::start());
    let image = application();
    image.serve(&server, "library/app");
    image.serve(&blobs, "store");
    // As Docker's: a token for everybody, and blobs elsewhere, where it means nothing.
    let scope = "repository:library/app:pull";
    let realm = server.url("/token");
    server.file(&format!("/token?service=here&scope={scope}"), "{\"token\":\"a.b-c\"}");
    let challenge = format!("Bearer realm=\"{realm}\",service=\"here\",scope=\"{scope}\"");
    server.protect("/v2/", "a.b-c", &challenge);
    let blob = |digest: &Digest| format!("/v2/library/app/blobs/sha256:{digest}");
    let elsewhere = blobs.url(&format!("/v2/store/blobs/sha256:{}", image.layers[0]));
    server.faults(&blob(&image.layers[0]), [Fault::Redirect(elsewhere)]);
    server.faults(&blob(&image.layers[1]), [Fault::Truncate(40), Fault::Corrupt]);
    let (_archive, mut project) = with_image(base, &server, &image.index);
    project.succeed(&["lock"]);
    assert_eq!(server.seen().len(), 0, "a lock takes no bytes of an image");
    project.succeed(&["build", "app"]);
    assert_eq!(blobs.seen().len(), 1);
    assert_eq!(blobs.seen()[0].authorization, None, "a token was passed on");
    assert!(server.seen()[0].accept.as_ref().unwrap().contains("oci.image.index"));
    let pinned = manifest(&project);
    assert_eq!(pinned["unpinned"], serde_json::json!([]));
    let oci = &pinned["sources"][0]["oci"];
    assert_eq!(oci["digest"], format!("sha256:{}", image.index));
    assert_eq!(oci["path"], "/srv/app");
    let found: Vec<(String, (u32, u64, String))> = members(&project).into_iter().collect();
    let found: Vec<(&str, u32, &str)> = found
        .iter()
        .filter(|(path, _)| !path.ends_with('/'))
        .map(|(path, (mode, _, content))| (path.as_str(), *mode, content.as_str()))
        .collect();
    let expected = [
        ("usr/share/code/again", 0o644, "<?php\n"),
        ("usr/share/code/bin/run", 0o755, "#!/bin/sh\n"),
        ("usr/share/code/cache/b", 0o644, "new\n"),
        ("usr/share/code/index.php", 0o644, "<?php\n"),
        ("usr/share/code/shared", 0o644, "shared\n"),
    ];
    assert_eq!(found, expected);

    // From a layout on disk into another store: the same, and nobody is asked.
    let layout = project.scratch().join("layout");
    image.layout(&layout);
    let asked = server.seen().len();
    project.store = project.scratch().join("other");
    fs::remove_dir_all(project.out()).unwrap();
    let given = format!("code={}", layout.display());
    project.succeed(&["build", "app", "--source", &given]);
    assert_eq!(server.seen().len(), asked);
    assert_eq!(manifest(&project), pinned);
    fs::remove_dir_all(project.out()).unwrap();
    project.succeed(&["build", "app", "--offline"]);
    assert_eq!(manifest(&project), pinned);
}

#[test]
fn a_package_by_url_is_locked_and_installed_like_others() {
    let Some(base) = base() else { return };
    let server = Server::start();
    let package = |version: &str, content: &str| {
        let package = Package::new("vendor-app", version).field("Depends", "helper");
        package.file("usr/share/code/of-vendor", content).deb()
    };
    let deb = package("3.0", "three\n");
    let url = server.file("/vendor.deb", deb.clone());
    let definition = format!(
        "[packages]\ninstall = [\"vendor-app (>= 2)\"]\n\
         [sources.vendor]\ntype = \"package\"\nurls = [\"{url}\"]\nsha256 = \"{}\"\npublished = \"a test\"\n",
        Digest::of(&deb)
    );
    let archive = Archive::with_base(base, &[Package::new("helper", "1.0")]);
    let mut project = Project::on_base(base, &archive, &definition);
    project.store = project.scratch().join("store");
    let scratch = project.scratch().to_owned();
    fs::write(scratch.join("vendor.deb"), &deb).unwrap();
    let given = format!("vendor={}", scratch.join("vendor.deb").display());

    // Given to the lock, it is fetched by nobody.
    project.succeed(&["lock", "--source", &given]);
    assert_eq!(server.seen().len(), 0);
    let line = format!(
        "{{ name = \"vendor-app\", version = \"3.0\", architecture = \"amd64\", source = \"vendor\", size = {}, \
         sha256 = \"{}\" }}",
        deb.len(),
        Digest::of(&deb)
    );
    let lock = project.read("imgbuild.lock");
    assert!(lock.contains(&line) && lock.contains("name = \"helper\""), "{lock}");
    project.succeed(&["build", "app"]);
    let pinned = manifest(&project);
    assert_eq!(members(&project)["usr/share/code/of-vendor"].2, "three\n");
    assert_eq!(
        (&pinned["unpinned"], &pinned["sources"]),
        (&serde_json::json!([]), &serde_json::Value::Null)
    );

    // Into other stores: the lock reads it from its URL, and so does the build.
    for store in ["second", "third"] {
        project.store = scratch.join(store);
        let before = server.seen().len();
        if store == "second" {
            fs::remove_file(project.path().join("imgbuild.lock")).unwrap();
            project.succeed(&["lock"]);
            assert!(project.read("imgbuild.lock").contains(&line));
        }
        fs::remove_dir_all(project.out()).unwrap();
        project.succeed(&["build", "app"]);
        assert_eq!(server.seen().len(), before + 1);
        assert_eq!(manifest(&project)["digest"], pinned["digest"]);
    }

    // Another file of the same version is installed, and the artifact says so.
    fs::write(scratch.join("mine.deb"), package("3.0", "mine\n")).unwrap();
    let mine = format!("vendor={}", scratch.join("mine.deb").display());
    fs::remove_dir_all(project.out()).unwrap();
    project.succeed(&["build", "app", "--source", &mine]);
    let unpinned = manifest(&project);
    assert!(unpinned["unpinned"][0].as_str().unwrap().starts_with("source vendor: "), "{unpinned}");
    assert_eq!(members(&project)["usr/share/code/of-vendor"].2, "mine\n");

    // What nobody has verified is locked and built only from what was given.
    let text = project.read("images/app/image.toml");
    let sha256 = format!("sha256 = \"{}\"\npublished = \"a test\"", Digest::of(&deb));
    project
        .write("images/app/image.toml", &text.replace(&sha256, "unverified = \"ask its authors\""));
    assert_eq!(project.run(&["lock"]).code, 1);
    project.succeed(&["lock", "--source", &given]);
    fs::remove_dir_all(project.out()).unwrap();
    let ended = project.run(&["build", "app"]);
    assert!(ended.code == 1 && ended.stderr.contains("ask its authors"), "{}", ended.stderr);
    project.succeed(&["build", "app", "--source", &given]);
    assert_eq!(manifest(&project)["unpinned"].as_array().unwrap().len(), 1);
}
