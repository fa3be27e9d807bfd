//! What is scaffolded is a sound project, and is written whole or not at all.

use std::fs;
use std::path::Path;

use super::*;
use crate::inspect::lint::definitions;

fn units() -> Vec<PathBuf> {
    ["images", "overlays", "README.md", ".gitignore"].map(PathBuf::from).to_vec()
}

fn paths(directory: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(directory).min_depth(1).sort_by_file_name();
    let entries = entries.into_iter().map(|entry| entry.unwrap().into_path());
    entries.map(|path| path.strip_prefix(directory).unwrap().display().to_string()).collect()
}

#[test]
fn a_new_project_and_a_new_role_raise_no_doubt() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &units(), &project(), "").unwrap().keep();
    let loaded = Project::load(directory.path()).unwrap();
    assert!(definitions(&loaded).unwrap().findings.is_empty());
    crate::definition::site::prove(&loaded).unwrap();
    let (entries, base) = new_role(&loaded, &"web".parse().unwrap(), None).unwrap();
    assert_eq!(base.as_str(), "node");
    let unit = [PathBuf::from("images/web")];
    write(directory.path(), &unit, &entries, "").unwrap().keep();
    let loaded = Project::load(directory.path()).unwrap();
    assert!(definitions(&loaded).unwrap().findings.is_empty());
    assert_eq!(loaded.roles().count(), 2);
    assert!(matches!(new_role(&loaded, &"web".parse().unwrap(), None), Err(Error::Exists { .. })));
    // Without a firewall below it, a role does not wait for one.
    let on_base = new_role(&loaded, &"other".parse().unwrap(), Some("base")).unwrap().0;
    assert_eq!(on_base.len(), entries.len() - 1);
    for part in ["boot", "machine"] {
        let refused = new_role(&loaded, &"other".parse().unwrap(), Some(part));
        assert!(matches!(refused, Err(Error::NotABase { .. })), "{part}");
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("README.md"), "mine").unwrap();
    fs::write(directory.path().join("other"), "mine").unwrap();
    let refused = write(directory.path(), &units(), &project(), "");
    assert!(
        matches!(refused, Err(Error::InTheWay { paths, .. }) if paths == [Path::new("README.md")])
    );
    assert_eq!(paths(directory.path()), ["README.md", "other"]);

    fs::remove_file(directory.path().join("README.md")).unwrap();
    let deep = directory.path().join("a/b");
    drop(write(&deep, &units(), &project(), "").unwrap());
    assert_eq!(paths(directory.path()), ["other"], "what is not kept is taken back");

    // An entry that cannot be written takes all others back.
    let mut entries = project();
    entries.push(entries[0].clone());
    assert!(matches!(write(&deep, &units(), &entries, ""), Err(Error::Write { .. })));
    assert_eq!(paths(directory.path()), ["other"]);
    // One that cannot be moved does, too.
    let missing = [units(), vec!["missing".into()]].concat();
    assert!(matches!(write(&deep, &missing, &project(), ""), Err(Error::Write { .. })));
    assert_eq!(paths(directory.path()), ["other"]);
}
