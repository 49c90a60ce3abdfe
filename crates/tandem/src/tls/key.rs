//! A private key in PEM, encrypted or not.
//!
//! Two ways of encrypting one are in use: PKCS #8 (`BEGIN ENCRYPTED PRIVATE KEY`, what OpenSSL 3 writes), and the older one
//! of OpenSSL, with `Proc-Type` and `DEK-Info` in front of the data (`BEGIN RSA PRIVATE KEY`). Both are read with AES and
//! with triple DES. A wrong passphrase shows in what comes out being no key; nothing authenticates the file.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use cbc::Decryptor;
use md5::{Digest as _, Md5};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::pem;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{
    PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};

/// Why a file yields no key. Its owner's to put right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    /// No section of it is a private key.
    #[error("holds no private key")]
    None,
    /// It is encrypted.
    #[error("is encrypted, and no passphrase is given")]
    NoPassphrase,
    /// What decryption yields is no key.
    #[error("cannot be decrypted: the passphrase is wrong, or the file is damaged")]
    Passphrase,
    /// Encrypted in a way that is not known here.
    #[error("is encrypted with {0}, which is not read here: AES and triple DES are")]
    Scheme(String),
}

/// The label of an encrypted PKCS #8 key.
const PKCS8: &str = "ENCRYPTED PRIVATE KEY";
/// Characters of a line of PEM.
const LINE: usize = 64;

/// Reads the first private key of a file.
pub(super) fn read(
    text: &[u8],
    passphrase: Option<&[u8]>,
) -> Result<PrivateKeyDer<'static>, KeyError> {
    let words = String::from_utf8_lossy(text);
    let section = Section::find(&words).ok_or(KeyError::None)?;
    let cipher = section.cipher();
    if section.label != PKCS8 && cipher.is_none() {
        return PrivateKeyDer::from_pem_slice(text).map_err(|_| KeyError::None);
    }
    let passphrase = passphrase.ok_or(KeyError::NoPassphrase)?;
    let data = section.data().ok_or(KeyError::None)?;
    match cipher {
        None => pkcs8(&data, passphrase),
        Some((name, iv)) => {
            let plain = older(name, iv, &data, passphrase)?;
            section.key(plain).ok_or(KeyError::Passphrase)
        }
    }
}

fn pkcs8(data: &[u8], passphrase: &[u8]) -> Result<PrivateKeyDer<'static>, KeyError> {
    let info = EncryptedPrivateKeyInfoRef::try_from(data)
        .map_err(|error| KeyError::Scheme(format!("a scheme of its own ({error})")))?;
    let plain = info.decrypt(passphrase).map_err(|_| KeyError::Passphrase)?;
    let plain = plain.as_bytes().to_vec();
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(plain)))
}

/// OpenSSL's own way: the key is made of MD5 over passphrase and the first half of the initialisation vector.
fn older(name: &str, iv: &str, data: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, KeyError> {
    let iv = hex(iv).ok_or(KeyError::Passphrase)?;
    match name {
        "AES-128-CBC" => decrypt::<Decryptor<aes::Aes128>>(&iv, data, passphrase),
        "AES-192-CBC" => decrypt::<Decryptor<aes::Aes192>>(&iv, data, passphrase),
        "AES-256-CBC" => decrypt::<Decryptor<aes::Aes256>>(&iv, data, passphrase),
        "DES-EDE3-CBC" => decrypt::<Decryptor<des::TdesEde3>>(&iv, data, passphrase),
        other => Err(KeyError::Scheme(other.to_owned())),
    }
}

fn decrypt<C: BlockModeDecrypt + KeyIvInit>(
    iv: &[u8],
    data: &[u8],
    passphrase: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let salt = iv.get(..8).ok_or(KeyError::Passphrase)?;
    let mut key = Vec::new();
    let mut last = Vec::new();
    while key.len() < C::key_size() {
        let mut hash = Md5::new();
        hash.update(&last);
        hash.update(passphrase);
        hash.update(salt);
        last = hash.finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(C::key_size());
    let cipher = C::new_from_slices(&key, iv).map_err(|_| KeyError::Passphrase)?;
    cipher
        .decrypt_padded_vec::<Pkcs7>(data)
        .map_err(|_| KeyError::Passphrase)
}

/// A section of a PEM file.
struct Section<'a> {
    label: &'a str,
    /// `DEK-Info` and the like.
    headers: Vec<(&'a str, &'a str)>,
    /// The data, without line ends.
    body: String,
}

impl<'a> Section<'a> {
    /// The first private key.
    fn find(text: &'a str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim_end);
        let label = lines.by_ref().find_map(|line| {
            let label = line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
            label.ends_with("PRIVATE KEY").then_some(label)
        })?;
        let mut section = Self {
            label,
            headers: Vec::new(),
            body: String::new(),
        };
        for line in lines {
            if line.starts_with("-----END ") {
                return Some(section);
            }
            match line.split_once(':') {
                Some((name, value)) => section.headers.push((name, value.trim())),
                None => section.body.push_str(line),
            }
        }
        None
    }

    /// The cipher and its initialisation vector, if it is encrypted in the older way.
    fn cipher(&self) -> Option<(&'a str, &'a str)> {
        let header = |name: &str| self.headers.iter().find(|(found, _)| *found == name);
        let (_, kind) = header("Proc-Type")?;
        kind.ends_with("ENCRYPTED").then_some(())?;
        header("DEK-Info")?.1.split_once(',')
    }

    fn data(&self) -> Option<Vec<u8>> {
        let mut text = format!("-----BEGIN {}-----\n", self.label);
        let mut rest = self.body.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at_checked(rest.len().min(LINE))?;
            text.push_str(line);
            text.push('\n');
            rest = more;
        }
        text.push_str(&format!("-----END {}-----\n", self.label));
        pem::decode_vec(text.as_bytes()).ok().map(|(_, data)| data)
    }

    /// What its label says that the decrypted bytes are; they begin as any key does.
    fn key(&self, plain: Vec<u8>) -> Option<PrivateKeyDer<'static>> {
        const SEQUENCE: u8 = 0x30;
        if plain.first() != Some(&SEQUENCE) {
            return None;
        }
        Some(match self.label {
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(plain)),
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(plain)),
            _ => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(plain)),
        })
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|value| u8::try_from(value).ok())
        })
        .collect();
    let digits = digits?;
    let bytes = digits.chunks_exact(2);
    if !bytes.remainder().is_empty() {
        return None;
    }
    Some(bytes.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests;
