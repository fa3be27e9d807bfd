//! What is done to guests that lie in a lab, without any that run: a directory stands in for the control groups.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::definition::{ImageName, Site};
use crate::digest::Digest;
use crate::swap::{Guest, Holder, Origin, Phase, Strangeness};

struct Lab {
    directory: TempDir,
    local: Local,
}

fn place(directory: &TempDir) -> Place {
    Place::new(Some(directory.path()), &"campus".parse().unwrap()).unwrap()
}

/// A lab without a host.
fn local(directory: &TempDir) -> Local {
    let place = place(directory);
    let site = Site {
        name: "campus".parse().unwrap(),
        summary: String::new(),
        nodes: Vec::new(),
        names: Vec::new(),
        operators: Vec::new(),
        hosting: None,
        guests: BTreeMap::new(),
    };
    Local {
        settings: Settings::new(site.name.clone()),
        site: LabSite {
            site,
            plans: BTreeMap::new(),
            chosen: BTreeMap::new(),
            directory: PathBuf::new(),
        },
        host: None,
        groups: Groups(directory.path().join("groups")),
        secrets: LabSecrets::default(),
        leases: Leases::new(place.clone()),
        place,
    }
}

impl Lab {
    fn new() -> Self {
        // Not below a directory that others may not pass.
        let directory = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
        let local = local(&directory);
        for name in ["guests", "artifacts", "operators"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory, local }
    }

    fn guest(&self, id: u32, volumes: &[&str]) -> Directory {
        let guest = Directory::new(&self.local.place, GuestId(id));
        fs::create_dir_all(guest.path.join("volumes")).unwrap();
        guest.write_record(&record(volumes)).unwrap();
        for name in volumes {
            let volume = guest.path.join("volumes").join(name);
            fs::create_dir_all(volume.join("data")).unwrap();
            fs::write(volume.join("path"), format!("/var/lib/{name}")).unwrap();
            fs::write(volume.join("data/file"), format!("{id}")).unwrap();
        }
        guest
    }

    fn run(&self, what: &str, id: u32, populated: bool) {
        let group = self.directory.path().join(format!("groups/lxc.{what}.{id}"));
        fs::create_dir_all(&group).unwrap();
        let text = format!("populated {}\n", u8::from(populated));
        fs::write(group.join("cgroup.events"), text).unwrap();
    }

    fn seen(&self, id: u32) -> Revision {
        let survey = self.local.survey().unwrap();
        survey.guests.into_iter().find(|guest| guest.id.0 == id).unwrap().revision
    }

    fn volumes(&self) -> Vec<(u32, Vec<String>)> {
        let guests = self.local.survey().unwrap().guests.into_iter();
        let names = |guest: Guest| guest.volumes.into_keys().map(|it| it.to_string()).collect();
        guests.map(|guest| (guest.id.0, names(guest))).collect()
    }
}

fn record(volumes: &[&str]) -> Record {
    Record {
        site: "campus".parse().unwrap(),
        node: "cache1".parse().unwrap(),
        role: "cache".parse::<ImageName>().unwrap(),
        image: Digest::of("image"),
        artifact: "imgbuild-cache-1.0.0-0.tar.zst".to_owned(),
        generation: 1,
        phase: Phase::Current,
        since: Moment::from_unix(0),
        origin: Origin::Swap,
        volumes: volumes.iter().map(|name| name.parse().unwrap()).collect(),
        replaces: None,
        successor: None,
        reason: None,
    }
}

fn conflict(result: Result<(), CallError>) {
    assert!(matches!(result, Err(CallError::Conflict(_))), "{result:?}");
}

#[test]
fn a_volume_is_in_one_guest_before_and_in_the_other_afterwards() {
    let lab = Lab::new();
    lab.guest(100, &["data", "logs"]);
    lab.guest(101, &[]);
    let (from, to) = (lab.seen(100), lab.seen(101));
    let name: VolumeName = "data".parse().unwrap();
    let give = |from: &Revision, to: &Revision| {
        lab.local.move_volume(&name, (GuestId(100), from), (GuestId(101), to), &mut Patient)
    };
    let inode = fs::metadata(lab.directory.path().join("guests/100/volumes/data/data/file"));
    give(&from, &to).unwrap();
    let own = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(lab.volumes(), [(100, own(&["logs"])), (101, own(&["data"]))]);
    // The same files, and with them the place where guests have them.
    let moved = lab.directory.path().join("guests/101/volumes/data/data/file");
    assert_eq!(fs::metadata(&moved).unwrap().ino(), inode.unwrap().ino());
    let mounts = Directory::new(&lab.local.place, GuestId(101)).mounts().unwrap();
    assert_eq!(mounts, [(moved.parent().unwrap().to_owned(), "/var/lib/data".to_owned())]);
    // Both have changed, so whoever has seen them before cannot change them any more.
    conflict(give(&from, &to));
    conflict(give(&lab.seen(100), &lab.seen(101)));
}

#[test]
fn a_volume_is_not_put_over_another_one() {
    let lab = Lab::new();
    lab.guest(100, &["data"]);
    let other = lab.guest(101, &["data"]);
    let file = other.path.join("volumes/data/data/file");
    fs::remove_file(&file).unwrap();
    let (from, to) = (lab.seen(100), lab.seen(101));
    let name = "data".parse().unwrap();
    conflict(lab.local.move_volume(
        &name,
        (GuestId(100), &from),
        (GuestId(101), &to),
        &mut Patient,
    ));
    assert!(!file.exists() && lab.directory.path().join("guests/100/volumes/data").exists());
}

