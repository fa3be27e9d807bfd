//! Whatever is not as it was signed, or not as policies say, is refused, and said to be.

use std::fs;

use imgbuild::digest::Digest;
use serde_json::{Value, json};

use super::support::project::Ended;
use super::{Files, NAME, POLICY, ago, built, copy_store, now};

const DAY: u64 = 24 * 60 * 60;

/// What is done, by what name; which checks refuse it; and what is said.
type Case = (&'static str, fn(&Files<'_>), &'static [&'static str], &'static str);

const CASES: &[Case] = &[
    (
        "another byte in the artifact",
        |it| {
            let mut bytes = fs::read(it.of(".tar.zst")).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(it.of(".tar.zst"), bytes).unwrap();
        },
        &["artifact", "signature"],
        "its manifest says",
    ),
    (
        "another artifact with a manifest that fits it",
        |it| {
            fs::write(it.of(".tar.zst"), "another").unwrap();
            it.edit_json(".manifest.json", |manifest| {
                manifest["artifact"]["sha256"] = json!(Digest::of("another").to_string());
                manifest["artifact"]["size"] = json!(7);
            });
        },
        &["signature", "provenance", "sbom"],
        ".tar.zst has other bytes than those that were signed",
    ),
    (
        "a manifest with another package",
        |it| it.edit_json(".manifest.json", |it| it["packages"][0]["version"] = json!("2.0")),
        &["signature", "provenance", "sbom"],
        ".manifest.json has other bytes than those that were signed",
    ),
    (
        "a manifest with other layers",
        |it| {
            let other = Digest::of("other").to_string();
            it.edit_json(".manifest.json", |it| it["layers"][0]["digest"] = json!(other));
        },
        &["manifest", "signature", "provenance"],
        "do not make the image",
    ),
    (
        "a manifest with layers without end",
        |it| {
            it.edit_json(".manifest.json", |it| {
                let layers = vec![it["layers"][0].clone(); 1001];
                it["layers"] = layers.into();
            });
        },
        &["manifest", "signature", "provenance", "sbom"],
        "1001 layers, and no image has more",
    ),
    (
        "a manifest that is none",
        |it| drop(fs::write(it.of(".manifest.json"), "{}")),
        &["manifest"],
        "not a manifest",
    ),
    (
        "no manifest",
        |it| fs::remove_file(it.of(".manifest.json")).unwrap(),
        &["manifest"],
        "is not there",
    ),
    (
        "another bill",
        |it| it.edit(".spdx.json", |text| text.replace("\"web\"", "\"wob\"")),
        &["signature", "sbom"],
        ".spdx.json has other bytes than those that were signed",
    ),
    (
        "another bill, signed",
        |it| {
            it.edit(".cyclonedx.json", |text| text.replace("\"web\"", "\"wob\""));
            it.sign_again("ci", "imgbuild", now());
        },
        &["sbom"],
        "CycloneDX: it is not what the layers make",
    ),
    (
        "the bill of another artifact, signed",
        |it| {
            let own = Digest::of(fs::read(it.of(".tar.zst")).unwrap()).to_string();
            it.edit(".spdx.json", |text| text.replace(&own, &Digest::of("other").to_string()));
            it.sign_again("ci", "imgbuild", now());
        },
        &["sbom"],
        "SPDX: it is of another artifact",
    ),
    (
        "no bill",
        |it| fs::remove_file(it.of(".spdx.json")).unwrap(),
        &["signature", "policy"],
        "is signed and not there",
    ),
    (
        "other provenance",
        |it| it.edit(".provenance.json", |text| text.replacen("\"web\"", "\"wob\"", 1)),
        &["signature", "provenance"],
        ".provenance.json has other bytes than those that were signed",
    ),
    (
        "provenance of something else, signed",
        |it| {
            it.edit_json(".provenance.json", |it| {
                it["subject"][0]["digest"]["sha256"] = json!("00")
            });
            it.sign_again("ci", "imgbuild", now());
        },
        &["provenance"],
        "it is of another artifact",
    ),
    (
        "provenance without a package, signed",
        |it| {
            it.edit_json(".provenance.json", |it| {
                let list = &mut it["predicate"]["buildDefinition"]["resolvedDependencies"];
                list.as_array_mut().unwrap().retain(|it| it["name"] != "web");
            });
            it.sign_again("ci", "imgbuild", now());
        },
        &["provenance"],
        "differ in what web is",
    ),
    (
        "provenance of another manifest, signed",
        |it| {
            it.edit_json(".provenance.json", |it| {
                it["predicate"]["runDetails"]["byproducts"][0]["digest"]["sha256"] = json!("00");
            });
            it.sign_again("ci", "imgbuild", now());
        },
        &["provenance"],
        "it tells of another manifest",
    ),
    (
        "another time in the list",
        |it| it.edit(".sha256sums", |text| text.replace("# signed 20", "# signed 21")),
        &["signature"],
        "the signature is not of this list of files",
    ),
    (
        "a list of more files, signed",
        |it| {
            it.edit(".sha256sums", |text| format!("{text}{}  more\n", Digest::of("more")));
            it.sign_list("ci", "imgbuild");
        },
        &["signature"],
        "names more, which is no file of this artifact",
    ),
    (
        "a list of fewer files, signed",
        |it| {
            it.edit(".sha256sums", |text| {
                let kept = text.lines().filter(|line| !line.ends_with(".manifest.json"));
                kept.map(|line| format!("{line}\n")).collect()
            });
            it.sign_list("ci", "imgbuild");
        },
        &["signature"],
        "does not name",
    ),
    (
        "a list of another image, signed",
        |it| {
            it.edit(".sha256sums", |text| {
                let line = format!("# image {}", Digest::of("other"));
                text.lines()
                    .map(|it| if it.starts_with("# image") { &line } else { it })
                    .map(|it| format!("{it}\n"))
                    .collect()
            });
            it.sign_list("ci", "imgbuild");
        },
        &["signature"],
        "the list is of the image",
    ),
    (
        "a list in another form",
        |it| it.edit(".sha256sums", |text| text.replace("sums 1", "sums 2")),
        &["signature"],
        "line 1: expected `# imgbuild sums 1`",
    ),
    (
        "another signature",
        |it| {
            it.edit(".sha256sums.sig", |text| {
                // In the last line but one, which is full: the end of the signature itself.
                let lines: Vec<&str> = text.lines().collect();
                let last = lines[lines.len() - 2].len() + lines[lines.len() - 1].len() + 2;
                let at = text.trim_end().len() - last - 20;
                let other = if &text[at..=at] == "A" { "B" } else { "A" };
                format!("{}{other}{}", &text[..at], &text[at + 1..])
            });
        },
        &["signature"],
        "signature is",
    ),
    (
        "a cut signature",
        |it| it.edit(".sha256sums.sig", |text| text[..60].to_owned()),
        &["signature"],
        "is no signature",
    ),
    (
        "no signature",
        |it| fs::remove_file(it.of(".sha256sums.sig")).unwrap(),
        &["signature"],
        "is not there",
    ),
    (
        "nothing signed",
        |it| {
            fs::remove_file(it.of(".sha256sums")).unwrap();
            fs::remove_file(it.of(".sha256sums.sig")).unwrap();
        },
        &["signature"],
        "it is not signed",
    ),
    (
        "another key",
        |it| it.sign_list("other", "imgbuild"),
        &["signature"],
        "allows nobody to sign with the key",
    ),
    (
        "another purpose",
        |it| it.sign_list("ci", "file"),
        &["signature"],
        "it was signed for `file`",
    ),
    (
        "a key that is for something else",
        |it| it.allow("namespaces=\"git\""),
        &["signature"],
        "the key is for `git`, and not for `imgbuild`",
    ),
    (
        "a key that is no longer valid",
        |it| it.allow("valid-before=\"20200101Z\""),
        &["signature"],
        "allowed_signers:1: the key is valid until 2020-01-01T00:00:00Z",
    ),
    (
        "a key that is not valid yet",
        |it| it.allow("valid-after=\"21000101Z\""),
        &["signature"],
        "is valid from 2100-",
    ),
    (
        "somebody else who may sign",
        |it| it.write("policy.toml", "[signatures]\nsigners = [\"anna@campus.example\"]\n"),
        &["signature"],
        "the key is that of ci@campus.example, and not of anna@campus.example",
    ),
    (
        "a time that has not come yet",
        |it| {
            it.sign_again(
                "ci",
                "imgbuild",
                imgbuild::debian::date::Moment::from_unix(now().unix() + 3600),
            )
        },
        &["signature"],
        "it says that it was signed at",
    ),
    (
        "signed too long ago",
        |it| {
            it.write("policy.toml", "[signatures]\n[age]\nmaximum_days = 3650\n");
            it.sign_again("ci", "imgbuild", ago(3651 * DAY));
        },
        &["policy"],
        "3651 days ago, and policy.toml allows 3650 days",
    ),
    (
        "made of repositories of long ago",
        |it| it.write("policy.toml", "[age]\nmaximum_days = 30\n"),
        &["policy"],
        "its repositories are of 2025-06-01T00:00:00Z",
    ),
    (
        "a forbidden package",
        |it| it.write("policy.toml", "[[forbidden]]\npackage = \"w*b\"\nreason = \"it listens\"\n"),
        &["policy"],
        "the package web 1.0 is forbidden: it listens (policy.toml:2)",
    ),
    (
        "what the lock does not pin",
        |it| {
            it.edit_json(".manifest.json", |it| it["unpinned"] = json!(["source code: sha256 00"]));
            it.write("policy.toml", "[sources]\nunpinned = \"refuse\"\n");
            let key = it.built.key("ci");
            let ended = it.sign(&["--key", key.to_str().unwrap()]);
            assert_eq!(ended.code, 0, "{}", ended.stderr);
        },
        &["policy"],
        "app has what the lock does not pin: source code: sha256 00",
    ),
];

