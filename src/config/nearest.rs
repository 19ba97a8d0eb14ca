//! Which known name somebody may have meant.

/// The candidate that looks most like `wrong`, if one does.
///
/// The last part of a dotted name decides, so a key in the wrong table is told where it belongs.
pub(super) fn nearest(wrong: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let wrong_last = last(wrong);
    let scored = candidates.map(|candidate| {
        let score = (distance(&wrong_last, &last(&candidate)), distance(wrong, &candidate));
        (score, candidate)
    });
    let ((by, _), best) = scored.min()?;
    (by <= wrong_last.chars().count() / 4).then_some(best)
}

/// How many letters must be put in, taken out or changed (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(index + 1);
        for (to, pair) in right.iter().zip(row.windows(2)) {
            let &[diagonal, above] = pair else { continue };
            let before = next.last().copied().unwrap_or_default();
            next.push((diagonal + usize::from(from != *to)).min(above + 1).min(before + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted() {
        for (left, right, apart) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(left, right), apart, "{left} {right}");
        }
    }

    #[test]
    fn what_looks_like_nothing_gets_no_suggestion() {
        let known = || ["crio.root", "crio.api.listen"].into_iter().map(str::to_owned);
        assert_eq!(nearest("crio.api.lisen", known()), Some("crio.api.listen".into()));
        assert_eq!(nearest("crio.api.colour", known()), None);
    }
}
