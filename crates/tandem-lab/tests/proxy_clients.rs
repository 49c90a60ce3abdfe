//! Clients that behave badly: the others behind the same proxy do not notice, and nothing of them stays.

mod proxy_common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use tandem_lab::chance::Chance;
use tandem_lab::poll;
use tandem_lab::proxy::Program;
use tandem_lab::resp::{Connection, Reply, encode};
use tandem_lab::usage;

use proxy_common::{BOUND, EVERY, Rig, each_proxy, repeated, stuff};

const MIB: usize = 1 << 20;
/// What a value of 64 MiB may take on its way: twice its size, since a large request is collected before it is sent on.
const COPIES_MIB: u64 = 160;

#[test]
fn clients_that_never_read_hold_up_nobody_and_little_memory() {
    each_proxy(
        "clients_that_never_read_hold_up_nobody_and_little_memory",
        |program| {
            let mut rig = Rig::start(program, &[]);
            let value = "v".repeat(MIB);
            rig.client().demand(&["SET", "large", &value]).unwrap();
            let before = rig.resident_mib();
            rig.bystanders_do_not_notice("reads", |rig, workload| {
                let (count, asked) = (4, 50);
                let clients: Vec<TcpStream> = (0..count)
                    .map(|_| {
                        let mut stream = rig.stream();
                        stuff(&mut stream, &repeated(&["GET", "large"], asked));
                        stream
                    })
                    .collect();
                for _ in 0..5 {
                    workload.wait_for_each(proxy_common::SOME, BOUND).unwrap();
                    let grown = rig.resident_mib().saturating_sub(before);
                    // nutcracker holds all of the 200 MiB.
                    assert!(program != Program::Tandem || grown < 64, "{grown} MiB");
                }
                drop(clients);
            });
        },
    );
}

#[test]
fn a_half_closed_client_gets_what_it_asked_for_and_then_the_end() {
    let test = "a_half_closed_client_gets_what_it_asked_for_and_then_the_end";
    each_proxy(test, |program| {
        let mut rig = Rig::start(program, &[]);
        rig.bystanders_do_not_notice("half", |rig, _| {
            let mut stream = rig.stream();
            let mut due = Vec::new();
            for number in 0..100 {
                let (key, value) = (format!("half:{number}"), number.to_string());
                stream.write_all(&encode(&["SET", &key, &value])).unwrap();
                stream.write_all(&encode(&["GET", &key])).unwrap();
                due.extend(format!("+OK\r\n${}\r\n{value}\r\n", value.len()).bytes());
            }
            stream.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&due));
        });
    });
}

#[test]
fn a_half_closed_client_without_requests_is_let_go() {
    each_proxy(
        "a_half_closed_client_without_requests_is_let_go",
        |program| {
            let mut rig = Rig::start(program, &[]);
            rig.bystanders_do_not_notice("idle", |rig, _| {
                let with_bystanders = rig.descriptors_at_rest();
                let clients: Vec<TcpStream> = (0..50).map(|_| rig.stream()).collect();
                for client in &clients {
                    client.shutdown(Shutdown::Write).unwrap();
                }
                // While the clients still hold their side.
                rig.descriptors_return(with_bystanders);
                drop(clients);
            });
        },
    );
}

#[test]
fn a_thousand_requests_and_a_reset_disturb_nobody() {
    each_proxy(
        "a_thousand_requests_and_a_reset_disturb_nobody",
        |program| {
            let mut rig = Rig::start(program, &[]);
            rig.bystanders_do_not_notice("reset", |rig, workload| {
                for _ in 0..20 {
                    let mut stream = rig.stream();
                    stuff(&mut stream, &repeated(&["INCR", "reset:n"], 1000));
                    // Closing a socket whose answers were not read resets the connection.
                    poll::until("a first answer", BOUND, EVERY, || {
                        let seen = stream.peek(&mut [0; 1])?;
                        Ok(if seen > 0 {
                            Ok(())
                        } else {
                            Err("none".to_owned())
                        })
                    })
                    .unwrap();
                    drop(stream);
                    workload.wait_for_each(5, BOUND).unwrap();
                }
            });
        },
    );
}

