//! INFO of several servers as one standalone server would give it.
//!
//! The lines are those of the server with the lowest version, because a client that looks there wants to know what it may
//! use. What counts data or requests is added up, what only makes sense for one server stays as that one says it.

use super::split::push_decimal;

/// Whole numbers that are added up.
const SUMS: [&[u8]; 22] = [
    b"used_memory",
    b"used_memory_rss",
    b"used_memory_dataset",
    b"used_memory_lua",
    b"used_memory_scripts",
    b"maxmemory",
    b"rdb_changes_since_last_save",
    b"total_commands_processed",
    b"instantaneous_ops_per_sec",
    b"total_net_input_bytes",
    b"total_net_output_bytes",
    b"expired_keys",
    b"evicted_keys",
    b"keyspace_hits",
    b"keyspace_misses",
    b"pubsub_channels",
    b"pubsub_patterns",
    b"total_error_replies",
    b"unexpected_error_replies",
    b"total_reads_processed",
    b"total_writes_processed",
    b"blocked_clients",
];

/// One reply for those of all servers. None: one of them is no reply to INFO.
pub(super) fn merge(replies: &[&[u8]], merged: &mut Vec<u8>) -> Option<()> {
    let texts: Vec<&[u8]> = replies
        .iter()
        .map(|reply| text(reply))
        .collect::<Option<_>>()?;
    let lowest = texts.iter().min_by_key(|text| version(text))?;
    let mut body = Vec::with_capacity(lowest.len() + 256);
    let mut databases = false;
    for line in lines(lowest) {
        let Some((name, value)) = field(line) else {
            push_line(&mut body, line);
            databases = line.eq_ignore_ascii_case(b"# keyspace");
            if databases {
                keyspace(&texts, &mut body);
            }
            continue;
        };
        if databases && database(name).is_some() {
            // Written with the header, for all servers.
            continue;
        }
        match name {
            b"cluster_enabled" => push_line(&mut body, b"cluster_enabled:0"),
            b"redis_mode" => push_line(&mut body, b"redis_mode:standalone"),
            b"role" => push_line(&mut body, b"role:master"),
            _ if SUMS.contains(&name) && number(value).is_some() => {
                let sum = texts
                    .iter()
                    .filter_map(|text| find(text, name))
                    .filter_map(number)
                    .fold(0i64, i64::saturating_add);
                push_number(&mut body, name, sum);
            }
            _ => push_line(&mut body, line),
        }
    }
    if replies.first()?.starts_with(b"=") {
        merged.push(b'=');
        push_decimal(merged, body.len() as i64 + 4);
        merged.extend_from_slice(b"\r\ntxt:");
    } else {
        merged.push(b'$');
        push_decimal(merged, body.len() as i64);
        merged.extend_from_slice(b"\r\n");
    }
    merged.extend_from_slice(&body);
    merged.extend_from_slice(b"\r\n");
    Some(())
}

/// Of each database that any server has, its keys.
fn keyspace(texts: &[&[u8]], body: &mut Vec<u8>) {
    let mut sums: Vec<(u32, [i64; 2])> = Vec::new();
    for line in texts.iter().flat_map(|text| lines(text)) {
        let Some((number, value)) =
            field(line).and_then(|(name, value)| Some((database(name)?, value)))
        else {
            continue;
        };
        let counts = [&b"keys="[..], b"expires="].map(|word| {
            value
                .split(|&byte| byte == b',')
                .find_map(|part| part.strip_prefix(word))
                .and_then(self::number)
                .unwrap_or_default()
        });
        match sums.iter_mut().find(|(other, _)| *other == number) {
            Some((_, sum)) => {
                for (sum, count) in sum.iter_mut().zip(counts) {
                    *sum = sum.saturating_add(count);
                }
            }
            None => sums.push((number, counts)),
        }
    }
    sums.sort_unstable();
    for (number, [keys, expires]) in sums {
        // The mean time to live of several servers is nobody's.
        push_line(
            body,
            format!("db{number}:keys={keys},expires={expires},avg_ttl=0").as_bytes(),
        );
    }
}

