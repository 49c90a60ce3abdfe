//! Which of `tls-protocols`, `tls-ciphers` and `tls-ciphersuites` can be honoured.
//!
//! Redis hands these to OpenSSL. Here TLS 1.2 and 1.3 are spoken, with forward secrecy and authenticated encryption
//! only: six suites of TLS 1.2 and three of TLS 1.3. A list that leaves at least one of them is honoured, order
//! included, in OpenSSL's own language of lists (ciphers(1)): names, classes joined by `+`, `!`, `-` and `+` before them,
//! `@STRENGTH`. What names nothing known selects nothing, as in OpenSSL. A list that leaves nothing is refused, since a
//! sentinel that then offered its own would be one that does what it was told not to do.

use super::model::TlsConf;

/// The suites of TLS 1.2, by OpenSSL's names, in the order in which they are preferred.
pub const CIPHERS: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// The suites of TLS 1.3, likewise.
pub const CIPHERSUITES: [&str; 3] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// What is offered and taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsChoice {
    /// TLS 1.2, with these of [`CIPHERS`]; empty where it is not spoken.
    pub ciphers: Vec<&'static str>,
    /// TLS 1.3, with these of [`CIPHERSUITES`]; empty where it is not spoken.
    pub ciphersuites: Vec<&'static str>,
}

/// What cannot be honoured. The file is at fault; it has to be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsRefused {
    /// A word in `tls-protocols` that is no version.
    #[error("`{0}` is no version of TLS")]
    Protocol(String),
    /// Only versions that are not spoken here.
    #[error("only TLS 1.2 and 1.3 are spoken here")]
    OldProtocols,
    /// No suite of TLS 1.2 is left.
    #[error("no cipher of TLS 1.2 that is known here is left")]
    Ciphers,
    /// No suite of TLS 1.3 is left.
    #[error("no ciphersuite of TLS 1.3 that is known here is left")]
    Ciphersuites,
}

impl TlsRefused {
    /// The directive that says so.
    #[must_use]
    pub fn directive(&self) -> &'static str {
        match self {
            Self::Protocol(_) | Self::OldProtocols => "tls-protocols",
            Self::Ciphers => "tls-ciphers",
            Self::Ciphersuites => "tls-ciphersuites",
        }
    }

    /// What to write instead.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Protocol(_) | Self::OldProtocols => {
                "write `tls-protocols \"TLSv1.2 TLSv1.3\"`, or one of the two, or remove the line"
                    .to_owned()
            }
            Self::Ciphers => format!(
                "name one of {}, write `tls-protocols TLSv1.3`, or remove the line",
                CIPHERS.join(", ")
            ),
            Self::Ciphersuites => format!(
                "name one of {}, write `tls-protocols TLSv1.2`, or remove the line",
                CIPHERSUITES.join(", ")
            ),
        }
    }
}

impl TlsConf {
    /// What is offered and taken by these settings.
    ///
    /// # Errors
    /// What cannot be honoured.
    pub fn choice(&self) -> Result<TlsChoice, TlsRefused> {
        let (old, new) = versions(self.protocols.as_deref().unwrap_or(""))?;
        let mut choice = TlsChoice {
            ciphers: Vec::new(),
            ciphersuites: Vec::new(),
        };
        if old {
            choice.ciphers = match &self.ciphers {
                Some(list) => ciphers(list),
                None => CIPHERS.to_vec(),
            };
            if choice.ciphers.is_empty() {
                return Err(TlsRefused::Ciphers);
            }
        }
        if new {
            choice.ciphersuites = match &self.ciphersuites {
                Some(list) => ciphersuites(list),
                None => CIPHERSUITES.to_vec(),
            };
            if choice.ciphersuites.is_empty() {
                return Err(TlsRefused::Ciphersuites);
            }
        }
        Ok(choice)
    }

    /// Versions in `tls-protocols` that are named and not spoken.
    pub(super) fn unspoken(&self) -> Vec<&str> {
        let words = self
            .protocols
            .as_deref()
            .unwrap_or("")
            .split_ascii_whitespace();
        words
            .filter(|word| is(word, "TLSv1") || is(word, "TLSv1.1"))
            .collect()
    }
}

fn is(word: &str, version: &str) -> bool {
    word.eq_ignore_ascii_case(version)
}

/// Whether TLS 1.2 and 1.3 are spoken.
fn versions(list: &str) -> Result<(bool, bool), TlsRefused> {
    let words: Vec<&str> = list.split_ascii_whitespace().collect();
    if words.is_empty() {
        return Ok((true, true));
    }
    let known = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
    if let Some(strange) = words
        .iter()
        .find(|word| !known.iter().any(|it| is(word, it)))
    {
        return Err(TlsRefused::Protocol((*strange).to_owned()));
    }
    let has = |version| words.iter().any(|word| is(word, version));
    match (has("TLSv1.2"), has("TLSv1.3")) {
        (false, false) => Err(TlsRefused::OldProtocols),
        both => Ok(both),
    }
}

/// TLS 1.3: names joined by colons, nothing else.
fn ciphersuites(list: &str) -> Vec<&'static str> {
    let mut chosen = Vec::new();
    for name in list.split(':').map(str::trim) {
        if let Some(known) = CIPHERSUITES.iter().find(|known| **known == name)
            && !chosen.contains(known)
        {
            chosen.push(*known);
        }
    }
    chosen
}

