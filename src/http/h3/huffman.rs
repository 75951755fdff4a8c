//! The Huffman code of HPACK and QPACK: RFC 7541 appendix B. It is canonical: the lengths tell the codes.

/// Length of each symbol's code, bits; the last symbol is the end of the string.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

const END: u16 = 256;
const BITS_MAX: usize = 30;

/// Codes of one length, left-aligned in 32 bits.
#[derive(Clone, Copy)]
struct Row {
    bits: u32,
    /// The first code.
    first: u32,
    /// One past the last code.
    end: u64,
    /// Where its symbol stands in `symbols`.
    at: usize,
}

struct Code {
    codes: [u32; 257],
    /// Symbols in the order of their codes.
    symbols: [u16; 257],
    rows: [Row; BITS_MAX + 1],
    row_count: usize,
}

const CODE: Code = build();

const fn build() -> Code {
    let row = Row { bits: 0, first: 0, end: 0, at: 0 };
    let mut code = Code { codes: [0; 257], symbols: [0; 257], rows: [row; BITS_MAX + 1], row_count: 0 };
    let (mut next, mut at, mut bits) = (0u64, 0, 1);
    while bits <= BITS_MAX {
        next <<= 1;
        let (first, first_at) = (next, at);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == bits {
                code.codes[symbol] = next as u32;
                code.symbols[at] = symbol as u16;
                next += 1;
                at += 1;
            }
            symbol += 1;
        }
        if at > first_at {
            let (first, end) = ((first << (32 - bits)) as u32, next << (32 - bits));
            code.rows[code.row_count] = Row { bits: bits as u32, first, end, at: first_at };
            code.row_count += 1;
        }
        bits += 1;
    }
    code
}

/// Appends the text of `input` to `out`. `false`: it is no code, or its padding is wrong (RFC 7541 section 5.2).
///
/// The text is at most 8/5 as long as `input`.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> bool {
    static TABLE: Code = CODE;
    // The next bits of the string are the highest of `window`, of which `held` are there.
    let (mut window, mut held) = (0u64, 0u32);
    let mut rest = input.iter();
    loop {
        while held <= 56
            && let Some(byte) = rest.next()
        {
            window |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        let top = (window >> 32) as u32;
        let row = TABLE.rows[..TABLE.row_count].iter().find(|row| u64::from(top) < row.end);
        let Some(row) = row.filter(|row| row.bits <= held) else {
            // What is left is a part of the code of the end: fewer than 8 ones.
            return held < 8 && (window == 0 && held == 0 || window >> (64 - held) == (1 << held) - 1);
        };
        let symbol = TABLE.symbols[row.at + ((top - row.first) >> (32 - row.bits)) as usize];
        if symbol == END {
            return false;
        }
        out.push(symbol as u8);
        window <<= row.bits;
        held -= row.bits;
    }
}

/// Bytes that [`encode`] makes of `text`.
pub(super) fn encoded_bytes(text: &[u8]) -> usize {
    text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum::<usize>().div_ceil(8)
}

/// Appends the code of `text` to `out`.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    static TABLE: Code = CODE;
    let (mut window, mut held) = (0u64, 0u32);
    for byte in text {
        let bits = u32::from(LENGTHS[usize::from(*byte)]);
        window = window << bits | u64::from(TABLE.codes[usize::from(*byte)]);
        held += bits;
        while held >= 8 {
            held -= 8;
            out.push((window >> held) as u8);
        }
    }
    if held > 0 {
        out.push((window << (8 - held)) as u8 | ((1 << (8 - held)) - 1) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
    }

    /// RFC 7541 appendix C.
    #[test]
    fn examples() {
        for (text, code) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            ("Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
            ("", ""),
        ] {
            let (mut coded, mut plain) = (Vec::new(), Vec::new());
            encode(text.as_bytes(), &mut coded);
            assert_eq!(coded, hex(code), "{text}");
            assert_eq!(encoded_bytes(text.as_bytes()), coded.len());
            assert!(decode(&coded, &mut plain));
            assert_eq!(plain, text.as_bytes());
        }
    }

    #[test]
    fn wrong_padding_and_the_end_are_refused() {
        // Zeros, a whole byte of ones, and the code of the end.
        for code in ["f1e3c2e5f23a6ba0ab90f400", "a8eb10649cbfff", "ffffffff", "ff", "fffffffc"] {
            assert!(!decode(&hex(code), &mut Vec::new()), "{code}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text: Vec<u8>) {
            let (mut coded, mut plain) = (Vec::new(), Vec::new());
            encode(&text, &mut coded);
            prop_assert!(decode(&coded, &mut plain));
            prop_assert_eq!(plain, text);
        }
    }
}
