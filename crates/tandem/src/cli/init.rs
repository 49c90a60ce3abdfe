//! `tandem init`: looks at the Redis that runs here and writes what tandem needs, once.
//!
//! Three files: a commented `tandem.toml`, the include that makes a restarted server come up as a replica of nobody (rule 18),
//! and a secret if there is none. Nothing that exists is replaced without `--force`, and a secret never. Redis itself and its
//! configuration are not touched: what to add there is printed.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tandem_config::settings::{InitFacts, init_template, read};
use tandem_config::value::IpPrefix;
use tandem_core::info::{Role, ServerInfo};
use tandem_core::server::FENCE_ADDRESS;

use crate::cli::check::Links;
use crate::cli::{DONE, FAILED, USAGE, at_path, block_on};
use crate::linux::users;
use crate::redis::client::Link;
use crate::redis::error::LinkError;
use crate::redis::ops::{self, OpError};
use crate::redis::raw::{Credentials, Target};

/// Priorities of the two hosts. High, because the wait for a silent peer is longer by (256 - priority) / 256 of the advert
/// interval (RFC 9568 section 6.1), which keeps several backups apart; a pair has one.
const FIRST: u8 = 250;
const SECOND: u8 = 240;
/// Where the template puts the secret.
const TEMPLATE_SECRET: &str = "\"/etc/tandem/secret\"";
/// The user of packaging/tandem.service.
const DAEMON_USER: &str = "tandem";
const SECRET_BYTES: usize = 32;
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// A host by name and address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its id.
    pub(crate) id: String,
    /// Its address.
    pub(crate) address: IpAddr,
}

/// `b=10.0.0.2`.
pub(crate) fn parse_named(text: &str) -> Result<Named, String> {
    let (id, address) = text
        .split_once('=')
        .ok_or("a name and an address are needed, such as b=10.0.0.2")?;
    let address = address
        .parse()
        .map_err(|_| format!("`{address}` is no address"))?;
    if id.is_empty() {
        return Err("the name before the = is empty".to_owned());
    }
    Ok(Named {
        id: id.to_owned(),
        address,
    })
}

fn parse_vip(text: &str) -> Result<IpPrefix, String> {
    text.parse()
        .map_err(|error: tandem_config::value::ValueError| error.0)
}

/// What is told; the rest is found out.
#[derive(Debug, clap::Args)]
pub(crate) struct InitOptions {
    /// Name and address of the other host.
    #[arg(long, value_name = "ID=ADDRESS", value_parser = parse_named)]
    peer: Named,
    /// The address that clients use, with its prefix.
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = parse_vip)]
    vip: IpPrefix,
    /// Name of this host; without it, the host's name.
    #[arg(long)]
    id: Option<String>,
    /// Address of this host; without it, the one from which the other host is reached.
    #[arg(long)]
    address: Option<IpAddr>,
    /// The interface for VIP and adverts; without it, the one that carries the address.
    #[arg(long)]
    interface: Option<String>,
    /// Name of the group, the same on both hosts.
    #[arg(long, default_value = "redis")]
    group: String,
    /// The Redis of this host; without it, port 6379 at this host's address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    server: Option<SocketAddr>,
    /// File with the server's password.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// VRID, the same on both hosts, and nobody else's on the segment.
    #[arg(long, default_value_t = 51, value_parser = clap::value_parser!(u8).range(1..))]
    router_id: u8,
    /// 1 to 254; without it, 250 for a primary and 240 for a replica.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=254))]
    priority: Option<u8>,
    /// Where to write.
    #[arg(long, default_value = "/etc/tandem")]
    dir: PathBuf,
    /// Replace files that exist; a secret is kept all the same.
    #[arg(long)]
    force: bool,
}

/// Does it.
pub(crate) fn init(options: &InitOptions) -> u8 {
    match prepare(options) {
        Ok(text) => {
            print!("{text}");
            DONE
        }
        Err((code, text)) => {
            eprint!("{text}");
            code
        }
    }
}

type Failure = (u8, String);

fn usage(text: impl std::fmt::Display) -> Failure {
    (USAGE, format!("tandem: {text}\n"))
}

