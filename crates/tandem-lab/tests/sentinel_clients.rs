//! Unmodified client libraries against a fleet: they discover the primary, follow a failover, and write again.
//!
//! redis-rs is a dependency of this test; the others are programs of their own ([`tandem_lab::libraries`]). Where one
//! cannot be had, its test says so.

#![allow(clippy::unwrap_used)] // A panic in a test is its report.

use std::time::{Duration, Instant};

use redis::sentinel::{SentinelClient, SentinelServerType};
use tandem_lab::fleet::{Fleet, Plan, Program};
use tandem_lab::libraries::{Library, follow};
use tandem_lab::ns::Host;
use tandem_lab::{can_run, poll, skip};

const BOUND: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(20);

fn follows_a_failover(test: &str, library: Library, program: Program) {
    let command = match library.command() {
        Ok(command) => command,
        Err(reason) => {
            // Not a failure even where nothing may be skipped: a registry that is away is no defect of ours.
            println!("skipped: {test}: {library} cannot be had: {reason:#}");
            return;
        }
    };
    if !can_run(test) {
        return;
    }
    if let Err(reason) = program.available() {
        skip(test, &format!("{reason:#}"));
        return;
    }
    let gap = follow(command, library.name(), program).unwrap();
    println!(
        "{library} with {program}: writes again after {:.1} s",
        gap.as_secs_f64()
    );
}

#[test]
fn redis_py_follows_real_sentinels() {
    follows_a_failover(
        "redis_py_follows_real_sentinels",
        Library::RedisPy,
        Program::Real,
    );
}

#[test]
fn redis_py_follows_tandem() {
    follows_a_failover("redis_py_follows_tandem", Library::RedisPy, Program::Tandem);
}

#[test]
fn ioredis_follows_real_sentinels() {
    follows_a_failover(
        "ioredis_follows_real_sentinels",
        Library::Ioredis,
        Program::Real,
    );
}

#[test]
fn ioredis_follows_tandem() {
    follows_a_failover("ioredis_follows_tandem", Library::Ioredis, Program::Tandem);
}

#[test]
fn node_redis_follows_real_sentinels() {
    follows_a_failover(
        "node_redis_follows_real_sentinels",
        Library::NodeRedis,
        Program::Real,
    );
}

#[test]
fn node_redis_follows_tandem() {
    follows_a_failover(
        "node_redis_follows_tandem",
        Library::NodeRedis,
        Program::Tandem,
    );
}

#[test]
fn go_redis_follows_real_sentinels() {
    follows_a_failover(
        "go_redis_follows_real_sentinels",
        Library::GoRedis,
        Program::Real,
    );
}

#[test]
fn go_redis_follows_tandem() {
    follows_a_failover("go_redis_follows_tandem", Library::GoRedis, Program::Tandem);
}

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
