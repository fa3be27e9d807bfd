//! Signatures that imgbuild makes and OpenSSH checks, and the other way round.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::support::project::Ended;
use super::{Built, Files, NAME, POLICY, ago, built, keygen, now, run};

/// An agent with some keys.
struct Agent {
    process: Child,
    socket: std::path::PathBuf,
}

impl Agent {
    fn new(built: &Built, directory: &Path, keys: &[&str]) -> Self {
        let socket = directory.join("agent");
        let mut agent = Command::new("ssh-agent");
        agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null());
        let process = agent.spawn().unwrap();
        while !socket.exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let this = Self { process, socket };
        for key in keys {
            let mut add = Command::new("ssh-add");
            run(add.arg("-q").arg(built.key(key)).env("SSH_AUTH_SOCK", &this.socket));
        }
        this
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes a certificate of `authority` for a key, beside it.
fn certify(built: &Built, key: &str, names: &str, more: &[&str]) {
    let mut sign = keygen(&["-q", "-I", "a pipeline", "-n", names, "-s"]);
    run(sign.arg(built.key("authority")).args(more).arg(built.key(&format!("{key}.pub"))));
}

/// A copy of the files in which `key` may sign; or, if that is an authority, whoever it has certified.
fn allowing<'a>(built: &'a Built, key: &str) -> Files<'a> {
    let files = built.copy();
    let option = if key == "authority" { "cert-authority " } else { "" };
    files.write("allowed_signers", &format!("*@campus.example {option}{}", built.public(key)));
    files
}

#[test]
fn what_imgbuild_signs_openssh_and_coreutils_check() {
    let Some(built) = built() else { return };
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::new(built, directory.path(), &["rsa", "other"]);
    certify(built, "ecdsa384", NAME, &["-V", "-1h:+1h"]);
    let path = |name: &str| built.key(name).to_str().unwrap().to_owned();
    let certificate = path("ecdsa384-cert.pub");
    for (key, more, allowed) in [
        ("ci", None, "ci"),
        ("ecdsa", None, "ecdsa"),
        ("ci.pub", None, "ci"),
        ("rsa", None, "rsa"),
        ("other.pub", None, "other"),
        ("ecdsa384", Some(&certificate), "authority"),
        ("ecdsa384-cert.pub", None, "authority"),
    ] {
        let files = allowing(built, allowed);
        let mut sign = files.command(&["sign", "--key", &path(key)]);
        sign.arg(files.of(".tar.zst")).env("SSH_AUTH_SOCK", &agent.socket);
        if let Some(certificate) = more {
            sign.env("IMGBUILD_SIGNING_CERTIFICATE", certificate);
        }
        let ended = Ended::from(sign.output().unwrap());
        assert_eq!(ended.code, 0, "{key}: {}", ended.stderr);
        let signature = files.of(".sha256sums.sig");
        assert_eq!(ended.stdout, format!("{}\n", signature.display()));
        assert!(files.checked_by_others(), "{key}");
        let told = files.trusted();
        let name = if allowed == "authority" { NAME } else { "*@campus.example" };
        assert_eq!(told["signer"], name, "{key}");
        assert!(!told["checks"].to_string().contains("unknown"), "{told:#}");

        // The bytes of whatever is signed are what is checked.
        fs::write(files.of(".spdx.json"), "{}").unwrap();
        assert!(!files.checked_by_others());
    }
}

#[test]
fn what_openssh_signs_imgbuild_verifies() {
    let Some(built) = built() else { return };
    certify(built, "rsa", NAME, &["-V", "-1h:+1h"]);
    for (key, allowed) in [
        ("ci", "ci"),
        ("ecdsa", "ecdsa"),
        ("ecdsa384", "ecdsa384"),
        ("rsa", "rsa"),
        ("rsa-cert.pub", "authority"),
    ] {
        let files = allowing(built, "ci");
        assert_eq!(files.sign(&["--key", built.key("ci").to_str().unwrap()]).code, 0);
        let allowing = allowing(built, allowed);
        fs::copy(allowing.path("allowed_signers"), files.path("allowed_signers")).unwrap();
        files.sign_again(key, "imgbuild", now());
        assert!(files.checked_by_others(), "{key}");
        files.trusted();
    }
}

