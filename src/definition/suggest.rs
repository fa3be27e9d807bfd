//! "did you mean …?"

/// The candidate that `wrong` most likely stands for, as a sentence for a help text.
pub(crate) fn did_you_mean<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let closest = candidates
        .into_iter()
        .filter(|candidate| *candidate != wrong)
        .map(|candidate| (distance(wrong, candidate), candidate))
        .min()?;
    // A third of the letters wrong is still a typing error; more is another word.
    let (errors, candidate) = closest;
    let length = wrong.chars().count().max(candidate.chars().count());
    (errors <= (length / 3).max(1)).then(|| format!("did you mean `{candidate}`?"))
}

/// The least number of letters to insert, remove, replace or swap with their neighbour that turns
/// `left` into `right` (the optimal string alignment distance).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    // Nothing is shared yet: all of one side is to be removed, or all of the other inserted.
    let row = |removed| (0..=right.len()).map(|inserted| removed + inserted).collect();
    let mut rows: Vec<Vec<usize>> = (0..=left.len()).map(row).collect();
    for i in 1..=left.len() {
        for j in 1..=right.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            rows[i][j] = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                rows[i][j] = rows[i][j].min(rows[i - 2][j - 2] + 1);
            }
        }
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_typing_errors() {
        for (left, right, expected) in [
            ("", "abc", 3),
            ("adress", "address", 1),
            ("prot", "port", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
            assert_eq!(distance(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn only_likely_words_are_suggested() {
        let known = ["install", "exclude", "essential"];
        assert_eq!(did_you_mean("instal", known).unwrap(), "did you mean `install`?");
        assert_eq!(did_you_mean("packages", known), None);
        assert_eq!(did_you_mean("x", []), None);
    }
}