/// TLS 1.2: OpenSSL's list language.
fn ciphers(list: &str) -> Vec<&'static str> {
    let mut chosen: Vec<&'static str> = Vec::new();
    let mut never: Vec<&'static str> = Vec::new();
    for word in list.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        if word == "@STRENGTH" {
            chosen.sort_by_key(|suite| std::cmp::Reverse(bits(suite)));
            continue;
        }
        let (sign, class) = match word.as_bytes()[0] {
            sign @ (b'!' | b'-' | b'+') => (Some(sign), &word[1..]),
            _ => (None, word),
        };
        let matched: Vec<&'static str> = CIPHERS
            .into_iter()
            .filter(|suite| class.split('+').all(|part| belongs(suite, part)))
            .collect();
        match sign {
            None => {
                let new = matched.iter().filter(|suite| !never.contains(suite));
                let new: Vec<_> = new
                    .filter(|suite| !chosen.contains(suite))
                    .copied()
                    .collect();
                chosen.extend(new);
            }
            Some(b'+') => {
                let (moved, stay): (Vec<_>, Vec<_>) = chosen
                    .into_iter()
                    .partition(|suite| matched.contains(suite));
                chosen = stay.into_iter().chain(moved).collect();
            }
            Some(sign) => {
                chosen.retain(|suite| !matched.contains(suite));
                if sign == b'!' {
                    never.extend(matched);
                }
            }
        }
    }
    chosen
}

fn bits(suite: &str) -> u32 {
    if suite.contains("AES128") { 128 } else { 256 }
}

/// Whether a suite is of this name or class.
fn belongs(suite: &str, class: &str) -> bool {
    match class {
        "ALL" | "DEFAULT" | "HIGH" | "TLSv1.2" | "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" => true,
        "AES" => suite.contains("AES"),
        "AES128" | "AES256" | "CHACHA20" => suite.contains(class),
        "AESGCM" => suite.contains("GCM"),
        "ECDSA" | "aECDSA" => suite.contains("-ECDSA-"),
        "aRSA" => suite.contains("-RSA-"),
        name => suite == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(protocols: &str, ciphers: &str, suites: &str) -> TlsConf {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        TlsConf {
            protocols: some(protocols),
            ciphers: some(ciphers),
            ciphersuites: some(suites),
            ..TlsConf::default()
        }
    }

    #[test]
    fn versions_are_honoured_or_refused() {
        let counts = |protocols: &str| {
            let choice = conf(protocols, "", "").choice();
            choice.map(|it| (it.ciphers.len(), it.ciphersuites.len()))
        };
        assert_eq!(counts(""), Ok((6, 3)));
        assert_eq!(counts("tlsv1.3"), Ok((0, 3)));
        assert_eq!(counts("TLSv1.1 TLSv1.2"), Ok((6, 0)));
        assert_eq!(counts("TLSv1 TLSv1.1"), Err(TlsRefused::OldProtocols));
        assert_eq!(
            counts("TLSv1.2 SSLv3"),
            Err(TlsRefused::Protocol("SSLv3".to_owned()))
        );
        assert_eq!(conf("TLSv1.1 TLSv1.2", "", "").unspoken(), ["TLSv1.1"]);
    }

    #[test]
    fn lists_of_ciphers_as_openssl_reads_them() {
        let table = [
            ("DEFAULT:!MEDIUM", "12 11 13 22 21 23"),
            ("HIGH:!aNULL:!MD5", "12 11 13 22 21 23"),
            (
                "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305",
                "21 13",
            ),
            ("ECDHE+AESGCM:ECDHE+CHACHA20:!aRSA", "12 11 13"),
            ("AES128:AES256:@STRENGTH", "12 22 11 21"),
            ("ALL:-AES128:AES128+ECDSA", "12 13 22 23 11"),
            ("ALL:!AES128:AES128", "12 13 22 23"),
            ("ALL:+AES256", "11 13 21 23 12 22"),
            ("kRSA:RC4-MD5", ""),
        ];
        // First digit: who signs, ECDSA 1 and RSA 2; second: AES128 1, AES256 2, ChaCha20 3.
        let code = |suite: &str| {
            let signs = if suite.contains("-ECDSA-") { 10 } else { 20 };
            let with = match suite {
                _ if suite.contains("AES128") => 1,
                _ if suite.contains("AES256") => 2,
                _ => 3,
            };
            (signs + with).to_string()
        };
        for (list, expected) in table {
            let chosen: Vec<String> = ciphers(list).into_iter().map(code).collect();
            assert_eq!(chosen.join(" "), expected, "{list}");
        }
        assert_eq!(conf("", "RC4", "").choice(), Err(TlsRefused::Ciphers));
        assert!(
            conf("TLSv1.3", "RC4", "").choice().is_ok(),
            "it concerns TLS 1.2 only"
        );
    }

    #[test]
    fn suites_of_tls_1_3_are_names() {
        let suites = |list| conf("", "", list).choice().map(|it| it.ciphersuites);
        assert_eq!(
            suites("TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256"),
            Ok(vec!["TLS_AES_128_GCM_SHA256"])
        );
        assert_eq!(
            suites("TLS_AES_128_CCM_SHA256"),
            Err(TlsRefused::Ciphersuites)
        );
    }
}
