//! Which name somebody may have meant.

/// The name that is most like `name`, if one is alike enough. Of equally good ones the first in
/// the alphabet.
pub fn closest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    // A third of the letters may be wrong, which allows one error in the shortest names.
    let limit = (name.len() / 3).max(1);
    names
        .filter(|known| known.len().abs_diff(name.len()) <= limit)
        .map(|known| (distance(name.as_bytes(), known.as_bytes()), known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known.to_owned())
}

/// How many letters have to be inserted, removed, replaced or swapped with their neighbour to
/// turn one text into the other (optimal string alignment distance).
fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for row in 1..=left.len() {
        let mut current = vec![row];
        for column in 1..=right.len() {
            let is_same = left[row - 1] == right[column - 1];
            let mut best = (last[column] + 1)
                .min(current[column - 1] + 1)
                .min(last[column - 1] + usize::from(!is_same));
            let is_swapped = row > 1
                && column > 1
                && left[row - 1] == right[column - 2]
                && left[row - 2] == right[column - 1];
            if is_swapped {
                best = best.min(before_last[column - 2] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_recognised() {
        let names = ["haproxy", "hapolicy", "nginx", "keepalived", "libc6"];
        for (name, expected) in [
            ("haprxoy", Some("haproxy")),
            ("haproxi", Some("haproxy")),
            ("keepalive", Some("keepalived")),
            ("nginxx", Some("nginx")),
            ("libc7", Some("libc6")),
            ("postgresql", None),
            ("", None),
        ] {
            assert_eq!(closest(name, names.into_iter()).as_deref(), expected, "{name}");
        }
    }
}