/// The lowest of the versions that these replies name.
pub(super) fn lowest_version<'r>(replies: impl Iterator<Item = &'r [u8]>) -> Option<&'r [u8]> {
    let texts = replies.filter_map(text);
    let named = texts.filter_map(|text| find(text, b"redis_version").map(|told| (text, told)));
    let lowest = named.min_by_key(|(text, _)| version(text));
    lowest.map(|(_, told)| told)
}

/// What a bulk or verbatim string holds.
fn text(reply: &[u8]) -> Option<&[u8]> {
    let head = reply.iter().position(|&byte| byte == b'\n')? + 1;
    let body = reply.get(head..)?.strip_suffix(b"\r\n")?;
    match reply.first()? {
        b'$' => Some(body),
        b'=' => body.strip_prefix(b"txt:"),
        _ => None,
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    (!line.starts_with(b"#")).then(|| (&line[..colon], &line[colon + 1..]))
}

fn find<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    lines(text)
        .filter_map(field)
        .find(|(other, _)| *other == name)
        .map(|(_, value)| value)
}

/// By its numbers; a server that names none comes last.
fn version(text: &[u8]) -> Vec<u32> {
    let version = find(text, b"redis_version").unwrap_or(b"4294967295");
    version
        .split(|&byte| byte == b'.')
        .map(|part| std::str::from_utf8(part).ok()?.parse().ok())
        .map(Option::unwrap_or_default)
        .collect()
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The number of `db3`.
fn database(name: &[u8]) -> Option<u32> {
    std::str::from_utf8(name.strip_prefix(b"db")?)
        .ok()?
        .parse()
        .ok()
}

fn push_line(body: &mut Vec<u8>, line: &[u8]) {
    body.extend_from_slice(line);
    body.extend_from_slice(b"\r\n");
}

fn push_number(body: &mut Vec<u8>, name: &[u8], value: i64) {
    body.extend_from_slice(name);
    body.push(b':');
    push_decimal(body, value);
    body.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Vec<u8> {
        let mut reply = Vec::new();
        tandem_resp::write_bulk(text.as_bytes(), &mut reply);
        reply
    }

    #[test]
    fn several_servers_are_one_of_the_lowest_version() {
        let new = bulk(
            "# Server\r\nredis_version:7.2.4\r\nredis_mode:cluster\r\n\r\n# Stats\r\nkeyspace_hits:5\r\n\r\n# Keyspace\r\n\
             db0:keys=10,expires=1,avg_ttl=7\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n",
        );
        let old = bulk(
            "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nos:Linux\r\n\r\n# Stats\r\nkeyspace_hits:2\r\n\r\n\
             # Cluster\r\ncluster_enabled:1\r\n\r\n# Keyspace\r\ndb0:keys=4,expires=2,avg_ttl=9\r\n",
        );
        let mut merged = Vec::new();
        merge(&[&new, &old], &mut merged).unwrap();
        let expected = bulk(
            "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nos:Linux\r\n\r\n# Stats\r\nkeyspace_hits:7\r\n\r\n\
             # Cluster\r\ncluster_enabled:0\r\n\r\n# Keyspace\r\ndb0:keys=14,expires=3,avg_ttl=0\r\n\
             db3:keys=1,expires=0,avg_ttl=0\r\n",
        );
        assert_eq!(
            String::from_utf8_lossy(&merged),
            String::from_utf8_lossy(&expected)
        );
    }

    #[test]
    fn resp3_and_what_is_no_info() {
        let mut merged = Vec::new();
        let reply = b"=25\r\ntxt:used_memory:1000000\r\n\r\n";
        merge(&[reply, reply], &mut merged).unwrap();
        assert!(merged.starts_with(b"="), "{merged:?}");
        assert!(
            String::from_utf8_lossy(&merged).contains("txt:used_memory:2000000\r\n"),
            "{merged:?}"
        );
        assert_eq!(merge(&[reply, b":1\r\n"], &mut Vec::new()), None);
        assert!(version(b"redis_version:7.10.0") > version(b"redis_version:7.9.9"));
    }
}
