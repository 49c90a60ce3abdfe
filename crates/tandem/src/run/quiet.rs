//! Who has finished with a primary that is about to give its role away.
//!
//! The keeper waits, for a moment, until no proxy has anything outstanding there ([`Step::Quiesce`]). The proxies of this
//! host report as they hear of it, those of other hosts over the port: as many are waited for as were told. A report is for
//! one word only ([`Rank`]); for an older one it comes too late, and counts for nothing.
//!
//! [`Step::Quiesce`]: tandem_core::keeper::Step::Quiesce

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tandem_core::topology::Rank;
use tokio::sync::watch;

/// The newest closing of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Closing {
    rank: Rank,
    /// Proxies of this host that have finished.
    here: usize,
    /// Proxies of other hosts that were told; none before they are.
    told: Option<usize>,
    /// Those of them that have finished.
    there: usize,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Quiet {
    /// The proxies of this host that have a group among their shards, where there are any.
    proxies: Arc<Mutex<BTreeMap<String, usize>>>,
    closings: watch::Sender<BTreeMap<String, Closing>>,
}

impl Quiet {
    /// Nothing closes. `groups` names the group of each proxy of this host, once for each.
    pub(crate) fn new<'g>(groups: impl Iterator<Item = &'g str>) -> Self {
        let quiet = Self {
            proxies: Arc::default(),
            closings: watch::Sender::default(),
        };
        quiet.expect(groups);
        quiet
    }

    /// From now on these are the groups of this host's proxies.
    pub(crate) fn expect<'g>(&self, groups: impl Iterator<Item = &'g str>) {
        let mut proxies = BTreeMap::new();
        for group in groups {
            *proxies.entry(group.to_owned()).or_default() += 1;
        }
        *self.proxies.lock().unwrap_or_else(PoisonError::into_inner) = proxies;
    }

    fn proxies(&self, group: &str) -> usize {
        let proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        proxies.get(group).copied().unwrap_or(0)
    }

    /// A proxy of this host has finished.
    pub(crate) fn here(&self, group: &str, rank: &Rank) {
        self.note(group, rank, |closing| closing.here += 1);
    }

    /// So many proxies of other hosts hear of it.
    pub(crate) fn told(&self, group: &str, rank: &Rank, proxies: usize) {
        self.note(group, rank, |closing| closing.told = Some(proxies));
    }

    /// One of them has finished. Anybody may say so: only of a closing that is known.
    pub(crate) fn there(&self, group: &str, rank: &Rank) {
        let known = |it: &Closing| it.rank == *rank;
        if self.closings.borrow().get(group).is_some_and(known) {
            self.note(group, rank, |closing| closing.there += 1);
        }
    }

    fn note(&self, group: &str, rank: &Rank, change: impl FnOnce(&mut Closing)) {
        self.closings.send_if_modified(|closings| {
            let closing = closings.entry(group.to_owned()).or_default();
            if closing.rank > *rank {
                return false;
            }
            if closing.rank < *rank {
                *closing = Closing {
                    rank: rank.clone(),
                    ..Closing::default()
                };
            }
            change(closing);
            true
        });
    }

    /// Returns when all have finished that were told the word of this rank, if ever.
    pub(crate) async fn finished(&self, group: &str, rank: &Rank) {
        let mut closings = self.closings.subscribe();
        let done = |closings: &BTreeMap<String, Closing>| {
            closings.get(group).is_some_and(|closing| {
                closing.rank == *rank
                    && closing.here >= self.proxies(group)
                    && closing.told.is_some_and(|told| closing.there >= told)
            })
        };
        // The sender is ours.
        let _ = closings.wait_for(done).await;
    }

    /// The newest closing that all proxies of this host have finished with, whenever it is a newer one than `after`.
    pub(crate) async fn next_here(&self, group: &str, after: &Rank) -> Rank {
        let mut closings = self.closings.subscribe();
        let next = closings
            .wait_for(|closings| {
                closings.get(group).is_some_and(|closing| {
                    closing.rank > *after && closing.here >= self.proxies(group)
                })
            })
            .await;
        match next {
            Ok(closings) => closings
                .get(group)
                .map_or_else(|| after.clone(), |closing| closing.rank.clone()),
            // The sender is ours.
            Err(_) => after.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(turn: u64) -> Rank {
        Rank {
            epoch: 7,
            turn,
            ..Rank::default()
        }
    }

    /// Whether it is over by now.
    async fn is_over(wait: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        tokio::select! {
            biased;
            () = wait => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn all_who_were_told_are_waited_for_and_nobody_else() {
        let quiet = Quiet::new(["orders", "orders", "other"].into_iter());
        let (second, third) = (rank(2), rank(3));
        let mut all = Box::pin(quiet.finished("orders", &second));
        quiet.there("orders", &rank(2));
        quiet.told("orders", &rank(2), 1);
        quiet.here("orders", &rank(2));
        quiet.here("orders", &rank(1));
        assert!(!is_over(&mut all).await, "one here, one elsewhere");
        quiet.here("orders", &rank(2));
        assert!(
            !is_over(&mut all).await,
            "who reported before all were told"
        );
        quiet.there("orders", &rank(1));
        assert!(!is_over(&mut all).await, "that was for another word");
        quiet.there("orders", &rank(2));
        assert!(is_over(&mut all).await);
        let mut next = Box::pin(quiet.finished("orders", &third));
        assert!(!is_over(&mut next).await);
    }

    #[tokio::test]
    async fn a_proxy_that_has_come_is_waited_for_and_one_that_has_gone_is_not() {
        let quiet = Quiet::new(["orders"].into_iter());
        for (proxies, closing) in [(2, rank(2)), (0, rank(3))] {
            quiet.expect(std::iter::repeat_n("orders", proxies));
            let mut all = Box::pin(quiet.finished("orders", &closing));
            quiet.told("orders", &closing, 0);
            for left in (0..proxies).rev() {
                assert!(!is_over(&mut all).await);
                quiet.here("orders", &closing);
                assert_eq!(is_over(&mut all).await, left == 0);
            }
            if proxies == 0 {
                assert!(is_over(&mut all).await);
            }
        }
    }

    #[tokio::test]
    async fn a_host_without_proxies_waits_only_until_it_knows_that_nobody_listens() {
        let quiet = Quiet::new(std::iter::empty());
        let second = rank(2);
        let mut all = Box::pin(quiet.finished("orders", &second));
        assert!(!is_over(&mut all).await);
        quiet.told("orders", &rank(2), 0);
        assert!(is_over(&mut all).await);
    }
}
