//! Repositories besides the root image's, as a user meets them: flat ones with a certificate at a URL,
//! and ones that cannot be reached.

#[path = "support/mod.rs"]
mod support;

use support::archive::Archive;
use support::base::base;
use support::package::Package;
use support::project::Project;

/// The seed of the vendor's key.
const VENDOR: u8 = 7;

/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn a_role_is_built_from_a_flat_repository() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &[]);
    let sql = Package::new("sql", "3.0")
        .field("Depends", "dash")
        .file("usr/share/sql/version", "3.0\n")
        .script("postinst", "echo configured > /usr/share/sql/state");
    // It also has a newer `dash`, which is not on the list.
    archive.publish_flat("vendor", &[sql, Package::new("dash", "99")], VENDOR);
    let vendor = archive.flat("vendor", r#"["sql*"]"#, VENDOR);
    let project =
        Project::on_base(base, &archive, &format!("{vendor}[packages]\ninstall = [\"sql\"]\n"));
    project.succeed(&["lock"]);
    let lock = project.read("imgbuild.lock");
    let keyring = lock.lines().find(|line| line.starts_with("keyring = ")).unwrap_or_default();
    assert_eq!(keyring.len(), "keyring = \"\"".len() + 64, "{lock}");
    assert!(lock.contains(r#"repository = "vendor", path = "sql_3.0_amd64.deb""#), "{lock}");
    assert!(
        !lock.contains(r#"version = "99""#),
        "a package that is not allowed was taken:\n{lock}"
    );
    project.succeed(&["check"]);
    let built = project.succeed(&["build", "app"]);
    assert!(built.contains("imgbuild-app-1.0.0-"), "{built}");
    // Nothing of it is asked for again.
    let seen = archive.server.seen().len();
    project.succeed(&["lock"]);
    project.succeed(&["build", "app"]);
    assert_eq!(archive.server.seen().len(), seen);
}

/// A project with the role `app`, which needs the archive alone, and the role `sql`, whose repository
/// nobody reaches.
fn out_of_reach(archive: &Archive) -> Project {
    let project = Project::small(archive, r#"["web"]"#, "");
    let vendor = archive.flat("vendor", r#"["sql"]"#, VENDOR);
    let vendor = vendor.replace(&archive.server.url(""), NOWHERE);
    project.write(
        "images/sql/image.toml",
        &format!(
            "summary = \"A database\"\nversion = \"1.0.0\"\nextends = \"app\"\nrole = true\n{vendor}\
             [packages]\ninstall = [\"sql\"]\n"
        ),
    );
    project
}

#[test]
fn a_repository_out_of_reach_keeps_no_other_role_from_being_locked() {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = out_of_reach(&archive);
    let ended = project.run(&["lock"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    for part in [
        &format!("{NOWHERE}/vendor/key.asc"),
        "Connection refused",
        "put it beside the definition",
        "`keyring = \"keys/vendor.asc\"`",
    ] {
        assert!(ended.stderr.contains(part), "{part} is not in\n{}", ended.stderr);
    }
    let lock = project.read("imgbuild.lock");
    assert!(lock.contains("[image.app]") && !lock.contains("[image.sql]"), "{lock}");

    // With the certificate at hand it is the repository itself that is out of reach.
    let definition = project.read("images/sql/image.toml");
    let keyring = format!("{{ url = \"{NOWHERE}/vendor/key.asc\" }}");
    assert!(definition.contains(&keyring), "{definition}");
    project.write("images/sql/keys/vendor.asc", &Archive::keyring());
    let here = definition.replace(&keyring, "\"keys/vendor.asc\"");
    let ours = support::signer::Signer::new(1).fingerprint();
    let theirs = support::signer::Signer::new(VENDOR).fingerprint();
    project.write("images/sql/image.toml", &here.replace(&theirs, &ours));
    let ended = project.run(&["lock", "sql"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    for part in
        [&format!("{NOWHERE}/vendor/InRelease"), "Connection refused", "`mirrors`", "file:///"]
    {
        assert!(ended.stderr.contains(part), "{part} is not in\n{}", ended.stderr);
    }

    // The other role is not affected.
    project.succeed(&["lock", "app"]);
    project.succeed(&["lock", "app", "--update"]);
    project.succeed(&["check"]);
    project.succeed(&["explain", "app"]);
    let output = project.command(&["check"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = format!(
        "not locked: sql; run `imgbuild lock sql` on a machine that reaches {NOWHERE}/vendor"
    );
    assert!(said.contains(&expected), "{said}");
    let ended = project.run(&["build", "sql"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    for part in [
        &format!(
            "`sql` is not in the lock: its packages come from {NOWHERE}/vendor, which nobody has locked yet"
        ),
        "run `imgbuild lock sql` on a machine that reaches them",
        "`mirrors`",
    ] {
        assert!(ended.stderr.contains(part), "{part} is not in\n{}", ended.stderr);
    }
}

#[test]
fn a_copy_in_a_directory_counts_as_much_as_the_original() {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = out_of_reach(&archive);
    let sql = Package::new("sql", "3.0");
    archive.publish_flat("vendor", std::slice::from_ref(&sql), VENDOR);
    let copy = project.scratch().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in ["InRelease", "Packages.xz", "sql_3.0_amd64.deb"] {
        let content = archive.server.content(&format!("/vendor/{file}"));
        std::fs::write(copy.join(file), content).unwrap();
    }
    project
        .write("images/sql/keys/vendor.asc", &support::signer::Signer::new(VENDOR).certificate());
    let definition = project.read("images/sql/image.toml");
    let keyring = format!("keyring = {{ url = \"{NOWHERE}/vendor/key.asc\" }}");
    let mirrors =
        format!("keyring = \"keys/vendor.asc\"\nmirrors = [\"file://{}\"]", copy.display());
    project.write("images/sql/image.toml", &definition.replace(&keyring, &mirrors));
    project.succeed(&["lock"]);
    assert!(project.read("imgbuild.lock").contains(r#"path = "sql_3.0_amd64.deb""#));
}

#[test]
fn a_locked_role_is_not_lost_by_accident() {
    let mut archive = Archive::new(&[Package::new("web", "1.0")]);
    archive.publish_flat("vendor", &[Package::new("sql", "3.0")], VENDOR);
    let project = out_of_reach(&archive);
    let definition = project.read("images/sql/image.toml");
    project.write("images/sql/image.toml", &definition.replace(NOWHERE, &archive.server.url("")));
    project.succeed(&["lock"]);
    project.write("images/sql/image.toml", &definition);
    let lock = project.read("imgbuild.lock");
    // Nothing is new below it.
    let ended = project.run(&["lock", "--update"]);
    assert_eq!((ended.code, project.read("imgbuild.lock")), (1, lock.clone()), "{}", ended.stderr);
    // Something is.
    archive.add(&Package::new("web", "2.0"));
    archive.publish(&support::archive::Release::GOOD);
    let ended = project.run(&["lock", "--update"]);
    assert_eq!((ended.code, project.read("imgbuild.lock")), (1, lock), "{}", ended.stderr);
    assert!(ended.stderr.contains("`sql` would leave the lock"), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("{NOWHERE}/vendor/key.asc")), "{}", ended.stderr);
    // Whoever names roles has said which ones matter.
    let changes = project.succeed(&["lock", "app", "--update"]);
    assert_eq!(changes, "app: web 1.0 → 2.0\nsql: sql 3.0 (removed)\n");
    assert!(!project.read("imgbuild.lock").contains("[image.sql]"));
}
