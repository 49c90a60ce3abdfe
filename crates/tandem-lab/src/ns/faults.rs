//! What the bridge refuses to carry, as a value, and its rendering for nftables.
//!
//! Everything is filtered where the bridge forwards. A filter in a host's own `inet` hooks would not see the frames
//! that leave by raw and packet sockets, which is how VRRP adverts and ARP announcements travel.

use std::collections::BTreeSet;
use std::fmt::Write;

/// One direction of one fault; `from` and `to` are names of hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// Nothing passes.
    Cut { from: String, to: String },
    /// IP protocol 112 does not pass, everything else does.
    Vrrp { from: String, to: String },
    /// Nothing leaves the host and nothing reaches it.
    Dark { host: String },
}

/// The bridge's port of a host.
pub(super) fn port(host: &str) -> String {
    format!("p-{host}")
}

/// A complete ruleset: it replaces the one before in a single transaction, so that a change is never half done.
pub(super) fn render(rules: &BTreeSet<Rule>) -> String {
    let mut text = String::from(
        "table bridge lab\n\
         delete table bridge lab\n\
         table bridge lab {\n\
         chain forward {\n\
         type filter hook forward priority 0; policy accept;\n",
    );
    for rule in rules {
        // Writing to a string cannot fail.
        let _ = match rule {
            Rule::Cut { from, to } => {
                writeln!(
                    text,
                    "iifname \"{}\" oifname \"{}\" drop",
                    port(from),
                    port(to)
                )
            }
            Rule::Vrrp { from, to } => {
                let (from, to) = (port(from), port(to));
                writeln!(
                    text,
                    "iifname \"{from}\" oifname \"{to}\" ip protocol 112 drop\n\
                     iifname \"{from}\" oifname \"{to}\" ip6 nexthdr 112 drop"
                )
            }
            Rule::Dark { host } => {
                let port = port(host);
                writeln!(text, "iifname \"{port}\" drop\noifname \"{port}\" drop")
            }
        };
    }
    text.push_str("}\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_in_the_ruleset() {
        let rules = BTreeSet::from([
            Rule::Cut {
                from: "a".into(),
                to: "b".into(),
            },
            Rule::Vrrp {
                from: "b".into(),
                to: "a".into(),
            },
            Rule::Dark { host: "c".into() },
        ]);
        let text = render(&rules);
        assert!(text.starts_with("table bridge lab\ndelete table bridge lab\n"));
        for line in [
            r#"iifname "p-a" oifname "p-b" drop"#,
            r#"iifname "p-b" oifname "p-a" ip protocol 112 drop"#,
            r#"iifname "p-b" oifname "p-a" ip6 nexthdr 112 drop"#,
            r#"iifname "p-c" drop"#,
            r#"oifname "p-c" drop"#,
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing in {text}"
            );
        }
    }

    #[test]
    fn no_fault_means_an_empty_chain() {
        assert!(!render(&BTreeSet::new()).contains("drop"));
    }
}