impl Files<'_> {
    /// Lets `ci` sign with an option of its line.
    fn allow(&self, option: &str) {
        self.write("allowed_signers", &format!("{NAME} {option} {}", self.built.public("ci")));
    }
}

/// The checks that refuse, each once, and what they say.
fn refusals(told: &Value) -> (Vec<&str>, String) {
    let checks = told["artifacts"][0]["checks"].as_array().unwrap();
    let refused = checks.iter().filter(|check| check["result"] == "refused");
    let mut subjects: Vec<&str> = refused.clone().map(|it| it["check"].as_str().unwrap()).collect();
    subjects.dedup();
    assert!(refused.clone().all(|check| check["help"].is_string()), "{told:#}");
    (subjects, refused.map(|it| it["text"].as_str().unwrap()).collect::<Vec<_>>().join("\n"))
}

#[test]
fn what_is_not_as_it_was_signed_or_as_policies_say_is_refused() {
    let Some(built) = built() else { return };
    let mut wrong = Vec::new();
    for (case, change, subjects, says) in CASES {
        let files = built.signed();
        change(&files);
        let (code, told) = files.verify(&[]);
        let (found, said) = refusals(&told);
        let is_refused = (code, &told["trusted"]) == (3, &Value::Bool(false));
        if !is_refused || found != *subjects || !said.contains(says) {
            wrong.push(format!("{case}: {code} {found:?}\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn an_old_signature_is_not_taken_for_old_packages() {
    let Some(built) = built() else { return };
    let helps = |policy: &str, signed| {
        let files = built.signed();
        files.write("policy.toml", policy);
        files.sign_again("ci", "imgbuild", signed);
        let (_, told) = files.verify(&[]);
        let checks = told["artifacts"][0]["checks"].as_array().unwrap().clone();
        let refused = checks.into_iter().filter(|check| check["result"] == "refused");
        refused.map(|check| check["help"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let old = helps("[age]\nmaximum_days = 3650\n", ago(3651 * DAY));
    assert!(old.len() == 1 && old[0].contains("`imgbuild sign`"), "{old:?}");
    let packages = helps("[age]\nmaximum_days = 30\n", now());
    assert!(
        packages.len() == 1 && packages[0].contains("`imgbuild lock --update`"),
        "{packages:?}"
    );
}

#[test]
fn policies_refuse_nothing_but_what_they_say() {
    let Some(built) = built() else { return };
    let files = built.signed();
    files.trusted();
    for policy in [
        "",
        "[signatures]\nrequired = false\n",
        "[signatures]\nsigners = [\"anna@campus.example\", \"ci@campus.example\"]\n",
        "[age]\nmaximum_days = 3650\n",
        "[sources]\nunpinned = \"refuse\"\n",
        "[[forbidden]]\npackage = \"we\"\nreason = \"x\"\n",
        POLICY,
    ] {
        files.write("policy.toml", policy);
        files.trusted();
    }
    // Nothing that is demanded of what nobody has signed.
    let files = built.copy();
    files.write("policy.toml", "[signatures]\nrequired = false\n");
    files.trusted();
    files.write("policy.toml", POLICY);
    let (_, told) = files.verify(&[]);
    assert_eq!(refusals(&told).0, ["signature", "policy"]);
}

#[test]
fn layers_are_looked_at_in_the_store() {
    let Some(built) = built() else { return };
    let files = built.signed();
    let store = files.path("store");
    copy_store(&built.project.store, &store);
    let manifest: Value =
        serde_json::from_slice(&fs::read(files.of(".manifest.json")).unwrap()).unwrap();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let entries = walkdir::WalkDir::new(store.join("blobs")).into_iter().flatten();
    let blob = entries.map(walkdir::DirEntry::into_path).find(|it| it.ends_with(&digest)).unwrap();
    let verify = |more: &[&str]| {
        let mut command = files.command(&["verify", "--json", "--policy"]);
        command.arg(files.path("policy.toml")).arg(files.of(".tar.zst")).args(more);
        let ended = Ended::from(command.env("IMGBUILD_STORE", &store).output().unwrap());
        (ended.code, super::read(&ended.stdout))
    };
    assert_eq!(verify(&["--layers"]).0, 0);

    let mut bytes = fs::read(&blob).unwrap();
    bytes[0] ^= 1;
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, bytes).unwrap();
    let (code, told) = verify(&[]);
    assert_eq!((code, refusals(&told).0), (3, vec!["layers"]), "{told:#}");

    let _ = fs::remove_file(&blob);
    let (code, told) = verify(&[]);
    assert_eq!(code, 0, "{told:#}");
    assert!(told.to_string().contains("1 of 2 are not in the store"), "{told:#}");
    let (code, told) = verify(&["--layers"]);
    assert_eq!((code, refusals(&told).0), (3, vec!["layers"]), "{told:#}");
}

#[test]
fn the_policies_of_the_project_and_of_the_site_both_hold() {
    let Some(built) = built() else { return };
    let files = built.signed();
    // A copy of the project, whose policies only this test has.
    let project = files.path("project");
    copy_store(&built.project.path(), &project);
    let verify = |more: &[&str]| {
        let mut command = files.command(&["verify", "--project", project.to_str().unwrap()]);
        Ended::from(command.arg(files.of(".tar.zst")).args(more).output().unwrap())
    };
    let ended = verify(&[]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stdout.contains("there is no policy.toml"), "{}", ended.stdout);

    fs::write(project.join("policy.toml"), "[signatures]\n").unwrap();
    fs::copy(files.path("allowed_signers"), project.join("allowed_signers")).unwrap();
    assert_eq!(verify(&[]).code, 0);
    let of_site = project.join("overlays/campus/policy.toml");
    fs::write(&of_site, "[signatures]\nsigners = [\"anna@campus.example\"]\n").unwrap();
    for more in [&[][..], &["--site", "campus"]] {
        let ended = verify(more);
        assert_eq!(ended.code, 3, "the manifest says which site it is for: {}", ended.stdout);
        assert!(ended.stdout.contains("and not of anna@campus.example"), "{}", ended.stdout);
    }
    fs::write(&of_site, "[signatures]\nrequired = false\n").unwrap();
    fs::remove_file(files.of(".sha256sums")).unwrap();
    fs::remove_file(files.of(".sha256sums.sig")).unwrap();
    assert_eq!(verify(&[]).code, 3, "a site takes nothing back of what the project demands");

    fs::create_dir_all(project.join("overlays/thesis")).unwrap();
    fs::write(project.join("overlays/thesis/overlay.toml"), "summary = \"Another\"\n").unwrap();
    let ended = verify(&["--site", "thesis"]);
    assert!(
        ended.stdout.contains("it is for the site campus, and not for the site thesis"),
        "{}",
        ended.stdout
    );
}

/// An artifact in an empty directory, exchanged together with its manifest: nothing is wrong with it but that nobody says
/// that it is right.
#[test]
fn nothing_is_trusted_where_no_policy_was_asked() {
    let Some(built) = built() else { return };
    let files = built.copy();
    let empty = tempfile::tempdir().unwrap();
    let verify = |more: &[&str]| {
        let mut command = files.command(&["verify", "--json"]);
        command.arg(files.of(".tar.zst")).args(more).current_dir(empty.path());
        let ended = Ended::from(command.output().unwrap());
        (ended.code, super::read(&ended.stdout))
    };
    let (code, told) = verify(&[]);
    assert_eq!((code, &told["trusted"]), (3, &json!(false)), "{told:#}");
    let (subjects, said) = refusals(&told);
    assert_eq!(subjects, ["policy"], "{told:#}");
    assert!(said.contains("there is no policy.toml"), "{said}");
    assert!(told.to_string().contains("--policy"), "{told:#}");

    // Who asks for no more is told no more.
    let (code, told) = verify(&["--integrity"]);
    assert_eq!((code, &told["trusted"]), (0, &json!(false)), "{told:#}");
    assert_eq!(told["artifacts"][0]["trusted"], false);
    fs::write(files.of(".tar.zst"), "another").unwrap();
    let (code, told) = verify(&["--integrity"]);
    assert_eq!((code, refusals(&told).0), (3, vec!["artifact"]), "{told:#}");
    let mut both = files.command(&["verify", "--integrity", "--policy", "policy.toml"]);
    assert_eq!(Ended::from(both.arg(files.of(".tar.zst")).output().unwrap()).code, 2);
}

#[test]
fn no_policy_is_left_out_because_the_manifest_names_a_site_that_is_not_there() {
    let Some(built) = built() else { return };
    let files = built.copy();
    let project = files.path("project");
    copy_store(&built.project.path(), &project);
    fs::write(project.join("policy.toml"), "").unwrap();
    fs::write(project.join("overlays/campus/policy.toml"), "[signatures]\n").unwrap();
    fs::copy(files.path("allowed_signers"), project.join("allowed_signers")).unwrap();
    let verify = || {
        let mut command = files.command(&["verify", "--project", project.to_str().unwrap()]);
        Ended::from(command.arg(files.of(".tar.zst")).output().unwrap())
    };
    assert_eq!(verify().code, 3, "the site demands a signature");
    files.edit_json(".manifest.json", |it| it["site"] = json!("nowhere"));
    let ended = verify();
    assert_eq!(ended.code, 3, "{}", ended.stdout);
    let said = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("the site nowhere, which the project does not have"), "{said}");
}

/// Without a signature anybody can write anything into a bill; what keeps it from being compared is easily written, too.
#[test]
fn a_bill_that_is_demanded_counts_if_it_is_compared_or_signed() {
    let Some(built) = built() else { return };
    let falsify = |files: &Files<'_>| {
        files.edit_json(".spdx.json", |bill| {
            bill["creationInfo"]["creators"] = json!(["Tool: imgbuild-9.9.9"]);
            bill["packages"].as_array_mut().unwrap().retain(|it| it["name"] != "web");
        });
    };
    let unsigned = || {
        let files = built.signed();
        fs::remove_file(files.of(".sha256sums")).unwrap();
        fs::remove_file(files.of(".sha256sums.sig")).unwrap();
        files.write("policy.toml", "[documents]\nsbom = true\n");
        files.trusted();
        files
    };
    let files = unsigned();
    falsify(&files);
    let (code, told) = files.verify(&[]);
    let (subjects, said) = refusals(&told);
    assert_eq!((code, subjects), (3, vec!["policy"]), "{told:#}");
    assert!(said.contains("nobody vouches for these"), "{said}");

    // Where the layers are not, nothing is compared either.
    let files = unsigned();
    let elsewhere = files.path("another-store");
    let at = |files: &Files<'_>| {
        let mut command = files.command(&["verify", "--json", "--policy"]);
        command.arg(files.path("policy.toml")).arg(files.of(".tar.zst"));
        let ended = Ended::from(command.env("IMGBUILD_STORE", &elsewhere).output().unwrap());
        (ended.code, super::read(&ended.stdout))
    };
    let (code, told) = at(&files);
    assert_eq!((code, refusals(&told).0), (3, vec!["policy"]), "{told:#}");

    // Who may sign may have done so with an earlier version, and far from here.
    let files = built.signed();
    falsify(&files);
    files.sign_again("ci", "imgbuild", now());
    files.trusted();
    assert_eq!(at(&files).0, 0);
    // And nothing is demanded of what nobody demands.
    let files = unsigned();
    falsify(&files);
    files.write("policy.toml", "[documents]\n");
    files.trusted();
}
