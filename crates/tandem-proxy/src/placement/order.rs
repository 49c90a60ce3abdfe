//! The order of servers in a pool, which modula placement, ties on a ketama ring and the statistics depend on.

use std::cmp::Ordering;

use crate::settings::Server;

/// twemproxy's comparison of names (`string_compare`): the shorter first, and bytes decide between equally long ones.
/// So `10.0.0.9:6379` comes before `10.0.0.10:6379`, and `beta` before `alpha`.
#[must_use]
pub fn compare_names(a: &str, b: &str) -> Ordering {
    a.len()
        .cmp(&b.len())
        .then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

/// Brings the servers of a pool into the order of placement. Whoever fills a [`Pool`](crate::settings::Pool) calls it.
pub fn sort_servers(servers: &mut [Server]) {
    servers.sort_by(|a, b| compare_names(&a.name, &b.name));
}

#[cfg(test)]
mod tests {
    use super::compare_names;

    #[test]
    fn shorter_names_come_first() {
        for (given, sorted) in [
            (
                vec!["alpha", "beta", "gamma-longer"],
                vec!["beta", "alpha", "gamma-longer"],
            ),
            (vec!["zz", "b", "aaaa"], vec!["b", "zz", "aaaa"]),
            (
                vec!["10.0.0.10:6379", "10.0.0.9:6379"],
                vec!["10.0.0.9:6379", "10.0.0.10:6379"],
            ),
            (vec!["Z", "a", "\u{e9}"], vec!["Z", "a", "\u{e9}"]),
        ] {
            let mut names = given.clone();
            names.sort_by(|a, b| compare_names(a, b));
            assert_eq!(names, sorted);
        }
    }
}
