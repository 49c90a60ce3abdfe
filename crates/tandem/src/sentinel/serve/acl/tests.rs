//! Rules and what they come to; the canonical texts are those of a real redis-sentinel 7.0.15.

use super::*;
use crate::sentinel::serve::command::CommandId;

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split_ascii_whitespace()
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

fn user(rules: &str) -> Users {
    let mut users = Users::new(false);
    users.set(b"u", &words(rules)).unwrap();
    users
}

fn allows(users: &Users, request: &str) -> bool {
    let argv = words(request);
    let crate::sentinel::serve::command::Lookup::Known(id) =
        crate::sentinel::serve::command::lookup(&argv)
    else {
        panic!("{request} is unknown");
    };
    users
        .get(b"u")
        .unwrap()
        .check(id, &argv, ChannelUse::None)
        .is_ok()
}

#[test]
fn the_text_is_the_real_ones() {
    for (rules, text) in [
        ("", "off resetchannels -@all"),
        ("reset", "off sanitize-payload resetchannels -@all"),
        ("on nopass ~* &* +@all", "on nopass ~* &* +@all"),
        (
            "on >s3cret allkeys allchannels allcommands",
            "on #1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0 ~* &* +@all",
        ),
        (
            "(+ping ~a)",
            "off resetchannels -@all (~a resetchannels -@all +ping)",
        ),
        (
            "~k* %R~r* %w~q &h*",
            "off ~k* %R~r* %W~q resetchannels &h* -@all",
        ),
        // The real one lists single commands in the order of its hash table; ours are sorted.
        (
            "on nopass +ping +client|id +subscribe +psubscribe +publish +acl &ok*",
            "on nopass resetchannels &ok* -@all +@pubsub +acl +client|id +ping -punsubscribe -unsubscribe",
        ),
        ("+ping|x", "off resetchannels -@all +ping|x"),
        ("+ping|x +ping", "off resetchannels -@all +ping"),
    ] {
        assert_eq!(user(rules).get(b"u").unwrap().describe(), text, "{rules}");
    }
}

#[test]
fn a_description_makes_the_same_user_again() {
    for rules in [
        "on >a >b +@all -sentinel +sentinel|master resetkeys ~k* %R~r* resetchannels &h*",
        "+@all -@dangerous -client +client|setname",
        "+@connection -client|kill +@pubsub",
        "+sentinel +ping|hello (+@all -acl ~x &y) (+info)",
        "nopass +@slow +@fast -@admin skip-sanitize-payload",
    ] {
        let users = user(rules);
        let lines = users.lines();
        let again = Users::from_lines(lines.iter().map(String::as_str), false).unwrap();
        assert_eq!(again.lines(), lines, "{rules}");
        assert_eq!(
            again.get(b"u").unwrap(),
            users.get(b"u").unwrap(),
            "{rules}"
        );
    }
}

#[test]
fn what_is_allowed() {
    for (rules, allowed, refused) in [
        (
            "",
            &["auth x", "hello"][..],
            &["ping", "client id", "acl whoami"][..],
        ),
        (
            "+client",
            &["client id", "client kill x", "client setinfo lib-name x"],
            &["ping"],
        ),
        ("+client -client|kill", &["client id"], &["client kill x"]),
        (
            "+sentinel|masters",
            &["sentinel masters", "sentinel primaries"],
            &["sentinel reset *"],
        ),
        (
            "+@all -sentinel|failover",
            &["ping", "sentinel masters"],
            &["sentinel failover m"],
        ),
        (
            "+@connection",
            &["ping", "echo x"],
            &["sentinel masters", "role"],
        ),
        (
            "+ping|hello",
            &["ping hello", "ping HELLO"],
            &["ping", "ping bye"],
        ),
        ("(+ping) (+role)", &["ping", "role"], &["info"]),
        ("+role clearselectors", &["role"], &["ping"]),
    ] {
        let users = user(rules);
        for request in allowed {
            assert!(allows(&users, request), "{rules}: {request}");
        }
        for request in refused {
            assert!(!allows(&users, request), "{rules}: {request}");
        }
    }
}

#[test]
fn channels_are_matched_and_patterns_compared() {
    let users = user("+@all &__sentinel__:* &+switch-master");
    let user = users.get(b"u").unwrap();
    assert!(user.allows_channel(b"__sentinel__:hello", false));
    assert!(user.allows_channel(b"+switch-master", false));
    assert!(!user.allows_channel(b"+sdown", false));
    assert!(user.allows_channel(b"__sentinel__:*", true));
    assert!(!user.allows_channel(b"__sentinel__:h*", true));
    let subscribe = CommandId::by_name(b"subscribe").unwrap();
    let argv = words("subscribe +switch-master +sdown");
    assert_eq!(
        user.check(subscribe, &argv, ChannelUse::Names(1)),
        Err(Denied::Channel(2))
    );
}

