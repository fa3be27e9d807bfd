//! Names and passwords that `podman login`, `skopeo login` or `docker login` has stored.
//!
//! Files, in the order of containers-auth.json(5), with Docker's variable `DOCKER_CONFIG` (docker(1)):
//! `$REGISTRY_AUTH_FILE`, and then no other; else `$XDG_RUNTIME_DIR/containers/auth.json`,
//! `$XDG_CONFIG_HOME/containers/auth.json` or `~/.config/containers/auth.json`, `$DOCKER_CONFIG/config.json` or
//! `~/.docker/config.json`. In each of them, `credHelpers` for the host goes before `auths`, and `credsStore`
//! after it. Keys of `auths` may go on with the beginning of a repository's name; the longest that fits counts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::fetch::{Credential, Credentials};

/// Most bytes of a file with credentials, and of what a helper says.
const MOST: u64 = 1 << 20;

/// How long a helper may take: some ask somebody for a password.
const HELPER_PATIENCE: Duration = Duration::from_secs(120);

/// Key of Docker's own registry (docker-credential-helpers; docker/cli).
const DOCKER: &str = "https://index.docker.io/v1/";

/// The files with credentials.
#[derive(Clone, Debug)]
pub struct CredentialFiles {
    files: Vec<PathBuf>,
    /// Whether there has to be one: somebody has named it.
    required: bool,
    /// Where helpers are, if not on the `PATH`.
    helpers: Option<PathBuf>,
}

impl CredentialFiles {
    /// This file, and no other. It has to be there.
    pub fn at(path: &Path) -> Self {
        Self { files: vec![path.to_owned()], required: true, helpers: None }
    }

    /// With the helpers of this directory in the place of those on the `PATH`.
    pub fn with_helpers_in(self, directory: &Path) -> Self {
        Self { helpers: Some(directory.to_owned()), ..self }
    }

