//! Whose data is newest after both sides were down? (Rules 16 and 17, S14.)
//!
//! Redis cannot say: with AOF a restarted server has a new lineage and offset 0, and with RDB the
//! last primary may come back older than its replica. So each side states a [`Position`] made from
//! what its server loaded and what its journal remembers, and both compare the same two positions.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, HostId, Offset, ReplId};

/// How sure a position's offset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The process never restarted: the server's own word.
    Running,
    /// Loaded from an RDB that carries its lineage and offset.
    LoadedRdb,
    /// Restarted from an AOF: the journal's last mark, less what fsync may have missed.
    JournalMark,
    /// No journal and no lineage to compare by: only whether there is data at all.
    KeysOnly,
}

/// Where a side's data stands, comparable between the two sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The side.
    pub host: HostId,
    /// The epoch of the history it holds; zero without a journal.
    pub epoch: Epoch,
    /// The side was the primary of that epoch.
    pub was_primary: bool,
    /// It is primary right now and has never stopped: adopted, not booted.
    pub serving: bool,
    /// The lineage in which `offset` counts.
    pub lineage: ReplId,
    /// The lineage it was promoted from, and the last offset shared with it.
    pub parent: Option<(ReplId, Offset)>,
    /// How far its data reaches.
    pub offset: Offset,
    /// What the offset rests on.
    pub basis: Basis,
    /// Keys it holds: 0 is an empty server, which is never a source while the other has data.
    pub keys: u64,
    /// It has promised not to go on before it has all that the primary of this epoch has acknowledged alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<Epoch>,
    /// Its server is a replica of the other side right now.
    pub follows_peer: bool,
}

/// The outcome of comparing two positions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Choice {
    /// This host's data goes on; the reason in words.
    Goes(HostId, String),
    /// Nothing can be decided without a person.
    Ask(String),
}

/// Compares two positions; symmetric, so both sides choose alike.
pub fn newest(one: &Position, other: &Position) -> Choice {
    let (a, b) = if one.host <= other.host {
        (one, other)
    } else {
        (other, one)
    };
    let goes = |p: &Position, why: String| Choice::Goes(p.host.clone(), why);

    match (&a.barred, &b.barred) {
        (None, None) => {}
        (Some(_), Some(_)) => {
            return Choice::Ask(format!(
                "{} and {} have both promised not to go on; say which one counts: tandem failover --accept-loss on that \
                 host",
                a.host, b.host
            ));
        }
        (Some(epoch), None) | (None, Some(epoch)) => {
            let (barred, free) = if a.barred.is_some() { (a, b) } else { (b, a) };
            let (what, why) = (&barred.host, &free.host);
            if contains(barred, free) {
                return goes(barred, format!("{what} has all that {why} has left"));
            }
            if continues(free, barred) {
                let why =
                    format!("{what} may lack what the primary of epoch {epoch} acknowledged alone");
                return goes(free, why);
            }
            return Choice::Ask(format!(
                "{what} may lack what the primary of epoch {epoch} acknowledged alone, and {why} may have lost what {what} has; \
                 say which one counts: tandem failover --accept-loss on that host",
            ));
        }
    }
    if (a.keys == 0) != (b.keys == 0) {
        let (full, empty) = if a.keys == 0 { (b, a) } else { (a, b) };
        return goes(
            full,
            format!(
                "{} has {} keys, {} is empty",
                full.host, full.keys, empty.host
            ),
        );
    }
    // A running primary that the other one already follows is simply the group as it is.
    if a.serving != b.serving {
        let (up, down) = if a.serving { (a, b) } else { (b, a) };
        if down.follows_peer || (up.epoch >= down.epoch && same_history(up, down)) {
            return goes(up, format!("{} is primary and running", up.host));
        }
    }
    if a.lineage == b.lineage && !a.lineage.is_none() {
        // One stream: the longer prefix is newer, whatever the journals say about epochs.
        return longer(a, b);
    }
    if a.epoch.counter != b.epoch.counter {
        let (newer, older) = if a.epoch.counter > b.epoch.counter {
            (a, b)
        } else {
            (b, a)
        };
        return goes(
            newer,
            format!(
                "{} holds the history of epoch {}, {} that of epoch {}",
                newer.host, newer.epoch, older.host, older.epoch
            ),
        );
    }
    if same_history(a, b) || (a.epoch.counter > 0 && a.epoch == b.epoch) {
        return longer(a, b);
    }
    if a.keys == 0 {
        // Two empty servers have nothing to lose: the smaller id begins.
        return goes(a, format!("both are empty, {} begins", a.host));
    }
    Choice::Ask(format!(
        "{} ({} keys, lineage {}) and {} ({} keys, lineage {}) both hold data of unrelated \
         histories; say which one counts: tandem failover --accept-loss on that host",
        a.host, a.keys, a.lineage, b.host, b.keys, b.lineage
    ))
}

