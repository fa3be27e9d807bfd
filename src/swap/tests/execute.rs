//! Whole runs: the procedure of one node, gates that stay red, processes that stop.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::model::World;
use super::{
    Counted, EVERYWHERE, Fault, Session, campus, deploy, deployed, image, name, only, run,
};
use crate::swap::*;

fn session(world: &RefCell<World>) -> Session<'_> {
    Session::new(world, BTreeMap::new())
}

fn steps_of(world: &RefCell<World>, goal: &Goal) -> (Outcome, String) {
    let (outcome, steps) = run(&session(world), &campus(2), goal, "jane");
    (outcome, steps.join("\n"))
}

fn back() -> Goal {
    Goal::Rollback { scope: EVERYWHERE }
}

#[test]
fn a_node_with_state_is_replaced_in_this_order() {
    let world = deployed();
    let (outcome, steps) = steps_of(&world, &only("sql3"));
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(
        steps,
        "sql3: bring imgbuild-galera-2.0.0.qcow2 to pve3\n\
         sql3: create virtual machine 4005 from imgbuild-galera-2.0.0.qcow2\n\
         sql3: note that guest 4002 makes room\n\
         sql3: drain guest 4002 and shut it down\n\
         sql3: move the state volume mysql from 4002 to 4005\n\
         sql3: start guest 4005\n\
         sql3: give the node to guest 4005\n\
         sql3: keep guest 4002 as the old one"
    );
    // And back again, with the same guests.
    let (outcome, steps) = steps_of(&world, &back());
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(
        steps,
        "sql3: choose guest 4002 again\n\
         sql3: note that guest 4005 makes room\n\
         sql3: drain guest 4005 and shut it down\n\
         sql3: move the state volume mysql from 4005 to 4002\n\
         sql3: start guest 4002\n\
         sql3: give the node to guest 4002\n\
         sql3: keep guest 4005 as the old one"
    );
    assert_eq!(steps_of(&world, &back()), (Outcome::Done, String::new()), "once is enough");
}

#[test]
fn a_guest_that_never_becomes_ready_is_taken_back_and_says_why() {
    let world = deployed();
    world.borrow_mut().bad.insert((image(&name("galera"), 2), name("sql2")));
    let galera = Scope { roles: vec![name("galera")], nodes: Vec::new() };
    let goal = Goal::Deploy { scope: galera, canary: false, pause_after: None };
    let (outcome, steps) = steps_of(&world, &goal);
    let Outcome::RolledBack { node, reason, image: serves } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(node.as_str(), "sql2");
    assert_eq!(reason, "not ready after 90 s: the service does not start");
    assert_eq!(serves, Some(image(&name("galera"), 1)));
    let (_, undone) = steps.split_once("sql2: start guest 4006\n").expect("it was tried");
    assert_eq!(
        undone,
        "sql2: give guest 4006 up\n\
         sql2: stop guest 4006\n\
         sql2: move the state volume mysql from 4006 to 4001\n\
         sql2: start guest 4001\n\
         sql2: give the node back to guest 4001"
    );
    let world = world.borrow();
    let guests = world.guests_of(&name("sql2"));
    let failed = guests.iter().find(|(_, record, ..)| record.phase == Phase::Failed).unwrap();
    assert_eq!(failed.1.reason.as_deref(), Some(reason.as_str()));
    // The one before it keeps its new image, and the one after it was not touched.
    let serves = |node: &str| {
        let guests = world.guests_of(&name(node));
        guests.iter().find(|(.., running, _, _)| *running).map(|(_, record, ..)| record.image)
    };
    assert_eq!(serves("sql3"), Some(image(&name("galera"), 2)));
    assert_eq!(serves("sql1"), Some(image(&name("galera"), 1)));
}

#[test]
fn what_was_taken_back_is_not_taken_back_once_more() {
    let world = deployed();
    assert_eq!(steps_of(&world, &only("sql3")).0, Outcome::Done);
    world.borrow_mut().bad.insert((image(&name("galera"), 3), name("sql3")));
    let (outcome, _) = run(&session(&world), &campus(3), &only("sql3"), "jane");
    assert!(matches!(outcome, Outcome::RolledBack { .. }), "{outcome:?}");
    assert_eq!(steps_of(&world, &back()), (Outcome::Done, String::new()));
}

