//! The port as clients see it, over loopback.

use tandem_config::settings::read;
use tandem_core::topology::{Forks, Member, Rank};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::*;

const FILE: &str = r#"
[host]
id = "a"
address = "10.0.0.1"
secret_file = "/etc/tandem/secret"
[[peer]]
id = "b"
address = "10.0.0.2"
[[group]]
name = "orders"
servers = ["10.0.0.1:6379"]
[group.vip]
addresses = ["2001:db8::100/64", "10.0.0.100/24"]
interface = "eth0"
[group.vrrp]
router_id = 51
priority = 100
"#;
const BOUND: Duration = Duration::from_secs(10);

fn settings(more: &str) -> Settings {
    let text = FILE.replace("[[peer]]", &format!("{more}\n[[peer]]"));
    let (settings, report) = read("tandem.toml", &text);
    settings.unwrap_or_else(|| panic!("{}", report.render(false)))
}

fn topology(primary: &str) -> Topology {
    let at = Endpoint::new(primary, 6379);
    Topology {
        alone: None,
        rank: Rank {
            epoch: 1,
            turn: 1,
            ..Rank::default()
        },
        primary: Some(at.clone()),
        closing: false,
        servers: vec![Member::unknown(at)],
        daemons: Vec::new(),
        forks: Forks::Untold,
    }
}

struct Rig {
    settings: Settings,
    told: Told,
    met: mpsc::Sender<Stranger>,
    listener: TcpListener,
}

impl Rig {
    /// A port that runs.
    async fn start(more: &str) -> Self {
        Self::with_servers(more, Vec::new()).await
    }

    async fn with_servers(more: &str, servers: Servers) -> Self {
        let settings = settings(more);
        let told = Told::here(&settings);
        let (met, strangers) = mpsc::channel(8);
        let path = std::path::Path::new("/etc/tandem/tandem.toml");
        let port = Port::new(&settings, path, &told, strangers).expect("a port");
        tokio::task::spawn_local(port.run(servers));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        Self {
            settings,
            told,
            met,
            listener,
        }
    }

    fn say(&self, primary: &str) {
        let group = &self.settings.groups[0];
        let address = self.told.address(group.vip.as_ref(), group.server);
        self.told.say(&group.name, address, topology(primary));
    }

    /// A client that has said this already when it is taken over.
    async fn client(&self, first: &[u8]) -> TcpStream {
        let address = self.listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), self.listener.accept());
        let (stream, _) = accepted.expect("accepted");
        let first = first.to_vec();
        assert!(self.met.send(Stranger { stream, first }).await.is_ok());
        client.expect("connected")
    }
}

/// Sends, and reads until the text is there.
async fn says(client: &mut TcpStream, request: &[u8], expected: &str) {
    client.write_all(request).await.expect("sent");
    let mut heard = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&heard).contains(expected) {
            assert_ne!(
                client.read_buf(&mut heard).await.expect("read"),
                0,
                "closed"
            );
        }
    };
    let read = tokio::time::timeout(BOUND, reading).await.is_ok();
    assert!(
        read,
        "{expected:?} not in {:?}",
        String::from_utf8_lossy(&heard)
    );
}

async fn in_time(test: impl Future<Output = ()>) {
    let local = LocalSet::new();
    local.run_until(test).await;
}

#[tokio::test]
async fn clients_find_the_primary_and_hear_of_the_next() {
    in_time(async {
        let rig = Rig::start("directory = \"servers\"").await;
        rig.say("10.0.0.1");
        // Its first bytes were read by whoever accepted it, and one of them was cut in half.
        let mut client = rig.client(b"SENTINEL get-master-addr-by-na").await;
        says(
            &mut client,
            b"me orders\r\n",
            "*2\r\n$8\r\n10.0.0.1\r\n$4\r\n6379\r\n",
        )
        .await;
        says(
            &mut client,
            b"SENTINEL get-master-addr-by-name x\r\n",
            "*-1\r\n",
        )
        .await;
        says(&mut client, b"INFO\r\n", "redis_mode:sentinel").await;
        says(&mut client, b"CLIENT SETINFO lib-name x\r\n", "+OK\r\n").await;
        says(&mut client, b"HELLO 3\r\n", "$8\r\nsentinel\r\n").await;
        let mut listening = rig.client(b"SUBSCRIBE +switch-master\r\n").await;
        says(&mut listening, b"", ":1\r\n").await;
        rig.say("10.0.0.2");
        says(&mut listening, b"", "orders 10.0.0.1 6379 10.0.0.2 6379").await;
    })
    .await;
}

