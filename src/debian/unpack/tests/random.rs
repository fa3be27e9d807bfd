//! Packages at random, most of them absurd.

use proptest::prelude::*;

use super::*;

/// A member of a package: what it is, where, and where it leads to.
type Part = (u8, String, String);

fn part() -> impl Strategy<Value = Part> {
    let path = "(usr|lib|up)(/(a|b|up)){0,2}";
    let target = "(/|\\.\\./|)(usr|a|b|lib|\\.\\./canary)(/a|/\\.\\.){0,2}";
    (0..8_u8, path, target)
}

fn build(name: &str, replaces: bool, parts: &[Part]) -> Builder {
    let fields = if replaces { "Replaces: p0, p1, p2\n" } else { "" };
    let mut conffiles = String::new();
    let mut builder = Builder::new(name, fields);
    for (kind, path, target) in parts {
        let path = format!("./{path}");
        builder = match kind {
            0..3 => builder.directory(&path, 0o755),
            3 => builder.symlink(&path, target),
            4 => builder.hardlink(&path, &format!("./{target}")),
            5 => {
                conffiles.push_str(&format!("{}\n", &path[1..]));
                builder.file(&path, 0o600, name)
            }
            _ => builder.file(&path, 0o644, name),
        };
    }
    builder.control("conffiles", &conffiles)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_leaves_the_root_and_threads_make_no_difference(
        layers in prop::collection::vec(
            prop::collection::vec((any::<bool>(), prop::collection::vec(part(), 0..7)), 1..4),
            1..3,
        ),
    ) {
        let mut trees = Vec::new();
        for threads in [1, 4] {
            let fixture = Fixture::new();
            let outside = fixture.root.parent().unwrap().to_owned();
            fs::write(outside.join("canary"), "untouched").unwrap();
            std::os::unix::fs::symlink("../../..", fixture.root.join("up")).unwrap();
            let mut results = Vec::new();
            for (layer, packages) in layers.iter().enumerate() {
                let builders: Vec<Builder> = packages
                    .iter()
                    .enumerate()
                    .map(|(index, (replaces, parts))| {
                        build(&format!("p{}", layer * 3 + index), *replaces, parts)
                    })
                    .collect();
                let result = fixture.install_with(&builders, threads);
                results.push(result.is_ok());
                if !results[layer] {
                    break;
                }
            }
            prop_assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "untouched");
            let names = fs::read_dir(&outside).unwrap().count();
            prop_assert_eq!(names, 3, "something new beside the root");
            let complete = results.iter().all(|&result| result);
            let mut tree = fixture.tree();
            // Directories of the first layer that the second adds to have the current time.
            for seen in tree.values_mut().filter(|seen| seen.1 > TIME as i64) {
                seen.1 = 0;
            }
            trees.push((results, complete.then_some(tree)));
        }
        prop_assert_eq!(&trees[0], &trees[1]);
    }
}
