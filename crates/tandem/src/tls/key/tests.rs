//! The keys are OpenSSL's: `openssl pkcs8 -topk8 -v2 ...`, `openssl ec -aes256`, `openssl rsa -traditional -des3`.

use super::*;

const PASSPHRASE: Option<&[u8]> = Some(b"open sesame");

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../testkeys/", $name, ".pem"))
    };
}

#[test]
fn a_key_is_the_same_however_it_is_kept() {
    let table: [(&[u8], &[&[u8]]); 3] = [
        (
            file!("plain"),
            &[
                file!("pkcs8-aes256"),
                file!("pkcs8-aes128-sha1"),
                file!("pkcs8-des3"),
                file!("pkcs8-scrypt"),
            ],
        ),
        (
            file!("sec1"),
            &[
                file!("sec1-aes128"),
                file!("sec1-aes192"),
                file!("sec1-aes256"),
                file!("sec1-des3"),
            ],
        ),
        (file!("rsa"), &[file!("rsa-des3")]),
    ];
    for (plain, encrypted) in table {
        let expected = read(plain, None).unwrap();
        // A passphrase that is not needed is no fault.
        assert_eq!(read(plain, PASSPHRASE).unwrap(), expected);
        for text in encrypted {
            let name = String::from_utf8_lossy(text);
            assert_eq!(read(text, PASSPHRASE).as_ref(), Ok(&expected), "{name}");
            assert_eq!(read(text, None), Err(KeyError::NoPassphrase), "{name}");
            assert_eq!(read(text, Some(b"")), Err(KeyError::Passphrase), "{name}");
            let windows = name.replace('\n', "\r\n");
            let behind = format!("a certificate, perhaps\n{windows}");
            assert_eq!(read(behind.as_bytes(), PASSPHRASE).as_ref(), Ok(&expected));
        }
    }
}

#[test]
fn what_is_not_read_is_named() {
    let camellia = read(file!("sec1-camellia"), PASSPHRASE).unwrap_err();
    assert!(
        camellia.to_string().contains("CAMELLIA-128-CBC"),
        "{camellia}"
    );
    assert!(matches!(
        read(file!("pkcs8-pbes1"), PASSPHRASE),
        Err(KeyError::Scheme(_) | KeyError::Passphrase)
    ));
    assert_eq!(read(b"", PASSPHRASE), Err(KeyError::None));
    let cut = &file!("sec1-aes256")[..200];
    assert_eq!(read(cut, PASSPHRASE), Err(KeyError::None));
}