    /// Those that the environment names.
    pub fn from_environment() -> Self {
        Self::named_by(&|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// Those that `variable` names.
    fn named_by(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        if let Some(file) = variable("REGISTRY_AUTH_FILE") {
            return Self::at(Path::new(&file));
        }
        let directory = |name: &str| variable(name).map(PathBuf::from);
        let below_home = |name: &str| directory("HOME").map(|home| home.join(name));
        let files = [
            directory("XDG_RUNTIME_DIR").map(|it| it.join("containers/auth.json")),
            directory("XDG_CONFIG_HOME")
                .or_else(|| below_home(".config"))
                .map(|it| it.join("containers/auth.json")),
            directory("DOCKER_CONFIG")
                .or_else(|| below_home(".docker"))
                .map(|it| it.join("config.json")),
        ];
        let files = files.into_iter().flatten().collect();
        Self { files, required: false, helpers: None }
    }

    /// None at all: who asks is nobody.
    pub fn none() -> Self {
        Self { files: Vec::new(), required: false, helpers: None }
    }
}

impl Credentials for CredentialFiles {
    fn find(&self, host: &str, name: &str) -> Result<Option<Credential>, String> {
        for file in &self.files {
            let Some(config) = read(file, self.required)? else { continue };
            let ask = |helper: &str, server: &str| ask(self.helpers.as_deref(), helper, server);
            let found = config
                .find(host, name, &ask)
                .map_err(|why| format!("`{}`: {why}", file.display()))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// Reads a file. Nothing if it is not there.
fn read(path: &Path, required: bool) -> Result<Option<Config>, String> {
    let why = |error: &dyn std::fmt::Display| format!("cannot read `{}`: {error}", path.display());
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if !required && error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(why(&error)),
    };
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).map_err(|error| why(&error))?;
    // What a reader of JSON says of a mistake may quote what is there.
    let config = serde_json::from_slice(&bytes).map_err(|error| {
        why(&format!("line {}, column {}: it is no file with logins", error.line(), error.column()))
    })?;
    Ok(Some(config))
}

/// What counts of a file.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

/// What is stored for a host.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// Asks the helper that is named first for the server that is named second.
type Ask<'a> = dyn Fn(&str, &str) -> Result<Option<Credential>, String> + 'a;

impl Config {
    /// What there is for a repository; `ask` asks a helper for a server.
    fn find(&self, host: &str, name: &str, ask: &Ask) -> Result<Option<Credential>, String> {
        let host = if host == "registry-1.docker.io" { "docker.io" } else { host };
        let server = if host == "docker.io" { DOCKER } else { host };
        if let Some(helper) = self.cred_helpers.get(host).or(self.cred_helpers.get(server)) {
            return ask(helper, server);
        }
        let mut key = format!("{host}/{name}");
        loop {
            if let Some(auth) = self.auth(&key)
                && let Some(credential) = auth.credential(&key)?
            {
                return Ok(Some(credential));
            }
            match key.rfind('/') {
                Some(slash) => key.truncate(slash),
                None => break,
            }
        }
        match &self.creds_store {
            Some(helper) if !helper.is_empty() => ask(helper, server),
            _ => Ok(None),
        }
    }

    /// What is stored under `key`. Docker writes keys of hosts also as URLs.
    fn auth(&self, key: &str) -> Option<&Auth> {
        let host = |text: &str| {
            let rest = text.strip_prefix("https://").or(text.strip_prefix("http://"))?;
            let host = rest.split('/').next()?;
            Some(if host == "index.docker.io" { "docker.io" } else { host }.to_owned())
        };
        let of_url = || self.auths.iter().find(|(text, _)| host(text).as_deref() == Some(key));
        self.auths.get(key).or_else(|| of_url().map(|(_, auth)| auth))
    }
}

impl Auth {
    fn credential(&self, key: &str) -> Result<Option<Credential>, String> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Credential::Identity(token.clone())));
        }
        if let Some(auth) = self.auth.as_ref().filter(|auth| !auth.is_empty()) {
            let bytes = STANDARD.decode(auth.trim()).ok();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            // Docker's own files may end in NUL (docker/cli, decodeAuth).
            let pair = text.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
            let (user, password) = pair.ok_or_else(|| {
                format!("`auth` of `{key}` is not a name and a password in base64")
            })?;
            let (user, password) = (user.to_owned(), password.to_owned());
            return Ok(Some(Credential::Password { user, password }));
        }
        Ok(match (&self.username, &self.password) {
            (Some(user), Some(password)) if !user.is_empty() => {
                Some(Credential::Password { user: user.clone(), password: password.clone() })
            }
            _ => None,
        })
    }
}

/// What a helper says.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks the program `docker-credential-NAME` for what it knows of `server` (docker-credential-helpers, "Development":
/// the server on standard input, JSON on standard output).
fn ask(directory: Option<&Path>, name: &str, server: &str) -> Result<Option<Credential>, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(format!("`{name}` is no name of a credential helper"));
    }
    let program = format!("docker-credential-{name}");
    let why = |error: &dyn std::fmt::Display| format!("cannot ask `{program}`: {error}");
    let file = directory.map_or_else(|| program.clone().into(), |it| it.join(&program));
    let mut child = Command::new(file)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| why(&error))?;
    let output = talk(&mut child, server);
    let _ = child.kill();
    let status = child.wait();
    let output = output.map_err(|error| why(&error))?;
    if !status.is_ok_and(|status| status.success()) {
        // What it is called in docker-credential-helpers, credentials/error.go.
        let text = String::from_utf8_lossy(&output);
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(why(&"it fails"));
    }
    let answer: Answer =
        serde_json::from_slice(&output).map_err(|_| why(&"its answer is not that of a helper"))?;
    Ok(Some(match answer.username.as_str() {
        "" => return Ok(None),
        "<token>" => Credential::Identity(answer.secret),
        _ => Credential::Password { user: answer.username, password: answer.secret },
    }))
}

