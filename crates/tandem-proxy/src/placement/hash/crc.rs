//! The two cyclic redundancy checks.

/// Of CRC-16/XMODEM: polynomial 0x1021, most significant bit first.
const CRC16: [u32; 256] = crc16_table();
/// Of IEEE CRC-32: polynomial 0x04c11db7 reflected, least significant bit first.
const CRC32: [u32; 256] = crc32_table();

const fn crc16_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut register = (byte as u32) << 8;
        let mut bit = 0;
        while bit < 8 {
            register = if register & 0x8000 == 0 {
                register << 1
            } else {
                (register << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[byte] = register & 0xffff;
        byte += 1;
    }
    table
}

const fn crc32_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut register = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            register = if register & 1 == 0 {
                register >> 1
            } else {
                (register >> 1) ^ 0xedb8_8320
            };
            bit += 1;
        }
        table[byte] = register;
        byte += 1;
    }
    table
}

/// CRC-16/XMODEM in a register of 32 bits that is never masked: the low half is the standard check, the high half holds
/// what earlier steps pushed out, and all of it is the hash.
pub(super) fn crc16(key: &[u8]) -> u32 {
    key.iter().fold(0, |register, &byte| {
        (register << 8) ^ CRC16[(((register >> 8) ^ u32::from(byte)) & 0xff) as usize]
    })
}

/// CRC-32 as zlib has it.
pub(super) fn crc32a(key: &[u8]) -> u32 {
    !key.iter().fold(u32::MAX, |register, &byte| {
        (register >> 8) ^ CRC32[((register ^ u32::from(byte)) & 0xff) as usize]
    })
}
