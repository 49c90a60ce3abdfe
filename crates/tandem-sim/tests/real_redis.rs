//! The simulated Redis beside the real one: random scripts on two pairs of servers, and everything
//! that a keeper decides by must agree: roles, links, which lineages are equal, forgotten or renamed,
//! how offsets compare, keys, and whether a resync was partial or full.
//!
//! Needs `redis-server` 7.0 (Debian's package). The servers listen on free ports of the loopback.

use std::cmp::Ordering;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tandem_sim::chance::Chance;
use tandem_sim::redis::{Conn, Entry, Link, Persistence, Proc, Psync, Server, Snapshot, Target};

const WITHIN: Duration = Duration::from_secs(20);

/// One operation of a script, on one of the two servers.
#[derive(Clone, Copy, Debug)]
enum Op {
    Write(usize),
    Follow(usize),
    Promote(usize),
    Fence(usize),
    Save(usize),
    Kill(usize),
    Start(usize, bool),
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Seen {
    up: [bool; 2],
    primary: [bool; 2],
    link_up: [bool; 2],
    keys: [u64; 2],
    has_second: [bool; 2],
    renamed: [bool; 2],
    same_lineage: bool,
    first_is_second: [bool; 2],
    offsets: Option<i8>,
    second_to_offset: [Option<i8>; 2],
    partial: [u64; 2],
    full: [u64; 2],
}

/// One server's answers, from either world.
#[derive(Clone, Debug, Default)]
struct Info {
    primary: bool,
    link_up: bool,
    keys: u64,
    replid: String,
    replid2: String,
    second: u64,
    offset: u64,
    partial: u64,
    full: u64,
}

fn order(a: u64, b: u64) -> i8 {
    match a.cmp(&b) {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }
}

fn seen(infos: [Option<&Info>; 2], before: &[Option<String>; 2]) -> Seen {
    let mut out = Seen::default();
    for h in 0..2 {
        let Some(i) = infos[h] else { continue };
        out.up[h] = true;
        out.primary[h] = i.primary;
        out.link_up[h] = i.link_up;
        out.keys[h] = i.keys;
        out.has_second[h] = i.second > 0;
        out.renamed[h] = before[h].as_ref().is_some_and(|old| *old != i.replid);
        out.partial[h] = i.partial;
        out.full[h] = i.full;
    }
    if let [Some(a), Some(b)] = infos {
        out.same_lineage = a.replid == b.replid;
        out.first_is_second = [a.replid == b.replid2, b.replid == a.replid2];
        if out.same_lineage {
            out.offsets = Some(order(a.offset, b.offset));
        }
        if out.first_is_second[0] {
            out.second_to_offset[0] = Some(order(a.offset + 1, b.second));
        }
        if out.first_is_second[1] {
            out.second_to_offset[1] = Some(order(b.offset + 1, a.second));
        }
    }
    out
}

// --- the simulated pair -------------------------------------------------------------------------

struct Simulated {
    servers: [Server; 2],
    partial: [u64; 2],
    full: [u64; 2],
    chance: Chance,
    next: u32,
}

impl Simulated {
    fn run(&self, h: usize) -> Option<u64> {
        self.servers[h].proc.as_ref().map(|p| p.run)
    }

    fn attached(&self, h: usize) -> bool {
        let run = self.run(1 - h);
        matches!(self.servers[h].proc.as_ref().map(|p| &p.link),
            Some(Link::Up(conn)) if Some(conn.source) == run)
    }

    fn send(&mut self, h: usize, entries: &[Entry]) {
        if self.attached(1 - h) {
            for entry in entries {
                self.servers[1 - h].apply(*entry);
            }
        }
    }

    fn cut_replica(&mut self, h: usize) {
        if matches!(
            self.servers[1 - h].proc.as_ref().map(|p| &p.link),
            Some(Link::Up(_))
        ) {
            self.servers[1 - h].link_lost(0);
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Write(h) => {
                self.next += 1;
                if let Some(entries) = self.servers[h].write(self.next) {
                    self.send(h, &entries);
                }
            }
            Op::Follow(h) => {
                self.servers[h].replicaof(Some(Target::Peer), 0, &mut self.chance);
            }
            Op::Fence(h) => {
                self.servers[h].replicaof(Some(Target::Fence), 0, &mut self.chance);
            }
            Op::Promote(h) => {
                if self.servers[h].replicaof(None, 0, &mut self.chance) {
                    self.cut_replica(h);
                }
            }
            Op::Save(h) => {
                if self.servers[h].proc.is_some() {
                    self.servers[h].save();
                }
            }
            Op::Kill(h) => {
                if self.servers[h].proc.is_some() {
                    self.cut_replica(h);
                    self.servers[h].proc = None;
                    (self.partial[h], self.full[h]) = (0, 0);
                }
            }
            Op::Start(h, fenced) => {
                if self.servers[h].proc.is_none() {
                    self.servers[h].start(fenced, 0, 0, &mut self.chance);
                }
            }
        }
        for h in [0, 1, 0, 1] {
            self.connect(h);
        }
    }

