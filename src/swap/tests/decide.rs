//! What stands in the way: what is said of it, and that nothing is done.

use std::fmt::Write as _;

use miette::Diagnostic as _;

use super::{EVERYWHERE, campus, deploy, deployed, name, only};
use crate::definition::GuestKind;
use crate::swap::*;

/// What is decided when `change` has happened to the site.
fn refusal(goal: &Goal, wanted: &Wanted, change: impl FnOnce(&mut Survey)) -> String {
    let mut survey = deployed().borrow().survey();
    change(&mut survey);
    let ready = |node: &Node| (node.name.clone(), Health::Ready { leads: false });
    let known = Known(wanted.nodes().iter().map(ready).collect());
    match decide(wanted, goal, &survey, &known) {
        Decision::Refused(refusal) => {
            let help = refusal.help().map(|help| help.to_string()).expect("it says how to mend it");
            format!("{refusal}\n  {help}\n")
        }
        other => panic!("{other:?}"),
    }
}

fn guest<'a>(survey: &'a mut Survey, node: &str) -> &'a mut Guest {
    survey.guests.iter_mut().find(|guest| guest.record.node.as_str() == node).expect("a guest")
}

fn stranger(id: u32, called: &str, why: Strangeness) -> Stranger {
    let host = Some(name("pve1"));
    Stranger { id: GuestId(id), name: Some(called.to_owned()), host, busy: None, why }
}

/// [`campus`] with its nodes changed.
fn changed(change: impl Fn(&mut Role, &mut Node)) -> Wanted {
    let site = campus(2);
    let mut roles: Vec<Role> = site.roles().cloned().collect();
    let mut nodes = site.nodes().to_vec();
    for node in &mut nodes {
        let role = roles.iter_mut().find(|role| role.name == node.role).expect("a role");
        change(role, node);
    }
    Wanted::new(site.site().clone(), roles, nodes, site.ids().clone(), site.grace())
        .expect("a site")
}

