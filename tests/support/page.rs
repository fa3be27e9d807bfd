//! Pages of the documentation whose commands are run.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The blocks of `page` for a shell, in order, each with what the page says that it prints.
pub fn commands(page: &str) -> Vec<(String, Option<String>)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let page = fs::read_to_string(page).unwrap();
    let block = |text: &str| text.split_once("\n```").unwrap().0.to_owned();
    page.split("\n```sh,lab\n")
        .skip(1)
        .map(|part| (block(part), part.split_once("\n```text\n").map(|(_, text)| block(text))))
        .collect()
}

/// Words without what differs from run to run: digests, moments, sizes, and who leads, which is a matter of seconds.
pub fn words(text: &str) -> Vec<String> {
    let differs = |word: &str| {
        let digits = |part: &str| part.len() >= 12 && part.bytes().all(|it| it.is_ascii_hexdigit());
        word.split(|letter: char| !letter.is_ascii_alphanumeric()).any(digits)
            || word.contains('T') && word.contains("Z:")
            || word.contains('.') && word.parse::<f64>().is_ok()
    };
    let word = |word: &str| if differs(word) { "#".to_owned() } else { word.to_owned() };
    // What an earlier run has built is told by its digest.
    let text = text.replace("not built yet", "0.0 0.0 KiB").replace(", leads", "");
    text.split_whitespace().map(word).collect()
}

/// A shell in `directory` that finds the program under test, with `store` as its store.
pub fn shell(directory: &Path, store: &Path, script: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_imgbuild"));
    let others = env::var_os("PATH").unwrap_or_default();
    let programs = program.parent().unwrap().to_owned();
    let path = env::join_paths([programs].into_iter().chain(env::split_paths(&others))).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-euc", script]).current_dir(directory);
    shell.env("IMGBUILD_STORE", store).env("PATH", path);
    for who in ["GIT_AUTHOR", "GIT_COMMITTER"] {
        shell.env(format!("{who}_NAME"), "x").env(format!("{who}_EMAIL"), "x@example.invalid");
    }
    shell
}
