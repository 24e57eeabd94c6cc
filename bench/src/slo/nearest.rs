//! The name that somebody meant.

/// The one of `names` that takes the fewest changes to become `word`.
pub fn nearest(word: &str, names: impl IntoIterator<Item = String>) -> Option<String> {
    names.into_iter().min_by_key(|name| distance(word, name))
}

/// Levenshtein's: letters to insert, delete or replace.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, with) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *with);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_changes_win() {
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("abc", "abc")), (3, 3, 0));
        let names = ["ack_p99", "acked_rate", "lost"].map(str::to_owned);
        assert_eq!(nearest("ack_rate", names.clone()).as_deref(), Some("acked_rate"));
        assert_eq!(nearest("akc_p99", names).as_deref(), Some("ack_p99"));
        assert_eq!(nearest("x", Vec::new()), None);
    }
}
