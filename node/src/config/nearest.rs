//! Which known key a misspelt one was meant to be.

/// The candidate nearest to `word`, if it is near enough to be a typing slip.
pub(super) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let (distance, best) = candidates.iter().map(|c| (distance(word, c), *c)).min_by_key(|(d, _)| *d)?;
    (distance <= 2.max(best.len() / 3)).then_some(best)
}

/// Edits (insert, delete, replace) between two words: Levenshtein, one row kept.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_key_and_a_stranger_none() {
        let keys = ["listen", "certificate", "private_key"];
        assert_eq!(nearest("lisen", &keys), Some("listen"));
        assert_eq!(nearest("privatekey", &keys), Some("private_key"));
        assert_eq!(nearest("colour", &keys), None);
        assert_eq!(nearest("listen", &[]), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
