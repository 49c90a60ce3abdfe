//! The lab's own promises: hosts reach each other, and each fault breaks what it says and nothing else.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use tandem_lab::can_run;
use tandem_lab::ns::{Host, Lab};

const PORT: u16 = 7000;

/// Whether a connection from one host to the other's listener is made.
fn reaches(from: &Host, to: &Host) -> bool {
    from.connect(
        SocketAddr::new(to.address(), PORT),
        Duration::from_millis(300),
    )
    .is_ok()
}

/// Listens on every host; the kernel completes connections without anybody accepting.
fn listen(lab: &Lab) -> Vec<TcpListener> {
    lab.hosts()
        .iter()
        .map(|host| {
            host.enter(|| TcpListener::bind(("0.0.0.0", PORT)))
                .expect("the host's network")
                .expect("a free port")
        })
        .collect()
}

#[test]
fn a_cut_separates_two_hosts_and_leaves_the_others() {
    if !can_run("a_cut_separates_two_hosts_and_leaves_the_others") {
        return;
    }
    let lab = Lab::pair().unwrap();
    let _listeners = listen(&lab);
    let (a, b, client) = (lab.host("a"), lab.host("b"), lab.host("client"));
    assert!(reaches(a, b) && reaches(b, a) && reaches(client, a) && reaches(client, b));

    lab.cut("a", "b").unwrap();
    assert!(!reaches(a, b) && !reaches(b, a));
    assert!(reaches(client, a) && reaches(client, b));

    lab.heal().unwrap();
    assert!(reaches(a, b) && reaches(b, a));

    lab.isolate("a").unwrap();
    assert!(!reaches(client, a) && !reaches(b, a));
    assert!(reaches(client, b));
}

#[test]
fn a_one_way_cut_lets_the_other_direction_pass() {
    if !can_run("a_one_way_cut_lets_the_other_direction_pass") {
        return;
    }
    let lab = Lab::pair().unwrap();
    let (a, b) = (lab.host("a"), lab.host("b"));
    // UDP, since TCP needs both directions. A first exchange fills the neighbour tables, which ARP could not later.
    let bind = |host: &Host| {
        let socket = host
            .enter(|| std::net::UdpSocket::bind((host.address(), PORT)))
            .unwrap()
            .unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        socket
    };
    let (at_a, at_b) = (bind(a), bind(b));
    let mut buffer = [0; 8];
    at_a.send_to(b"1", (b.address(), PORT)).unwrap();
    assert_eq!(at_b.recv(&mut buffer).unwrap(), 1);
    at_b.send_to(b"2", (a.address(), PORT)).unwrap();
    assert_eq!(at_a.recv(&mut buffer).unwrap(), 1);

    lab.cut_one_way("a", "b").unwrap();
    at_a.send_to(b"3", (b.address(), PORT)).unwrap();
    assert!(at_b.recv(&mut buffer).is_err());
    at_b.send_to(b"4", (a.address(), PORT)).unwrap();
    assert_eq!(at_a.recv(&mut buffer).unwrap(), 1);
}

#[test]
fn a_host_without_power_is_silent_and_comes_back_bare() {
    if !can_run("a_host_without_power_is_silent_and_comes_back_bare") {
        return;
    }
    let lab = Lab::pair().unwrap();
    let (a, b) = (lab.host("a"), lab.host("b"));
    let vip = "10.0.0.100".parse().unwrap();
    a.run("ip", &["addr", "add", "10.0.0.100/32", "dev", "eth0"])
        .unwrap();
    a.run("nft", &["add", "table", "inet", "leftover"]).unwrap();
    let mut process = a
        .spawn("sleeper", Command::new("sleep").arg("1000"))
        .unwrap();
    assert!(a.has_address(vip).unwrap());
    assert_eq!(a.pids(), [process.pid()]);

    let listener = a
        .enter(|| TcpListener::bind(("0.0.0.0", PORT)))
        .unwrap()
        .unwrap();
    assert!(reaches(b, a));
    lab.power_off("a").unwrap();
    assert!(!reaches(b, a));
    assert!(!process.wait().unwrap().success());

    lab.power_on("a").unwrap();
    assert_eq!(a.addresses().unwrap(), [a.address()]);
    assert!(
        a.run("nft", &["list", "ruleset"])
            .unwrap()
            .trim()
            .is_empty()
    );
    assert!(a.pids().is_empty());
    assert!(reaches(b, a));
    drop(listener);
}

#[test]
fn a_lab_leaves_nothing_behind() {
    if !can_run("a_lab_leaves_nothing_behind") {
        return;
    }
    let lab = Lab::pair().unwrap();
    let names: Vec<String> = lab
        .hosts()
        .iter()
        .map(|host| host.netns().to_owned())
        .collect();
    let dir = lab.dir().to_owned();
    let process = lab
        .host("b")
        .spawn("sleeper", Command::new("sleep").arg("1000"))
        .unwrap();
    let pid = process.pid();
    drop(lab);
    drop(process);
    let left: Vec<_> = std::fs::read_dir("/run/netns")
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        names
            .iter()
            .all(|name| !left.iter().any(|found| found == name.as_str())),
        "{left:?}"
    );
    assert!(!dir.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn the_next_lab_removes_what_a_dead_one_left() {
    if !can_run("the_next_lab_removes_what_a_dead_one_left") {
        return;
    }
    // The process is in its network before that gets its name: from then on any lab may remove both, also another test's.
    let mut left = Command::new("unshare")
        .args(["-n", "sleep", "1000"])
        .spawn()
        .unwrap();
    let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
    let pid = left.id().to_string();
    tandem_lab::poll::until(
        "the process to be inside",
        Duration::from_secs(10),
        Duration::from_millis(5),
        || {
            Ok(if network(&pid)? == network("self")? {
                Err("it is not".to_owned())
            } else {
                Ok(())
            })
        },
    )
    .unwrap();
    // Beyond the kernel's largest process id, so surely dead; the last part is ours.
    let name = format!("tandem-lab.4194305.1.0.left-by-{}", std::process::id());
    assert!(
        Command::new("ip")
            .args(["netns", "attach", &name, &pid])
            .status()
            .unwrap()
            .success()
    );

    let _lab = Lab::pair().unwrap();
    assert!(!left.wait().unwrap().success());
    assert!(!std::path::Path::new("/run/netns").join(&name).exists());
}