/// The verbs that write one document each write the same.
#[test]
fn what_is_signed_is_what_the_verbs_for_documents_write() {
    let Some(built) = built() else { return };
    let files = built.signed();
    for (ending, verb) in [
        (".spdx.json", &["sbom"][..]),
        (".cyclonedx.json", &["sbom", "--format", "cyclonedx"]),
        (".provenance.json", &["provenance"]),
    ] {
        let mut command = files.command(verb);
        let output = run(command.arg(files.of(".tar.zst")));
        assert_eq!(output.stdout, fs::read(files.of(ending)).unwrap(), "{ending}");
    }
}

#[test]
fn certificates_say_who_signs_and_when() {
    let Some(built) = built() else { return };
    for (names, more, says) in [
        ("ci@other.example", &["-V", "-1h:+1h"][..], "for ci@other.example, and not for"),
        (NAME, &["-h", "-V", "-1h:+1h"], "one of a host"),
        (NAME, &["-O", "force-command=true", "-V", "-1h:+1h"], "`force-command`"),
        (NAME, &["-V", "-2h:-1h"], "valid until"),
        (NAME, &["-V", "+1h:+2h"], "valid from"),
    ] {
        let files = allowing(built, "authority");
        assert_eq!(files.sign(&["--key", built.key("ci").to_str().unwrap()]).code, 0);
        certify(built, "other", names, more);
        files.sign_again("other-cert.pub", "imgbuild", now());
        let (code, told) = files.verify(&[]);
        assert_eq!(code, 3, "{says}");
        assert!(told.to_string().contains(says), "{says}: {told:#}");
        // And nobody signs with what nobody would trust.
        let ended = files.sign(&["--key", built.key("other-cert.pub").to_str().unwrap()]);
        let is_of_no_use = ended.stderr.contains("does not do");
        assert_eq!(is_of_no_use, !says.contains("other.example"), "{says}: {}", ended.stderr);
    }
    // A key signs under its own name, and not under that of an authority or of a certificate.
    let files = built.copy();
    files.write("allowed_signers", &format!("{NAME} cert-authority {}", built.public("ci")));
    assert_eq!(files.sign(&["--key", built.key("ci").to_str().unwrap()]).code, 0);
    assert_eq!(files.verify(&[]).0, 3);
    certify(built, "other", NAME, &["-V", "-1h:+1h"]);
    files.write("allowed_signers", &format!("{NAME} {}", built.public("other")));
    files.sign_again("other-cert.pub", "imgbuild", now());
    assert_eq!(files.verify(&[]).0, 3);
    assert!(!files.checked_by_others());
}

