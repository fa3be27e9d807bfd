//! Each rule of the resolver on a handful of packages.

use std::collections::BTreeMap;

use super::*;
use crate::debian::relation::parse_wanted;
use crate::debian::testing::packages;

/// A question to the resolver.
#[derive(Default)]
struct Question<'a> {
    /// The packages of each repository, see [`packages`].
    repositories: &'a [&'a str],
    wanted: &'a [&'a str],
    essential: bool,
    excluded: &'a [&'a str],
    /// `name version`, as for `preferred`.
    fixed: &'a [&'a str],
    preferred: &'a [&'a str],
}

impl Question<'_> {
    /// The answer: `name version` of each package, one a line.
    fn answer(&self) -> Result<String, Failure> {
        let texts: Vec<String> = self.repositories.iter().map(|lines| packages(lines)).collect();
        let mut universe = Universe::new();
        for (index, text) in texts.iter().enumerate() {
            universe.add(index, text, "amd64", &[]).unwrap();
        }
        let pair = |text: &&str| {
            let (name, version) = text.split_once(' ').unwrap();
            (name.to_owned(), version.to_owned())
        };
        let excluded = self.excluded.iter().map(|name| ((*name).to_owned(), "excluded".to_owned()));
        let fixed: Vec<PackageId> = self
            .fixed
            .iter()
            .map(|text| {
                let (name, version) = pair(text);
                let mut versions = universe.versions(&name).iter();
                *versions.find(|&&id| universe.package(id).version == version).unwrap()
            })
            .collect();
        let wanted: Vec<_> = self.wanted.iter().map(|text| parse_wanted(text).unwrap()).collect();
        let request = Request {
            architecture: "amd64",
            wanted: &wanted,
            essential: self.essential,
            excluded: &excluded.collect(),
            fixed: &fixed,
            preferred: &self.preferred.iter().map(pair).collect::<BTreeMap<_, _>>(),
        };
        let ids = resolve(&universe, &request)?;
        let text = |id: &PackageId| {
            let package = universe.package(*id);
            format!("{} {}", package.name, package.version)
        };
        Ok(ids.iter().map(text).collect::<Vec<_>>().join(", "))
    }

    fn explanation(&self) -> String {
        match self.answer() {
            Err(Failure::Unsatisfiable { explanation, .. }) => explanation,
            other => panic!("{other:?}"),
        }
    }
}

/// The answer to a question about one repository.
fn answer(packages: &str, wanted: &[&str]) -> String {
    Question { repositories: &[packages], wanted, ..Question::default() }.answer().unwrap()
}

#[test]
fn dependencies_are_followed_and_recommendations_not() {
    let packages = "a 1; Depends: b; Recommends: r\n b 1; Pre-Depends: c\n c 1\n r 1\n d 1";
    assert_eq!(answer(packages, &["a"]), "a 1, b 1, c 1");
}

#[test]
fn dependencies_may_go_in_circles() {
    assert_eq!(answer("a 1; Depends: b\n b 1; Depends: a", &["a"]), "a 1, b 1");
}

#[test]
fn essential_packages_come_along_when_asked_for() {
    let packages = "a 1\n base 1; Essential: yes; Depends: libc\n libc 1";
    assert_eq!(answer(packages, &["a"]), "a 1");
    let question = Question {
        repositories: &[packages],
        wanted: &["a"],
        essential: true,
        ..Question::default()
    };
    assert_eq!(question.answer().unwrap(), "a 1, base 1, libc 1");
}

#[test]
fn the_highest_version_of_all_repositories_wins() {
    let question = Question {
        repositories: &["a 1:1\n b 1", "a 2\n b 1.1\n c 1; Depends: b"],
        wanted: &["a", "c"],
        ..Question::default()
    };
    assert_eq!(question.answer().unwrap(), "a 1:1, b 1.1, c 1");
}

#[test]
fn older_versions_are_taken_only_when_nothing_else_goes() {
    let repositories = &["a 1; Depends: lib (= 1)\n lib 1", "a 2; Depends: lib (= 2)\n lib 2"];
    for (wanted, expected) in [
        (&["a"][..], "a 2, lib 2"),
        (&["a (<< 2)"], "a 1, lib 1"),
        (&["a", "lib (<= 1)"], "a 1, lib 1"),
    ] {
        let question = Question { repositories, wanted, ..Question::default() };
        assert_eq!(question.answer().unwrap(), expected);
    }
}

#[test]
fn alternatives_prefer_what_is_needed_anyway() {
    let packages = "a 1; Depends: x | y\n b 1; Depends: y\n x 1\n y 1";
    assert_eq!(answer(packages, &["a"]), "a 1, x 1");
    assert_eq!(answer(packages, &["a", "b"]), "a 1, b 1, y 1");
    assert_eq!(answer(packages, &["a", "y"]), "a 1, y 1");
}