#[test]
fn every_refusal_says_what_where_why_and_how_to_mend_it() {
    let sql3 = || only("sql3");
    let wanted = campus(2);
    let damaged = || RecordError::Damaged("missing field `node`".to_owned());
    let mut text = String::new();
    let mut add = |case: &str, refusal: String| writeln!(text, "{case}:\n{refusal}").unwrap();
    add("no quorum", refusal(&deploy(), &wanted, |survey| survey.quorate = false));
    add("unknown node", refusal(&only("sql4"), &wanted, |_| {}));
    add(
        "host away",
        refusal(&deploy(), &wanted, |survey| {
            survey.away.insert(name("pve3"));
        }),
    );
    add(
        "guest on a host that is away",
        refusal(&sql3(), &wanted, |survey| {
            survey.guests.retain(|guest| guest.record.node.as_str() != "sql3");
            survey.strangers.push(stranger(4003, "", Strangeness::Unseen(Some(name("sql3")))));
        }),
    );
    add(
        "unknown guest on a host that is away",
        refusal(&sql3(), &wanted, |survey| {
            survey.strangers.push(stranger(4003, "", Strangeness::Unseen(None)));
        }),
    );
    let roles = Scope { roles: vec![name("mail")], nodes: vec![] };
    add("unknown role", refusal(&Goal::Rollback { scope: roles }, &wanted, |_| {}));
    add(
        "damaged",
        refusal(&deploy(), &wanted, |survey| {
            survey.strangers.push(stranger(900, "sql3", Strangeness::Unreadable(damaged())));
        }),
    );
    add(
        "newer",
        refusal(&deploy(), &wanted, |survey| {
            let why = Strangeness::Unreadable(RecordError::Newer(2));
            survey.strangers.push(stranger(4042, "x", why));
        }),
    );
    add(
        "name taken",
        refusal(&sql3(), &wanted, |survey| {
            survey.strangers.push(stranger(900, "SQL3", Strangeness::NoRecord));
        }),
    );
    add(
        "locked",
        refusal(&sql3(), &wanted, |survey| {
            guest(survey, "sql3").lock = Some("backup".to_owned());
        }),
    );
    add("managed", refusal(&sql3(), &wanted, |survey| guest(survey, "sql3").managed = true));
    add(
        "host",
        refusal(&sql3(), &wanted, |survey| {
            guest(survey, "sql3").status = Status::Unknown;
        }),
    );
    add(
        "snapshot",
        refusal(&sql3(), &wanted, |survey| {
            let volume = guest(survey, "sql3").volumes.values_mut().next().unwrap();
            volume.snapshots.push("before-upgrade".to_owned());
        }),
    );
    add(
        "other host",
        refusal(&sql3(), &wanted, |survey| {
            guest(survey, "sql3").host = name("pve9");
        }),
    );
    let container = changed(|role, _| role.kind = GuestKind::Container);
    add("other kind", refusal(&sql3(), &container, |_| {}));
    let other = changed(|_, node| {
        if node.name.as_str() == "sql3" {
            node.role = name("haproxy");
        }
    });
    add("other role", refusal(&sql3(), &other, |_| {}));
    add(
        "volume missing",
        refusal(&sql3(), &wanted, |survey| guest(survey, "sql3").volumes.clear()),
    );
    add(
        "volume twice",
        refusal(&sql3(), &wanted, |survey| {
            let mut copy = guest(survey, "sql3").clone();
            (copy.id, copy.status) = (GuestId(4050), Status::Stopped);
            copy.record.phase = Phase::Old;
            survey.guests.push(copy);
        }),
    );
    add(
        "no id",
        refusal(&sql3(), &wanted, |survey| {
            let role = campus(2).role_named("galera").unwrap().artifact.clone();
            survey.artifacts.insert((name("pve3"), role), 0);
            let all = (4000..=4099).map(|id| stranger(id, "x", Strangeness::NoRecord));
            survey.strangers.extend(all);
        }),
    );
    add(
        "unfinished",
        refusal(&only("lb1"), &wanted, |survey| {
            guest(survey, "sql3").record.successor = Some(GuestId(4050));
        }),
    );
    add(
        "nothing before",
        refusal(&Goal::Rollback { scope: Scope::node(&name("lb1")) }, &wanted, |_| {}),
    );
    insta::assert_snapshot!(text);
}

#[test]
fn others_that_are_not_ready_keep_a_node_where_it_is() {
    let survey = deployed().borrow().survey();
    let wanted = campus(2);
    let ready = |node: &Node| (node.name.clone(), Health::Ready { leads: false });
    let mut known = Known(wanted.nodes().iter().map(ready).collect());
    known.0.insert(name("sql1"), Health::NotReady("wsrep_ready is OFF".to_owned()));
    let Decision::Await(Gate::Others { at, others }) =
        decide(&wanted, &only("sql3"), &survey, &known)
    else {
        panic!("not awaited");
    };
    let refusal = Refusal::OthersNotReady { at, others };
    assert_eq!(
        refusal.to_string(),
        "sql3 (on pve3) has to stay while sql1 (wsrep_ready is OFF) is not ready"
    );
    // Nor is it stopped if it was already told to make room: the others were ready then.
    let mut halfway = survey.clone();
    let mut new = guest(&mut halfway, "sql3").clone();
    (new.id, new.status, new.record.phase) = (GuestId(4050), Status::Stopped, Phase::New);
    new.record.image = wanted.role_named("galera").unwrap().image;
    new.record.generation += 1;
    new.volumes.clear();
    guest(&mut halfway, "sql3").record.successor = Some(new.id);
    halfway.guests.push(new);
    let decision = decide(&wanted, &only("sql3"), &halfway, &known);
    assert!(matches!(decision, Decision::Await(Gate::Others { .. })), "{decision:?}");
    // The balancers have nothing to do with it.
    assert!(matches!(decide(&wanted, &only("lb1"), &survey, &known), Decision::Do(_)));
    // Nor has the one that is ill itself.
    assert!(matches!(decide(&wanted, &only("sql1"), &survey, &known), Decision::Do(_)));
}