/// A job's key that is found months later signs "within that hour": its certificate says nothing against it, and the line
/// is that of the authority.
#[test]
fn a_key_that_is_revoked_signs_nothing_whatever_time_it_says() {
    let Some(built) = built() else { return };
    let files = allowing(built, "authority");
    assert_eq!(files.sign(&["--key", built.key("ci").to_str().unwrap()]).code, 0);
    let job = files.path("job");
    let name = job.to_str().unwrap();
    run(keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "job", "-f"]).arg(&job));
    certify(built, name, NAME, &["-V", "-2h:-1h"]);
    let within = ago(90 * 60);
    files.sign_again(&format!("{name}-cert.pub"), "imgbuild", within);
    let policy = POLICY.replace("[signatures]\n", "[signatures]\nrevoked = \"revoked_keys\"\n");
    files.write("policy.toml", &policy);
    let clock: String = within.to_string().chars().filter(|it| !"-:T".contains(*it)).collect();
    // With the file, as ssh-keygen(1) has it under `-Y verify`.
    let allowed_by_openssh = || {
        let mut verify = keygen(&["-Y", "verify", "-I", NAME, "-n", "imgbuild", "-f"]);
        verify.arg(files.path("allowed_signers")).arg("-s").arg(files.of(".sha256sums.sig"));
        verify.arg("-r").arg(files.path("revoked_keys")).arg(format!("-Overify-time={clock}"));
        let list = fs::File::open(files.of(".sha256sums")).unwrap();
        verify.stdin(Stdio::from(list)).output().unwrap().status.success()
    };
    files.write("revoked_keys", &format!("# of others\n\n{}", built.public("ecdsa")));
    assert!(allowed_by_openssh());
    files.trusted();
    let read = |name: String| fs::read_to_string(name).unwrap();
    for (listed, says) in [
        (read(format!("{name}.pub")), "the key ED25519"),
        (read(format!("{name}-cert.pub")), "the key ED25519"),
        (built.public("authority"), "the authority ED25519"),
    ] {
        files.write("revoked_keys", &format!("# found on a runner\n{listed}"));
        assert!(!allowed_by_openssh(), "{listed}");
        let (code, told) = files.verify(&[]);
        assert_eq!(code, 3, "{told:#}");
        let said = told.to_string();
        assert!(said.contains("revoked_keys:2: ") && said.contains(says), "{told:#}");
    }

    // And without a certificate.
    let files = built.signed();
    files.write("policy.toml", &policy);
    files.write("revoked_keys", &built.public("other"));
    files.trusted();
    files.write("revoked_keys", &built.public("ci"));
    assert_eq!(files.verify(&[]).0, 3);
}

#[test]
fn who_has_a_public_half_is_told_to_add_the_private_one() {
    let Some(built) = built() else { return };
    let files = built.copy();
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::new(built, directory.path(), &[]);
    certify(built, "rsa", NAME, &["-V", "-1h:+1h"]);
    let private = files.path("elsewhere");
    for ending in [".pub", "-cert.pub"] {
        let public = files.path(&format!("elsewhere{ending}"));
        fs::copy(built.key(&format!("rsa{ending}")), &public).unwrap();
        let sign = |socket: Option<&Path>| {
            let mut sign = files.command(&["sign", "--key", public.to_str().unwrap()]);
            sign.arg(files.of(".tar.zst"));
            sign.envs(socket.map(|socket| ("SSH_AUTH_SOCK", socket)));
            let ended = Ended::from(sign.output().unwrap());
            assert_eq!(ended.code, 1, "{}", ended.stderr);
            ended.stderr
        };
        let add = format!("ssh-add {}`", private.display());
        let said = sign(None);
        assert!(said.contains(&format!("`eval $(ssh-agent) && {add}")), "{said}");
        // Another agent would not have what this one has.
        let said = sign(Some(&agent.socket));
        assert!(said.contains(&format!("`{add}")) && !said.contains("eval"), "{said}");
    }
}

#[test]
fn variables_that_are_empty_name_no_key_and_no_certificate() {
    let Some(built) = built() else { return };
    let files = built.copy();
    let sign = |variable: &str, more: &[&str]| {
        let mut sign = files.command(&["sign"]);
        sign.arg(files.of(".tar.zst")).args(more).env(variable, "");
        Ended::from(sign.output().unwrap())
    };
    let key = built.key("ci");
    let ended = sign("IMGBUILD_SIGNING_CERTIFICATE", &["--key", key.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let ended = sign("IMGBUILD_SIGNING_KEY", &[]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("not provided"), "{}", ended.stderr);
}

#[test]
fn provenance_leaves_out_no_overlay_that_the_site_extends() {
    let Some(built) = built() else { return };
    let files = built.signed();
    let provenance = fs::read_to_string(files.of(".provenance.json")).unwrap();
    for site in ["campus", "region"] {
        let name = format!("\"overlays/{site}/overlay.toml\"");
        assert!(provenance.contains(&name), "{name}: {provenance}");
    }
    assert!(!provenance.contains("overlays/elsewhere"), "{provenance}");
}
