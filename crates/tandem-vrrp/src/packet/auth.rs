//! The v2 password: eight bytes in clear (RFC 2338 5.3.10), also the key of keepalived's AH.

use std::fmt;

/// Eight bytes, zero-padded. Not shown by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PassKey([u8; 8]);

impl PassKey {
    /// The key that keepalived makes of `auth_pass`: the first eight bytes, the rest zero. `None`
    /// for an empty password, which there silently means no authentication.
    pub fn new(password: &[u8]) -> Option<Self> {
        if password.is_empty() {
            return None;
        }
        let mut key = [0; 8];
        let len = password.len().min(8);
        key[..len].copy_from_slice(&password[..len]);
        Some(Self(key))
    }

    /// Whether [`PassKey::new`] keeps only a part of `password`, which deserves a warning.
    pub fn truncates(password: &[u8]) -> bool {
        password.len() > 8
    }

    /// The eight bytes.
    pub(super) fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for PassKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PassKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_cut_and_never_shown() {
        assert_eq!(PassKey::new(b""), None);
        assert_eq!(PassKey::new(b"abc").unwrap().bytes(), b"abc\0\0\0\0\0");
        assert_eq!(
            PassKey::new(b"secret1234").unwrap(),
            PassKey::new(b"secret12").unwrap()
        );
        assert!(PassKey::truncates(b"secret1234") && !PassKey::truncates(b"secret12"));
        assert!(!format!("{:?}", PassKey::new(b"abc")).contains("abc"));
    }
}
