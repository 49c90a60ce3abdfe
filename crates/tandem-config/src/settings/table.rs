//! The one table of the keys of `tandem.toml`: name, kind, default, meaning.
//!
//! A default is TOML text and is read by the same code as an operator's value, so table, documents and behaviour cannot drift
//! apart. Keys of coming versions are listed with the reason for which they are refused.

/// Is a key required, and what holds without it?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Must be given.
    Required,
    /// May be left out; the sentence in [`Key::doc`] says what that means.
    Optional,
    /// May be left out; this TOML value holds then.
    Default(&'static str),
    /// Known, but not in this version; the text says what to use instead.
    Later(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Where it stands: `group.vip.address` is `address` under `[group.vip]`.
    pub path: &'static str,
    /// What kind of value it takes, in the words of the reference.
    pub kind: &'static str,
    /// Whether it may be left out.
    pub presence: Presence,
    /// An example value in TOML, used by the template where there is no default.
    pub example: &'static str,
    /// What it means, in one sentence.
    pub doc: &'static str,
}

/// One table of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionInfo {
    /// Where it stands: `group.vip` is `[group.vip]`.
    pub path: &'static str,
    /// May it occur several times (`[[group]]`)?
    pub repeats: bool,
    /// What it describes, in one sentence.
    pub doc: &'static str,
}

impl SectionInfo {
    /// The header as it stands in a file: `[host]` or `[[peer]]`.
    pub fn header(&self) -> String {
        if self.repeats {
            format!("[[{}]]", self.path)
        } else {
            format!("[{}]", self.path)
        }
    }
}

impl Key {
    /// The section part of the path; empty for a key at the top of the file.
    pub fn section(&self) -> &'static str {
        self.path
            .rsplit_once('.')
            .map_or("", |(section, _)| section)
    }

    /// The last part of the path: the word that stands in the file.
    pub fn name(&self) -> &'static str {
        self.path
            .rsplit_once('.')
            .map_or(self.path, |(_, name)| name)
    }
}

/// The entry of a section, by path.
pub(super) fn section_info(path: &str) -> Option<&'static SectionInfo> {
    SECTIONS.iter().find(|section| section.path == path)
}

/// The entry of a key, by path.
pub(super) fn key(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The sections of the file, in the order of the reference.
pub const SECTIONS: &[SectionInfo] = &[
    SectionInfo {
        path: "host",
        repeats: false,
        doc: "This host.",
    },
    SectionInfo {
        path: "peer",
        repeats: true,
        doc: "Another host that runs tandem; a pair has exactly one.",
    },
    SectionInfo {
        path: "group",
        repeats: true,
        doc: "One primary with its replicas; a host may look after several groups.",
    },
    SectionInfo {
        path: "group.vip",
        repeats: false,
        doc: "Addresses that follow the group's primary; may be left out.",
    },
    SectionInfo {
        path: "group.vrrp",
        repeats: false,
        doc: "The pair's elector: VRRP proposes who is primary, the state of the data decides.",
    },
    SectionInfo {
        path: "group.vrrp.track_script",
        repeats: true,
        doc: "An extra check that counts in the election.",
    },
    SectionInfo {
        path: "group.local",
        repeats: false,
        doc: "In place of `[group.vrrp]`: both servers of the group are on this host, and this daemon alone keeps them. It has no keys.",
    },
    SectionInfo {
        path: "group.sentinel",
        repeats: false,
        doc: "In place of `[group.vrrp]`: an existing Sentinel fleet decides who is primary, and this host follows it.",
    },
    SectionInfo {
        path: "proxy",
        repeats: true,
        doc: "An address at which clients find any number of groups as one server, and notice no failover.",
    },
    SectionInfo {
        path: "proxy.group",
        repeats: true,
        doc: "A shard of the proxy that is no `[[group]]` of this host.",
    },
    SectionInfo {
        path: "proxy.user",
        repeats: true,
        doc: "A user of the proxy's own, with `users = \"proxy\"`; to the servers all of them are the one that `server_user` and `password_file` name.",
    },
    SectionInfo {
        path: "proxy.tls",
        repeats: false,
        doc: "Clients speak TLS at `listen`, and nothing else; the files are read again at a reload.",
    },
    SectionInfo {
        path: "proxy.server_tls",
        repeats: false,
        doc: "Servers are spoken to over TLS; the files are read again at a reload.",
    },
    SectionInfo {
        path: "proxy.vip",
        repeats: false,
        doc: "Addresses that are on one of the hosts that run this proxy, on one whose proxy answers; may be left out.",
    },
    SectionInfo {
        path: "proxy.vrrp",
        repeats: false,
        doc: "Which of those hosts has them: VRRP among the hosts, with the health of the proxy. Required with `[proxy.vip]`.",
    },
];

const fn required(
    path: &'static str,
    kind: &'static str,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        path,
        kind,
        presence: Presence::Required,
        example,
        doc,
    }
}