/// Surely has everything that the other one, which is written to by nobody, has.
fn contains(whole: &Position, part: &Position) -> bool {
    let exact = |p: &Position| match p.basis {
        Basis::Running | Basis::LoadedRdb => true,
        Basis::JournalMark | Basis::KeysOnly => false,
    };
    let one_history = whole.lineage == part.lineage && !whole.lineage.is_none();
    let both = exact(whole) && exact(part) && one_history;
    both && !part.serving && whole.offset > part.offset && whole.keys > 0
}

/// Surely has everything that the other one has: its offset is never more than it holds, whatever that rests on.
fn continues(whole: &Position, part: &Position) -> bool {
    let known = |p: &Position| p.basis != Basis::KeysOnly;
    let reached = match &whole.parent {
        _ if whole.lineage == part.lineage => Some(whole.offset),
        Some((parent, offset)) if *parent == part.lineage => Some(*offset),
        Some(_) | None => None,
    };
    let exact = matches!(part.basis, Basis::Running | Basis::LoadedRdb);
    let both = known(whole) && exact && !part.lineage.is_none() && whole.keys > 0;
    both && reached.is_some_and(|offset| offset >= part.offset)
}

/// The one that reaches further in the same history; the last primary if they are equal.
fn longer(a: &Position, b: &Position) -> Choice {
    let (longer, shorter) = match a.offset.cmp(&b.offset) {
        std::cmp::Ordering::Greater => (a, b),
        std::cmp::Ordering::Less => (b, a),
        std::cmp::Ordering::Equal if b.was_primary => (b, a),
        std::cmp::Ordering::Equal => (a, b),
    };
    let why = format!(
        "{} reaches offset {}, {} offset {}",
        longer.host, longer.offset, shorter.host, shorter.offset
    );
    Choice::Goes(longer.host.clone(), why)
}

/// One of the two descends from the other, or they share a lineage.
fn same_history(a: &Position, b: &Position) -> bool {
    let descends = |x: &Position, y: &Position| {
        x.parent
            .as_ref()
            .is_some_and(|(parent, _)| *parent == y.lineage && !parent.is_none())
    };
    (a.lineage == b.lineage && !a.lineage.is_none()) || descends(a, b) || descends(b, a)
}

