//! `flake.nix`, evaluated by Nix with something that stands in for nixpkgs: docs/nix.md says what that proves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use regex::Regex;
use tempfile::TempDir;
use walkdir::WalkDir;

use crate::recorder::Recorder;
use crate::{has, read, root};

/// What the flake needs of the project.
const PARTS: [&str; 8] =
    ["flake.nix", "Cargo.toml", "Cargo.lock", "imgbuild.lock", "images", "overlays", "docs", "src"];

/// A copy of the flake, its stand-in for nixpkgs, and a store of Nix, all of them thrown away.
struct Flake {
    directory: TempDir,
}

impl Flake {
    /// Nothing if there is no Nix.
    fn new() -> Option<Self> {
        if !has("nix-instantiate") {
            return None;
        }
        let flake = Self { directory: tempfile::tempdir().unwrap() };
        for directory in ["imgbuild", "nixpkgs", "home"] {
            fs::create_dir(flake.path(directory)).unwrap();
        }
        fs::write(flake.path("nixpkgs/flake.nix"), read("tests/distribution/nixpkgs.nix")).unwrap();
        let status = Command::new("cp")
            .arg("-r")
            .args(PARTS.map(|part| root().join(part)))
            .arg(flake.path("imgbuild"))
            .status()
            .unwrap();
        assert!(status.success());
        Some(flake)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Nix with these arguments, without network, and without a trace elsewhere.
    fn nix(&self, arguments: &[&str]) -> Output {
        let settings = "experimental-features = nix-command flakes\nsubstituters =\nsandbox = false\nbuild-users-group =";
        Command::new("nix")
            .args(arguments)
            .args(["--offline", "--no-write-lock-file", "--override-input"])
            .args(["nixpkgs", &format!("path:{}", self.path("nixpkgs").display())])
            .env("NIX_CONFIG", settings)
            .env("NIX_STORE_DIR", self.path("nix/store"))
            .env("NIX_STATE_DIR", self.path("nix/var"))
            .env("NIX_LOCALSTATE_DIR", self.path("nix/var"))
            .env("NIX_LOG_DIR", self.path("nix/log"))
            .env("NIX_CONF_DIR", self.path("nix/etc"))
            .env("HOME", self.path("home"))
            .env_remove("NIX_REMOTE")
            .output()
            .unwrap()
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.nix(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nix {arguments:?}:\n{errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The address of the flake, with `attribute` of it.
    fn at(&self, attribute: &str) -> String {
        format!("path:{}#{attribute}", self.path("imgbuild").display())
    }
}

#[test]
fn the_flake_has_what_it_promises() {
    let Some(flake) = Flake::new() else { return };
    let address = flake.at("");
    let address = address.trim_end_matches('#');
    flake.succeed(&["flake", "check", "--no-build", address]);
    let names = "builtins.mapAttrs (_: builtins.attrNames)";
    for (output, wanted) in [
        ("packages", r#"{"x86_64-linux":["default"]}"#),
        ("apps", r#"{"x86_64-linux":["default"]}"#),
        ("devShells", r#"{"x86_64-linux":["default"]}"#),
        ("checks", r#"{"x86_64-linux":["package","project"]}"#),
    ] {
        let found = flake.succeed(&["eval", "--json", &flake.at(output), "--apply", names]);
        assert_eq!(found.trim_end(), wanted, "{output}");
    }
    let program = flake.succeed(&["eval", "--raw", &flake.at("apps.x86_64-linux.default.program")]);
    assert!(program.ends_with("/bin/imgbuild"), "{program}");
    let version =
        flake.succeed(&["eval", "--raw", &flake.at("packages.x86_64-linux.default.version")]);
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}

/// Runs a script that Nix has made, with a directory before the `PATH`.
fn bash(script: &str, programs: &Path, directory: &Path) -> Output {
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("/bin/bash");
    shell.args(["-euc", script]).current_dir(directory);
    shell.env("PATH", format!("{}:{path}", programs.display()));
    shell.env("TMPDIR", directory).env("out", directory.join("result")).output().unwrap()
}

#[test]
fn the_check_of_the_project_passes() {
    let Some(flake) = Flake::new() else { return };
    let script = flake.succeed(&["eval", "--raw", &flake.at("checks.x86_64-linux.project.script")]);
    let programs = Path::new(env!("CARGO_BIN_EXE_imgbuild")).parent().unwrap();
    let output = bash(&script, programs, &flake.path("home"));
    assert!(output.status.success(), "{output:?}");
    assert!(flake.path("home/result").exists());
}

/// The flake of a project that uses this one: the example of the documentation.
#[test]
fn the_flake_of_a_project_builds_its_images() {
    let page = read("docs/nix.md");
    let (_, rest) = page.split_once("```nix\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let Some(flake) = Flake::new() else { return };
    let input = Regex::new(r#"imgbuild\.url = "[^"]+""#).unwrap();
    assert!(input.is_match(example), "{example}");
    let ours = flake.path("imgbuild");
    let address = format!("imgbuild.url = \"path:{}\"", ours.display());
    fs::create_dir(flake.path("campus")).unwrap();
    fs::write(flake.path("campus/flake.nix"), input.replace(example, address).as_ref()).unwrap();
    let eval = |attribute: &str| {
        let address = format!("path:{}#{attribute}", flake.path("campus").display());
        // It has no nixpkgs of its own; that of the flake is the one that is replaced.
        let nixpkgs = format!("path:{}", flake.path("nixpkgs").display());
        flake.succeed(&[
            "eval",
            "--raw",
            &address,
            "--override-input",
            "imgbuild/nixpkgs",
            &nixpkgs,
        ])
    };
    let script = eval("packages.x86_64-linux.default.text");
    let recorder = Recorder::new(&[("imgbuild", "")]);
    let output = bash(&script, &recorder.programs(), &flake.path("home"));
    assert!(output.status.success(), "{script}\n{output:?}");
    let words = recorder.taken_down().remove(0);
    let parsed = imgbuild::cli::command().try_get_matches_from(&words);
    assert!(parsed.is_ok(), "{words:?}\n{}", parsed.unwrap_err());
    assert_eq!(words[1], "build");
    assert!(eval("checks.x86_64-linux.default.script").contains("imgbuild check --project"));
}

/// The package is compiled from these files, and from no others.
#[test]
fn what_is_compiled_in_is_part_of_the_package() {
    let flake = read("flake.nix");
    let include =
        Regex::new(r#"include_(?:str|bytes)!\((?:concat!\()?"((?:\.\./)+)([^"]+)""#).unwrap();
    let mut found = 0;
    for entry in WalkDir::new(root().join("src")) {
        let path = entry.unwrap().into_path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for include in include.captures_iter(&text) {
            let mut place = path.parent().unwrap();
            for _ in 0..include[1].len() / 3 {
                place = place.parent().unwrap();
            }
            if place.starts_with(root().join("src")) {
                continue;
            }
            let target = format!("./{}", include[2].trim_end_matches('/'));
            assert!(flake.contains(&target), "{}: {target} is not in the package", path.display());
            found += 1;
        }
    }
    assert!(found > 1, "only {found} files were found");
}
