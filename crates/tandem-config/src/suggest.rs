//! The nearest known word to a misspelt one.

/// The distance at which a suggestion is more help than noise: two edits, and fewer for very short words, where two edits
/// would turn anything into anything.
fn limit(word: &str) -> usize {
    if word.len() <= 3 { 1 } else { 2 }
}

/// The known word nearest to `word`, if one is near enough to be what was meant. Case and the choice between `_` and `-`
/// do not count as differences. Among equally near words the first wins.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = normalise(word);
    known
        .into_iter()
        .map(|candidate| (distance(&word, &normalise(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit(&word))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn normalise(word: &str) -> String {
    word.to_ascii_lowercase().replace('-', "_")
}

/// Edit distance with insertion, deletion, substitution and the swap of two neighbours at cost 1 each (the restricted
/// Damerau-Levenshtein distance), over characters.
fn distance(a: &str, b: &str) -> usize {
    /// No key is longer; a longer word is nowhere near one, and the work stays bounded for hostile files.
    const LENGTH_MAX: usize = 64;
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    if a.len() > LENGTH_MAX || b.len() > LENGTH_MAX {
        return usize::MAX;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_seen_in_real_files_find_their_word() {
        let known = ["rise", "fall", "nopreempt", "virtual_router_id", "weight"];
        for (wrong, right) in [
            ("raise", Some("rise")),
            ("nopreermpt", Some("nopreempt")),
            ("virtualrouter_id", Some("virtual_router_id")),
            ("Weight", Some("weight")),
            ("wieght", Some("weight")),
            ("lvs_sync_daemon", None),
            ("x", None),
        ] {
            assert_eq!(nearest(wrong, known), right, "{wrong}");
        }
    }
}
