use tandem_resp::Value;

use super::*;

#[test]
fn the_table_is_the_real_ones() {
    assert_eq!(LISTED.len(), 72);
    let containers = LISTED.iter().filter(|entry| entry.container().is_none());
    assert_eq!(containers.count(), 15);
    assert!(LISTED.is_sorted_by_key(|entry| entry.name));
    for id in CommandId::all() {
        let entry = id.entry();
        assert_eq!(entry.name, entry.name.to_ascii_lowercase());
        assert_eq!(CommandId::by_name(entry.name.as_bytes()), Some(id));
        assert_eq!(entry.is_listed(), entry.as_if.is_empty(), "{}", entry.name);
        assert_eq!(
            entry.is_listed_in(Compat::V7_2),
            !entry.summary.is_empty(),
            "{}",
            entry.name
        );
        assert!(id.permission().entry().is_listed(), "{}", entry.name);
        if let Some(container) = entry.container() {
            assert!(
                CommandId::by_name(container.as_bytes()).is_some(),
                "{}",
                entry.name
            );
        }
    }
}

#[test]
fn bits_have_the_names_of_their_categories() {
    for (name, bit) in bits::NAMED {
        let index = category(name.as_bytes()).unwrap();
        assert_eq!(*bit, 1 << index, "{name}");
    }
}

#[test]
fn requests_are_found_in_any_case_and_by_their_words_only() {
    let known = |name: &str| Lookup::Known(CommandId::by_name(name.as_bytes()).unwrap());
    for (words, found) in [
        (&["PING"][..], known("ping")),
        (&["Sentinel", "MASTERS"], known("sentinel|masters")),
        (&["sentinel"], known("sentinel")),
        (&["ping", "masters"], known("ping")),
        (&["sentinel", "nope"], Lookup::UnknownSubcommand),
        (&["sentinel|masters"], Lookup::UnknownCommand),
        (&["client|id"], Lookup::UnknownCommand),
        (&["get"], Lookup::UnknownCommand),
        (&[""], Lookup::UnknownCommand),
        (&[], Lookup::UnknownCommand),
    ] {
        assert_eq!(lookup(words), found, "{words:?}");
    }
}

#[test]
fn numbers_of_arguments() {
    let takes = |name: &str, args| {
        CommandId::by_name(name.as_bytes())
            .unwrap()
            .entry()
            .takes(args)
    };
    assert!(takes("role", 1) && !takes("role", 2));
    assert!(takes("ping", 1) && takes("ping", 9));
    assert!(takes("sentinel|set", 5) && !takes("sentinel|set", 4));
    assert!(
        takes("sentinel|is-master-down-by-addr", 6) && !takes("sentinel|is-master-down-by-addr", 7)
    );
}

/// Without it two of ours take each other for strangers.
#[test]
fn our_own_word_passes_the_door_and_command_is_silent_about_it() {
    for words in [
        &["SENTINEL", "TANDEM"][..],
        &["sentinel", "tandem", "explain", "m"],
    ] {
        let Lookup::Known(id) = lookup(words) else {
            panic!("{words:?} is unknown");
        };
        assert!(id.entry().takes(words.len()) && !id.entry().is_listed_in(Compat::V7_2));
        assert_eq!(id.permission().entry().name, "sentinel|masters");
    }
}

#[test]
fn what_7_2_speaks_of_beyond_7_0() {
    let names = |value: Value| -> Vec<Vec<u8>> {
        let all = value.as_array().unwrap().iter();
        all.map(|name| name.as_bytes().unwrap().to_vec()).collect()
    };
    let old = names(list(&[], Compat::V7_0));
    let mut new = names(list(&[], Compat::V7_2));
    new.retain(|name| !old.contains(name));
    assert_eq!(new, [b"client|setinfo"]);
    let arity = |compat| {
        let about = info(&[b"sentinel|config".to_vec()], compat);
        about.as_array().unwrap()[0].as_array().unwrap()[1].as_integer()
    };
    assert_eq!(arity(Compat::V7_0), Some(-3));
    assert_eq!(arity(Compat::V7_2), Some(-4));
    assert_eq!(count(Compat::V7_2), count(Compat::V7_0));
}