#[test]
fn alternatives_prefer_what_the_last_lock_had() {
    let question = Question {
        repositories: &["a 1; Depends: x | y\n x 1\n y 1"],
        wanted: &["a"],
        preferred: &["y 0.9"],
        ..Question::default()
    };
    assert_eq!(question.answer().unwrap(), "a 1, y 1");
}

#[test]
fn preferred_versions_stay_while_they_fit() {
    let repositories = &["a 1\n b 1", "a 2\n b 2\n c 1; Depends: a (>= 2)"];
    let preferred = &["a 1", "b 1"];
    for (wanted, expected) in [(&["a", "b"], "a 1, b 1"), (&["b", "c"], "a 2, b 1, c 1")] {
        let question = Question { repositories, wanted, preferred, ..Question::default() };
        assert_eq!(question.answer().unwrap(), expected);
    }
}

#[test]
fn virtual_packages_are_provided_by_priority_and_name() {
    let mail = "z 1; Provides: mta; Priority: standard\n b 1; Provides: mta\n c 1; Provides: mta";
    assert_eq!(answer(mail, &["mta"]), "z 1");
    let mail = "c 1; Provides: mta\n b 1; Provides: mta\n a 1; Depends: mta";
    assert_eq!(answer(mail, &["a"]), "a 1, b 1");
}

#[test]
fn versioned_dependencies_need_versioned_provides() {
    let packages = "a 1; Depends: lib (>= 2)\n p 1; Provides: lib\n q 1; Provides: lib (= 1)\n \
                    r 1; Provides: lib (= 3)";
    assert_eq!(answer(packages, &["a"]), "a 1, r 1");
}

#[test]
fn a_wanted_name_means_the_package_of_that_name() {
    let packages = "socket 1\n perl 1; Provides: socket\n a 1; Depends: socket";
    assert_eq!(answer(packages, &["perl", "socket"]), "perl 1, socket 1");
    assert_eq!(answer(packages, &["perl", "a"]), "a 1, perl 1");
}

#[test]
fn packages_satisfy_and_replace_themselves() {
    let packages = "a 1; Depends: v; Conflicts: v; Provides: v\n b 1; Provides: v";
    assert_eq!(answer(packages, &["a"]), "a 1");
}

#[test]
fn any_architecture_is_only_for_packages_that_allow_it() {
    let packages = "a 1; Depends: python:any\n python 1; Multi-Arch: allowed\n b 1; Depends: c:any\n \
                    c 1; Multi-Arch: foreign\n d 1; Depends: c:amd64\n e 1; Conflicts: c:any";
    assert_eq!(answer(packages, &["a"]), "a 1, python 1");
    assert_eq!(answer(packages, &["d"]), "c 1, d 1");
    for wanted in [&["b"][..], &["d", "e"]] {
        let question = Question { repositories: &[packages], wanted, ..Question::default() };
        question.explanation();
    }
}

#[test]
fn conflicts_steer_the_choice() {
    let packages = "a 1; Depends: x | y\n b 1; Conflicts: x\n x 1\n y 1";
    assert_eq!(answer(packages, &["a", "b"]), "a 1, b 1, y 1");
    let packages = "a 1; Depends: x | y\n b 1; Breaks: x (<< 2)\n x 1\n y 1";
    assert_eq!(answer(packages, &["a", "b"]), "a 1, b 1, y 1");
    let packages = "a 1; Depends: x | y\n b 1; Breaks: x (<< 1)\n x 1\n y 1";
    assert_eq!(answer(packages, &["a", "b"]), "a 1, b 1, x 1");
}

#[test]
fn excluded_packages_are_never_chosen() {
    let repositories = &["a 1; Depends: x | y\n x 1\n y 1\n b 1; Depends: x"];
    let question =
        |wanted| Question { repositories, wanted, excluded: &["x"], ..Question::default() };
    assert_eq!(question(&["a"]).answer().unwrap(), "a 1, y 1");
    let text = question(&["b"]).explanation();
    assert!(text.contains("x 1: excluded"), "{text}");
}

#[test]
fn fixed_packages_keep_their_versions_and_are_not_repeated() {
    let repositories = &["lib 1\n lib 2\n a 1; Depends: lib\n b 1; Depends: lib (>= 2)"];
    let question =
        |wanted| Question { repositories, wanted, fixed: &["lib 1"], ..Question::default() };
    assert_eq!(question(&["a"]).answer().unwrap(), "a 1");
    let text = question(&["b"]).explanation();
    assert!(text.contains("b 1 needs lib (>= 2), but there is only lib 1 of a parent"), "{text}");
    // What they need is not looked at again.
    let question = Question {
        repositories: &["lib 1; Depends: gone\n a 1; Depends: lib"],
        wanted: &["a"],
        fixed: &["lib 1"],
        ..Question::default()
    };
    assert_eq!(question.answer().unwrap(), "a 1");
}