const fn optional(
    path: &'static str,
    kind: &'static str,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        path,
        kind,
        presence: Presence::Optional,
        example,
        doc,
    }
}

const fn default(
    path: &'static str,
    kind: &'static str,
    value: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        path,
        kind,
        presence: Presence::Default(value),
        example: value,
        doc,
    }
}

const fn later(path: &'static str, instead: &'static str) -> Key {
    Key {
        path,
        kind: "not in this version",
        presence: Presence::Later(instead),
        example: "",
        doc: "Reserved for a coming version; refused.",
    }
}

const USE_VRRP: &str = "this version elects a pair with [group.vrrp], keeps two servers of one host with [group.local], or follows a fleet with [group.sentinel]";

/// Every key, in the order of the reference.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    required("host.id", "name", "\"a\"",
        "Name of this host, distinct among the hosts."),
    required("host.address", "address", "\"10.0.0.1\"",
        "Where the other hosts reach this one."),
    optional("host.secret_file", "path", "\"/etc/tandem/secret\"",
        "File with the secret that the hosts share; required as soon as there is a peer."),
    default("host.state_dir", "path", "\"/var/lib/tandem\"",
        "Folder of the journal, the archive and the control socket."),
    default("host.port", "port", "26379",
        "Port for peers, the SENTINEL directory and redis-cli."),
    default("host.directory", "\"vip\" or \"servers\"", "\"vip\"",
        "Where Sentinel-aware clients of that port are sent: to the group's VIP, which is closed before its primary steps back, or to the primary's own address, as without a VIP."),
    later("host.tls", "peers authenticate each other by secret_file; keep the link on a private network"),

    required("peer.id", "name", "\"b\"",
        "Name of that host: the `id` in its own file."),
    required("peer.address", "address", "\"10.0.0.2\"",
        "Where it is reached: the `address` in its own file."),
    default("peer.port", "port", "26379",
        "The port it listens on: the `port` in its own file."),

    required("group.name", "name", "\"orders\"",
        "Name of the group, the same on all its hosts."),
    required("group.servers", "list of address:port", "[\"10.0.0.1:6379\"]",
        "The group's server on this host, as the other host reaches it; exactly one, or both under `[group.local]`."),
    default("group.manage", "\"adopt\", \"spawn\" or \"systemd\"", "\"adopt\"",
        "Who starts the server: it runs already, tandem starts it, or a systemd unit does."),
    optional("group.redis_conf", "path", "\"/etc/redis/redis.conf\"",
        "With manage = \"spawn\": the file to start the server with; required then."),
    optional("group.redis_server", "path", "\"/usr/bin/redis-server\"",
        "With manage = \"spawn\": the server's binary; without it, /usr/bin/redis-server."),
    optional("group.run_as", "name", "\"redis\"",
        "With manage = \"spawn\": the user to run the server as; without it, the daemon's own."),
    optional("group.unit", "text", "\"redis-server.service\"",
        "With manage = \"systemd\": the unit of the server; required then."),
    optional("group.username", "text", "\"tandem\"",
        "ACL user to log in as; without it, the default user."),
    optional("group.password_file", "path", "\"/etc/tandem/redis.password\"",
        "File with the password of the group's servers; a password itself never stands in this file."),
    default("group.down_after", "duration", "\"1s\"",
        "A server silent for this long, counted from its last answer, is down; proof of death needs no timeout."),
    default("group.preempt", "\"never\" or \"after-sync\"", "\"never\"",
        "Whether the host of higher priority takes the group back, by a switchover and only with equal data."),
    default("group.resync", "\"automatic\" or \"ask\"", "\"automatic\"",
        "Whether a full or diverged resync may start by itself or waits for `tandem resync`."),
    optional("group.resync_window", "window of the day", "\"02:00-05:00\"",
        "A full or diverged resync starts only inside this window, in local time; without it, at any time."),
    default("group.max_lag", "size", "\"1mb\"",
        "A replica further behind than this is not promoted."),
    default("group.boot_wait", "duration", "\"30s\"",
        "How long a host that starts alone waits for its peer before it decides."),
    default("group.flap_block", "duration", "\"10m\"",
        "For how long a second automatic failover is held back while the other side still shows life."),
    default("group.archive_keep", "duration", "\"30d\"",
        "Age at which archived writes are removed."),
    default("group.archive_max", "size", "\"10gb\"",
        "Size of all archives of the group at which the oldest are removed."),
    default("group.drain_deadline", "duration", "\"1s\"",
        "How long a promotion waits for what the dead primary's kernel still delivers."),
    default("group.switchover_deadline", "duration", "\"2s\"",
        "How long a planned handover may hold writes back before it is called off."),
    optional("group.on_promote", "command or commands", "[\"/usr/local/bin/promoted\"]",
        "Run after this host's server became primary."),
    optional("group.on_demote", "command or commands", "[\"/usr/local/bin/demoted\"]",
        "Run after this host's server stopped being primary."),
    optional("group.on_vip", "command or commands", "{ command = [\"/usr/local/bin/route\", \"add\"], timeout = \"10s\" }",
        "Run after the VIP appeared on this host, for a cloud's route or a DNS record."),
    optional("group.on_fault", "command or commands", "[\"/usr/local/bin/alarm\"]",
        "Run after this host became unable to hold the group."),
    later("group.tls", "connect to the servers without TLS, on this host or a private network"),
    later("group.votes", USE_VRRP),
    later("group.with", USE_VRRP),

    optional("group.vip.address", "address/prefix", "\"10.0.0.100/24\"",
        "The address; without a prefix it is the address alone (/32 or /128)."),
    optional("group.vip.addresses", "list of address/prefix", "[\"10.0.0.100/24\", \"2001:db8::100/64\"]",
        "Several addresses, of either family, in place of `address`."),
    required("group.vip.interface", "interface", "\"eth0\"",
        "The interface that carries them."),
    default("group.vip.lifetime", "duration", "\"3s\"",
        "How long an address outlives a daemon that was killed, in whole seconds; the kernel removes it then."),

    required("group.vrrp.router_id", "number", "51",
        "VRID from 1 to 255, the same on both hosts and used by nobody else on the segment."),
    required("group.vrrp.priority", "number", "100",
        "1 to 254; the higher one is preferred."),
    optional("group.vrrp.interface", "interface", "\"eth0\"",
        "The interface that carries the adverts; without it, the VIP's."),
    default("group.vrrp.advert_interval", "duration", "\"300ms\"",
        "Time between adverts: a multiple of 10ms up to 40.95s; in version 2 whole seconds up to 255s."),
    default("group.vrrp.version", "number", "3",
        "Version of VRRP on the wire: 3, or 2 for segments that filter it."),
    default("group.vrrp.unicast", "true or false", "false",
        "Send adverts to the peer's address rather than to the multicast group, for clouds that drop multicast."),
    default("group.vrrp.track_interface", "list of interface", "[]",
        "Further interfaces that must be up."),

    required("group.vrrp.track_script.script", "command", "[\"/usr/local/bin/check\"]",
        "Program and arguments, run without a shell; exit code 0 is good."),
    default("group.vrrp.track_script.interval", "duration", "\"1s\"",
        "Time from one start to the next."),
    optional("group.vrrp.track_script.timeout", "duration", "\"1s\"",
        "When a run is killed and counts as failed; without it, the interval."),
    default("group.vrrp.track_script.rise", "number", "1",
        "Successes in a row that make it good."),
    default("group.vrrp.track_script.fall", "number", "1",
        "Failures in a row that make it bad."),
    default("group.vrrp.track_script.weight", "number", "0",
        "0: a bad check is a fault of the host; positive: added to the priority while good; negative: taken off while bad."),

    required("group.sentinel.master", "name", "\"mymaster\"",
        "Name of the group in the fleet: the word after `sentinel monitor`."),
    required("group.sentinel.sentinels", "list of address:port", "[\"10.0.0.1:26379\", \"10.0.0.2:26379\", \"10.0.0.3:26379\"]",
        "The fleet's sentinels, as many of them as possible: a majority of these has to be heard at the start."),
    optional("group.sentinel.username", "text", "\"tandem\"",
        "ACL user to log in as at the sentinels; without it, the default user."),
    optional("group.sentinel.password_file", "path", "\"/etc/tandem/sentinel.password\"",
        "File with the password for the sentinels."),

    required("proxy.listen", "address:port", "\"10.0.0.200:6379\"",
        "Where clients connect."),
    optional("proxy.name", "name", "\"front\"",
        "Name in statistics and logs; without it, `proxy-` and the port."),
    optional("proxy.groups", "list of name", "[\"orders-a\", \"orders-b\"]",
        "Required, unless `cluster` is given. The shards: groups of this host or of `[[proxy.group]]`. One: plain; several: keys are spread over them by name."),
    optional("proxy.cluster", "list of address:port", "[\"10.0.0.1:7000\", \"10.0.0.2:7000\"]",
        "In place of `groups`: a Redis Cluster, by some of its nodes; they say who has which keys."),
    default("proxy.hash", "hash", "\"xxh3\"",
        "Hash of keys; for shards that twemproxy filled, the word in its file."),
    default("proxy.distribution", "distribution", "\"rendezvous\"",
        "How the hash chooses a shard; for shards that twemproxy filled, the word in its file."),
    default("proxy.hash_tag", "two characters", "\"{}\"",
        "Two characters around the part of a key that is hashed, so that keys can be kept together; \"\" for none."),
    default("proxy.threads", "number", "0",
        "Threads that serve clients; 0 is one for each core."),
    default("proxy.server_connections", "number", "1",
        "Shared connections of each thread to each server."),
    later("proxy.hold", "a request waits 3s for a new primary"),
    optional("proxy.timeout", "duration", "\"5s\"",
        "How long a server may take to answer before its connection is given up; without it, as long as it wants."),
    default("proxy.client_stall", "duration", "\"2s\"",
        "How long a client may take nothing of a large reply, while others wait behind it, before it is cut off."),
    default("proxy.max_key", "size", "\"64kb\"",
        "The longest key."),
    default("proxy.slowlog_slower_than", "duration", "\"10ms\"",
        "Requests whose answer takes so long are in SLOWLOG, which is the proxy's own; \"0s\": there is none."),
    optional("proxy.password_file", "path", "\"/etc/tandem/redis.password\"",
        "File with the password that clients must give and that the servers are given; with `users = \"proxy\"`, only the latter."),
    default("proxy.users", "\"server\" or \"proxy\"", "\"server\"",
        "Whose users log in: the servers', whose ACL says what they may do, or those of `[[proxy.user]]`."),
    optional("proxy.server_user", "name", "\"tandem-proxy\"",
        "With `users = \"proxy\"`: whom `password_file` belongs to at the servers; without it, the default user."),
    optional("proxy.unix_socket", "path", "\"/run/tandem/proxy.sock\"",
        "A Unix socket where clients may connect as well, without TLS."),
    default("proxy.unix_socket_mode", "text", "\"0660\"",
        "Its permission bits, in octal."),
    optional("proxy.max_clients", "number", "10000",
        "Clients at once, over all threads; one more gets an error and is closed. Without it, as many as there are descriptors for."),
    optional("proxy.client_timeout", "duration", "\"10m\"",
        "How long a client may idle before it is closed; without it, for ever. Who blocks or is subscribed does not idle."),
    default("proxy.ack", "number", "0",
        "A reply to a write is passed on only when so many replicas that could be promoted have the write; 0: as soon as the primary gives it."),
    default("proxy.when_alone", "\"refuse\" or \"continue\"", "\"refuse\"",
        "With `ack`: what becomes of writes while too few replicas answer. \"refuse\": NOREPLICAS, unsent. \"continue\": its host's proxies go on, once the other daemon has written down that its server is not promoted before it has caught up; no failover until then."),
    default("proxy.reads", "\"immediate\" or \"acked\"", "\"immediate\"",
        "With `ack`: whether a read may show a write that no replica has yet, or waits until one has."),
    default("proxy.read", "\"primary\" or \"replica\"", "\"primary\"",
        "Where reads go. \"replica\": to one replica for each client, once that has the client's last write; otherwise to the primary."),

    required("proxy.group.name", "name", "\"orders-b\"",
        "Name of the shard, one of `groups`; the group's name at its daemons."),
    optional("proxy.group.daemons", "list of address:port", "[\"10.0.0.1:26379\", \"10.0.0.2:26379\"]",
        "The group's daemons, both hosts of a pair, or sentinels: they say who is primary."),
    optional("proxy.group.server", "address:port", "\"10.0.0.9:6379\"",
        "In place of `daemons`: one server that nobody fails over."),
    optional("proxy.group.unix_socket", "path", "\"/run/redis/redis.sock\"",
        "In place of both: the Unix socket of such a server."),

    required("proxy.user.name", "name", "\"app\"",
        "Name, as in AUTH."),
    optional("proxy.user.password_file", "path", "\"/etc/tandem/app.password\"",
        "File with its password. Only the user `default` may have none: clients are that one until they log in."),
    required("proxy.user.commands", "list of text", "[\"+@all\", \"-@dangerous\"]",
        "What it may call: Redis' ACL rules for commands and categories, from nothing. Scripts need the right to everything, keys and channels included."),
    default("proxy.user.keys", "list of prefix", "[]",
        "Keys that it may read and change: prefixes, each with a star behind it."),
    default("proxy.user.read_keys", "list of prefix", "[]",
        "Keys that it may read."),
    default("proxy.user.channels", "list of prefix", "[]",
        "Channels that it may use."),

    required("proxy.tls.cert_file", "path", "\"/etc/tandem/proxy.crt\"",
        "The proxy's certificate and those that lead to its authority, in PEM."),
    required("proxy.tls.key_file", "path", "\"/etc/tandem/proxy.key\"",
        "Its private key, in PEM, not encrypted."),
    optional("proxy.tls.client_ca_file", "path", "\"/etc/tandem/clients.crt\"",
        "Given: clients must show a certificate of this authority."),

    required("proxy.server_tls.ca_file", "path", "\"/etc/tandem/servers.crt\"",
        "The authority of the servers' certificates."),
    optional("proxy.server_tls.cert_file", "path", "\"/etc/tandem/proxy-client.crt\"",
        "The certificate that servers are shown if they ask for one."),
    optional("proxy.server_tls.key_file", "path", "\"/etc/tandem/proxy-client.key\"",
        "Its private key."),
    optional("proxy.server_tls.server_name", "text", "\"redis.example\"",
        "The name that the servers' certificates must be for; without it the name is not looked at, as in Redis."),

    optional("proxy.vip.address", "address/prefix", "\"10.0.0.200/24\"",
        "The address; without a prefix it is the address alone (/32 or /128). The proxy has to listen there: `listen` names it, or all addresses."),
    optional("proxy.vip.addresses", "list of address/prefix", "[\"10.0.0.200/24\", \"2001:db8::200/64\"]",
        "Several addresses, of either family, in place of `address`."),
    required("proxy.vip.interface", "interface", "\"eth0\"",
        "The interface that carries them."),
    default("proxy.vip.lifetime", "duration", "\"3s\"",
        "How long an address outlives a daemon that was killed or is frozen, in whole seconds; the kernel removes it then."),

    required("proxy.vrrp.router_id", "number", "52",
        "VRID from 1 to 255, the same on all hosts of this proxy and used by nobody else on the segment."),
    required("proxy.vrrp.priority", "number", "100",
        "1 to 254; the higher one is preferred."),
    optional("proxy.vrrp.interface", "interface", "\"eth0\"",
        "The interface that carries the adverts; without it, the VIP's."),
    default("proxy.vrrp.advert_interval", "duration", "\"300ms\"",
        "Time between adverts: a multiple of 10ms up to 40.95s; in version 2 whole seconds up to 255s."),
    default("proxy.vrrp.version", "number", "3",
        "Version of VRRP on the wire: 3, or 2 for segments that filter it."),
    default("proxy.vrrp.unicast", "true or false", "false",
        "Send adverts to every `[[peer]]` rather than to the multicast group, for clouds that drop multicast."),
    default("proxy.vrrp.track_interface", "list of interface", "[]",
        "Further interfaces that must be up."),
    default("proxy.vrrp.preempt", "true or false", "false",
        "Whether a host of higher priority takes the address from one that has it, as soon as its own proxy answers."),
];
