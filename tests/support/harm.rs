//! What tests do to stores and processes, and how they look for damage.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use imgbuild::digest::Digest;

/// Makes `to` into a store with what `from` has. Blobs are linked: nobody writes to a blob.
pub fn copy_store(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let relative = entry.path().strip_prefix(from).unwrap();
        let target = to.join(relative);
        let top = relative.iter().next().unwrap_or_default();
        if top == "work" || top == "locks" {
            continue;
        }
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target).unwrap();
        } else if top == "blobs" {
            fs::hard_link(entry.path(), &target).unwrap();
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Checks that every blob of a store is what its name says, and returns how many there are.
#[track_caller]
pub fn check_blobs(store: &Path) -> usize {
    let files = walkdir::WalkDir::new(store.join("blobs")).into_iter().flatten();
    let files = files.filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| {
            let content = fs::read(entry.path()).unwrap();
            assert_eq!(*entry.file_name(), *Digest::of(content).to_string());
        })
        .count()
}

/// The processes that run the file `program`, or whose arguments name `mark`.
pub fn processes(program: &Path, mark: &str) -> Vec<String> {
    let wanted = fs::metadata(program).map(|file| (file.dev(), file.ino())).unwrap();
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .filter(|entry| *entry.file_name() != *own)
        .filter_map(|entry| {
            let path: PathBuf = entry.path();
            let runs =
                fs::metadata(path.join("exe")).is_ok_and(|file| (file.dev(), file.ino()) == wanted);
            let arguments = fs::read(path.join("cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            // A zombie has no arguments.
            (!arguments.is_empty() && (runs || arguments.contains(mark))).then_some(arguments)
        })
        .collect()
}