#[test]
fn missing_packages_are_named_with_a_suggestion() {
    let repositories = &["haproxy 3.0\n b 1"];
    let question = |wanted| Question { repositories, wanted, ..Question::default() };
    assert_eq!(
        question(&["b", "haprxoy"]).answer().unwrap_err(),
        Failure::NotFound {
            wanted: 1,
            name: "haprxoy".to_owned(),
            suggestion: Some("haproxy".to_owned())
        }
    );
    assert_eq!(
        question(&["haproxy (>= 3.2)"]).answer().unwrap_err(),
        Failure::NoVersion { wanted: 0, available: vec!["3.0".to_owned()] }
    );
    assert_eq!(question(&["gone | b"]).answer().unwrap(), "b 1");
    assert_eq!(question(&["gone [i386]"]).answer().unwrap(), "");
}

#[test]
fn contradictions_are_explained() {
    let question = Question {
        repositories: &["postfix 1; Conflicts: mta; Provides: mta\n z 1\n \
                         mailutils 1; Depends: exim (>= 1)\n exim 1; Conflicts: mta; Provides: mta"],
        wanted: &["z", "mailutils", "postfix"],
        ..Question::default()
    };
    match question.answer() {
        Err(Failure::Unsatisfiable { wanted, explanation }) => {
            assert_eq!(wanted, [1, 2]);
            insta::assert_snapshot!(explanation);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn unmet_dependencies_are_explained() {
    let question = Question {
        repositories: &["a 1; Depends: b\n b 1; Depends: gone (>= 2) | lib (>= 3)\n lib 2"],
        wanted: &["a"],
        ..Question::default()
    };
    insta::assert_snapshot!(question.explanation());
}

#[test]
fn unreadable_relations_matter_only_to_those_who_want_the_package() {
    let packages = "a 1\n b 1; Depends: c (= )\n d 1; Provides: !";
    assert_eq!(answer(packages, &["a", "d"]), "a 1, d 1");
    let question = Question { repositories: &[packages], wanted: &["b"], ..Question::default() };
    let text = question.explanation();
    assert!(text.contains("its `Depends` cannot be read"), "{text}");
}

proptest::proptest! {
    /// Whatever the relations: a solution satisfies them, and holds nothing that nobody needs.
    #[test]
    fn solutions_are_consistent(
        relations in proptest::collection::vec(
            ("(p[0-7]( \\(<< 2\\))?( \\| p[0-7])?(, p[0-7])?)?", "(p[0-7]( \\(>> 1\\))?)?", 1..3u8),
            8..16,
        )
    ) {
        let lines: String = relations
            .iter()
            .enumerate()
            .map(|(index, (depends, conflicts, version))| {
                let name = index % 8;
                format!("p{name} {version}; Depends: {depends}; Conflicts: {conflicts}\n")
            })
            .collect();
        let text = packages(&lines);
        let mut universe = Universe::new();
        universe.add(0, &text, "amd64", &[]).unwrap();
        let wanted = [parse_wanted("p0").unwrap(), parse_wanted("p1 | p2").unwrap()];
        let request = Request {
            architecture: "amd64",
            wanted: &wanted,
            essential: false,
            excluded: &BTreeMap::new(),
            fixed: &[],
            preferred: &BTreeMap::new(),
        };
        let Ok(chosen) = resolve(&universe, &request) else { return Ok(()) };
        proptest::prop_assert_eq!(resolve(&universe, &request).unwrap(), chosen.clone());
        let holds = |relation: &Relation<'_>| {
            relation.alternatives.iter().any(|alternative| {
                let satisfying = universe.satisfying(alternative, "amd64");
                satisfying.iter().any(|id| chosen.contains(id))
            })
        };
        proptest::prop_assert!(wanted.iter().all(holds));
        for &id in &chosen {
            let package = universe.package(id);
            proptest::prop_assert!(package.requirements().unwrap().iter().all(holds));
            for alternative in package.conflicts().unwrap().iter().flat_map(|it| &it.alternatives) {
                let bad = universe.satisfying(alternative, "amd64");
                let bad = bad.iter().any(|other| *other != id && chosen.contains(other));
                proptest::prop_assert!(!bad);
            }
        }
        let names: std::collections::BTreeSet<_> =
            chosen.iter().map(|&id| universe.package(id).name).collect();
        proptest::prop_assert_eq!(names.len(), chosen.len(), "two versions of a package");
    }
}