#[test]
fn rules_that_are_none() {
    let long = "#".to_owned() + &"A".repeat(64);
    for (rules, error) in [
        ("+foo", "Unknown command or category name in ACL"),
        ("foo", "Syntax error"),
        ("+@foo", "Unknown command or category name in ACL"),
        ("+client|foo", "Unknown command or category name in ACL"),
        (
            "+client|id|x",
            "Allowing first-arg of a subcommand is not supported",
        ),
        ("+ping|", "Syntax error"),
        ("-client|foo", "Unknown command or category name in ACL"),
        (
            "<x",
            "The password you are trying to remove from the user does not exist",
        ),
        ("%X~a", "Syntax error"),
        ("(+foo)", "Unknown command or category name in ACL"),
        (
            long.as_str(),
            "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
        ),
    ] {
        let mut users = Users::new(false);
        let refused = users.set(b"u", &words(&format!("on {rules}")));
        assert_eq!(
            refused,
            Err(format!("Error in ACL SETUSER modifier '{rules}': {error}")),
        );
        assert!(users.get(b"u").is_none(), "{rules}: half a user");
    }
    let mut users = Users::new(false);
    assert_eq!(
        users.set(b"u", &words("(+ping ~a")),
        Err("Unmatched parenthesis in acl selector starting at '(+ping'.".to_owned())
    );
    assert!(users.set(b"a b", &[]).is_err());
    assert!(users.set(b"\xff", &[]).is_err());
}

#[test]
fn passwords() {
    let mut users = user("on >one >two");
    assert!(users.authenticate(b"u", b"one") && users.authenticate(b"u", b"two"));
    assert!(!users.authenticate(b"u", b"three") && !users.authenticate(b"nobody", b"one"));
    users.set(b"u", &words("<one")).unwrap();
    assert!(!users.authenticate(b"u", b"one"));
    users.set(b"u", &words("off")).unwrap();
    assert!(!users.authenticate(b"u", b"two"));
    users.set(b"u", &words("on nopass")).unwrap();
    assert!(users.authenticate(b"u", b"anything"));

    users.require_password(b"secret");
    assert!(!users.default_user().is_open());
    assert!(users.authenticate(DEFAULT, b"secret"));
    users.require_password(b"");
    assert!(users.default_user().is_open());
    assert!(!users.remove(DEFAULT));
}

#[test]
fn lines_of_a_file_and_what_is_wrong_with_them() {
    let good = "# users\nuser default off\n\nuser a on >x +ping\n";
    let users = Users::from_lines(good.lines(), false).unwrap();
    assert_eq!(users.names().collect::<Vec<_>>(), [&b"a"[..], b"default"]);
    for (text, error) in [
        (
            "usr a on",
            "line 1: should start with user keyword followed by the username",
        ),
        ("user a on\nuser a off", "line 2: duplicate user 'a' found"),
        (
            "user a (+ping",
            "line 1: unmatched parenthesis in a selector",
        ),
        (
            "user a <secret",
            "line 1: <***: The password you are trying to remove from the user does not exist",
        ),
    ] {
        let refused = Users::from_lines(text.lines(), false).unwrap_err();
        assert_eq!(refused.to_string(), error);
    }
}

#[test]
fn equal_refusals_are_one_entry() {
    let start = std::time::Instant::now();
    let mut log = Log::new(2);
    let secs = std::time::Duration::from_secs;
    for (object, at) in [("get", 0), ("set", 1), ("get", 2), ("get", 70), ("del", 71)] {
        log.add(
            Reason::Command,
            object.as_bytes(),
            b"u",
            String::new(),
            start + secs(at),
        );
    }
    let tandem_resp::Value::Array(entries) = log.to_value(10, start + secs(71)) else {
        panic!("no list");
    };
    let field = |entry: &tandem_resp::Value, name: &str| match entry {
        tandem_resp::Value::Map(pairs) => pairs
            .iter()
            .find(|(key, _)| key.as_str() == Some(name))
            .map(|(_, value)| value.clone())
            .unwrap(),
        other => panic!("{other:?}"),
    };
    let objects: Vec<_> = entries.iter().map(|e| field(e, "object")).collect();
    let bulk = |text: &str| tandem_resp::Value::Bulk(text.as_bytes().to_vec());
    assert_eq!(objects, [bulk("del"), bulk("get")]);
    // The two of the first minute are one; the third is later than that.
    assert_eq!(field(&entries[1], "count"), tandem_resp::Value::Integer(1));
    log.clear();
    assert_eq!(
        log.to_value(10, start),
        tandem_resp::Value::Array(Vec::new())
    );
}
