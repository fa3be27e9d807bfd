//! Who we are, and who may learn that.

use std::path::Path;

use imgbuild::fetch::{Credential, Credentials};
use imgbuild::registry::{Access, CredentialFiles, Error, Repository, Settings, Which};

use super::support::oci::{Fault, PASSWORD, Reply, Server, USER, auth_file};
use super::{file, repository, settings};
use imgbuild::digest::Digest;

/// Settings with this login for `host`.
fn login(directory: &Path, host: &str, password: &str) -> Settings {
    let path = directory.join("auth.json");
    std::fs::write(&path, auth_file(host, USER, password)).unwrap();
    Settings { credentials: CredentialFiles::at(&path), ..settings() }
}

fn tag() -> Which {
    Which::Tag("x".parse().unwrap())
}

/// A registry that wants a token of `realm`, and says what it was told.
fn wants_token(realm: &str) -> Server {
    let challenge = format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:a/b:pull\"");
    Server::start(Box::new(move |asked| {
        Some(match asked.header("authorization") {
            Some("Bearer t0ken") => Reply::new(200).body("{}"),
            _ => Reply::new(401).header("WWW-Authenticate", challenge.clone()),
        })
    }))
}

fn gives_token() -> Server {
    Server::start(Box::new(|_| Some(Reply::new(200).body(r#"{"token":"t0ken"}"#))))
}

#[test]
fn a_token_is_asked_for_once_with_the_login_and_its_purpose() {
    let realm = gives_token();
    let server = wants_token(&format!("http://{}/token", realm.host()));
    let directory = tempfile::tempdir().unwrap();
    let repository = repository(&server.host(), login(directory.path(), &server.host(), "p"));
    for _ in 0..3 {
        repository.manifest(&tag()).unwrap();
    }
    let asked = realm.take_seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/token?service=s&scope=repository:a/b:pull,push");
    assert_eq!(asked[0].header("authorization"), Some("Basic dGVzdGVyOnA="));
    // The registry itself never hears the password.
    let heard = server.take_seen();
    let heard: Vec<_> = heard.iter().filter_map(|asked| asked.header("authorization")).collect();
    assert_eq!(heard, ["Bearer t0ken"; 3]);
}

#[test]
fn a_token_to_delete_is_asked_for_where_a_registry_wants_one() {
    let realm = Server::start(Box::new(|asked| {
        let may_delete = asked.path.ends_with("scope=repository:a/b:pull,push,delete");
        let token = if may_delete { "delete" } else { "t0ken" };
        Some(Reply::new(200).body(format!(r#"{{"token":"{token}"}}"#)))
    }));
    let challenge = format!("Bearer realm=\"http://{}/token\"", realm.host());
    let server = Server::start(Box::new(move |asked| {
        let said = asked.header("authorization").unwrap_or_default();
        let (wanted, action, is_let_in) = match asked.method.as_str() {
            "DELETE" => (202, "delete", said == "Bearer delete"),
            _ => (404, "pull", !said.is_empty()),
        };
        let challenge = format!("{challenge},scope=\"repository:a/b:{action}\"");
        Some(match is_let_in {
            true => Reply::new(wanted),
            false => Reply::new(401).header("WWW-Authenticate", challenge),
        })
    }));
    let digest = Digest::of("x");
    assert!(repository(&server.host(), settings()).delete_manifest(&digest, &digest).unwrap());
    // Who only pulls asks for no such thing.
    let reader = repository(&server.host(), Settings { access: Access::Pull, ..settings() });
    let error = reader.delete_manifest(&digest, &digest).unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error}");
    let last = realm.take_seen().pop().unwrap();
    assert_eq!(last.path, "/token?scope=repository:a/b:pull");
}

#[test]
fn a_token_that_has_run_out_is_renewed() {
    let realm = gives_token();
    let server = wants_token(&format!("http://{}/token", realm.host()));
    let repository = repository(&server.host(), Settings { access: Access::Pull, ..settings() });
    repository.manifest(&tag()).unwrap();
    let again = format!("Bearer realm=\"http://{}/token\"", realm.host());
    let stale = Reply::new(401).header("WWW-Authenticate", again);
    server.fault("GET", "manifests", Fault::Instead(stale));
    repository.manifest(&tag()).unwrap();
    let asked = realm.take_seen();
    let paths: Vec<_> = asked.iter().map(|asked| asked.path.as_str()).collect();
    assert_eq!(
        paths,
        ["/token?service=s&scope=repository:a/b:pull", "/token?scope=repository:a/b:pull"]
    );
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn a_login_is_not_sent_where_it_could_be_read_or_is_redirected_to() {
    let directory = tempfile::tempdir().unwrap();
    let thief = gives_token();

    // A realm without TLS elsewhere.
    let server = wants_token("http://elsewhere.example/token");
    let repository_ = repository(&server.host(), login(directory.path(), &server.host(), PASSWORD));
    let error = repository_.manifest(&tag()).unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error}");
    assert!(error.to_string().contains("has no TLS"), "{error}");

    // A realm that redirects.
    let to = format!("http://{}/token", thief.host());
    let realm =
        Server::start(Box::new(move |_| Some(Reply::new(302).header("Location", to.clone()))));
    let server = wants_token(&format!("http://{}/token", realm.host()));
    let repository_ = repository(&server.host(), login(directory.path(), &server.host(), PASSWORD));
    let error = repository_.manifest(&tag()).unwrap_err();
    assert!(error.to_string().contains("answers with status 302"), "{error}");
    assert!(!error.to_string().contains(PASSWORD));

    // A registry that redirects blobs, and uploads, to another server.
    let other = Server::start(Box::new(|asked| {
        Some(Reply::new(if asked.method == "PUT" { 201 } else { 200 }).body("x"))
    }));
    let server = wants_password();
    let repository_ = repository(&server.host(), login(directory.path(), &server.host(), PASSWORD));
    repository_.manifest(&tag()).unwrap();
    let to = format!("http://{}/u", other.host());
    server.fault("HEAD", "blobs", Fault::Change(Box::new(|_| Reply::new(404))));
    let there = to.clone();
    let begun = move |_| Reply::new(202).header("Location", there.clone());
    server.fault("POST", "uploads", Fault::Change(Box::new(begun)));
    repository_.push_blob(&Digest::of("x"), 1, &file(b"x")).unwrap();
    let moved = move |_| Reply::new(307).header("Location", to.clone());
    server.fault("GET", "blobs", Fault::Change(Box::new(moved)));
    let (_directory, store) = super::store();
    let wanted = super::wanted(b"x");
    repository_.pull_blob(wanted, &store, &imgbuild::progress::Silent).unwrap();
    assert!(thief.take_seen().is_empty());
    let seen = other.take_seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|asked| asked.header("authorization").is_none()));
    let told = server.take_seen();
    assert!(told.iter().any(|asked| asked.header("authorization").is_some()));
}

/// Asks a registry that redirects to a server which wants a login, and names its own realm for it: for a manifest, a blob,
/// and whether there is a blob.
fn ask_who_redirects(repository: &Repository, server: &str) {
    let (_directory, store) = super::store();
    let blob = super::wanted(b"x");
    let asked = [
        repository.manifest(&tag()).map(drop),
        repository.pull_blob(blob, &store, &imgbuild::progress::Silent).map(drop),
        repository.has_blob(&Digest::of("x")).map(drop),
    ];
    for answer in asked {
        let error = answer.unwrap_err();
        let told = format!("redirects to http://{server}, which wants a login");
        assert!(error.to_string().contains(&told), "{error}");
    }
}

#[test]
fn a_login_is_not_sent_to_the_realm_of_a_server_that_a_registry_redirects_to() {
    let directory = tempfile::tempdir().unwrap();
    let (thief, honest) = (gives_token(), gives_token());
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", thief.host());
    let other = Server::start(Box::new(move |_| {
        Some(Reply::new(401).header("WWW-Authenticate", challenge.clone()))
    }));
    let honest = format!("Bearer realm=\"http://{}/token\"", honest.host());
    let wanted = [
        Some(("Basic realm=\"test\"".to_owned(), "Basic dGVzdGVyOm5vdCBhIHNlY3JldA==")),
        Some((honest, "Bearer t0ken")),
        None,
    ];
    for wanted in wanted {
        let to = format!("http://{}/elsewhere", other.host());
        let server = Server::start(Box::new(move |asked| {
            Some(match &wanted {
                Some((challenge, said)) if asked.header("authorization") != Some(said) => {
                    Reply::new(401).header("WWW-Authenticate", challenge.clone())
                }
                _ => Reply::new(307).header("Location", to.clone()),
            })
        }));
        let login = || login(directory.path(), &server.host(), PASSWORD);
        // Once before the registry has asked who we are, and then when it was told.
        let known = repository(&server.host(), login());
        for repository in [repository(&server.host(), login()), known.clone(), known] {
            ask_who_redirects(&repository, &other.host());
        }
    }
    assert!(thief.take_seen().is_empty());
    let seen = other.take_seen();
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|asked| asked.header("authorization").is_none()));
}

/// A registry that wants [`PASSWORD`].
fn wants_password() -> Server {
    Server::start(Box::new(|asked| {
        let expected = "Basic dGVzdGVyOm5vdCBhIHNlY3JldA==";
        Some(match asked.header("authorization") {
            Some(it) if it == expected => Reply::new(200).body("{}"),
            _ => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"test\""),
        })
    }))
}

#[test]
fn a_wrong_or_missing_login_is_refused_once_and_told_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = wants_password();
    let wrong = repository(&server.host(), login(directory.path(), &server.host(), "wr0ng"));
    let error = wrong.manifest(&tag()).unwrap_err();
    assert!(error.to_string().ends_with("the one that is known was refused"), "{error}");
    assert!(!format!("{error:?}").contains("wr0ng"));
    assert_eq!(server.take_seen().len(), 2, "asked without it, and once with it");
    let nobody = repository(&server.host(), settings());
    let error = nobody.manifest(&tag()).unwrap_err();
    assert!(error.to_string().ends_with("none is known for it"), "{error}");
}