    fn connect(&mut self, h: usize) {
        let p = 1 - h;
        let Some(proc) = &self.servers[h].proc else {
            return;
        };
        let wants = proc.of == Some(Target::Peer) && matches!(proc.link, Link::Down(_));
        let (cached, Some(source)) = (proc.cached, self.run(p)) else {
            return;
        };
        if !wants {
            return;
        }
        let (answer, rest) = self.servers[p].psync(cached, 0, 0, &mut self.chance);
        let conn = Conn::to(source);
        let theirs = self.servers[p]
            .proc
            .clone()
            .expect("its run was read above");
        match answer {
            Psync::Later => {}
            Psync::Partial => {
                self.partial[p] += 1;
                self.servers[h].continued(theirs.replid, conn);
                for entry in rest {
                    self.servers[h].apply(entry);
                }
            }
            Psync::Full => {
                self.full[p] += 1;
                let place = Some((theirs.replid, theirs.offset));
                self.servers[h].resynced(
                    Snapshot {
                        data: theirs.data,
                        place,
                    },
                    conn,
                );
            }
        }
    }

    fn info(&self, h: usize) -> Option<Info> {
        let proc = self.servers[h].proc.as_ref()?;
        Some(Info {
            primary: proc.is_primary(),
            link_up: proc.link_up(),
            keys: proc.data.len(),
            replid: format!("{:040x}", proc.replid),
            replid2: format!("{:040x}", proc.replid2),
            second: proc.second,
            offset: proc.offset,
            partial: self.partial[h],
            full: self.full[h],
        })
    }
}

// --- the real pair ------------------------------------------------------------------------------

struct Real {
    ports: [u16; 2],
    dirs: [tempfile::TempDir; 2],
    persistence: [Persistence; 2],
    children: [Option<Child>; 2],
    next: u32,
}

impl Drop for Real {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Real {
    fn ask(&self, h: usize, command: &str) -> Option<String> {
        let stream = TcpStream::connect(("127.0.0.1", self.ports[h])).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        (&stream)
            .write_all(format!("{command}\r\n").as_bytes())
            .ok()?;
        let mut reader = BufReader::new(&stream);
        let mut head = String::new();
        reader.read_line(&mut head).ok()?;
        match head.strip_prefix('$') {
            None => Some(head.trim().to_owned()),
            Some(length) => {
                let mut body = vec![0; length.trim().parse().ok()?];
                reader.read_exact(&mut body).ok()?;
                String::from_utf8(body).ok()
            }
        }
    }

    fn info(&self, h: usize) -> Option<Info> {
        let text = self.ask(h, "INFO everything")?;
        let field = |name: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or("")
        };
        let number = |name: &str| {
            field(name)
                .parse::<i64>()
                .map_or(0, |n| n.max(0).cast_unsigned())
        };
        let pid = u64::from(self.children[h].as_ref()?.id());
        assert_eq!(
            number("process_id"),
            pid,
            "another server answers on our port"
        );
        let keys = field("db0")
            .strip_prefix("keys=")
            .and_then(|r| r.split(',').next());
        (number("loading") == 0).then(|| Info {
            primary: field("role") == "master",
            link_up: field("master_link_status") == "up",
            keys: keys.map_or(0, |k| k.parse().unwrap_or(0)),
            replid: field("master_replid").to_owned(),
            replid2: field("master_replid2").to_owned(),
            second: number("second_repl_offset"),
            offset: number("master_repl_offset"),
            partial: number("sync_partial_ok"),
            full: number("sync_full"),
        })
    }

