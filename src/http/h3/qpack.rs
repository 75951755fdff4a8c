//! Field sections without a dynamic table: RFC 9204 section 4.5.

use super::huffman;
use super::static_table::STATIC_TABLE;

/// A field counts this much beyond its name and value (RFC 9114 section 4.2.2).
const FIELD_OVERHEAD: usize = 32;

/// Why a field section cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecodeError {
    /// It breaks the encoding, or refers to a table that does not exist: a connection error.
    Broken,
    /// Its fields are larger than the limit.
    TooLarge,
}

/// Reads the fields of a section and hands each to `take`. `list_bytes_max` bounds their size as RFC 9114 section 4.2.2
/// counts it. Errors: [`DecodeError`]; fields before it have been handed over.
pub(super) fn decode(
    mut section: &[u8],
    list_bytes_max: usize,
    mut take: impl FnMut(&[u8], &[u8]),
) -> Result<(), DecodeError> {
    let input = &mut section;
    // Required Insert Count and Base: with an empty table the one is zero and the other not below it.
    if integer(input, 8)?.1 != 0 || integer(input, 7)?.0 & 0x80 != 0 {
        return Err(DecodeError::Broken);
    }
    let mut left = list_bytes_max;
    let (mut name_text, mut value_text) = (Vec::new(), Vec::new());
    while let Some(first) = input.first().copied() {
        name_text.clear();
        value_text.clear();
        let (name, value): (Option<&[u8]>, Option<&[u8]>) = match first {
            0xc0.. => {
                let (name, value) = entry(integer(input, 6)?.1)?;
                (Some(name), Some(value))
            }
            0x50..0x60 | 0x70..0x80 => {
                let (name, _) = entry(integer(input, 4)?.1)?;
                (Some(name), string(input, 7, left, &mut value_text)?)
            }
            0x20..0x40 => {
                let name = string(input, 3, left, &mut name_text)?;
                (name, string(input, 7, left, &mut value_text)?)
            }
            // The dynamic table.
            _ => return Err(DecodeError::Broken),
        };
        let (name, value) = (name.unwrap_or(&name_text), value.unwrap_or(&value_text));
        let bytes = name.len() + value.len() + FIELD_OVERHEAD;
        left = left.checked_sub(bytes).ok_or(DecodeError::TooLarge)?;
        take(name, value);
    }
    Ok(())
}

fn entry(index: u64) -> Result<(&'static [u8], &'static [u8]), DecodeError> {
    usize::try_from(index).ok().and_then(|index| STATIC_TABLE.get(index)).copied().ok_or(DecodeError::Broken)
}

/// The byte an integer begins with, and the integer in its lowest `prefix` bits and the bytes behind it (RFC 7541 section
/// 5.1); no more than fit into 62 bits (RFC 9204 section 4.1.1).
fn integer(input: &mut &[u8], prefix: u32) -> Result<(u8, u64), DecodeError> {
    let (first, mut rest) = input.split_first().ok_or(DecodeError::Broken)?;
    let mask = (1u64 << prefix) - 1;
    let mut value = u64::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (byte, behind) = rest.split_first().ok_or(DecodeError::Broken)?;
            rest = behind;
            if shift > 55 {
                return Err(DecodeError::Broken);
            }
            value += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *input = rest;
    Ok((*first, value))
}

/// A string whose length has a prefix of so many bits, in front of which stands a bit for the Huffman code. `None`: it is
/// decoded into `text`.
fn string<'a>(
    input: &mut &'a [u8],
    prefix: u32,
    left: usize,
    text: &mut Vec<u8>,
) -> Result<Option<&'a [u8]>, DecodeError> {
    let (first, len) = integer(input, prefix)?;
    let len = usize::try_from(len).ok().filter(|len| *len <= input.len()).ok_or(DecodeError::Broken)?;
    let (bytes, rest) = input.split_at(len);
    *input = rest;
    // No code is longer than 30 bits: what is longer than that is too large in any case.
    if len / 4 > left {
        return Err(DecodeError::TooLarge);
    }
    if first & (1 << prefix) == 0 {
        return Ok(Some(bytes));
    }
    match huffman::decode(bytes, text) {
        true => Ok(None),
        false => Err(DecodeError::Broken),
    }
}

/// Appends what stands in front of the fields of a section.
pub(super) fn put_prefix(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// Appends a field; `name` is in lower case.
pub(super) fn put_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    match find(name, value) {
        Found::Whole(index) => put_integer(0xc0, 6, index, out),
        Found::Name(index) => {
            put_integer(0x50, 4, index, out);
            put_string(0, 7, value, out);
        }
        Found::Nothing => {
            put_string(0x20, 3, name, out);
            put_string(0, 7, value, out);
        }
    }
}

enum Found {
    Whole(usize),
    Name(usize),
    Nothing,
}

