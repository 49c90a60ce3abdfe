//! The keys of a simulated server: a set of write ids, which are handed out in order.

/// A set of write ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data {
    words: Vec<u64>,
    len: u64,
}

impl Data {
    /// Adds one.
    pub fn insert(&mut self, id: u32) {
        let (word, bit) = (id as usize / 64, 1 << (id % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if self.words[word] & bit == 0 {
            self.words[word] |= bit;
            self.len += 1;
        }
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &Self) {
        for id in other.iter() {
            self.insert(id);
        }
    }

    /// Whether it is there.
    pub fn contains(&self, id: u32) -> bool {
        self.words
            .get(id as usize / 64)
            .is_some_and(|word| word & (1 << (id % 64)) != 0)
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All ids, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(n, word)| {
            let base = u32::try_from(n * 64).unwrap_or(u32::MAX);
            (0..64)
                .filter(move |bit| word & (1 << bit) != 0)
                .map(move |bit| base + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_once() {
        let mut data = Data::default();
        for id in [0, 63, 64, 1000, 64] {
            data.insert(id);
        }
        assert_eq!(data.len(), 4);
        assert_eq!(data.iter().collect::<Vec<_>>(), [0, 63, 64, 1000]);
        assert!(data.contains(1000) && !data.contains(999) && !data.contains(100_000));
    }
}