#[test]
fn garbage_closes_its_own_connection() {
    each_proxy("garbage_closes_its_own_connection", |program| {
        let mut rig = Rig::start(program, &[]);
        if program == Program::Nutcracker {
            // It keeps a connection for ever when garbage and its end come in the same turn, seen on a busy machine.
            rig.leaks = 25;
        }
        rig.bystanders_do_not_notice("garbage", |rig, _| {
            for garbage in [
                &b"*99999999999\r\n"[..],
                b"*x\r\n",
                b"*1\r\n$99999999999999999999\r\n",
                b"*2\r\n$3\r\nGET\r\n+x\r\n",
                b"*2\r\n$3\r\nGET\r\n$-7\r\n",
            ] {
                let mut stream = rig.stream();
                stream.write_all(garbage).unwrap();
                // nutcracker waits for the end of some of them.
                if program == Program::Tandem {
                    let mut said = Vec::new();
                    // The end, or a reset: an error of its own may come before it.
                    let _ = stream.read_to_end(&mut said);
                    let said = String::from_utf8_lossy(&said);
                    assert!(said.is_empty() || said.starts_with('-'), "{said}");
                }
            }
            let mut chance = Chance::new(1);
            for _ in 0..20 {
                let noise: Vec<u8> = (0..8192)
                    .flat_map(|_| chance.bits().to_le_bytes())
                    .collect();
                let mut stream = rig.stream();
                stuff(&mut stream, &noise);
            }
        });
    });
}

#[test]
fn requests_that_come_byte_by_byte_are_answered_like_others() {
    let test = "requests_that_come_byte_by_byte_are_answered_like_others";
    each_proxy(test, |program| {
        let mut rig = Rig::start(program, &[]);
        rig.bystanders_do_not_notice("slow", |rig, _| {
            let mut clients: Vec<(Connection, Vec<u8>)> = (0..20)
                .map(|number| {
                    let (first, second) = (format!("slow:{number}"), format!("slow:{number}b"));
                    let value = format!("of {number}");
                    let bytes = [
                        encode(&["SET", &first, &value]),
                        encode(&["GET", &first]),
                        encode(&["MGET", &second, &first]),
                    ];
                    (rig.client(), bytes.concat())
                })
                .collect();
            let longest = clients.iter().map(|(_, bytes)| bytes.len()).max().unwrap();
            for at in 0..longest {
                for (client, bytes) in &mut clients {
                    if let Some(byte) = bytes.get(at) {
                        client.send(&[*byte]).unwrap();
                    }
                }
            }
            for (number, (client, _)) in clients.iter_mut().enumerate() {
                let value = Reply::Bulk(Some(format!("of {number}").into_bytes()));
                let due = [
                    Reply::Simple("OK".to_owned()),
                    value.clone(),
                    Reply::Array(vec![Reply::Bulk(None), value]),
                ];
                for due in due {
                    assert_eq!(client.read().unwrap(), due);
                }
            }
        });
    });
}

#[test]
fn two_thousand_clients_at_once_are_all_served_and_leave_nothing() {
    let test = "two_thousand_clients_at_once_are_all_served_and_leave_nothing";
    usage::allow_descriptors(8000).unwrap();
    each_proxy(test, |program| {
        let mut rig = Rig::start(program, &[]);
        rig.bystanders_do_not_notice("many", |rig, _| {
            let address = rig.proxy.address();
            let mut clients: Vec<Connection> = rig
                .host()
                .enter(|| {
                    let connect = |_| {
                        let stream = TcpStream::connect_timeout(&address, BOUND).unwrap();
                        Connection::over(stream, BOUND).unwrap()
                    };
                    (0..2000).map(connect).collect()
                })
                .unwrap();
            for (number, client) in clients.iter_mut().enumerate() {
                let (key, value) = (format!("many:{number}"), format!("of {number}"));
                let both = [encode(&["SET", &key, &value]), encode(&["GET", &key])];
                client.send(&both.concat()).unwrap();
            }
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.read().unwrap(), Reply::Simple("OK".to_owned()));
                let due = Reply::Bulk(Some(format!("of {number}").into_bytes()));
                assert_eq!(client.read().unwrap(), due);
            }
            assert!(rig.descriptors() >= 2000);
        });
    });
}

#[test]
fn a_large_value_passes_unchanged_beside_small_ones() {
    each_proxy(
        "a_large_value_passes_unchanged_beside_small_ones",
        |program| {
            let mut rig = Rig::start(program, &[]);
            // The connection that carried it stays for the next large request.
            rig.leaks = usize::from(program == Program::Tandem);
            let pid = rig.proxy.process().pid();
            rig.bystanders_do_not_notice("large", |rig, _| {
                usage::forget_peak(pid).unwrap();
                let before = usage::resident_bytes(pid).unwrap();
                // One less than the lab's own limit; no piece of it is like another of the same length.
                let value: String = (0_u64..)
                    .map(|n| format!("{n:08x}"))
                    .take(8 * MIB - 1)
                    .collect();
                let mut client = rig.client();
                client.demand(&["SET", "large", &value]).unwrap();
                let read = client.demand(&["GET", "large"]).unwrap();
                // Not compared by assert_eq, which would print it.
                assert!(
                    read == Reply::Bulk(Some(value.into_bytes())),
                    "it is another"
                );
                let peak = (usage::peak_bytes(pid).unwrap().saturating_sub(before)) >> 20;
                assert!(
                    program != Program::Tandem || peak < COPIES_MIB,
                    "{peak} MiB"
                );
            });
        },
    );
}
