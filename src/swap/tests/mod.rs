//! Tests of the engine, on a cluster in memory.

mod decide;
mod execute;
mod lease;
mod model;
mod plan;
mod property;
mod record;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::model::{Counted, Fault, Session, World};
use super::*;
use crate::definition::{GuestKind, ImageName};
use crate::digest::Digest;

const EVERYWHERE: Scope = Scope { roles: Vec::new(), nodes: Vec::new() };

fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("a name")
}

fn image(role: &ImageName, version: u64) -> Digest {
    Digest::of(format!("{role} {version}"))
}

fn deploy() -> Goal {
    Goal::Deploy { scope: EVERYWHERE, canary: false, pause_after: None }
}

/// Two balancers without state and three database nodes with it, at a version.
fn campus(version: u64) -> Wanted {
    let role = |role: &str, order, kind, volumes: &[&str]| Role {
        name: name(role),
        order,
        kind,
        image: image(&name(role), version),
        artifact: format!("imgbuild-{role}-{version}.0.0.qcow2"),
        volumes: volumes.iter().map(|volume| (name(volume), 8)).collect(),
        patience: Duration::from_secs(60),
        ready_within: Duration::from_secs(90),
        arbitrator: None,
        needs: BTreeSet::new(),
    };
    let node = |node: &str, role: &str, number| Node {
        name: name(node),
        role: name(role),
        host: name(&format!("pve{number}")),
        number,
    };
    let roles = vec![
        role("haproxy", 10, GuestKind::Container, &[]),
        role("galera", 30, GuestKind::Machine, &["mysql"]),
    ];
    let nodes = vec![
        node("lb1", "haproxy", 1),
        node("lb2", "haproxy", 2),
        node("sql1", "galera", 1),
        node("sql2", "galera", 2),
        node("sql3", "galera", 3),
    ];
    let ids = GuestId(4000)..=GuestId(4099);
    Wanted::new(name("campus"), roles, nodes, ids, Duration::from_secs(7 * 86400)).expect("a site")
}

/// The cluster after a first deployment of [`campus`].
fn deployed() -> RefCell<World> {
    let world = RefCell::new(World::new(campus(1)));
    let (outcome, _) = run(&Session::new(&world, BTreeMap::new()), &campus(1), &deploy(), "first");
    assert_eq!(outcome, Outcome::Done);
    world.borrow_mut().want(campus(2));
    world
}

fn only(node: &str) -> Goal {
    Goal::Deploy { scope: Scope::node(&name(node)), canary: false, pause_after: None }
}

/// Runs a fresh process: how it ends, and the steps that it has done.
fn run(session: &Session, wanted: &Wanted, goal: &Goal, who: &str) -> (Outcome, Vec<String>) {
    let steps = RefCell::new(Vec::new());
    let operator = Operator {
        platform: session,
        clock: session,
        wanted,
        holder: Holder::new(who),
        settings: Settings::default(),
        stop: &|| Stop::No,
        admit: &admit_all,
        tell: &|event| {
            if let Event::Done(step) = event {
                steps.borrow_mut().push(format!("{}: {step}", step.node()));
            }
        },
    };
    let outcome = operator.run(goal, "swap");
    session.ended(who, &outcome);
    (outcome, steps.into_inner())
}
