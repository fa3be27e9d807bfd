//! The bytes that sources become. Layers of old builds, and of other machines, are found by them.

use std::path::Path;

use super::*;
use crate::build::supply::{Supplied, put_commit};
use crate::definition::tests::Files;
use crate::fetch::{Fetcher, Network, Policy, Request};
use crate::store::Store;

/// Sources of each kind that takes no network, and the SHA-256 that the first two are pinned to.
const SOURCES: &str = "\
    [sources.code]\ntype = \"archive\"\nurls = [\"https://a.test/code.tar\"]\nsha256 = \"ARCHIVE\"\n\
    published = \"x\"\ninto = \"/usr/share/code\"\nstrip = 1\n\
    [sources.gem]\ntype = \"file\"\nurls = [\"https://a.test/a.gem\"]\nsha256 = \"FILE\"\n\
    published = \"x\"\ninto = \"/usr/share/gems/a.gem\"\nmode = \"0640\"\n\
    [sources.tree]\ntype = \"git\"\nurls = [\"https://a.test/tree\"]\n\
    commit = \"COMMIT\"\ninto = \"/usr/share/tree\"\n";

const GEM: &[u8] = b"a gem\n";

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, content) in
        [("code-1/z.php", 0o664, "<?php"), ("code-1/bin/run", 0o700, "#!"), ("code-1/a", 0o600, "")]
    {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_mtime(1_600_000_000);
        header.set_uid(1000);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A repository with one commit whose id never changes; none, and a message, where there is no `git`.
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn repository(root: &Path) -> Option<crate::definition::CommitId> {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-C"])
            .arg(root)
            .args(arguments)
            .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")])
            .envs([("GIT_COMMITTER_DATE", "1600000000 +0200")])
            .envs([("GIT_AUTHOR_DATE", "1600000000 +0200")])
            .output()
            .ok()?;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    if git(&["init", "--quiet"]).is_none() {
        eprintln!("skipped: there is no git");
        return None;
    }
    // In the order of git, which compares directories as if they ended with a slash, and of paths: they
    // differ.
    std::fs::create_dir(root.join("a")).unwrap();
    for (path, content) in [("a/b", "b\n"), ("a-b", "a-b\n"), ("a.b", "a.b\n")] {
        std::fs::write(root.join(path), content).unwrap();
    }
    std::os::unix::fs::symlink("a/b", root.join("link")).unwrap();
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "a commit"]);
    Some(git(&["rev-parse", "HEAD"])?.parse().unwrap())
}

#[test]
fn the_bytes_of_sources_are_stable() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let Some(commit) = repository(root) else { return };
    let store = Store::open(Some(&root.join("store"))).unwrap();
    let tree = put_commit(&store, root, &commit).unwrap().unwrap();
    let definition = SOURCES
        .replace("ARCHIVE", &Digest::of(archive()).to_string())
        .replace("FILE", &Digest::of(GEM).to_string())
        .replace("COMMIT", commit.as_str());
    let project = Files::sound().append("images/web/image.toml", &definition).load().unwrap();
    let sources = &project.image("web").unwrap().sources;
    let pinned = |upstream: &crate::definition::Upstream| {
        let supplied = matches!(upstream.pin, Pin::Commit(_)).then(|| Supplied {
            digest: tree,
            size: 0,
            is_directory: false,
            is_pinned: true,
        });
        PinnedSource { upstream: upstream.clone(), supplied }
    };
    let image = LockedImage {
        name: "web".to_owned(),
        packages: Vec::new(),
        sources: sources.values().map(pinned).collect(),
        files: Vec::new(),
        users: Vec::new(),
        groups: Vec::new(),
        commands: Vec::new(),
        places: Vec::new(),
        state: Vec::new(),
    };
    let key = inputs(&image, Some(&Digest::of("below"))).key();
    let layer = layer(&image, &store, root);
    assert_eq!(
        [commit.to_string(), tree.to_string(), key.to_string(), layer.to_string()],
        [
            "57706e6426b7f89c628cc28ec0f7e1d45f2694fa",
            "f09e21e0d2c839cc24209109be6e2d0993914bd0373a82bf3abc887c432e7d83",
            "52c4ea60493695f478c6db0032e0d603ab65f6b15e7d2e96cfff2549369adef0",
            "1ae4a732e5aea9e340b4d4deb4c2b8d335b573ca16688f3618b6f514e034cbb0"
        ],
        "if the second changed, raise GIT_VERSION in build/supply.rs; if one of the others did, raise RECIPE \
         in build/inputs.rs"
    );
}

/// The digest of the layer of `image`, on top of nothing.
fn layer(image: &LockedImage, store: &Store, root: &Path) -> Digest {
    for bytes in [archive(), GEM.to_vec()] {
        let mut writer = store.writer().unwrap();
        writer.write_all(&bytes).unwrap();
        writer.commit().unwrap();
    }
    let fetcher = Fetcher::new(Network::Offline, Policy::default());
    let request = |source: &PinnedSource| Request {
        label: source.upstream.name.to_string(),
        urls: Vec::new(),
        digest: source.digest().unwrap(),
        size: None,
    };
    let requests: Vec<Request> = image.sources.iter().map(request).collect();
    let files = fetcher.download(&requests, store, 1, &crate::progress::Silent).unwrap();
    let below = Merged::new(std::iter::empty()).unwrap();
    let epoch = 1_650_000_000;
    let mut placing = Placing { image, below: &below, epoch, placed: Placed::new() };
    let mut bytes = Vec::new();
    for (source, file) in image.sources.iter().zip(&files) {
        let contents = contents(source, file, root).unwrap();
        placing.place(source, &contents, bytes.len()).unwrap();
        bytes.push(contents.bytes);
    }
    Digest::of(write(&placing.placed, &bytes, root, Vec::new()).unwrap())
}