#[test]
fn a_backup_of_an_old_guest_does_not_keep_a_node_from_being_replaced() {
    let wanted = campus(2);
    let ready = |node: &Node| (node.name.clone(), Health::Ready { leads: false });
    let known = Known(wanted.nodes().iter().map(ready).collect());
    let mut survey = deployed().borrow().survey();
    let mut old = guest(&mut survey, "sql3").clone();
    (old.id, old.status, old.record.phase) = (GuestId(4050), Status::Stopped, Phase::Old);
    old.record.generation = 0;
    old.volumes.clear();
    (old.lock, old.busy) = (Some("backup".to_owned()), Some("vzdump".to_owned()));
    survey.guests.push(old);
    let decision = decide(&wanted, &only("sql3"), &survey, &known);
    assert!(matches!(decision, Decision::Do(Step::Upload { .. })), "{decision:?}");
    // To have the node again it must be left alone, though.
    let (before, current) = (GuestId(4050), guest(&mut survey, "sql3"));
    let image = current.record.image;
    current.record.replaces = Some(Replaced { guest: before, image });
    let back = Goal::Rollback { scope: Scope::node(&name("sql3")) };
    let decision = decide(&wanted, &back, &survey, &known);
    let waits = |gate: &Gate| matches!(gate, Gate::Idle { guest, .. } if *guest == before);
    assert!(matches!(&decision, Decision::Await(gate) if waits(gate)), "{decision:?}");
}

#[test]
fn a_prune_takes_what_is_old_stopped_and_empty_and_nothing_else() {
    let prune = Goal::Prune { scope: EVERYWHERE, artifacts: false };
    let wanted = campus(1);
    /// A name, what is different, and why the guest is kept.
    type Case = (&'static str, fn(&mut Guest), Option<&'static str>);
    let cases: [Case; 9] = [
        ("old", |_| {}, None),
        ("failed", |guest| guest.record.phase = Phase::Failed, None),
        (
            "young",
            |guest| guest.record.since = guest.record.since.after(DAY),
            Some("it is kept until"),
        ),
        ("running", |guest| guest.status = Status::Running, Some("it is not stopped")),
        (
            "state",
            |guest| {
                let volume = Volume { size_gib: 8, snapshots: vec![] };
                guest.volumes.insert(name("mysql"), volume);
            },
            Some("it has state volumes"),
        ),
        ("disk", |guest| guest.other_disks.push("scsi5".to_owned()), Some("it has disks that")),
        ("protected", |guest| guest.protected = true, Some("it is protected")),
        ("locked", |guest| guest.lock = Some("backup".to_owned()), Some("it is locked")),
        ("managed", |guest| guest.managed = true, Some("it is managed")),
    ];
    for (case, change, kept) in cases {
        let mut survey = deployed().borrow().survey();
        let mut old = guest(&mut survey, "sql3").clone();
        (old.id, old.status, old.record.phase) = (GuestId(4050), Status::Stopped, Phase::Old);
        old.record.generation = 0;
        old.volumes.clear();
        survey.now = survey.now.after(DAY * 7);
        change(&mut old);
        survey.guests.push(old);
        let reasons = remains(&wanted, &survey);
        let [(_, reason)] = &reasons[..] else { panic!("{case}: {reasons:?}") };
        match (kept, reason) {
            (Some(kept), Some(reason)) => assert!(reason.starts_with(kept), "{case}: {reason}"),
            (None, None) => {}
            other => panic!("{case}: {other:?}"),
        }
        match decide(&wanted, &prune, &survey, &Known::default()) {
            Decision::Do(Step::Destroy { guest, .. }) => {
                assert_eq!((guest, kept), (GuestId(4050), None), "{case}");
            }
            Decision::Settled => assert!(kept.is_some(), "{case}"),
            other => panic!("{case}: {other:?}"),
        }
    }
}

const DAY: std::time::Duration = std::time::Duration::from_secs(86400);

