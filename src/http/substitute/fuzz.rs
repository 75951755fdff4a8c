//! The property of substitution that holds for any body, however it is cut. A target of `fuzz/` calls it with coverage
//! feedback; the test below runs it on every `cargo test`. It panics when the property does not hold.

use std::sync::Arc;

use super::{Substitution, Texts};

/// The first byte of `input` says how, the second how long a piece is, the rest up to the first zero byte are texts, between
/// line ends, and what follows is the body. In pieces it becomes what it becomes at once, and what a plain reader says.
pub fn body(input: &[u8]) {
    let [choices, piece, rest @ ..] = input else { return };
    let zero = memchr::memchr(0, rest).unwrap_or(rest.len());
    let (texts, body) = (&rest[..zero], rest.get(zero + 1..).unwrap_or_default());
    let texts: Vec<Box<[u8]>> = texts.split(|&byte| byte == b'\n').take(8).map(Into::into).collect();
    let values: Vec<Vec<u8>> = (0..texts.len()).map(|number| vec![b'x'; number * usize::from(choices >> 1)]).collect();
    let once = choices & 1 != 0;
    let Some(compiled) = Texts::new(texts.clone()) else { return };
    let compiled = Arc::new(compiled);
    let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut machine = Substitution::new(compiled.clone(), values.clone(), once);
        let mut out = Vec::new();
        for mut piece in pieces {
            loop {
                let step = machine.write(piece, &mut out);
                piece = &piece[step.taken..];
                if !step.is_full {
                    break;
                }
            }
        }
        while machine.finish(&mut out) {}
        out
    };
    let expect = plain(&texts, &values, once, body);
    assert_eq!(run(&mut std::iter::once(body)), expect);
    assert_eq!(run(&mut body.chunks(usize::from(*piece).max(1))), expect);
}

fn plain(texts: &[Box<[u8]>], values: &[Vec<u8>], once: bool, body: &[u8]) -> Vec<u8> {
    let mut used = vec![false; texts.len()];
    let (mut out, mut at) = (Vec::new(), 0);
    while at < body.len() {
        let fits = |text: &[u8]| body[at..].get(..text.len()).is_some_and(|bytes| bytes.eq_ignore_ascii_case(text));
        match (0..texts.len()).find(|&number| !(once && used[number]) && fits(&texts[number])) {
            Some(number) => {
                used[number] = true;
                out.extend_from_slice(&values[number]);
                at += texts[number].len();
            }
            None => {
                out.push(body[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn bodies() {
        fuzz("substitution", body, &["a", "aa", "ab", "b", "</head>", "<", "HEAD", "\n", "\0", "http://", "\u{e4}"]);
    }
}