/// Writes `server` to the helper and reads all it says, until it ends.
fn talk(child: &mut Child, server: &str) -> io::Result<Vec<u8>> {
    if let Some(mut input) = child.stdin.take() {
        input.write_all(server.as_bytes())?;
    }
    let Some(output) = child.stdout.take() else { return Ok(Vec::new()) };
    // Not joined: something that the helper has left behind may hold its output open for ever.
    let (sender, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = sender.send(output.take(MOST).read_to_end(&mut bytes).map(|_| bytes));
    });
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > HELPER_PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let left = HELPER_PATIENCE.saturating_sub(start.elapsed());
    said.recv_timeout(left).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(found: Result<Option<Credential>, String>) -> Option<(String, String)> {
        match found.unwrap() {
            Some(Credential::Password { user, password }) => Some((user, password)),
            Some(Credential::Identity(token)) => Some(("<token>".to_owned(), token)),
            None => None,
        }
    }

    #[test]
    fn files_are_read_in_the_order_of_podman() {
        let files = |pairs: &[(&str, &str)]| {
            let find = |name: &str| {
                pairs.iter().find(|(it, _)| *it == name).map(|(_, value)| OsString::from(value))
            };
            CredentialFiles::named_by(&find)
                .files
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(files(&[("REGISTRY_AUTH_FILE", "/f"), ("HOME", "/h")]), ["/f"]);
        assert_eq!(
            files(&[("XDG_RUNTIME_DIR", "/r"), ("HOME", "/h")]),
            [
                "/r/containers/auth.json",
                "/h/.config/containers/auth.json",
                "/h/.docker/config.json"
            ]
        );
        assert_eq!(
            files(&[("XDG_CONFIG_HOME", "/c"), ("DOCKER_CONFIG", "/d"), ("HOME", "/h")]),
            ["/c/containers/auth.json", "/d/config.json"]
        );
        assert!(files(&[]).is_empty());
    }

    #[test]
    fn the_longest_key_counts() {
        let auth = |text: &str| STANDARD.encode(text);
        let text = format!(
            r#"{{"auths":{{"r.example":{{"auth":"{}"}},"r.example/a":{{"auth":"{}"}},
                "https://s.example/v1/":{{"auth":"{}"}},"t.example":{{"identitytoken":"T"}},
                "u.example":{{}},"{DOCKER}":{{"username":"d","password":"e"}}}},"other":1}}"#,
            auth("jane:one"),
            auth("jane:two:three"),
            auth("s:t"),
        );
        let config: Config = serde_json::from_str(&text).unwrap();
        let cases = [
            ("r.example", "b", Some(("jane", "one"))),
            ("r.example", "ab", Some(("jane", "one"))),
            ("r.example", "a/b/c", Some(("jane", "two:three"))),
            ("r.example", "a", Some(("jane", "two:three"))),
            ("r.example:5000", "a", None),
            ("s.example", "a", Some(("s", "t"))),
            ("t.example", "a", Some(("<token>", "T"))),
            ("u.example", "a", None),
            ("registry-1.docker.io", "library/a", Some(("d", "e"))),
        ];
        for (host, name, expected) in cases {
            let found = password(config.find(host, name, &|_, _| Ok(None)));
            let expected = expected.map(|(user, word)| (user.to_owned(), word.to_owned()));
            assert_eq!(found, expected, "{host}/{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auth.json");
        for text in [
            r#"{"auths":{"r.example":{"auth":"geheim!"}}}"#,
            r#"{"auths":{"r.example":{"auth":7, "geheim":"geheim""#,
            r#"{"credHelpers":{"r.example":"../geheim/x"}}"#,
            r#"{"credsStore":"no-such-helper-anywhere"}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            let files = CredentialFiles::at(&path);
            let error = files.find("r.example", "a").unwrap_err();
            assert!(error.contains("auth.json"), "{error}");
            assert!(!error.contains("geheim") || text.contains("../geheim"), "{error}");
        }
        let files = CredentialFiles::at(&directory.path().join("none"));
        assert!(files.find("r.example", "a").is_err());
    }
}
