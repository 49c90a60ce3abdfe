//! How many clients there are, over all threads, and whether there is room for one more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The clients of all threads. Touched only when one comes or goes.
#[derive(Debug, Clone)]
pub(super) struct Crowd(Arc<Places>);

#[derive(Debug)]
struct Places {
    taken: AtomicUsize,
    most: usize,
}

/// One client's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Crowd {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Places {
            taken: AtomicUsize::new(0),
            most,
        }))
    }

    /// A place for one more; None: all are taken.
    pub(super) fn enter(&self) -> Option<Place> {
        let places = &self.0;
        if places.taken.fetch_add(1, Ordering::Relaxed) >= places.most {
            places.taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place(places.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_client_is_gone() {
        let crowd = Crowd::new(1);
        let first = crowd.enter();
        assert!(first.is_some());
        assert!(crowd.enter().is_none());
        drop(first);
        assert!(crowd.enter().is_some());
    }
}
