//! Connection ids that tell which data worker owns a connection, so that its packets reach that one after the client's
//! address has changed (RFC 9000 section 9; the kernel chooses a socket by addresses).
//!
//! ```text
//!   nonce (7 bytes, random) | worker (2 bytes, masked) | tag (3 bytes)
//! ```
//! Mask and tag are a keyed hash of the nonce. The key is random and the process's own, so that an observer sees 12 random
//! bytes (RFC 9000 section 5.1) and packets with ids that are none of ours are known by their tag. The hash is no
//! signature: who breaks it learns the number of a worker.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

const NONCE_BYTES: usize = 7;
const WORKER_BYTES: usize = 2;

/// Writes and reads ids. Cheap to clone; all workers have the same key.
#[derive(Clone, Debug)]
pub struct Ids {
    key: RandomState,
}

impl Ids {
    /// Length of an id, bytes.
    pub const BYTES: usize = 12;

    /// Ids under a key.
    pub fn new(key: [u64; 4]) -> Ids {
        Ids { key: RandomState::with_seeds(key[0], key[1], key[2], key[3]) }
    }

    fn mask(&self, nonce: &[u8]) -> [u8; Ids::BYTES - NONCE_BYTES] {
        let mut hasher = self.key.build_hasher();
        hasher.write(nonce);
        let hash = hasher.finish().to_be_bytes();
        std::array::from_fn(|at| hash[at])
    }

    /// The id of `worker` with these random bytes.
    pub fn write(&self, worker: u16, nonce: [u8; NONCE_BYTES]) -> [u8; Ids::BYTES] {
        let (mask, worker) = (self.mask(&nonce), worker.to_be_bytes());
        std::array::from_fn(|at| match at.checked_sub(NONCE_BYTES) {
            None => nonce[at],
            Some(at) if at < WORKER_BYTES => mask[at] ^ worker[at],
            Some(at) => mask[at],
        })
    }

    /// The worker that has given `id`; `None`: nobody of ours has.
    pub fn worker(&self, id: &[u8]) -> Option<u16> {
        if id.len() != Ids::BYTES {
            return None;
        }
        let (nonce, masked) = id.split_at(NONCE_BYTES);
        let mask = self.mask(nonce);
        let is_ours = masked[WORKER_BYTES..] == mask[WORKER_BYTES..];
        is_ours.then_some(u16::from_be_bytes([masked[0] ^ mask[0], masked[1] ^ mask[1]]))
    }
}

/// The connection id that a datagram's first packet is for, if its own ids are [`Ids::BYTES`] long where the packet does
/// not tell: RFC 8999 section 5. `None`: there is none.
pub fn destination(datagram: &[u8]) -> Option<&[u8]> {
    match datagram.first()? {
        // Long header: version, length, id.
        0x80.. => {
            let len = usize::from(*datagram.get(5)?);
            datagram.get(6..6 + len)
        }
        _ => datagram.get(1..1 + Ids::BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_of_one_worker_have_nothing_in_common_to_look_at() {
        let ids = Ids::new([1, 2, 3, 4]);
        let masked: std::collections::HashSet<[u8; 2]> = (0..100u8)
            .map(|at| ids.write(1, [at; NONCE_BYTES]))
            .map(|id| [id[NONCE_BYTES], id[NONCE_BYTES + 1]])
            .collect();
        assert!(masked.len() > 90);
    }

    #[test]
    fn destinations() {
        assert_eq!(destination(b""), None);
        assert_eq!(destination(b"\x40123456789012rest"), Some(&b"123456789012"[..]));
        assert_eq!(destination(b"\x4012345678901"), None);
        assert_eq!(destination(b"\xc0\0\0\0\x01\x03abc\0"), Some(&b"abc"[..]));
        assert_eq!(destination(b"\xc0\0\0\0\x01\x00"), Some(&b""[..]));
        assert_eq!(destination(b"\xc0\0\0\0\x01\x04abc"), None);
        assert_eq!(destination(b"\xc0\0\0\0\x01"), None);
    }

    proptest! {
        #[test]
        fn an_id_tells_its_worker(key: [u64; 4], worker: u16, nonce: [u8; NONCE_BYTES]) {
            let ids = Ids::new(key);
            prop_assert_eq!(ids.worker(&ids.write(worker, nonce)), Some(worker));
        }

        /// A changed tag is found; a changed nonce makes another mask, which its tag does not fit but for one in 2^24.
        #[test]
        fn ids_of_others_are_known(key: [u64; 4], worker: u16, nonce: [u8; NONCE_BYTES], at in 9usize..12, bit in 0u8..8) {
            let ids = Ids::new(key);
            let mut id = ids.write(worker, nonce);
            id[at] ^= 1 << bit;
            prop_assert_eq!(ids.worker(&id), None);
            prop_assert_eq!(ids.worker(&id[1..]), None);
        }
    }
}