    fn start(&mut self, h: usize, fenced: bool) {
        let dir: &Path = self.dirs[h].path();
        let mut command = Command::new("redis-server");
        command
            .args([
                "--port",
                &self.ports[h].to_string(),
                "--bind",
                "127.0.0.1",
                "--dir",
            ])
            .arg(dir)
            .args(["--save", "", "--repl-diskless-sync-delay", "0"])
            .args([
                "--repl-ping-replica-period",
                "3600",
                "--enable-debug-command",
                "yes",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if self.persistence[h] == Persistence::Aof {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        }
        if fenced {
            command.args(["--replicaof", "127.0.0.1 1"]);
        }
        self.children[h] = Some(command.spawn().expect("redis-server runs"));
        let until = Instant::now() + WITHIN;
        while self.info(h).is_none() {
            assert!(Instant::now() < until, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Write(h) => {
                self.next += 1;
                let n = self.next;
                self.ask(h, &format!("SET key:{n:08} {n:08}"));
            }
            Op::Follow(h) => {
                let port = self.ports[1 - h];
                self.ask(h, &format!("REPLICAOF 127.0.0.1 {port}"));
            }
            Op::Fence(h) => {
                self.ask(h, "REPLICAOF 127.0.0.1 1");
            }
            Op::Promote(h) => {
                self.ask(h, "REPLICAOF NO ONE");
            }
            Op::Save(h) => {
                self.ask(h, "SAVE");
            }
            Op::Kill(h) => {
                if let Some(mut child) = self.children[h].take() {
                    child.kill().expect("our own child");
                    child.wait().expect("our own child");
                }
            }
            Op::Start(h, fenced) => {
                if self.children[h].is_none() {
                    self.start(h, fenced);
                }
            }
        }
    }
}

fn free_ports() -> [u16; 2] {
    // Both at once: asked for one after the other, they may be the same.
    let listeners =
        [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

fn script(seed: u64) {
    let mut chance = Chance::new(seed);
    let kind = |chance: &mut Chance| match chance.within(0, 3) {
        0 => Persistence::None,
        1 => Persistence::Rdb,
        _ => Persistence::Aof,
    };
    let persistence = [kind(&mut chance), kind(&mut chance)];
    let mut real = Real {
        ports: free_ports(),
        dirs: [0, 1].map(|_| tempfile::tempdir().expect("a temporary directory")),
        persistence,
        children: [None, None],
        next: 0,
    };
    let mut simulated = Simulated {
        servers: persistence.map(|p| Server::new(p, 1 << 20)),
        partial: [0, 0],
        full: [0, 0],
        chance: Chance::new(seed + 1_000_000),
        next: 0,
    };
    let mut ops = vec![
        Op::Start(0, false),
        Op::Start(1, false),
        Op::Write(0),
        Op::Follow(1),
        Op::Write(0),
    ];
    for _ in 0..14 {
        let h = chance.host();
        ops.push(match chance.within(0, 12) {
            0..3 => Op::Write(h),
            3..5 => Op::Follow(h),
            5..7 => Op::Promote(h),
            7 => Op::Fence(h),
            8 => Op::Save(h),
            9 => Op::Kill(h),
            _ => Op::Start(h, chance.percent(50)),
        });
    }
    let mut before: [[Option<String>; 2]; 2] = Default::default();
    let mut done = Vec::new();
    for op in ops {
        // Two servers that follow each other are a circle, which the keeper never makes.
        let follows = |h: usize| {
            let proc: Option<&Proc> = simulated.servers[h].proc.as_ref();
            proc.is_some_and(|p| p.of == Some(Target::Peer))
        };
        if matches!(op, Op::Follow(h) if follows(1 - h)) {
            continue;
        }
        real.apply(op);
        simulated.apply(op);
        done.push(op);
        let model = [simulated.info(0), simulated.info(1)];
        let expected = seen([model[0].as_ref(), model[1].as_ref()], &before[0]);
        // Redis needs a moment to connect and to resync; it must end where the model is, and stay.
        let until = Instant::now() + WITHIN;
        let mut agreed = 0;
        let reading = loop {
            let reading = [0, 1].map(|h| real.children[h].as_ref().and_then(|_| real.info(h)));
            let found = seen([reading[0].as_ref(), reading[1].as_ref()], &before[1]);
            agreed = if found == expected { agreed + 1 } else { 0 };
            if agreed >= 3 {
                break reading;
            }
            assert!(
                Instant::now() < until,
                "seed {seed}, {persistence:?}, after {done:?}\nreal  {found:?}\nmodel {expected:?}\n{reading:?}\n{model:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        for h in 0..2 {
            before[0][h] = model[h].as_ref().map(|i| i.replid.clone());
            before[1][h] = reading[h].as_ref().map(|i| i.replid.clone());
        }
    }
}

#[test]
fn the_simulated_redis_agrees_with_the_real_one() {
    if Command::new("redis-server")
        .arg("--version")
        .output()
        .is_err()
    {
        assert!(
            std::env::var_os("CI").is_none(),
            "redis-server is missing: the model cannot be checked"
        );
        println!("SKIPPED the_simulated_redis_agrees_with_the_real_one: no redis-server");
        return;
    }
    for seed in 0..20 {
        script(seed);
    }
}
