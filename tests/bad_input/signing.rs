//! Keys that do not sign, policies that are none, and names that mean no artifact.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::refused;
use crate::support::archive::Archive;
use crate::support::package::Package;
use crate::support::project::Project;

/// A locked project with one role, and nothing built.
fn locked() -> (Archive, Project) {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = Project::small(&archive, r#"["web"]"#, "");
    project.succeed(&["lock"]);
    (archive, project)
}

/// A key of OpenSSH in the project; none if there is no ssh-keygen.
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn key(project: &Project, kind: &str, passphrase: &str) -> Option<()> {
    let mut make = Command::new("ssh-keygen");
    make.args(["-q", "-t", kind, "-N", passphrase, "-C", "somebody", "-f"]);
    let made = make.arg(project.path().join("key")).output();
    if !made.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: ssh-keygen makes no key: {made:?}");
        return None;
    }
    Some(())
}

#[test]
fn keys_that_do_not_sign() {
    let (_archive, project) = locked();
    let sign = ["sign", "app", "--key", "key"];
    refused("sign_no_key", &project, &sign);
    project.write("key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let path = project.path().join("key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    refused("sign_open_key", &project, &sign);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    refused("sign_other_form", &project, &sign);
    project.write("key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5\n");
    refused("sign_cut_key", &project, &sign);
    fs::remove_file(&path).unwrap();
    if key(&project, "ed25519", "").is_some() {
        project.write("certificate", &project.read("key.pub"));
        let more = ["--certificate", "certificate"];
        refused("sign_no_certificate", &project, &[&sign[..], &more].concat());
        refused("sign_not_built", &project, &sign);
        refused("sign_unknown_role", &project, &["sign", "ap", "--key", "key"]);
        refused("sign_no_artifact", &project, &["sign", "out/none.qcow2", "--key", "key"]);
    }
}

#[test]
fn policies_that_are_none() {
    let (_archive, project) = locked();
    for (name, text) in [
        ("policy_unknown_table", "[signature]\n"),
        ("policy_unknown_key", "[signatures]\nallowed-signers = \"x\"\n"),
        ("policy_no_signers", "[signatures]\n"),
        ("policy_path_that_leads_out", "[signatures]\nallowed_signers = \"../allowed_signers\"\n"),
        ("policy_word", "[sources]\nunpinned = \"never\"\n"),
        ("policy_no_days", "[age]\nmaximum_days = \"90\"\n"),
        ("policy_no_reason", "[[forbidden]]\npackage = \"telnetd\"\n"),
        ("policy_package", "[[forbidden]]\npackage = \"Telnetd\"\nreason = \"old\"\n"),
    ] {
        project.write("policy.toml", text);
        refused(name, &project, &["check"]);
    }
    project.write("policy.toml", "[signatures]\n");
    for (name, line) in [
        ("signers_no_key", "ci@campus.example\n"),
        ("signers_option", "ci@campus.example namespace=\"imgbuild\" ssh-ed25519 AAAA\n"),
        ("signers_time", "ci@campus.example valid-after=\"20261126\" ssh-ed25519 AAAA\n"),
        ("signers_cut_key", "ci@campus.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5\n"),
    ] {
        project.write("allowed_signers", &format!("# Who may sign\n{line}"));
        refused(name, &project, &["check"]);
    }
    project.write("allowed_signers", "# Nobody\n");
    project.succeed(&["check"]);
    project.write("policy.toml", "[signatures]\nrevoked = \"revoked_keys\"\n");
    refused("policy_no_revoked_keys", &project, &["check"]);
    project.write("revoked_keys", "# None any more\njob ssh-ed25519 AAAAC3NzaC1lZDI1NTE5\n");
    refused("revoked_keys_with_a_name", &project, &["check"]);
    project.write("policy.toml", "[signatures]\nrevoked = \"/etc/ssh/revoked_keys\"\n");
    refused("policy_revoked_keys_elsewhere", &project, &["check"]);
    project.write("policy.toml", "[signatures]\n");
    refused("verify_not_built", &project, &["verify", "app"]);
    refused("verify_digest", &project, &["verify", "56ca1d545e05"]);
}
