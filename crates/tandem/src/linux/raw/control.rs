//! Ancillary data (cmsg(3)) by its documented layout: length, level, type, data, aligned to the machine word.

const WORD: usize = size_of::<usize>();
const HEADER_LEN: usize = WORD + 8;

/// One piece of ancillary data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item<'a> {
    pub(super) level: i32,
    pub(super) kind: i32,
    pub(super) data: &'a [u8],
}

/// Splits received ancillary data; stops at the first length that does not fit.
pub(super) fn items(mut bytes: &[u8]) -> impl Iterator<Item = Item<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from_ne_bytes(bytes.first_chunk().copied()?);
        let data = bytes.get(HEADER_LEN..length)?;
        let level = i32_at(bytes, WORD)?;
        let kind = i32_at(bytes, WORD + 4)?;
        bytes = bytes
            .get(length.next_multiple_of(WORD)..)
            .unwrap_or_default();
        Some(Item { level, kind, data })
    })
}

/// The native-order `int` at `offset`.
pub(super) fn i32_at(bytes: &[u8], offset: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(
        bytes.get(offset..)?.first_chunk().copied()?,
    ))
}

/// One piece of ancillary data to send.
pub(super) fn item(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    let mut bytes = (HEADER_LEN + data.len()).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&level.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(WORD), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_read_back_and_lies_end_the_iteration() {
        let bytes = [item(1, 2, &[7; 5]), item(3, 4, &[8; 16])].concat();
        let found: Vec<_> = items(&bytes).collect();
        assert_eq!(
            found,
            [
                Item {
                    level: 1,
                    kind: 2,
                    data: &[7; 5]
                },
                Item {
                    level: 3,
                    kind: 4,
                    data: &[8; 16]
                }
            ]
        );
        assert_eq!(items(&bytes[..bytes.len() - 1]).count(), 1);
        assert_eq!(items(&[0; 64]).count(), 0, "a length below the header's");
        assert_eq!(items(&[0xff; 64]).count(), 0);
    }
}