#[tokio::test]
async fn a_group_with_a_vip_is_found_there_unless_the_file_says_otherwise() {
    in_time(async {
        let rig = Rig::start("").await;
        rig.say("10.0.0.1");
        let mut client = rig.client(b"").await;
        let ask = b"SENTINEL get-master-addr-by-name orders\r\n";
        says(&mut client, ask, "$10\r\n10.0.0.100\r\n").await;
    })
    .await;
}

#[tokio::test]
async fn nobody_can_disturb_it() {
    in_time(async {
        let rig = Rig::start("").await;
        rig.say("10.0.0.1");
        let mut client = rig.client(b"PING\r\n").await;
        says(&mut client, b"", "+PONG\r\n").await;
        for refused in [
            "SHUTDOWN",
            "CLIENT PAUSE 10000 ALL",
            "CLIENT KILL TYPE normal",
            "CLIENT LIST",
            "ACL SETUSER default off",
            "ACL LIST",
        ] {
            says(&mut client, format!("{refused}\r\n").as_bytes(), "-NOPERM ").await;
        }
        let elsewhere = "-ERR this port of a tandem daemon";
        says(&mut client, b"PUBLISH +switch-master x\r\n", elsewhere).await;
        says(&mut client, b"SENTINEL FAILOVER orders\r\n", elsewhere).await;
        // A request longer than any that makes sense ends the connection, before it was sent.
        says(
            &mut client,
            b"*2\r\n$9\r\nSUBSCRIBE\r\n$1000000\r\n",
            "-ERR Protocol error",
        )
        .await;
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(BOUND, client.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "still open");
        let mut other = rig.client(b"").await;
        says(&mut other, b"PING\r\n", "+PONG\r\n").await;
    })
    .await;
}

#[tokio::test]
async fn a_sentinel_that_asks_about_a_server_is_answered_by_its_group() {
    in_time(async {
        let (group, mut asked) = mpsc::channel(8);
        let servers = vec![("10.0.0.1:6379".parse().expect("an address"), group)];
        let rig = Rig::with_servers("", servers).await;
        tokio::task::spawn_local(async move {
            while let Some(Event::Control(Request::Witness(about), answer)) = asked.recv().await {
                let said = match about {
                    About::Life => daemon::Answer::Word(io::Word::Dead),
                    About::Tail => daemon::Answer::Word(io::Word::Owned),
                };
                let _ = answer.send(Answer::Witness(said));
            }
        });
        let mut sentinel = rig.client(b"").await;
        let ask =
            |verb: &str, at: &str| format!("SENTINEL TANDEM {verb} {at} 6379\r\n").into_bytes();
        says(
            &mut sentinel,
            &ask("ARCHIVE", "10.0.0.1"),
            "*2\r\n$5\r\nowned\r\n",
        )
        .await;
        says(
            &mut sentinel,
            &ask("life", "10.0.0.1"),
            "*2\r\n$4\r\ndead\r\n",
        )
        .await;
        let elsewhere = "*2\r\n$10\r\nunarchived\r\n";
        says(&mut sentinel, &ask("ARCHIVE", "10.0.0.9"), elsewhere).await;
        // Any other word of ours is refused as before.
        says(&mut sentinel, b"SENTINEL TANDEM\r\n", "-ERR this port").await;
    })
    .await;
}
