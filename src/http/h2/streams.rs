//! Which streams of a connection are open, as the bytes that pass tell. Bounded: see [`Streams::open`].

/// An open stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    id: u32,
    /// The client has sent END_STREAM.
    pub(super) is_client_done: bool,
    /// We have sent HEADERS.
    pub(super) is_answered: bool,
    /// We have sent END_STREAM.
    pub(super) is_server_done: bool,
    /// The client sent a frame on it that is an error.
    pub(super) is_faulty: bool,
}

/// Open streams in order of their identifiers, which only rise (RFC 9113 section 5.1.1).
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    open: Vec<Stream>,
}

impl Streams {
    /// Adds a stream; `id` is higher than all before. False when `max` are open: the `h2` crate refuses the stream, so
    /// that it never becomes one.
    pub(super) fn open(&mut self, id: u32, max: u32) -> bool {
        debug_assert!(self.open.last().is_none_or(|last| last.id < id));
        if self.open.len() >= max as usize {
            return false;
        }
        self.open.push(Stream {
            id,
            is_client_done: false,
            is_answered: false,
            is_server_done: false,
            is_faulty: false,
        });
        true
    }

    pub(super) fn get(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.position(id)?;
        self.open.get_mut(at)
    }

    pub(super) fn close(&mut self, id: u32) -> Option<Stream> {
        self.position(id).map(|at| self.open.remove(at))
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    fn position(&self, id: u32) -> Option<usize> {
        self.open.binary_search_by_key(&id, |stream| stream.id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_are_kept() {
        let mut streams = Streams::default();
        let kept: Vec<bool> = (0..5).map(|n| streams.open(2 * n + 1, 3)).collect();
        assert_eq!(kept, [true, true, true, false, false]);
        assert!(streams.get(7).is_none() && streams.close(9).is_none());
        assert_eq!(streams.close(3).map(|stream| stream.id), Some(3));
        assert!(streams.close(3).is_none() && streams.get(5).is_some());
        assert!(streams.open(11, 3) && !streams.open(13, 3));
        assert_eq!(streams.count(), 3);
    }
}
