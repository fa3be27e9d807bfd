//! What a policy refuses does not come to a site, and what runs there is nobody's business.

use std::fs;
use std::process::Command;

use super::preflight::obstacles;
use super::pve::Flavour;
use super::support::base::base;
use super::support::programs::read;
use super::{Site, all};

impl Site {
    /// Makes a key and lets it sign, and nobody else; none if there is no ssh-keygen.
    #[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
    fn demand_signatures(&self) -> Option<()> {
        let key = self.project.path().join("key");
        let mut make = Command::new("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
        if !make.output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: there is no ssh-keygen");
            return None;
        }
        let signer = format!("ci@campus.example {}", self.project.read("key.pub"));
        self.project.write("allowed_signers", &signer);
        self.project.write("policy.toml", "[signatures]\n");
        Some(())
    }

    fn sign(&self) {
        self.project.succeed(&["sign", "app", "--site", "campus", "--key", "key"]);
    }

    /// What every verb says that would bring something to the site, and none of them does.
    #[track_caller]
    fn refuses(&self, says: &str) {
        let before = self.pve.changes().len();
        for arguments in [&["swap", "--yes"][..], &["plan"], &["preflight"]] {
            let ended = self.run(arguments);
            assert_eq!(ended.code, 1, "{arguments:?}: {}", ended.stderr);
            let said = ended.stdout + &ended.stderr;
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(said.contains(says), "{arguments:?}: {said}");
        }
        let said = self.run(&["swap", "--yes"]).stderr;
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("all of it: `imgbuild verify --site campus`"), "{said}");
        let told = read(&self.run(&["swap", "--yes", "--json"]).stdout);
        assert_eq!(told["outcome"], "refused", "{told}");
        assert!(told["reason"].as_str().unwrap().contains(says), "{told}");
        let told = read(&self.run(&["plan", "--json"]).stdout);
        assert_eq!(told["ending"], "refused", "{told}");
        assert!(told["refusal"].as_str().unwrap().contains(says), "{told}");
        assert!(!told["steps"].as_array().unwrap().is_empty(), "what would be done is shown");
        assert_eq!(self.pve.changes().len(), before, "{:?}", self.pve.changes());
    }
}

#[test]
fn a_site_gets_only_what_its_policy_allows() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    let first = site.build("1");
    let ended = site.run(&["plan"]);
    assert!(ended.stderr.contains("there is no policy.toml"), "{}", ended.stderr);
    if site.demand_signatures().is_none() {
        return;
    }
    site.refuses("signature: it is not signed");
    site.sign();
    assert_eq!(site.project.run(&["verify", "--site", "campus"]).code, 0);
    site.succeed(&["preflight"]);
    site.succeed(&["swap", "--yes"]);
    assert_eq!(site.running(), all(&first));

    // Somebody exchanges the next one after it was signed, with a manifest that fits it.
    let second = site.build("2");
    site.sign();
    let names = site.project.artifacts();
    let artifact = names.iter().find(|it| it.ends_with(&format!("{second}.tar.zst"))).unwrap();
    let path = site.project.out().join(artifact);
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let manifest = artifact.replace(".tar.zst", ".manifest.json");
    let text = site.project.read(&format!("out/{manifest}"));
    let digest = |bytes: &[u8]| imgbuild::digest::Digest::of(bytes).to_string();
    fs::write(&path, &bad).unwrap();
    site.refuses("artifact: it has");
    site.project.write(&format!("out/{manifest}"), &text.replace(&digest(&good), &digest(&bad)));
    site.refuses("has other bytes than those that were signed");

    fs::write(&path, &good).unwrap();
    site.project.write(&format!("out/{manifest}"), &text);
    site.succeed(&["swap", "--yes"]);
    assert_eq!(site.running(), all(&second));

    // A mistake in the policy keeps nobody from looking and from taking back.
    site.project.write("policy.toml", "[signature]\n");
    site.succeed(&["status", "--json"]);
    site.succeed(&["rollback", "--yes"]);
    assert_eq!(site.running(), all(&first));
    assert_eq!(site.run(&["plan"]).code, 1);
    site.project.write("policy.toml", "[signatures]\n");
    site.succeed(&["swap", "--yes"]);
    assert_eq!(site.running(), all(&second));

    // What runs is not looked at, however old its image is.
    site.project.write("policy.toml", "[[forbidden]]\npackage = \"dash\"\nreason = \"a shell\"\n");
    site.succeed(&["swap", "--yes"]);
    site.succeed(&["plan"]);
    site.build("3");
    site.refuses("the package dash");
    assert_eq!(site.running(), all(&second));
}

/// A role that nobody was about to touch, and whose image had become too old, kept everybody from replacing another one in a
/// hurry: pipelines call `preflight` first.
#[test]
fn what_runs_already_stands_in_the_way_of_no_swap() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    site.build("1");
    site.succeed(&["swap", "--yes"]);
    let forbidden = "[[forbidden]]\npackage = \"dash\"\nreason = \"a shell\"\n";
    site.project.write("policy.toml", forbidden);
    assert_eq!(obstacles(&site), [""; 0]);

    // Where a swap would not even begin, the policy is told all the same, so that both can be mended.
    site.build("2");
    {
        let mut cluster = site.pve.cluster();
        cluster.clustered = true;
        cluster.quorate = false;
    }
    let found = obstacles(&site);
    for check in ["quorum: ", "policy: app: policy: the package dash"] {
        assert!(found.iter().any(|line| line.starts_with(check)), "{check}: {found:#?}");
    }
}

#[test]
fn the_format_is_heeded_where_a_whole_site_is_verified() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    site.build("1");
    site.project.write("policy.toml", "");
    let verify = |format| site.project.run(&["verify", "--site", "campus", "--format", format]);
    assert_eq!(verify("lxc").code, 0);
    let none = verify("qcow2");
    assert_eq!(none.code, 1, "{}", none.stdout);
    assert!(none.stderr.contains("no guest of the site campus is made in that format"));
}
