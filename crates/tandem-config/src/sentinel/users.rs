//! `user` lines: who may do what, in the words of Redis' ACL language.
//!
//! Only the shape of each word is checked here; whether a command or a category exists depends on who enforces the rules.
//! Clear-text passwords are replaced by their hashes at once, so that they are neither kept in memory nor written back.

use sha2::{Digest, Sha256};

use super::model::AclUser;
use super::numbers;

/// What is wrong with a rule: its index and Redis' words for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuleError {
    pub(super) index: usize,
    pub(super) reason: &'static str,
}

/// Reads the words after `user`.
pub(super) fn parse(name: &str, rules: &[String]) -> Result<AclUser, RuleError> {
    let mut user = AclUser {
        name: name.to_owned(),
        rules: Vec::with_capacity(rules.len()),
    };
    let mut in_selector = false;
    for (index, rule) in rules.iter().enumerate() {
        if in_selector || rule.starts_with('(') {
            // The rules of a selector may be spread over several words.
            in_selector = !rule.ends_with(')');
            user.rules.push(rule.clone());
            continue;
        }
        let rule = normalised(rule).map_err(|reason| RuleError { index, reason })?;
        user.rules.push(rule);
    }
    if in_selector {
        return Err(RuleError {
            index: rules.len().saturating_sub(1),
            reason: "Unmatched parenthesis in acl selector starting at",
        });
    }
    Ok(user)
}

/// The rule with a password in clear replaced by its hash.
fn normalised(rule: &str) -> Result<String, &'static str> {
    const SYNTAX: &str = "Syntax error";
    const FLAGS: &[&str] = &[
        "on",
        "off",
        "nopass",
        "resetpass",
        "reset",
        "allkeys",
        "resetkeys",
        "allchannels",
        "resetchannels",
        "allcommands",
        "nocommands",
        "sanitize-payload",
        "skip-sanitize-payload",
        "clearselectors",
    ];
    if FLAGS.iter().any(|flag| rule.eq_ignore_ascii_case(flag)) {
        return Ok(rule.to_owned());
    }
    let mut chars = rule.chars();
    match (chars.next(), chars.as_str()) {
        (Some('>'), password) => Ok(format!("#{}", sha256(password))),
        (Some('<'), password) => Ok(format!("!{}", sha256(password))),
        (Some('#' | '!'), hash) if is_hash(hash) => Ok(rule.to_owned()),
        (Some('#' | '!'), _) => Err(
            "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
        ),
        (Some('~' | '&'), _) => Ok(rule.to_owned()),
        (Some('%'), rest) if rest.contains('~') => Ok(rule.to_owned()),
        (Some('+' | '-'), command) if !command.is_empty() => Ok(rule.to_owned()),
        (Some(_) | None, _) => Err(SYNTAX),
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && numbers::is_hex(text)
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(words: &[&str]) -> Result<Vec<String>, RuleError> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        parse("u", &words).map(|user| user.rules)
    }

    #[test]
    fn clear_passwords_become_hashes() {
        // SHA-256 of "abc", FIPS 180-4's own example.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(rules(&["on", ">abc"]).unwrap(), ["on", &format!("#{abc}")]);
        assert_eq!(rules(&["<abc"]).unwrap(), [format!("!{abc}")]);
        assert_eq!(rules(&[&format!("#{abc}")]).unwrap(), [format!("#{abc}")]);
    }

    #[test]
    fn rules_are_checked_for_their_shape() {
        for good in [
            "~*",
            "%RW~app:*",
            "&*",
            "+@all",
            "-@dangerous",
            "+config|get",
            "ON",
        ] {
            assert!(rules(&[good]).is_ok(), "{good}");
        }
        for bad in ["", "+", "what", "#12", "%RW"] {
            assert!(rules(&[bad]).is_err(), "{bad}");
        }
        assert_eq!(rules(&["(+get", "~a)", "on"]).unwrap().len(), 3);
        assert!(rules(&["(+get", "~a"]).is_err());
    }
}
