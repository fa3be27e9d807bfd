//! The targets on seeds, whole and damaged.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// Calls a target. proptest tells the bytes that it panics on.
fn survives(target: &Target, strategy: impl Strategy<Value = Vec<u8>>, cases: u32) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let run = |bytes: Vec<u8>| {
        (target.run)(&bytes);
        Ok(())
    };
    if let Err(error) = TestRunner::new(config).run(&strategy, run) {
        panic!("{}: {error}", target.name);
    }
}

#[test]
fn no_bytes_make_a_reader_panic() {
    for target in TARGETS {
        (target.run)(b"");
        let forms = 0..9_u8;
        let bytes = (forms, prop::collection::vec(any::<u8>(), 0..1024));
        survives(target, bytes.prop_map(|(form, bytes)| [&[form], &bytes[..]].concat()), 24);
    }
}

/// Seeds of which bytes are changed, stretches are doubled, and the end is cut off.
#[test]
fn no_damage_makes_a_reader_panic() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        for seed in &seeds {
            (target.run)(seed);
        }
        let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..6);
        let doubled = (any::<Index>(), any::<Index>(), any::<bool>());
        let cut = prop::option::weighted(0.3, any::<Index>());
        let damage = (prop::sample::select(seeds), changes, doubled, cut);
        let damaged = damage.prop_map(|(mut seed, changes, (from, length, double), cut)| {
            for (place, value) in changes {
                if !seed.is_empty() {
                    *place.get_mut(&mut seed) = value;
                }
            }
            if double && !seed.is_empty() {
                let from = from.index(seed.len());
                let to = from + length.index(seed.len() - from);
                let stretch = seed[from..to].to_vec();
                seed.splice(from..from, stretch);
            }
            if let Some(cut) = cut {
                seed.truncate(cut.index(seed.len() + 1));
            }
            seed
        });
        survives(target, damaged, 48);
    }
}

/// `tests/fuzz` has a program for each.
#[test]
fn every_target_has_a_program() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz");
    let table: toml::Table =
        std::fs::read_to_string(format!("{directory}/Cargo.toml")).unwrap().parse().unwrap();
    let programs = table["bin"].as_array().unwrap();
    let known: Vec<_> = programs.iter().map(|program| program["name"].as_str().unwrap()).collect();
    assert_eq!(known, TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
    for target in TARGETS {
        let path = format!("{directory}/targets/{}.rs", target.name);
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&format!("\"{}\"", target.name)), "{}", target.name);
    }
}

/// Nothing compiles `tests/fuzz` in everyday work, so what it is compiled with would fall behind unnoticed.
#[test]
fn the_lock_of_the_programs_knows_every_dependency() {
    let root = env!("CARGO_MANIFEST_DIR");
    let read = |path: &str| -> toml::Table {
        std::fs::read_to_string(format!("{root}/{path}")).unwrap().parse().unwrap()
    };
    let (own, theirs) = (read("Cargo.toml"), read("tests/fuzz/Cargo.lock"));
    let packages = theirs["package"].as_array().unwrap();
    let imgbuild = packages.iter().find(|it| it["name"].as_str() == Some("imgbuild")).unwrap();
    let known = imgbuild["dependencies"].as_array().unwrap();
    let known: BTreeSet<_> = known.iter().filter_map(|it| it.as_str()?.split(' ').next()).collect();
    let wanted = own["dependencies"].as_table().unwrap().keys().map(String::as_str);
    assert_eq!(known, wanted.collect());
}