fn prepare(options: &InitOptions) -> Result<String, Failure> {
    let address = match options.address {
        Some(address) => address,
        None => towards(options.peer.address).map_err(|error| {
            usage(format!(
                "{} is not reachable ({error}): --address names this host's",
                options.peer.address
            ))
        })?,
    };
    if address == options.peer.address {
        return Err(usage(format!(
            "{address} is this host's own address; --peer names the other host"
        )));
    }
    let interface = match &options.interface {
        Some(name) => name.clone(),
        None => Links::read()
            .carrying(address)
            .map(|link| link.name.clone())
            .ok_or_else(|| {
                usage(format!(
                    "no interface carries {address}: --interface names it"
                ))
            })?,
    };
    let host_id = options.id.clone().unwrap_or_else(host_name);
    if host_id == options.peer.id {
        return Err(usage(format!(
            "both hosts would be called {host_id}: --id names this one"
        )));
    }
    let server = options
        .server
        .unwrap_or_else(|| SocketAddr::new(address, 6379));
    let seen = look(server, options.password_file.as_deref())?;
    let is_replica = seen
        .as_ref()
        .is_ok_and(|info| info.role == Some(Role::Replica));
    let facts = InitFacts {
        host_id,
        host_address: address,
        peer_id: options.peer.id.clone(),
        peer_address: options.peer.address,
        group: options.group.clone(),
        server,
        password_file: options.password_file.clone(),
        vip: Some(options.vip),
        interface,
        router_id: options.router_id,
        priority: options
            .priority
            .unwrap_or(if is_replica { SECOND } else { FIRST }),
    };
    let paths = Paths::below(&options.dir);
    let toml =
        init_template(&facts).replace(TEMPLATE_SECRET, &format!("\"{}\"", paths.secret.display()));
    let (_, report) = read(&paths.toml.display().to_string(), &toml);
    if report.has_errors() {
        return Err((USAGE, report.render(io::stderr().is_terminal())));
    }
    let written = write(&paths, &toml, options.force)?;
    Ok(format!("{written}\n{}", told(&facts, &paths, &seen)))
}

struct Paths {
    toml: PathBuf,
    fence: PathBuf,
    secret: PathBuf,
}

impl Paths {
    fn below(dir: &Path) -> Self {
        Self {
            toml: dir.join("tandem.toml"),
            fence: dir.join("fence.conf"),
            secret: dir.join("secret"),
        }
    }
}

/// Writes the files; all that stand in the way are named before the first is written.
fn write(paths: &Paths, toml: &str, force: bool) -> Result<String, Failure> {
    let fence = fence_include();
    let same = |path: &Path, text: &str| fs::read(path).is_ok_and(|found| found == text.as_bytes());
    let in_the_way: Vec<String> = [(&paths.toml, toml), (&paths.fence, fence.as_str())]
        .into_iter()
        .filter(|(path, text)| path.exists() && !same(path, text))
        .map(|(path, _)| path.display().to_string())
        .collect();
    if !force && !in_the_way.is_empty() {
        return Err((
            FAILED,
            format!(
                "tandem: {} exists; --force replaces it, --dir writes elsewhere\n",
                in_the_way.join(" and ")
            ),
        ));
    }
    let failed = |error: io::Error| (FAILED, format!("tandem: {error}\n"));
    if let Some(dir) = paths.toml.parent() {
        fs::create_dir_all(dir).map_err(|error| failed(at_path(dir, &error)))?;
    }
    let mut out = String::new();
    write_new(&paths.toml, toml.as_bytes(), 0o644, true).map_err(failed)?;
    out.push_str(&format!("wrote {}\n", paths.toml.display()));
    // Redis reads it as its own user.
    write_new(&paths.fence, fence.as_bytes(), 0o644, true).map_err(failed)?;
    out.push_str(&format!("wrote {}\n", paths.fence.display()));
    if paths.secret.exists() {
        out.push_str(&format!("kept  {}\n", paths.secret.display()));
    } else {
        write_new(&paths.secret, &new_secret().map_err(failed)?, 0o600, false).map_err(failed)?;
        let owner = give_to_daemon(&paths.secret);
        out.push_str(&format!(
            "wrote {} (new, for {owner} only)
",
            paths.secret.display()
        ));
    }
    Ok(out)
}