/// May a host that cannot reach its peer go on by itself once `boot_wait` is over? (Rule 17.)
///
/// Only the primary of the highest epoch in its own journal, and only if its server did not load
/// less than the peer is known to have had: then the newest data is elsewhere and it waits.
pub fn alone(
    own: &Position,
    journaled_primary: bool,
    peer_last_offset: Option<Offset>,
) -> Result<String, String> {
    if own.serving {
        return Ok(format!("{} has been primary all along", own.host));
    }
    if !journaled_primary {
        return Err(format!(
            "{} was not the primary of the last epoch in its journal ({}); the newest data may be \
             on the other host. Start it, or type tandem failover --accept-loss",
            own.host, own.epoch
        ));
    }
    if let Some(known) = peer_last_offset
        && known > own.offset
        && own.basis != Basis::KeysOnly
    {
        return Err(format!(
            "{} came back with offset {} but the other host was known to have {}: {} bytes are \
             only there. Start it, or type tandem failover --accept-loss",
            own.host,
            own.offset,
            known,
            known.ahead_of(own.offset)
        ));
    }
    if own.keys == 0 && peer_last_offset.is_some() {
        return Err(format!(
            "{} came back empty; the data may be on the other host. Start it, or type \
             tandem failover --accept-loss",
            own.host
        ));
    }
    Ok(format!(
        "{} was the primary of epoch {} and the other host is silent",
        own.host, own.epoch
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(host: &str, counter: u64, primary: bool, lineage: &str, offset: u64) -> Position {
        Position {
            host: HostId::new(host),
            epoch: Epoch {
                counter,
                host: HostId::new("a"),
            },
            was_primary: primary,
            serving: false,
            lineage: ReplId(lineage.into()),
            parent: None,
            offset: Offset(offset),
            basis: Basis::LoadedRdb,
            keys: 100,
            barred: None,
            follows_peer: false,
        }
    }

    fn winner(one: &Position, other: &Position) -> Option<String> {
        assert_eq!(newest(one, other), newest(other, one), "symmetric");
        match newest(one, other) {
            Choice::Goes(host, _) => Some(host.0),
            Choice::Ask(_) => None,
        }
    }

    #[test]
    fn the_primary_with_the_older_snapshot_does_not_win() {
        // Rule 16's measured case: the primary's RDB has 50 keys, the replica's AOF all 100.
        let mut primary = position("a", 3, true, "L", 1000);
        primary.keys = 50;
        let mut replica = position("b", 3, false, "N", 2000);
        replica.basis = Basis::JournalMark;
        assert_eq!(winner(&primary, &replica).as_deref(), Some("b"));
    }

    #[test]
    fn table_of_boots() {
        let a3 = position("a", 3, true, "L", 1000);
        let b3 = position("b", 3, false, "L", 1000);
        assert_eq!(
            winner(&a3, &b3).as_deref(),
            Some("a"),
            "equal data: the last primary"
        );
        let b4 = position("b", 4, true, "M", 10);
        assert_eq!(
            winner(&a3, &b4).as_deref(),
            Some("b"),
            "a newer epoch beats any offset"
        );
        let mut empty = position("a", 9, true, "Z", 9000);
        empty.keys = 0;
        assert_eq!(
            winner(&empty, &b3).as_deref(),
            Some("b"),
            "empty never beats data"
        );
        let x = position("a", 0, false, "X", 10);
        let y = position("b", 0, false, "Y", 99);
        assert_eq!(
            winner(&x, &y),
            None,
            "unrelated data without a journal: ask"
        );
        let (mut x0, mut y0) = (x, y);
        x0.keys = 0;
        y0.keys = 0;
        assert_eq!(winner(&x0, &y0).as_deref(), Some("a"), "both empty: begin");
        let mut serving = position("b", 0, false, "Y", 50);
        serving.serving = true;
        let mut follower = position("a", 0, false, "Y", 50);
        follower.follows_peer = true;
        assert_eq!(
            winner(&serving, &follower).as_deref(),
            Some("b"),
            "the group as it is"
        );
    }

    #[test]
    fn who_has_promised_not_to_go_on_does_so_only_with_all_that_the_other_one_has_left() {
        let barred = |offset| Position {
            barred: Some(Epoch {
                counter: 3,
                host: HostId::new("a"),
            }),
            ..position("b", 3, false, "L", offset)
        };
        let mut primary = position("a", 3, true, "L", 1000);
        assert_eq!(winner(&primary, &barred(900)).as_deref(), Some("a"));
        assert_eq!(winner(&primary, &barred(1000)).as_deref(), Some("a"));
        // Its snapshot was older; what it had acknowledged alone beyond that died with it.
        assert_eq!(winner(&primary, &barred(1001)).as_deref(), Some("b"));
        // How much an AOF has beyond the last mark is not known.
        primary.basis = Basis::JournalMark;
        assert_eq!(winner(&primary, &barred(1001)), None);
        assert_eq!(winner(&primary, &barred(900)).as_deref(), Some("a"));
        primary.keys = 0;
        assert_eq!(winner(&primary, &barred(900)), None, "a person is asked");
        assert_eq!(
            winner(&barred(900), &{
                let mut other = barred(900);
                other.host = HostId::new("a");
                other
            }),
            None
        );
    }

    #[test]
    fn alone_only_the_journaled_primary_with_all_its_data_goes_on() {
        let own = position("a", 3, true, "L", 1000);
        assert!(alone(&own, true, Some(Offset(1000))).is_ok());
        assert!(alone(&own, true, None).is_ok());
        assert!(
            alone(&own, false, None).is_err(),
            "a replica waits for a person"
        );
        assert!(
            alone(&own, true, Some(Offset(1001))).is_err(),
            "the peer was known to have more"
        );
        let mut empty = own;
        empty.keys = 0;
        assert!(
            alone(&empty, true, Some(Offset(0))).is_err(),
            "an empty primary does not go on"
        );
    }
}
