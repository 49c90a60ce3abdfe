//! Standing by, the keeper has the segment asked now and then who answers for the addresses (rule 11).
//!
//! Nothing waits for the answers: the question is an output without a result, what comes back is an
//! input like any other, and all that becomes of it is an alarm.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tandem_vrrp::arp::Mac;

use crate::keeper::io::{Hook, Output, Severity};
use crate::keeper::{Keeper, Phase};
use crate::rules::Ruling;
use crate::rules::duplicate::{Answers, mac_text, strangers};

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// Between two questions while a duplicate is known, so that the alarm goes soon after its cause.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// A finding is shown for this long, unless a newer one replaces it: who carries the addresses does
/// not ask any more.
const SHOWN_FOR: Duration = Duration::from_secs(75);
/// Hardware addresses of the peer that are remembered. Beyond it they are learned anew.
const PEER_MACS_MAX: usize = 16;

/// What is known of duplicates.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    asked_at: Option<Instant>,
    peer: BTreeSet<Mac>,
    found: Option<(Finding, Instant)>,
}

#[derive(Debug)]
enum Finding {
    /// Nobody, or the peer.
    None,
    /// In words.
    Duplicate(String),
    /// It could not be asked.
    Unknown(String),
}

impl Keeper {
    /// Asks when it is time to.
    pub(super) fn ask_for_duplicates(&mut self, now: Instant) {
        let standby = match self.phase {
            Phase::Waiting { .. } | Phase::Replica { .. } | Phase::Rejoining(_) => true,
            Phase::Booting { .. }
            | Phase::Primary { .. }
            | Phase::TakingOver(_)
            | Phase::HandingOver(_)
            | Phase::Released { .. }
            | Phase::Split(_) => false,
        };
        let without = !self.front.vip && self.front.changing.is_none() && !self.front.vrrp_master;
        // A wish to be master is the beginning of a takeover: the group is not quiet.
        if self.settings.vip_lifetime.is_none() || !standby || !without || self.vrrp_want {
            return;
        }
        let known = matches!(self.duplicates.found, Some((Finding::Duplicate(_), _)));
        let pace = if known { ASK_AGAIN } else { ASK_EVERY };
        let asked = self.duplicates.asked_at;
        if asked.is_none_or(|at| now.saturating_duration_since(at) >= pace) {
            self.duplicates.asked_at = Some(now);
            self.out.push(Output::AskVip);
        }
    }

    pub(super) fn vip_answered(&mut self, answers: Result<Answers, String>, now: Instant) {
        let finding = match answers {
            Err(why) => Finding::Unknown(why),
            Ok(answers) => {
                let peer_carries = self.peer.statement.as_ref().is_some_and(|peer| peer.vip);
                let found = strangers(&answers, &self.duplicates.peer, peer_carries);
                if self.duplicates.peer.len() + answers.peer.len() > PEER_MACS_MAX {
                    self.duplicates.peer.clear();
                }
                let learned = answers.peer.into_iter().take(PEER_MACS_MAX);
                self.duplicates.peer.extend(learned);
                if found.is_empty() {
                    Finding::None
                } else {
                    let who: Vec<String> = found
                        .iter()
                        .map(|(vip, mac)| format!("{vip} answers from {}", mac_text(mac)))
                        .collect();
                    Finding::Duplicate(format!(
                        "{}, which is neither this host nor the peer: another machine has the \
                         group's address",
                        who.join(" and ")
                    ))
                }
            }
        };
        let was = self.said.contains_key("vip-duplicate");
        match &finding {
            Finding::Duplicate(text) => {
                self.said.remove("vip-duplicate-gone");
                let hook = Some(Hook::Fault);
                self.tell("vip-duplicate", Severity::Alarm, hook, text.clone());
            }
            Finding::None if was => {
                self.said.remove("vip-duplicate");
                let text = "nobody but the peer answers for the addresses any more";
                self.tell("vip-duplicate-gone", Severity::Info, None, text.to_owned());
            }
            Finding::None | Finding::Unknown(_) => {}
        }
        self.duplicates.found = Some((finding, now));
    }

    /// What is to be shown as an alarm.
    pub(super) fn duplicate_alarm(&self, now: Instant) -> Option<String> {
        match &self.duplicates.found {
            Some((Finding::Duplicate(text), at))
                if now.saturating_duration_since(*at) < SHOWN_FOR =>
            {
                Some(text.clone())
            }
            Some(_) | None => None,
        }
    }