/// The daemon's user reads the secret, where there is such a user. Gives the owner's name.
fn give_to_daemon(path: &Path) -> &'static str {
    let given = users::find(DAEMON_USER)
        .ok()
        .flatten()
        .is_some_and(|user| std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).is_ok());
    if given { DAEMON_USER } else { "its owner" }
}

/// The include of rule 18.
fn fence_include() -> String {
    format!(
        "# Included at the end of redis.conf. A server that somebody restarts comes up as a replica of nobody:\n\
         # it keeps its data, takes no writes and serves no resync, until tandem has decided what it is to be.\n\
         # Without a running tandem it stays so: redis-cli REPLICAOF NO ONE makes it a primary by hand.\n\
         replicaof {}\n",
        FENCE_ADDRESS.replace(':', " ")
    )
}

fn new_secret() -> io::Result<Vec<u8>> {
    let mut bytes = [0; SECRET_BYTES];
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if read < SECRET_BYTES {
        return Err(io::Error::other("the kernel gave too few random bytes"));
    }
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.push('\n');
    Ok(text.into_bytes())
}

/// Writes a file with its mode from the first moment; refuses to replace one unless told to.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32, replace: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).mode(mode);
    if replace {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut file = options.open(path).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            io::Error::new(
                error.kind(),
                format!("{} exists; --force replaces it", path.display()),
            )
        } else {
            at_path(path, &error)
        }
    })?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The server as it is now; the inner error is why it could not be asked, in words that go into the text.
fn look(
    server: SocketAddr,
    password_file: Option<&Path>,
) -> Result<Result<ServerInfo, String>, Failure> {
    let mut target = Target::new(server);
    if let Some(path) = password_file {
        let bytes = fs::read(path).map_err(|error| usage(at_path(path, &error)))?;
        let password = bytes.trim_ascii_end().to_vec();
        target.credentials = Some(Credentials {
            user: None,
            password,
        });
    }
    let by = Instant::now() + ANSWER_WITHIN;
    let asked = block_on(async {
        let link = Link::connect(&target, by).await?;
        ops::info(&link, by).await
    })
    .map_err(|error| (FAILED, format!("tandem: {error}\n")))?;
    match asked {
        Ok(info) if info.role.is_some() => Ok(Ok(info)),
        // INFO without a role is the answer NOAUTH.
        Ok(_)
        | Err(
            OpError::Refused { .. } | OpError::NotConfirmed(_) | OpError::Link(LinkError::Auth(_)),
        ) => Err(usage(format!(
            "redis at {server} wants a password: write it into a file of mode 600 and give --password-file"
        ))),
        Err(error @ (OpError::Link(_) | OpError::NotReached { .. })) => Ok(Err(error.to_string())),
    }
}

