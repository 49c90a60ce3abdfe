//! `distribution: modula`: the remainder of the hash, with each server repeated by its weight.
//!
//! twemproxy writes the repetitions out. Here their ends are kept and searched, so that a weight of a million costs nothing
//! and the answer is the same.

#[derive(Debug, Clone)]
pub(super) struct List {
    /// Where the repetitions of each server end, ascending.
    ends: Box<[u64]>,
    owners: Box<[u32]>,
}

impl List {
    /// `servers`: index in the pool and weight of those that take part, in the order of placement.
    pub(super) fn new(servers: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut end = 0;
        let (ends, owners): (Vec<u64>, Vec<u32>) = servers
            .map(|(index, weight)| {
                end += u64::from(weight);
                (end, index)
            })
            .unzip();
        Self {
            ends: ends.into(),
            owners: owners.into(),
        }
    }

    /// None of an empty list.
    #[inline]
    pub(super) fn owner(&self, hash: u64) -> Option<u32> {
        let total = *self.ends.last().filter(|&&total| total > 0)?;
        let place = hash % total;
        let at = self.ends.partition_point(|&end| end <= place);
        self.owners.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::List;

    #[test]
    fn it_is_the_list_written_out() {
        let weights = [1, 3, 2];
        let list = List::new((0..).zip(weights));
        let written = [0, 1, 1, 1, 2, 2];
        for hash in 0..100 {
            assert_eq!(list.owner(hash), Some(written[hash as usize % 6]), "{hash}");
        }
        assert_eq!(List::new(std::iter::empty()).owner(7), None);
    }
}