#[test]
fn a_password_is_asked_of_a_helper() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("docker-credential-imgbuild-test");
    let script = "#!/bin/sh\nread -r server || :\n[ \"$1\" = get ] && [ \"$server\" = r.example:5000 ] ||\n  \
        { echo 'credentials not found in native keychain'; exit 1; }\n\
        echo '{\"ServerURL\":\"x\",\"Username\":\"jane\",\"Secret\":\"word\"}'\n";
    std::fs::write(directory.path().join("helper"), script).unwrap();
    // By another process: what a child of another thread has open for writing meanwhile cannot be executed.
    let install = std::process::Command::new("install")
        .args(["-m", "755"])
        .args([&directory.path().join("helper"), &program])
        .status();
    assert!(install.unwrap().success());
    let path = directory.path().join("auth.json");
    let text = r#"{"credHelpers":{"r.example:5000":"imgbuild-test"},"credsStore":"imgbuild-test"}"#;
    std::fs::write(&path, text).unwrap();
    let files = CredentialFiles::at(&path).with_helpers_in(directory.path());
    let found = files.find("r.example:5000", "a").unwrap();
    assert!(
        matches!(found, Some(Credential::Password { user, password }) if user == "jane" && password == "word")
    );
    assert!(files.find("s.example", "a").unwrap().is_none());
}
