//! FIFOs of `tandem vrrp`: readers that go and come back, and the script that reads one.

#![allow(clippy::unwrap_used, reason = "a helper fails as its test does")]

mod vrrp_common;

use std::time::Duration;

use tandem_lab::can_run_as_root;
use tandem_lab::ns::{Host, Lab};

use vrrp_common::{eventually, hang_up, has, read, script, state, tandem, wait, write};

fn config(host: &Host, priority: u8, globals: &str) -> String {
    format!(
        "global_defs {{\n script_user root\n vrrp_notify_priority_changes\n {globals}\n}}\nvrrp_instance VI_1 {{\n interface eth0\n version 3\n advert_int 0.1\n virtual_router_id 51\n priority {priority}\n notify_priority_changes\n virtual_ipaddress {{\n 10.0.0.100\n }}\n}}\n",
    )
    .replace("DIR", host.dir().to_str().unwrap())
}

/// Reads this many lines and closes the FIFO again.
fn take(host: &Host, lines: usize) -> Vec<String> {
    let fifo = host.dir().join("fifo");
    let text = host
        .run(
            "timeout",
            &[
                "20",
                "head",
                "-n",
                &lines.to_string(),
                fifo.to_str().unwrap(),
            ],
        )
        .unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn lines_wait_for_a_reader_that_went_away() {
    if !can_run_as_root("lines_wait_for_a_reader_that_went_away") {
        return;
    }
    let lab = Lab::builder().host("a", "10.0.0.1/24").build().unwrap();
    let host = lab.host("a");
    let globals = "vrrp_notify_fifo DIR/fifo";
    write(host, &config(host, 100, globals));
    let mut daemon = tandem(host);
    has(host, "10.0.0.100", true);
    assert_eq!(
        take(host, 2),
        [
            "INSTANCE \"VI_1\" BACKUP 100",
            "INSTANCE \"VI_1\" MASTER 100"
        ]
    );
    // Nobody reads now. Each reload with another priority is a line.
    for priority in [101, 102, 103] {
        write(host, &config(host, priority, globals));
        hang_up(host, &daemon);
        eventually("the new priority", || {
            state(host, "/instances/0/effective_priority") == priority
        });
    }
    assert_eq!(
        take(host, 3),
        [
            "INSTANCE \"VI_1\" MASTER_PRIORITY 101",
            "INSTANCE \"VI_1\" MASTER_PRIORITY 102",
            "INSTANCE \"VI_1\" MASTER_PRIORITY 103"
        ]
    );
    // A reader that makes the FIFO anew finds itself served.
    let fifo = host.dir().join("fifo");
    std::fs::remove_file(&fifo).unwrap();
    host.run("mkfifo", &[fifo.to_str().unwrap()]).unwrap();
    host.run("ip", &["link", "set", "eth0", "down"]).unwrap();
    assert_eq!(take(host, 1), ["INSTANCE \"VI_1\" FAULT 103"]);
    // With nobody to read them the last lines keep nothing from ending.
    let status = daemon.terminate(Duration::from_secs(20)).unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn the_script_that_reads_is_started_again_and_hears_the_end() {
    if !can_run_as_root("the_script_that_reads_is_started_again_and_hears_the_end") {
        return;
    }
    let lab = Lab::builder().host("a", "10.0.0.1/24").build().unwrap();
    let host = lab.host("a");
    let heard = host.dir().join("heard");
    // As readers are written: until the end of the FIFO.
    script(
        host,
        "reader.sh",
        &format!(
            "echo $$ > {0}.pid\nwhile read line; do echo \"$line\" >> {0}; done < $1",
            heard.display()
        ),
    );
    let globals = "notify_fifo DIR/fifo\n notify_fifo_script DIR/reader.sh";
    write(host, &config(host, 100, globals));
    let mut daemon = tandem(host);
    let pid = || read(&heard.with_extension("pid")).trim().to_owned();
    eventually("the reader to hear MASTER", || {
        read(&heard).ends_with("INSTANCE \"VI_1\" MASTER 100\n")
    });
    let first = pid();
    host.kill(first.parse().unwrap()).unwrap();
    write(host, &config(host, 120, globals));
    hang_up(host, &daemon);
    eventually("a new reader to hear what came meanwhile", || {
        read(&heard).ends_with("INSTANCE \"VI_1\" MASTER_PRIORITY 120\n")
    });
    assert_ne!(pid(), first);
    assert!(daemon.terminate(Duration::from_secs(20)).unwrap().success());
    let last = wait("the reader's last line", || {
        let text = read(&heard);
        match text.lines().next_back() {
            Some(last) if last.contains("STOP") => Ok(last.to_owned()),
            Some(_) | None => Err(text),
        }
    });
    assert_eq!(last, "INSTANCE \"VI_1\" STOP 120");
    assert!(
        !host.dir().join("fifo").exists(),
        "made by us, removed by us"
    );
}
