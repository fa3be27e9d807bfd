//! Plans.

use std::time::{Duration, Instant};

use super::model::World;
use super::{campus, deploy, deployed, name};
use crate::definition::ImageName;
use crate::digest::Digest;
use crate::swap::*;

#[test]
fn a_plan_says_what_is_waited_for_and_ends_where_something_stands_in_the_way() {
    let world = deployed();
    let mut survey = world.borrow().survey();
    let goal = Goal::Deploy {
        scope: Scope { roles: vec![name("haproxy")], nodes: vec![] },
        canary: false,
        pause_after: None,
    };
    let list = |plan: Plan| -> Vec<String> {
        let line = |planned| match planned {
            Planned::Step(step) => format!("{}: {step}", step.node()),
            Planned::Ready { nodes, purpose } => {
                let nodes: Vec<_> = nodes.iter().map(|node| node.as_str()).collect();
                format!("{purpose:?}: {}", nodes.join(" "))
            }
            Planned::Wait(gate) => format!("{gate:?}"),
        };
        plan.steps.into_iter().map(line).collect()
    };
    let plan = plan(&campus(2), &goal, &survey, &Known::default());
    assert_eq!(plan.ending, Ending::Done);
    let once = |node: &str, other: &str, old: u32, new: u32, host: &str| {
        format!(
            "Others: {other}\n\
             {node}: bring imgbuild-haproxy-2.0.0.qcow2 to {host}\n\
             Others: {other}\n\
             {node}: create container {new} from imgbuild-haproxy-2.0.0.qcow2\n\
             Others: {other}\n\
             {node}: note that guest {old} makes room\n\
             Others: {other}\n\
             {node}: drain guest {old} and shut it down\n\
             {node}: start guest {new}\n\
             Proof: {node}\n\
             {node}: give the node to guest {new}\n\
             {node}: keep guest {old} as the old one"
        )
    };
    // While there is a choice, the others are asked to choose one.
    let first = once("lb2", "lb1", 4004, 4005, "pve2").replacen("Others: lb1\n", "", 2);
    let expected = [first, once("lb1", "lb2", 4003, 4006, "pve1"), "End: lb1 lb2".to_owned()];
    assert_eq!(list(plan).join("\n"), expected.join("\n"));
    survey.guests[4].lock = Some("backup".to_owned());
    let plan = super::super::plan(&campus(2), &goal, &survey, &Known::default());
    assert!(
        matches!(plan.ending, Ending::Refused(refusal) if matches!(*refusal, Refusal::Locked { .. }))
    );
}

#[test]
fn standings_name_what_differs() {
    let world = deployed();
    let mut survey = world.borrow().survey();
    let standings = |survey: &Survey, version| -> Vec<Standing> {
        let wanted = campus(version);
        differences(&wanted, survey).iter().map(|node| node.standing).collect()
    };
    assert_eq!(standings(&survey, 1), [Standing::UpToDate; 5]);
    assert_eq!(standings(&survey, 2), [Standing::Outdated; 5]);
    let of = |survey: &mut Survey, node: &str, change: fn(&mut Guest)| {
        let same = |guest: &&mut Guest| guest.record.node.as_str() == node;
        change(survey.guests.iter_mut().find(same).unwrap());
    };
    of(&mut survey, "lb1", |guest| guest.status = Status::Stopped);
    of(&mut survey, "lb2", |guest| guest.record.phase = Phase::New);
    of(&mut survey, "sql1", |guest| guest.record.phase = Phase::Old);
    of(&mut survey, "sql2", |guest| guest.record.node = name("gone"));
    let expected =
        [Standing::Stopped, Standing::Unfinished, Standing::Unfinished, Standing::Missing];
    assert_eq!(standings(&survey, 1)[..4], expected);
    let orphans = orphans(&campus(1), &survey).len();
    assert_eq!(orphans, 1);
}

/// A site of so many nodes, all of which run another image than is wanted.
fn large(nodes: u32) -> (Wanted, Survey) {
    let wanted = campus(2);
    let mut survey = deployed().borrow().survey();
    let (role, model) = (wanted.role_named("galera").unwrap(), survey.guests[0].clone());
    survey.guests.clear();
    let mut roles = Vec::new();
    let mut list = Vec::new();
    for number in 1..=nodes {
        let role = Role {
            name: name(&format!("role{}", number % 20)),
            order: number % 20,
            image: Digest::of("new"),
            ..role.clone()
        };
        let node = Node {
            name: name(&format!("node{number}")),
            role: role.name.clone(),
            host: model.host.clone(),
            number,
        };
        let mut guest = model.clone();
        guest.id = GuestId(5000 + number);
        (guest.record.node, guest.record.role) = (node.name.clone(), role.name.clone());
        (guest.status, guest.record.phase) = (Status::Running, Phase::Current);
        survey.guests.push(guest);
        roles.push(role);
        list.push(node);
    }
    let ids = GuestId(5000)..=GuestId(9000);
    (Wanted::new(wanted.site().clone(), roles, list, ids, wanted.grace()).unwrap(), survey)
}

#[test]
#[ignore = "measures"]
#[expect(clippy::print_stdout, reason = "the number is what one runs it for")]
fn how_long_a_plan_for_200_guests_takes() {
    let (wanted, survey) = large(200);
    let times: Vec<Duration> = (0..5)
        .map(|_| {
            let start = Instant::now();
            let plan = plan(&wanted, &deploy(), &survey, &Known::default());
            assert_eq!(plan.ending, Ending::Done);
            start.elapsed()
        })
        .collect();
    println!("a plan for 200 guests: {:?}", times.iter().min().unwrap());
}

#[test]
fn a_large_site_has_a_plan_for_every_node() {
    let (wanted, survey) = large(200);
    let plan = plan(&wanted, &deploy(), &survey, &Known::default());
    let commits = plan.steps.iter().filter(|planned| {
        matches!(planned, Planned::Step(Step::Write { change: Change::Commit, .. }))
    });
    assert_eq!((plan.ending, commits.count()), (Ending::Done, 200));
}

#[test]
fn a_role_is_deployed_after_those_that_it_needs() {
    let site = campus(1);
    let deployed = |needs: &[(&str, &str)]| {
        let roles = site.roles().cloned().map(|mut role| {
            let own = needs.iter().filter(|(who, _)| name::<ImageName>(who) == role.name);
            role.needs = own.map(|(_, whom)| name(whom)).collect();
            role
        });
        let nodes = site.nodes().to_vec();
        let (ids, grace) = (site.ids().clone(), site.grace());
        let site = Wanted::new(name("campus"), roles.collect(), nodes, ids, grace).unwrap();
        let survey = World::new(site.clone()).survey();
        let plan = super::super::plan(&site, &deploy(), &survey, &Known::default());
        let created = plan.steps.into_iter().filter_map(|step| match step {
            Planned::Step(Step::Create(new)) => Some(new.record.node.to_string()),
            _ => None,
        });
        created.collect::<Vec<_>>()
    };
    let (balancers, databases) = (["lb1", "lb2"], ["sql1", "sql2", "sql3"]);
    // Databases have the higher order.
    assert_eq!(deployed(&[])[..3], databases);
    assert_eq!(deployed(&[("haproxy", "galera")])[..3], databases);
    assert_eq!(deployed(&[("galera", "haproxy")])[..2], balancers);
    // What the site does not have, and what goes in circles, changes nothing.
    assert_eq!(deployed(&[("galera", "proxysql")])[..3], databases);
    assert_eq!(deployed(&[("galera", "haproxy"), ("haproxy", "galera")])[..3], databases);
}
