//! Unmodified client libraries against a fleet: they discover the primary, follow a failover, and write again.
//!
//! redis-rs is a dependency of this test. redis-py, ioredis and node-redis are installed once into the lab's cache
//! directory by their own package managers; where one cannot be had, its test says so. Jedis, Lettuce and go-redis are
//! on no registry that the lab uses.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use redis::sentinel::{SentinelClient, SentinelServerType};
use tandem_lab::fleet::{Fleet, Plan, Program};
use tandem_lab::ns::Host;
use tandem_lab::{can_run, poll, skip};

const BOUND: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(20);

/// A fleet of three Sentinels of one kind, if that kind can be had.
fn fleet(test: &str, program: Program) -> Option<Fleet> {
    if !can_run(test) {
        return None;
    }
    if let Err(reason) = program.available() {
        skip(test, &format!("{reason:#}"));
        return None;
    }
    let mut fleet = Fleet::build(Plan::of(2, &[program; 3]).hurried()).unwrap();
    fleet.start(BOUND).unwrap();
    Some(fleet)
}

fn holds(fleet: &Fleet, server: usize, number: u64) -> bool {
    let mut connection = fleet.servers()[server].connect().unwrap();
    let value = connection.demand(&["GET", &format!("client:{number}")]);
    value.unwrap().text() == Some(number.to_string())
}

/// A library in a program of its own that prints a line for each of its writes.
struct Library {
    name: &'static str,
    runs: fn() -> anyhow::Result<Command>,
}

fn follows_a_failover(test: &str, library: &Library, program: Program) {
    let command = match (library.runs)() {
        Ok(command) => command,
        Err(reason) => {
            // Not a failure even where nothing may be skipped: a registry that is away is no defect of ours.
            println!(
                "skipped: {test}: {} cannot be had: {reason:#}",
                library.name
            );
            return;
        }
    };
    let Some(fleet) = fleet(test, program) else {
        return;
    };
    let mut command = command;
    command.arg(fleet.group());
    for member in fleet.members() {
        command.arg(member.address().to_string());
    }
    let client = fleet
        .client_host()
        .spawn(library.name, &mut command)
        .unwrap();
    let last_write = |after: u64| {
        poll::until(&format!("{} to write", library.name), BOUND, EVERY, || {
            let text = std::fs::read_to_string(client.log()).unwrap_or_default();
            let written = text
                .lines()
                .rev()
                .find_map(|line| line.strip_prefix("ok ")?.trim().parse::<u64>().ok())
                .filter(|number| *number > after);
            Ok(written.ok_or_else(|| text.lines().rev().take(3).collect::<Vec<_>>().join(" | ")))
        })
        .unwrap()
    };
    let first = last_write(0);
    assert!(holds(&fleet, 0, first), "{} wrote elsewhere", library.name);

    let begun = Instant::now();
    fleet.servers()[0].process().kill();
    poll::until("the other server to be named", BOUND, EVERY, || {
        let named = fleet.agreed()?;
        Ok(if named == Ok(fleet.servers()[1].address()) {
            Ok(())
        } else {
            Err(format!("{named:?}"))
        })
    })
    .unwrap();
    // Everything that is acknowledged after the old primary's death was written to the new one.
    let before = last_write(0);
    let after = last_write(before);
    assert!(holds(&fleet, 1, after), "{} wrote elsewhere", library.name);
    println!(
        "{} with {program}: writes again after {:.1} s",
        library.name,
        begun.elapsed().as_secs_f64()
    );
}