fn find(name: &[u8], value: &[u8]) -> Found {
    let mut found = Found::Nothing;
    for index in of_length(name.len()) {
        let (known, its_value) = STATIC_TABLE[usize::from(*index)];
        if known != name {
            continue;
        }
        if its_value == value {
            return Found::Whole(usize::from(*index));
        }
        if matches!(found, Found::Nothing) {
            found = Found::Name(usize::from(*index));
        }
    }
    found
}

/// Longest name in the table.
const NAME_BYTES_MAX: usize = 32;

/// Entries whose names have `name_bytes` bytes, in order.
fn of_length(name_bytes: usize) -> &'static [u8] {
    const SORTED: ([u8; STATIC_TABLE.len()], [u8; NAME_BYTES_MAX + 2]) = {
        let (mut order, mut starts) = ([0; STATIC_TABLE.len()], [0; NAME_BYTES_MAX + 2]);
        let (mut at, mut bytes) = (0, 0);
        while bytes <= NAME_BYTES_MAX {
            starts[bytes] = at as u8;
            let mut index = 0;
            while index < STATIC_TABLE.len() {
                if STATIC_TABLE[index].0.len() == bytes {
                    order[at] = index as u8;
                    at += 1;
                }
                index += 1;
            }
            bytes += 1;
        }
        starts[bytes] = at as u8;
        assert!(at == STATIC_TABLE.len());
        (order, starts)
    };
    static ORDER: [u8; STATIC_TABLE.len()] = SORTED.0;
    static STARTS: [u8; NAME_BYTES_MAX + 2] = SORTED.1;
    match STARTS.get(name_bytes..name_bytes + 2) {
        Some(ends) => &ORDER[usize::from(ends[0])..usize::from(ends[1])],
        None => &[],
    }
}

fn put_integer(tag: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        return out.push(tag | value as u8);
    }
    out.push(tag | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_string(tag: u8, prefix: u32, text: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::encoded_bytes(text);
    if coded < text.len() {
        put_integer(tag | 1 << prefix, prefix, coded, out);
        huffman::encode(text, out);
    } else {
        put_integer(tag, prefix, text.len(), out);
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fields = Vec<(Vec<u8>, Vec<u8>)>;

    fn read(section: &[u8], list_bytes_max: usize) -> Result<Fields, DecodeError> {
        let mut fields = Fields::new();
        decode(section, list_bytes_max, |name, value| fields.push((name.to_vec(), value.to_vec())))?;
        Ok(fields)
    }

    fn write(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut section = Vec::new();
        put_prefix(&mut section);
        fields.iter().for_each(|(name, value)| put_field(name, value, &mut section));
        section
    }

    /// RFC 9204 appendix B.1.
    #[test]
    fn a_literal_with_a_name_of_the_table() {
        let section = b"\x00\x00\x51\x0b/index.html";
        assert_eq!(read(section, 100), Ok(vec![(b":path".to_vec(), b"/index.html".to_vec())]));
    }

    #[test]
    fn every_entry_of_the_table_is_one_or_two_bytes() {
        for (index, (name, value)) in STATIC_TABLE.iter().enumerate() {
            let section = write(&[(name, value)]);
            assert!(section.len() <= 4, "{index}");
            assert_eq!(read(&section, 200), Ok(vec![(name.to_vec(), value.to_vec())]));
        }
        assert_eq!(STATIC_TABLE[24], (&b":status"[..], &b"103"[..]));
        assert_eq!(STATIC_TABLE[63], (&b":status"[..], &b"100"[..]));
    }

    #[test]
    fn what_needs_a_dynamic_table_is_broken() {
        // A required insert count, a base below zero, an indexed field, names of the table, both behind the base.
        for section in
            [&b"\x01\x00"[..], b"\x00\x80", b"\x00\x00\x80", b"\x00\x00\x40\x00", b"\x00\x00\x10", b"\x00\x00\x00\x00"]
        {
            assert_eq!(read(section, 100), Err(DecodeError::Broken), "{section:x?}");
        }
    }

    #[test]
    fn cut_sections_and_long_integers_are_broken() {
        let section = write(&[(b"x-name", b"value of it"), (b":path", b"/a/b/c/d/e")]);
        for cut in [0, 1, 3, 5, section.len() - 1] {
            assert_eq!(read(&section[..cut], 200), Err(DecodeError::Broken), "{cut}");
        }
        assert_eq!(read(b"\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 100), Err(DecodeError::Broken));
        // Entry 99.
        assert_eq!(read(b"\x00\x00\xff\x24", 100), Err(DecodeError::Broken));
    }

    #[test]
    fn the_limit_counts_as_the_settings_say() {
        let section = write(&[(b"aa", b"bbb"), (b"c", b"")]);
        assert_eq!(read(&section, 37 + 33).map(|fields| fields.len()), Ok(2));
        assert_eq!(read(&section, 37 + 32), Err(DecodeError::TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(fields: Fields) {
            let borrowed: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            prop_assert_eq!(read(&write(&borrowed), usize::MAX), Ok(fields));
        }
    }
}