#[test]
fn only_nodes_with_the_last_image_go_back_unless_they_are_named() {
    let world = deployed();
    assert_eq!(steps_of(&world, &deploy()).0, Outcome::Done);
    let (outcome, _) = run(&session(&world), &campus(3), &only("sql3"), "jane");
    assert_eq!(outcome, Outcome::Done);
    let galera = Scope { roles: vec![name("galera")], nodes: Vec::new() };
    let (outcome, steps) = steps_of(&world, &Goal::Rollback { scope: galera.clone() });
    assert_eq!(outcome, Outcome::Done);
    assert!(steps.lines().all(|line| line.starts_with("sql3: ")), "{steps}");
    assert_eq!(steps_of(&world, &Goal::Rollback { scope: galera }).1, "");
    let (outcome, steps) = steps_of(&world, &Goal::Rollback { scope: Scope::node(&name("sql1")) });
    assert_eq!(outcome, Outcome::Done);
    assert!(steps.ends_with("sql1: keep guest 4009 as the old one"), "{steps}");
}

#[test]
fn a_guest_that_does_not_drain_is_left_alone() {
    let world = deployed();
    // After the new guest was made and the old one was told to make room.
    let slow = BTreeMap::from([((Counted::Changes, 2), Fault::Slow)]);
    let (outcome, steps) = run(&Session::new(&world, slow), &campus(2), &only("sql3"), "jane");
    let Outcome::RolledBack { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason, "it did not stop in the time that it has for draining");
    let stopped =
        steps.iter().filter(|step| step.contains("shut it down") || step.contains("stop"));
    assert_eq!(stopped.count(), 0, "{steps:?}");
}

/// Runs until so many steps are done, and stops then.
fn stopped(world: &RefCell<World>, goal: &Goal, steps: u32, stop: Stop) -> Outcome {
    let session = session(world);
    let done = Cell::new(0);
    let operator = Operator {
        platform: &session,
        clock: &session,
        wanted: &campus(2),
        holder: Holder::new("jane"),
        settings: Settings::default(),
        stop: &|| if done.get() >= steps { stop } else { Stop::No },
        admit: &admit_all,
        tell: &|event| {
            if let Event::Done(_) = event {
                done.set(done.get() + 1);
            }
        },
    };
    operator.run(goal, "swap")
}

#[test]
fn whoever_stops_politely_leaves_no_node_half_done() {
    let world = deployed();
    let outcome = stopped(&world, &deploy(), 4, Stop::BetweenNodes);
    assert_eq!(outcome, Outcome::Interrupted(Interruption::Signal));
    let survey = world.borrow().survey();
    let site = campus(2);
    let standings: Vec<_> = differences(&site, &survey).iter().map(|node| node.standing).collect();
    let old = Standing::Outdated;
    assert_eq!(standings, [old, Standing::UpToDate, old, old, old]);
}

#[test]
fn an_interruption_gives_the_lease_back_and_the_next_run_goes_on() {
    let world = deployed();
    let outcome = stopped(&world, &only("sql3"), 4, Stop::AtOnce);
    assert_eq!(outcome, Outcome::Interrupted(Interruption::Signal));
    assert!(world.borrow().lease().is_none());
    let (outcome, steps) = steps_of(&world, &only("lb2"));
    let Outcome::Refused(refusal) = outcome else { panic!("{outcome:?}") };
    assert_eq!(refusal.to_string(), "sql3 (guest 4005 on pve3) is in the middle of a swap");
    assert_eq!(steps, "");
    let (outcome, steps) = steps_of(&world, &only("sql3"));
    assert_eq!(outcome, Outcome::Done);
    assert!(steps.starts_with("sql3: move the state volume mysql from 4002 to 4005\n"), "{steps}");
}

#[test]
fn what_others_have_changed_before_the_lease_is_not_done_unless_it_is_admitted() {
    let world = deployed();
    // Somebody stops a guest between the survey that a plan was made of and the lease, and the first survey after that
    // does not arrive.
    let seen = world.borrow().survey();
    let stop = |world: &RefCell<World>| {
        world.borrow_mut().guests.get_mut(&GuestId(4001)).unwrap().running = false;
    };
    let faults = [(0, Fault::Stall(240)), (3, Fault::Lost)];
    let faults = faults.map(|(call, fault)| ((Counted::Calls, call), fault)).into();
    let mut session = Session::new(&world, faults);
    session.intruder = Some(&stop);
    let asked = Cell::new(0);
    let refusal = || Refusal::NotExpected {
        plan: "plan.json".to_owned(),
        site: "campus".to_owned(),
        lines: Vec::new(),
    };
    let operator = Operator {
        platform: &session,
        clock: &session,
        wanted: &campus(2),
        holder: Holder::new("jane"),
        settings: Settings::default(),
        stop: &|| Stop::No,
        admit: &|survey| {
            asked.set(asked.get() + 1);
            assert!(world.borrow().lease().is_some(), "others may still change the site");
            let runs = |survey: &Survey| {
                let mut guests = survey.guests.iter();
                guests.all(|guest| guest.status == Status::Running)
            };
            assert_eq!((runs(&seen), runs(survey)), (true, false));
            Err(Box::new(refusal()))
        },
        tell: &|event| assert!(!matches!(event, Event::Begun(_)), "{event:?}"),
    };
    let outcome = operator.run(&deploy(), "swap");
    assert_eq!(outcome, Outcome::Refused(Box::new(refusal())));
    assert_eq!(asked.get(), 1);
    assert!(world.borrow().lease().is_none(), "the next one would have to wait");
}