/// The directory in which the libraries are installed.
fn cache(what: &str) -> anyhow::Result<PathBuf> {
    let root = match std::env::var_os("TANDEM_LAB_SERVERS") {
        Some(named) => PathBuf::from(named),
        None => PathBuf::from(
            std::env::var_os("HOME").ok_or_else(|| anyhow::anyhow!("HOME is not set"))?,
        )
        .join(".cache/tandem-lab"),
    };
    let folder = root.join("clients").join(what);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn demand(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    anyhow::ensure!(output.status.success(), "{command:?}: {last}");
    Ok(())
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

fn redis_py() -> anyhow::Result<Command> {
    let folder = cache("python")?;
    let python = folder.join("bin/python");
    let works =
        |python: &Path| demand(Command::new(python).args(["-c", "import redis.sentinel"])).is_ok();
    if !works(&python) {
        demand(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let install = [
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            REDIS_PY,
        ];
        demand(Command::new(&python).args(install))?;
    }
    let mut command = Command::new(python);
    command.arg(script("redis_py.py"));
    Ok(command)
}

const REDIS_PY: &str = "redis==8.1.0";
const IOREDIS: &str = "ioredis@6.0.0";
const NODE_REDIS: &str = "redis@6.3.1";

fn node(package: &str, program: &str) -> anyhow::Result<Command> {
    let name = package.split('@').next().unwrap_or_default();
    let folder = cache("node")?;
    if !folder.join("node_modules").join(name).is_dir() {
        let install = [
            "install",
            "--no-audit",
            "--no-fund",
            "--silent",
            "--ignore-scripts",
        ];
        demand(
            Command::new("npm")
                .args(install)
                .arg("--prefix")
                .arg(&folder)
                .arg(package),
        )?;
    }
    demand(Command::new("node").arg("--version"))?;
    let mut command = Command::new("node");
    command
        .env("NODE_PATH", folder.join("node_modules"))
        .arg(script(program));
    Ok(command)
}

const LIBRARIES: [Library; 3] = [
    Library {
        name: "redis-py",
        runs: redis_py,
    },
    Library {
        name: "ioredis",
        runs: || node(IOREDIS, "ioredis.js"),
    },
    Library {
        name: "node-redis",
        runs: || node(NODE_REDIS, "node_redis.js"),
    },
];

#[test]
fn redis_py_follows_real_sentinels() {
    follows_a_failover(
        "redis_py_follows_real_sentinels",
        &LIBRARIES[0],
        Program::Real,
    );
}

#[test]
fn redis_py_follows_tandem() {
    follows_a_failover("redis_py_follows_tandem", &LIBRARIES[0], Program::Tandem);
}

#[test]
fn ioredis_follows_real_sentinels() {
    follows_a_failover(
        "ioredis_follows_real_sentinels",
        &LIBRARIES[1],
        Program::Real,
    );
}

#[test]
fn ioredis_follows_tandem() {
    follows_a_failover("ioredis_follows_tandem", &LIBRARIES[1], Program::Tandem);
}

#[test]
fn node_redis_follows_real_sentinels() {
    follows_a_failover(
        "node_redis_follows_real_sentinels",
        &LIBRARIES[2],
        Program::Real,
    );
}

#[test]
fn node_redis_follows_tandem() {
    follows_a_failover("node_redis_follows_tandem", &LIBRARIES[2], Program::Tandem);
}

/// A write by redis-rs over a connection that it makes for it.
fn write(host: &Host, client: &mut SentinelClient, number: u64) -> Result<(), String> {
    let work = || {
        let mut connection = client.get_connection()?;
        connection.set_write_timeout(Some(Duration::from_secs(1)))?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        redis::cmd("SET")
            .arg(format!("client:{number}"))
            .arg(number)
            .exec(&mut connection)
    };
    host.enter(work)
        .unwrap()
        .map_err(|error: redis::RedisError| error.to_string())
}

fn redis_rs(test: &str, program: Program) {
    let Some(fleet) = fleet(test, program) else {
        return;
    };
    let host = fleet.client_host();
    let sentinels: Vec<String> = fleet
        .members()
        .iter()
        .map(|member| format!("redis://{}", member.address()))
        .collect();
    let mut client = SentinelClient::build(
        sentinels,
        fleet.group().to_owned(),
        None,
        SentinelServerType::Master,
    )
    .unwrap();
    write(host, &mut client, 1).unwrap();
    assert!(holds(&fleet, 0, 1));

    let begun = Instant::now();
    fleet.servers()[0].process().kill();
    let mut number = 1;
    poll::until("redis-rs to write again", BOUND, EVERY, || {
        number += 1;
        Ok(write(host, &mut client, number))
    })
    .unwrap();
    assert!(holds(&fleet, 1, number));
    println!(
        "redis-rs with {program}: writes again after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
}

#[test]
fn redis_rs_follows_real_sentinels() {
    redis_rs("redis_rs_follows_real_sentinels", Program::Real);
}

#[test]
fn redis_rs_follows_tandem() {
    redis_rs("redis_rs_follows_tandem", Program::Tandem);
}