#[test]
fn a_site_with_two_nodes_of_one_name_or_without_a_role_is_none() {
    let site = campus(1);
    let roles: Vec<Role> = site.roles().cloned().collect();
    let make = |nodes| {
        Wanted::new(site.site().clone(), roles.clone(), nodes, site.ids().clone(), site.grace())
    };
    let mut nodes = site.nodes().to_vec();
    nodes[1].name = name("LB1");
    assert_eq!(make(nodes.clone()).unwrap_err(), WantedError::Twice(name("LB1")));
    nodes[1].role = name("mail");
    nodes[1].name = name("lb9");
    assert!(matches!(make(nodes), Err(WantedError::NoRole { .. })));
}

#[test]
fn a_host_that_is_away_stops_only_what_may_lie_on_it() {
    let away = |survey: &mut Survey| {
        let lost: Vec<_> =
            survey.guests.iter().filter(|it| it.host.as_str() == "pve3").cloned().collect();
        survey.guests.retain(|guest| guest.host.as_str() != "pve3");
        survey.away.insert(name("pve3"));
        survey.strangers.extend(lost.into_iter().map(|guest| Stranger {
            host: Some(name("pve3")),
            ..stranger(guest.id.0, "", Strangeness::Unseen(Some(guest.record.node)))
        }));
    };
    let mut survey = deployed().borrow().survey();
    away(&mut survey);
    let wanted = campus(2);
    let standings: Vec<_> = differences(&wanted, &survey)
        .iter()
        .map(|one| (one.node.name.to_string(), one.standing))
        .filter(|(_, standing)| *standing == Standing::Unknown)
        .collect();
    assert_eq!(standings, [("sql3".to_owned(), Standing::Unknown)]);
    let planned = plan(&wanted, &only("lb1"), &survey, &Known::default());
    assert_eq!(planned.ending, Ending::Done);
    assert!(!planned.steps.is_empty());
    // One that votes with it is not taken down, unless the guest on that host answers all the same.
    let silent = |node: &Node| match node.name.as_str() {
        "sql3" => (node.name.clone(), Health::Silent("no route".to_owned())),
        _ => (node.name.clone(), Health::Ready { leads: false }),
    };
    let known = Known(wanted.nodes().iter().map(silent).collect());
    let decision = decide(&wanted, &only("sql2"), &survey, &known);
    assert!(matches!(decision, Decision::Await(Gate::Others { .. })), "{decision:?}");
    // What is seen can still be pruned.
    let scope = Scope::default();
    assert_eq!(
        decide(&wanted, &Goal::Prune { scope, artifacts: true }, &survey, &known),
        Decision::Settled
    );
}

#[test]
fn an_artifact_goes_with_the_last_guest_that_was_made_from_it() {
    let wanted = campus(1);
    let everything = Goal::Prune { scope: EVERYWHERE, artifacts: true };
    let mut survey = deployed().borrow().survey();
    let mut old = guest(&mut survey, "sql3").clone();
    let host = old.host.clone();
    (old.id, old.status, old.record.phase) = (GuestId(4050), Status::Stopped, Phase::Old);
    old.record.generation = 0;
    old.record.artifact = "imgbuild-galera-old.tar.zst".to_owned();
    old.volumes.clear();
    survey.now = survey.now.after(DAY * 7);
    survey.artifacts.insert((host, old.record.artifact.clone()), 5 << 20);
    survey.guests.push(old);
    let step = |survey: &Survey, goal: &Goal| match decide(&wanted, goal, survey, &Known::default())
    {
        Decision::Do(step) => step.to_string(),
        other => format!("{other:?}"),
    };
    let discard = step(&survey, &everything);
    assert!(discard.starts_with("remove imgbuild-galera-old.tar.zst from "), "{discard}");
    assert!(discard.ends_with(", which frees 5 MiB"), "{discard}");
    let guests_only = Goal::Prune { scope: EVERYWHERE, artifacts: false };
    assert_eq!(step(&survey, &guests_only), "destroy guest 4050");
    // Another guest was made from it, too.
    let mut shared = survey.clone();
    guest(&mut shared, "sql2").record.artifact = "imgbuild-galera-old.tar.zst".to_owned();
    assert_eq!(step(&shared, &everything), "destroy guest 4050");
    // It is gone already.
    survey.artifacts.clear();
    assert_eq!(step(&survey, &everything), "destroy guest 4050");
}
