//! Two operators.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::{Counted, Fault, Session, World, campus, deploy, deployed, run};
use crate::debian::date::Moment;
use crate::swap::*;

fn lease() -> Lease {
    Lease {
        holder: Holder { who: "jane@admin1".to_owned(), process: 4711, token: "ab".repeat(16) },
        purpose: "swap galera".to_owned(),
        since: Moment::from_unix(1_800_000_000),
        expires: Moment::from_unix(1_800_000_120),
    }
}

#[test]
fn a_lease_is_read_as_it_was_written() {
    let text = Lease::describe(Some(&lease()), "Do not start this machine.");
    assert_eq!(Lease::read(&format!("{text}\n")), Ok(Some(lease())));
    let none = Lease::describe(None, &text);
    assert_eq!(Lease::read(&none), Ok(None));
    assert!(none.starts_with("Do not start this machine.\n"), "{none}");
    assert_eq!(Lease::read(""), Ok(None));
    let newer = text.replace("schema = 1", "schema = 3");
    assert_eq!(Lease::read(&newer), Err(LeaseError::Newer(3)));
    let damaged = text.replace("expires = ", "expires : ");
    assert!(matches!(Lease::read(&damaged), Err(LeaseError::Damaged(_))));
    let cut = text.replace("# end of lease", "");
    assert!(matches!(Lease::read(&cut), Err(LeaseError::Damaged(_))));
}

#[test]
fn the_second_operator_is_told_who_the_first_one_is_since_when_and_until_when() {
    let world = deployed();
    let refused = RefCell::new(None);
    let second = |world: &RefCell<World>| {
        let session = Session::new(world, BTreeMap::new());
        *refused.borrow_mut() = Some(run(&session, &campus(2), &deploy(), "joe@admin2").0);
    };
    let mut first = Session::new(&world, BTreeMap::from([((Counted::Calls, 40), Fault::Stall(0))]));
    first.intruder = Some(&second);
    let (outcome, _) = run(&first, &campus(2), &deploy(), "jane@admin1");
    assert_eq!(outcome, Outcome::Done);
    let Some(Outcome::Held(held)) = refused.take() else { panic!("{refused:?}") };
    assert_eq!((held.holder.who.as_str(), held.purpose.as_str()), ("jane@admin1", "swap"));
    assert!(held.since < held.expires);
    let text = held.to_string();
    assert!(text.starts_with("jane@admin1 (process "), "{text}");
    assert!(text.contains("): swap, since 2027-01-15T08:"), "{text}");
    assert!(world.borrow().lease().is_none(), "it was given back");
}

#[test]
fn who_was_held_up_for_too_long_finds_out_before_the_next_step() {
    for call in 10..80 {
        let world = deployed();
        let taken = Cell::new(false);
        let second = |world: &RefCell<World>| {
            let session = Session::new(world, BTreeMap::new());
            let (outcome, _) = run(&session, &campus(3), &deploy(), "joe@admin2");
            taken.set(outcome == Outcome::Done);
        };
        let mut first =
            Session::new(&world, BTreeMap::from([((Counted::Calls, call), Fault::Stall(200))]));
        first.intruder = Some(&second);
        let (outcome, _) = run(&first, &campus(2), &deploy(), "jane@admin1");
        assert!(taken.get(), "call {call}: a lease that has run out can be taken");
        let lost = matches!(outcome, Outcome::Interrupted(Interruption::LeaseLost(_)));
        assert!(lost, "call {call}: {outcome:?}");
        assert_eq!(world.borrow().violations, [""; 0], "call {call}");
        world.borrow_mut().advance(1000);
        let last = Session::new(&world, BTreeMap::new());
        let (outcome, _) = run(&last, &campus(3), &deploy(), "last");
        assert_eq!(outcome, Outcome::Done, "call {call}");
    }
}
