//! A primary is killed under a proxy's clients: what they had sent and not been answered is done once or not at all, and
//! as a rule they do not notice.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

mod common;
#[path = "proxy_common/third.rs"]
mod third;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{BOUND, Rig, plain};
use tandem_lab::arrangement::{Arrangement, Fault};
use tandem_lab::can_run;
use tandem_lab::resp::{Connection, Reply};
use third::{UNKNOWN, proxy};

/// Each has one request under way nearly all of the time.
const CLIENTS: usize = 24;
/// Kills; one may come between a server's writing to its replica and to its clients, and then nothing can be repeated.
const KILLS: usize = 3;
/// Before and after each kill.
const STEADY: Duration = Duration::from_millis(400);

fn connect(rig: &Rig, to: SocketAddr) -> Connection {
    third::connect(rig, to, &["GET", "nothing"])
}

/// What one client did.
#[derive(Default)]
struct Story {
    /// Values that it pushed and was told so.
    pushed: Vec<String>,
    /// Increments that were acknowledged.
    counted: u64,
    /// Of each kind, those that nobody knows of.
    push_unknown: u64,
    count_unknown: u64,
    slowest: Duration,
}

/// Each client goes over so many keys: the one that it writes to was not written to since the last look at the server's
/// history, 20 ms before, or nothing could be proven of it.
const KEYS: usize = 256;

/// The list that a client pushes to at this turn. A few share one, on which their writes meet.
fn list(number: usize, turn: usize) -> String {
    if number < 4 {
        "list:shared".to_owned()
    } else {
        format!("list:{number}:{}", turn % KEYS)
    }
}

fn counter(number: usize, turn: usize) -> String {
    format!("count:{number}:{}", turn % KEYS)
}

/// Pushes values of its own and counts, by turns, until `stop`.
fn work(number: usize, mut client: Connection, stop: &AtomicBool) -> Story {
    let mut story = Story::default();
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let value = format!("{number}.{turn}");
        let push = turn % 2 == 0;
        let reply = if push {
            client.call(&["RPUSH", &list(number, turn), &value])
        } else {
            client.call(&["INCR", &counter(number, turn)])
        };
        story.slowest = story.slowest.max(began.elapsed());
        match reply.unwrap() {
            Reply::Error(text) => {
                assert!(text.starts_with(UNKNOWN), "client {number}: {text}");
                *(if push {
                    &mut story.push_unknown
                } else {
                    &mut story.count_unknown
                }) += 1;
            }
            _ if push => story.pushed.push(value),
            _ => story.counted += 1,
        }
    }
    story
}

#[test]
fn a_kill_makes_no_write_happen_twice_and_most_of_those_under_way_happen() {
    if !can_run("a_kill_makes_no_write_happen_twice_and_most_of_those_under_way_happen") {
        return;
    }
    let mut rig = Rig::start_of(plain().host_line("directory = \"servers\""));
    // With one thread all writes reach the server over one connection. Of several, it answers those that it read later before
    // it writes to its replica: a kill in between loses what it has acknowledged, with or without a proxy.
    let (_proxy, at) = proxy(&rig, 1, "");
    let stop = AtomicBool::new(false);
    let clients: Vec<Connection> = (0..CLIENTS).map(|_| connect(&rig, at)).collect();
    let mut stories = Vec::new();
    std::thread::scope(|scope| {
        let stop = &stop;
        let works: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(number, client)| scope.spawn(move || work(number, client, stop)))
            .collect();
        for kill in 0..KILLS {
            std::thread::sleep(STEADY);
            rig.inject(Fault::KillServer).unwrap();
            std::thread::sleep(STEADY);
            if kill + 1 < KILLS {
                rig.settle(BOUND).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
        stories.extend(works.into_iter().map(|work| work.join().unwrap()));
    });
    let side = rig.primary().unwrap().unwrap();
    let mut server = rig.pair().server(side).connect().unwrap();
    let mut there: BTreeMap<String, usize> = BTreeMap::new();
    let lists = (4..CLIENTS).flat_map(|number| (0..KEYS).map(move |turn| list(number, turn)));
    for list in lists.chain([list(0, 0)]) {
        let Reply::Array(values) = server.demand(&["LRANGE", &list, "0", "-1"]).unwrap() else {
            panic!("{list} is no list");
        };
        for value in values {
            *there.entry(value.text().unwrap()).or_default() += 1;
        }
    }
    let twice: Vec<_> = there.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "applied more than once: {twice:?}");
    let (mut unknown, mut acknowledged) = (0, 0);
    for (number, story) in stories.iter().enumerate() {
        for value in &story.pushed {
            assert!(
                there.contains_key(value),
                "{value} was acknowledged and is lost"
            );
        }
        let count: u64 = (0..KEYS)
            .filter_map(|turn| {
                server
                    .demand(&["GET", &counter(number, turn)])
                    .unwrap()
                    .text()
            })
            .map(|count| count.parse::<u64>().unwrap())
            .sum();
        let most = story.counted + story.count_unknown;
        assert!(
            (story.counted..=most).contains(&count),
            "client {number}: {count} is not between {} and {most}",
            story.counted
        );
        unknown += story.push_unknown + story.count_unknown;
        acknowledged += story.counted + story.pushed.len() as u64;
    }
    let slowest = stories.iter().map(|story| story.slowest).max().unwrap();
    println!(
        "{acknowledged} writes, {KILLS} kills with {CLIENTS} under way at each: {unknown} unknown, longest answer {:.1} ms",
        slowest.as_secs_f64() * 1000.0
    );
    let under_way = (KILLS * CLIENTS) as u64;
    assert!(
        unknown * 2 < under_way,
        "{unknown} of {under_way} are unknown"
    );
}