fn told(facts: &InitFacts, paths: &Paths, seen: &Result<ServerInfo, String>) -> String {
    let mut out = format!(
        "This host is {} at {} on {}.\n",
        facts.host_id, facts.host_address, facts.interface
    );
    match seen {
        Ok(info) => {
            let role = match info.role {
                Some(Role::Replica) => "a replica",
                Some(Role::Primary) | None => "a primary",
            };
            let version = info.redis_version.map(|version| version.to_string()).unwrap_or_default();
            out.push_str(&format!("Redis {version} at {} is {role} with {} keys.\n", facts.server, info.keys));
        }
        Err(why) => out.push_str(&format!(
            "No Redis was asked at {}: {why}. If it listens on the loopback only, its bind line must change.\n",
            facts.server
        )),
    }
    let (own, other) = (&facts.host_id, &facts.peer_id);
    let vip = facts.vip.map(|vip| vip.to_string()).unwrap_or_default();
    let other_priority = if facts.priority > SECOND {
        SECOND
    } else {
        FIRST
    };
    out.push_str(&format!(
        "\nWhat tandem will promise here:\n\
         \x20 redis dies            {other} takes over within milliseconds\n\
         \x20 a host dies           the other one takes over after three adverts, about a second\n\
         \x20 switchover            no acknowledged write is lost\n\
         \x20 the link is cut       both may take writes; when it heals one side wins, and what only the other\n\
         \x20                       side has is archived and listed before it is given up\n\
         \x20 redis is restarted    best effort, until the include below is in place\n\
         \x20 a replica lags        writes that had not reached it are lost with their host (replication is asynchronous)\n\
         \nWhat to do now:\n\
         \x20 1. Add this as the last line of redis.conf, on both hosts; it counts from the next start on:\n\
         \x20      include {fence}\n\
         \x20 2. Copy {secret} to {other}, same path, same owner, mode 600.\n\
         \x20 3. On {other}:\n\
         \x20      tandem init --id {other} --peer {own}={own_address} --vip {vip} --group {group} \\\n\
         \x20        --router-id {router_id} --priority {other_priority}\n\
         \x20 4. On both: tandem check, then systemctl enable --now tandem. The order does not matter.\n",
        fence = paths.fence.display(),
        secret = paths.secret.display(),
        own_address = facts.host_address,
        group = facts.group,
        router_id = facts.router_id,
    ));
    out
}

/// The address from which the kernel would talk to another; nothing is sent.
fn towards(peer: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match peer {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((peer, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// The host's name up to its first dot.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::after_restart_is_fenced;
    use std::os::unix::fs::PermissionsExt as _;

    fn facts() -> InitFacts {
        InitFacts {
            host_id: "a".to_owned(),
            host_address: "10.0.0.1".parse().unwrap(),
            peer_id: "b".to_owned(),
            peer_address: "10.0.0.2".parse().unwrap(),
            group: "redis".to_owned(),
            server: "10.0.0.1:6379".parse().unwrap(),
            password_file: None,
            vip: Some("10.0.0.9/24".parse().unwrap()),
            interface: "eth0".to_owned(),
            router_id: 51,
            priority: FIRST,
        }
    }

    #[test]
    fn peers_are_named() {
        let named = |id: &str, address: &str| Named {
            id: id.to_owned(),
            address: address.parse().unwrap(),
        };
        assert_eq!(parse_named("b=10.0.0.2"), Ok(named("b", "10.0.0.2")));
        assert_eq!(parse_named("b=fd00::2"), Ok(named("b", "fd00::2")));
        for wrong in ["10.0.0.2", "=10.0.0.2", "b=host"] {
            assert!(parse_named(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_exists_is_kept_unless_forced_and_a_secret_always() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        write(&paths, "first", false).unwrap();
        let secret = fs::read(&paths.secret).unwrap();
        assert_eq!(secret.trim_ascii().len(), 2 * SECRET_BYTES);
        assert_eq!(
            fs::metadata(&paths.secret).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // The same again is no conflict.
        write(&paths, "first", false).unwrap();
        let (code, text) = write(&paths, "second", false).unwrap_err();
        assert_eq!(code, FAILED);
        assert!(text.contains("tandem.toml exists"), "{text}");
        assert_eq!(fs::read_to_string(&paths.toml).unwrap(), "first");
        write(&paths, "second", true).unwrap();
        assert_eq!(fs::read_to_string(&paths.toml).unwrap(), "second");
        assert_eq!(fs::read(&paths.secret).unwrap(), secret);
    }

    #[test]
    fn the_include_is_what_check_looks_for() {
        assert!(after_restart_is_fenced(&fence_include()));
    }

    #[test]
    fn the_other_hosts_line_is_complete() {
        let dir = Paths::below(Path::new("/etc/tandem"));
        let text = told(
            &facts(),
            &dir,
            &Ok(ServerInfo::parse("role:master\r\nredis_version:7.0.15\r\n")),
        );
        assert!(
            text.contains("tandem init --id b --peer a=10.0.0.1 --vip 10.0.0.9/24 --group redis"),
            "{text}"
        );
        assert!(text.contains("--router-id 51 --priority 240"), "{text}");
        assert!(text.contains("include /etc/tandem/fence.conf"), "{text}");
    }
}
