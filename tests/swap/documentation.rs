//! What docs/replace.md and docs/night.md tell an operator to type, typed.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::pve::Flavour;
use super::{Site, all, base};

/// The blocks of a page that are for a site.
fn blocks(page: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let page = fs::read_to_string(page).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match (line.trim(), &mut open) {
            ("```sh,site", None) => open = Some(String::new()),
            ("```", Some(_)) => blocks.extend(open.take()),
            (_, Some(block)) => block.extend([line, "\n"]),
            _ => {}
        }
    }
    blocks
}

/// Types a block into a shell that finds the program under test, with the token of the fake.
#[track_caller]
fn type_in(site: &Site, block: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_imgbuild"));
    let mut programs = vec![program.parent().unwrap().to_owned()];
    programs.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    // The page shows what a token looks like.
    let token = format!("export IMGBUILD_PROXMOX_TOKEN='{}'", site.pve.token());
    let block: String = block
        .lines()
        .map(|line| match line.trim().starts_with("export IMGBUILD_PROXMOX_TOKEN=") {
            true => format!("{token}\n"),
            false => format!("{line}\n"),
        })
        .collect();
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &block]).current_dir(site.project.path());
    shell.env("PATH", env::join_paths(programs).unwrap());
    shell.env("IMGBUILD_STORE", &site.project.store);
    shell.env("IMGBUILD_PROXMOX_TOKEN", site.pve.token());
    let output = shell.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{block}\n{told}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_operator_gets_through_the_pages_about_replacing() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    let first = site.build("1");
    fs::remove_dir_all(site.project.path().join("secrets")).unwrap();
    let [preflight, deploy, replace, back] =
        <[String; 4]>::try_from(blocks("docs/replace.md")).unwrap();

    // Nothing is deployed yet, and that is no obstacle.
    type_in(&site, &preflight);
    let printed = type_in(&site, &deploy);
    assert!(printed.contains("to be deployed"), "{printed}");
    assert_eq!(site.running(), all(&first));
    // What the page says the operator has changed.
    let second = site.build("2");
    let printed = type_in(&site, &replace);
    assert!(printed.contains("to be replaced"), "{printed}");
    assert_eq!(site.running(), all(&second));
    type_in(&site, &back);
    assert_eq!(site.running(), all(&first));

    let [look, back] = <[String; 2]>::try_from(blocks("docs/night.md")).unwrap();
    site.succeed(&["swap", "--yes"]);
    assert_eq!(site.running(), all(&second));
    let printed = type_in(&site, &look);
    assert!(printed.contains("app1") && printed.contains("ready"), "{printed}");
    type_in(&site, &back);
    assert_eq!(site.running(), all(&first));
    assert_eq!(site.pve.take_invalid(), [""; 0]);
}
