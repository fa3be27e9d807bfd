//! What `imgbuild init` and `imgbuild new` lay down builds at once, in both formats, and boots; text in any language
//! stays what it is. What docs/new.md says is done command for command.
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use support::base::base;
use support::lab::{succeed, unavailable};
use support::{page, programs};
use tempfile::TempDir;

/// The store that tests share which build the project's own images: most layers are there.
fn store() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot/store")
}

fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Two builds at once would only wait for each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn imgbuild(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
    command.args(arguments).current_dir(directory).env("IMGBUILD_STORE", store());
    succeed(&mut command)
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {}", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
}

/// The text of a file in a template.
fn text_in(template: &Path, path: &str) -> String {
    let plain = zstd::Decoder::new(File::open(template).unwrap()).unwrap();
    let mut archive = tar::Archive::new(plain);
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries
        .find(|entry| {
            let found = entry.path().unwrap();
            found.strip_prefix(".").unwrap_or(&found) == Path::new(path)
        })
        .unwrap_or_else(|| panic!("no {path} in {}", template.display()));
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_new_project_and_a_new_role_build_with_text_in_any_language() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if base().is_none() {
        return;
    }
    let directory = directory();
    let project = directory.path();
    let told: Value = programs::read(&imgbuild(project, &["init", "--json"]));
    assert_eq!(
        told["next"],
        serde_json::json!(["imgbuild lock", "imgbuild build hello", "imgbuild boot hello"])
    );
    assert!(told["files"].as_array().unwrap().len() > 50, "{told}");
    imgbuild(project, &["lint"]);
    imgbuild(project, &["lock"]);
    imgbuild(project, &["check"]);

    let greeting = "Nanga def — bienvenue à l’université, ñu dalal leen ŋaay";
    edit(
        &project.join("images/hello/image.toml"),
        "summary = \"hello: a page served by nginx, to start from\"",
        "# Page d’accueil : « dalal ak jàmm »\nsummary = \"Page d’accueil de l’université, xët bu njëkk\"",
    );
    edit(
        &project.join("images/hello/image.toml"),
        "doc = \"What the page says\"",
        "doc = \"Ce que dit la page — li xët wi wax\"",
    );
    edit(&project.join("overlays/example/overlay.toml"), "Hello from the site example", greeting);
    imgbuild(project, &["check"]);
    let paths = imgbuild(project, &["build", "hello", "--site", "example"]);
    let artifacts: Vec<&Path> = paths.lines().map(Path::new).collect();
    assert_eq!(artifacts.len(), 2, "{paths}");
    let page = text_in(&project.join(artifacts[0]), "usr/share/hello/index.html");
    assert!(page.contains(&format!("<h1>{greeting}</h1>")), "{page}");
    let manifest = format!(
        "{}.manifest.json",
        paths.lines().next().unwrap().strip_suffix(".tar.zst").unwrap()
    );
    let manifest: Value =
        serde_json::from_slice(&fs::read(project.join(manifest)).unwrap()).unwrap();
    assert_eq!(manifest["parameters"]["greeting"], greeting);

    let told = programs::read(&imgbuild(project, &["new", "web", "--json"]));
    assert_eq!((&told["verb"], &told["role"]), (&"new".into(), &"web".into()));
    imgbuild(project, &["lock", "web"]);
    imgbuild(project, &["check"]);
    assert_eq!(imgbuild(project, &["build", "web", "--format", "lxc"]).lines().count(), 1);
    let linted: Value =
        serde_json::from_str(&imgbuild(project, &["lint", "hello", "--site", "example", "--json"]))
            .unwrap();
    assert_eq!(linted["refused"], 0, "{linted}");
    assert_eq!(linted["images"][0]["built"], true);
}

#[test]
fn the_page_about_first_roles_says_what_happens() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reason) = unavailable() {
        eprintln!("skipped: {reason}");
        return;
    }
    let directory = directory();
    // The directory that a block changes into is where the next one starts.
    let place = directory.path().join("place");
    let mut here = directory.path().join("empty");
    fs::create_dir(&here).unwrap();
    let mut compared = 0;
    for (script, told) in page::commands("docs/new.md") {
        let whole = format!("{script}\npwd > '{}'", place.display());
        let printed = succeed(&mut page::shell(&here, &store(), &whole));
        here = fs::read_to_string(&place).unwrap().trim_end().into();
        eprintln!("{script}\n{printed}");
        // `boot` tells people only, and how long it took. What there is to lock changes with the days.
        let is_lock = script == "imgbuild lock web";
        if !printed.trim().is_empty() && !is_lock {
            assert_eq!(page::words(&printed), page::words(&told.unwrap_or_default()), "{script}");
            compared += 1;
        }
    }
    assert!(compared >= 5, "the page shows less than it did");
}