    /// The rule as it stands, for people: it decides nothing.
    pub(super) fn duplicate_ruling(&self, now: Instant) -> Option<Ruling> {
        let (finding, at) = self.duplicates.found.as_ref()?;
        let age = now.saturating_duration_since(*at);
        if age >= SHOWN_FOR {
            return None;
        }
        let ruling = match finding {
            Finding::None => Ruling::yes(
                "vip.duplicate",
                "nobody but the peer answers for the addresses",
            ),
            Finding::Duplicate(text) => Ruling::no("vip.duplicate", text.clone()),
            Finding::Unknown(why) => {
                Ruling::wait("vip.duplicate", format!("could not be asked: {why}"))
            }
        };
        Some(ruling.aged(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::Input;
    use crate::rules::Says;

    /// No predecessor's addresses have to be taken off first.
    fn keeper(now: Instant) -> Keeper {
        let mut keeper = crate::keeper::testing::keeper(now);
        keeper.front.known = true;
        keeper
    }

    /// Feeds an input, and says whether the question came out and which events did.
    fn feed(keeper: &mut Keeper, input: Input, now: Instant) -> (bool, Vec<&'static str>) {
        let out = keeper.handle(input, now);
        let asked = out.iter().any(|out| matches!(out, Output::AskVip));
        let events = out
            .iter()
            .filter_map(|out| match out {
                Output::Event(event) => Some(event.name),
                _ => None,
            })
            .filter(|name| name.starts_with("vip-"))
            .collect();
        (asked, events)
    }

    fn answers(vip: &[u8]) -> Input {
        let mac = |last: u8| [2, 0, 0, 0, 0, last];
        Input::VipAnswers(Ok(Answers {
            own: [mac(1)].into(),
            peer: [mac(2)].into(),
            vips: [(
                "10.0.0.100".parse().unwrap(),
                vip.iter().copied().map(mac).collect(),
            )]
            .into(),
        }))
    }

    #[test]
    fn it_asks_at_its_pace_and_an_alarm_comes_and_goes() {
        let first = crate::testing::origin();
        let mut keeper = keeper(first);
        // Without a server it waits, and a host that waits stands by.
        assert!(feed(&mut keeper, Input::Tick, first).0);

        // The peer's answer is as it should be.
        assert_eq!(feed(&mut keeper, answers(&[2]), first), (false, vec![]));
        assert_eq!(keeper.duplicate_ruling(first).unwrap().says, Says::Yes);
        assert!(!feed(&mut keeper, Input::Tick, first + ASK_AGAIN).0);

        // A stranger's is an alarm, told once, and asked about more often.
        let second = first + ASK_EVERY;
        assert!(feed(&mut keeper, Input::Tick, second).0);
        let told = feed(&mut keeper, answers(&[2, 7]), second).1;
        assert_eq!(told, ["vip-duplicate"]);
        assert_eq!(feed(&mut keeper, answers(&[2, 7]), second).1, [""; 0]);
        let alarms = keeper.status(second).alarms;
        assert!(
            alarms.iter().any(|text| text.contains("02:00:00:00:00:07")),
            "{alarms:?}"
        );
        assert_eq!(keeper.duplicate_ruling(second).unwrap().says, Says::No);
        assert!(feed(&mut keeper, Input::Tick, second + ASK_AGAIN).0);

        let gone = feed(&mut keeper, answers(&[]), second + ASK_AGAIN).1;
        assert_eq!(gone, ["vip-duplicate-gone"]);
        assert_eq!(keeper.duplicate_alarm(second + ASK_AGAIN), None);
    }

    #[test]
    fn it_does_not_ask_where_the_group_is_not_quiet() {
        let start = crate::testing::origin();
        let later = start + ASK_EVERY;
        let asks = |change: fn(&mut Keeper)| {
            let mut keeper = keeper(start);
            assert!(feed(&mut keeper, Input::Tick, start).0);
            change(&mut keeper);
            keeper.ask_for_duplicates(later);
            keeper.out.iter().any(|out| matches!(out, Output::AskVip))
        };
        assert!(asks(|_| {}));
        assert!(!asks(|keeper| keeper.vrrp_want = true), "a takeover begins");
        assert!(!asks(|keeper| keeper.front.vip = true), "it is here");
        assert!(!asks(|keeper| keeper.front.vrrp_master = true), "it comes");
        assert!(!asks(|keeper| keeper.settings.vip_lifetime = None));
        assert!(!asks(|keeper| {
            let since = crate::testing::origin();
            keeper.phase = Phase::Primary { since };
        }));
    }

    #[test]
    fn a_finding_does_not_outlive_its_use() {
        let start = crate::testing::origin();
        let mut keeper = keeper(start);
        feed(&mut keeper, answers(&[7]), start);
        assert!(keeper.duplicate_alarm(start + SHOWN_FOR / 2).is_some());
        assert!(keeper.duplicate_alarm(start + SHOWN_FOR).is_none());
        let failed = Input::VipAnswers(Err("not permitted".to_owned()));
        feed(&mut keeper, failed, start + SHOWN_FOR);
        let ruling = keeper.duplicate_ruling(start + SHOWN_FOR).unwrap();
        assert_eq!(ruling.says, Says::Wait);
    }
}