#[test]
fn a_canary_is_one_node_of_each_role_and_a_pause_is_where_it_was_asked_for() {
    let world = deployed();
    let canary = Goal::Deploy { scope: EVERYWHERE, canary: true, pause_after: None };
    let (outcome, steps) = steps_of(&world, &canary);
    assert_eq!(outcome, Outcome::Done);
    let committed = |steps: &str| {
        let given = steps.lines().filter(|line| line.contains(": give the node to"));
        given.filter_map(|line| line.split(':').next()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(committed(&steps), "lb2 sql3");
    assert_eq!(steps_of(&world, &canary), (Outcome::Done, String::new()));
    let pause = |after| Goal::Deploy { scope: EVERYWHERE, canary: false, pause_after: Some(after) };
    let (outcome, steps) = steps_of(&world, &pause(PauseAfter::Role(name("haproxy"))));
    assert_eq!((outcome, committed(&steps).as_str()), (Outcome::Paused, "lb1"));
    let (outcome, steps) = steps_of(&world, &pause(PauseAfter::Node(name("sql2"))));
    assert_eq!((outcome, committed(&steps).as_str()), (Outcome::Paused, "sql2"));
    let (outcome, steps) = steps_of(&world, &deploy());
    assert_eq!((outcome, committed(&steps).as_str()), (Outcome::Done, "sql1"));
}

#[test]
fn the_node_that_leads_goes_last_and_one_that_is_ill_first() {
    let world = deployed();
    world.borrow_mut().leaders.insert(name("sql3"));
    let (_, steps) = steps_of(&world, &deploy());
    let order: Vec<_> = steps.lines().filter(|line| line.contains("give the node to")).collect();
    let order: Vec<_> = order.iter().map(|line| &line[..4]).collect();
    assert_eq!(order, ["lb2:", "lb1:", "sql2", "sql1", "sql3"]);
    let world = deployed();
    world.borrow_mut().sick.insert(name("sql1"));
    let galera = Scope { roles: vec![name("galera")], nodes: Vec::new() };
    let goal = Goal::Deploy { scope: galera, canary: false, pause_after: None };
    let (outcome, steps) = steps_of(&world, &goal);
    assert!(matches!(outcome, Outcome::RolledBack { .. } | Outcome::Stuck(_)), "{outcome:?}");
    assert!(steps.starts_with("sql1: "), "{steps}");
}

#[test]
fn a_first_deployment_begins_with_what_the_others_need_and_keeps_its_state_when_it_fails() {
    let world = RefCell::new(World::new(campus(1)));
    world.borrow_mut().bad.insert((image(&name("galera"), 1), name("sql2")));
    let (outcome, steps) = run(&session(&world), &campus(1), &deploy(), "jane");
    assert!(matches!(outcome, Outcome::RolledBack { image: None, .. }), "{outcome:?}");
    assert_eq!(
        steps.join("\n"),
        "sql1: bring imgbuild-galera-1.0.0.qcow2 to pve1\n\
         sql1: create virtual machine 4000 from imgbuild-galera-1.0.0.qcow2 with empty state: mysql\n\
         sql1: start guest 4000\n\
         sql1: give the node to guest 4000\n\
         sql2: bring imgbuild-galera-1.0.0.qcow2 to pve2\n\
         sql2: create virtual machine 4001 from imgbuild-galera-1.0.0.qcow2 with empty state: mysql\n\
         sql2: start guest 4001\n\
         sql2: give guest 4001 up\n\
         sql2: stop guest 4001"
    );
    // Another image takes over the volume that the first one has left.
    let (outcome, steps) = run(&session(&world), &campus(2), &only("sql2"), "jane");
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(
        steps.join("\n"),
        "sql2: bring imgbuild-galera-2.0.0.qcow2 to pve2\n\
         sql2: create virtual machine 4002 from imgbuild-galera-2.0.0.qcow2\n\
         sql2: move the state volume mysql from 4001 to 4002\n\
         sql2: start guest 4002\n\
         sql2: give the node to guest 4002"
    );
}