#[test]
fn nothing_is_moved_from_or_to_a_guest_that_runs() {
    let name = "data".parse().unwrap();
    for (running, what) in [(100, "payload"), (101, "payload"), (100, "monitor"), (101, "monitor")]
    {
        let lab = Lab::new();
        lab.guest(100, &["data"]);
        lab.guest(101, &[]);
        let (from, to) = (lab.seen(100), lab.seen(101));
        let give = || {
            let (from, to) = ((GuestId(100), &from), (GuestId(101), &to));
            lab.local.move_volume(&name, from, to, &mut Patient)
        };
        lab.run(what, running, true);
        conflict(give());
        lab.run(what, running, false);
        give().unwrap();
    }
}

#[test]
fn a_record_is_written_only_over_the_one_that_was_seen() {
    let lab = Lab::new();
    lab.guest(100, &[]);
    let seen = lab.seen(100);
    let older = Record { phase: Phase::Old, ..record(&[]) };
    lab.local.write_record(GuestId(100), &seen, &older).unwrap();
    conflict(lab.local.write_record(GuestId(100), &seen, &record(&[])));
    assert_eq!(lab.local.survey().unwrap().guests[0].record, older);
    conflict(lab.local.write_record(GuestId(105), &seen, &older));
    // What people have added stays.
    let path = lab.directory.path().join("guests/100/record");
    fs::write(&path, format!("Do not touch!\n{}", fs::read_to_string(&path).unwrap())).unwrap();
    lab.local.write_record(GuestId(100), &lab.seen(100), &record(&[])).unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with("Do not touch!\n"));
}

#[test]
fn a_guest_is_destroyed_only_without_state_and_stopped() {
    let lab = Lab::new();
    lab.guest(100, &["data"]);
    lab.guest(101, &[]);
    let destroy = |id| lab.local.destroy(GuestId(id), &lab.seen(id), &mut Patient);
    assert!(matches!(destroy(100), Err(CallError::Failed(text)) if text.contains("volume data")));
    lab.run("payload", 101, true);
    conflict(destroy(101));
    lab.run("payload", 101, false);
    destroy(101).unwrap();
    assert_eq!(lab.volumes(), [(100, vec!["data".to_owned()])]);
    assert_eq!(fs::read_dir(lab.directory.path().join("guests")).unwrap().count(), 1);
}

#[test]
fn what_an_interrupted_run_has_left_is_no_guest_and_goes() {
    let lab = Lab::new();
    lab.guest(100, &[]);
    let guests = lab.directory.path().join("guests");
    for name in [".new-101-7", ".gone-102-7"] {
        fs::create_dir_all(guests.join(name).join("rootfs")).unwrap();
    }
    assert_eq!(lab.volumes().len(), 1);
    lab.local.tidy().unwrap();
    assert_eq!(fs::read_dir(guests).unwrap().count(), 1);
}

#[test]
fn a_record_that_cannot_be_read_makes_a_stranger() {
    let lab = Lab::new();
    let guest = lab.guest(100, &[]);
    let path = guest.path.join("record");
    let text = fs::read_to_string(&path).unwrap();
    for (text, unreadable) in
        [(String::new(), false), (text.replace("generation = 1", "generation = \"\""), true)]
    {
        fs::write(&path, text).unwrap();
        let survey = lab.local.survey().unwrap();
        let [stranger] = &survey.strangers[..] else { panic!("{survey:?}") };
        assert_eq!(matches!(stranger.why, Strangeness::Unreadable(_)), unreadable);
    }
}

fn lease(token: &str) -> Lease {
    let now = Moment::from_unix(1_000);
    let holder = Holder { who: "jane@here".to_owned(), process: 1, token: token.to_owned() };
    let expires = now.after(Duration::from_secs(60));
    Lease { holder, purpose: "swap".to_owned(), since: now, expires }
}

#[test]
fn a_lease_is_taken_only_over_the_one_that_was_seen() {
    let lab = Lab::new();
    let other = local(&lab.directory);
    let (none, free) = lab.local.read_lease().unwrap();
    assert_eq!(none, None);
    lab.local.write_lease(Some(&lease("a1")), &free).unwrap();
    conflict(other.write_lease(Some(&lease("b2")), &free));
    let (found, held) = other.read_lease().unwrap();
    assert_eq!(found, Some(lease("a1")));
    lab.local.write_lease(None, &held).unwrap();
    assert_eq!(other.read_lease().unwrap().0, None);
    assert_eq!(fs::read_dir(lab.directory.path().join("operators")).unwrap().count(), 0);
}

#[test]
fn the_lease_of_one_who_has_died_is_nobodys() {
    let lab = Lab::new();
    let other = local(&lab.directory);
    let (_, free) = other.read_lease().unwrap();
    other.write_lease(Some(&lease("a1")), &free).unwrap();
    // The file of a process that is killed stays, but is not locked any more.
    let token = lab.directory.path().join("operators/a1");
    drop(other);
    fs::write(&token, "").unwrap();
    let (found, held) = lab.local.read_lease().unwrap();
    assert_eq!(found, None);
    lab.local.write_lease(Some(&lease("b2")), &held).unwrap();
    lab.local.tidy().unwrap();
    assert!(!token.exists() && lab.local.read_lease().unwrap().0.is_some());
}

#[test]
fn a_token_never_becomes_a_path_that_leads_out() {
    let lab = Lab::new();
    let (_, free) = lab.local.read_lease().unwrap();
    for token in ["", "../guests/1", "x"] {
        let result = lab.local.write_lease(Some(&lease(token)), &free);
        assert!(matches!(result, Err(CallError::Failed(_))), "{token}: {result:?}");
    }
}
