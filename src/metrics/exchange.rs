//! What exchanges add up to: per listener, per route.

use std::time::Duration;

use super::{Counter, Histogram};

/// Requests and what went both ways for them.
#[derive(Debug, Default)]
pub struct ExchangeStats {
    /// Requests answered, by status class: index 1 to 5 for 1xx to 5xx, 0 for closed without an answer.
    pub responses: [Counter; 6],
    /// Bytes of requests: heads, content, and what a tunnel behind one took from the client.
    pub bytes_in: Counter,
    /// Bytes of answers.
    pub bytes_out: Counter,
    /// From complete head to last byte handed to the kernel.
    pub duration: Histogram,
}

/// One exchange that is over.
#[derive(Clone, Copy, Debug)]
pub struct Exchanged {
    /// 0: it was closed without an answer.
    pub status: u16,
    /// As [`ExchangeStats::bytes_in`].
    pub bytes_in: u64,
    /// As [`ExchangeStats::bytes_out`].
    pub bytes_out: u64,
    /// As [`ExchangeStats::duration`].
    pub duration: Duration,
}

impl ExchangeStats {
    /// Counts one.
    pub fn count(&self, exchanged: Exchanged) {
        self.responses[usize::from(exchanged.status / 100).min(5)].inc();
        self.bytes_in.add(exchanged.bytes_in);
        self.bytes_out.add(exchanged.bytes_out);
        self.duration.record(exchanged.duration);
    }

    /// How many there were.
    pub fn requests(&self) -> u64 {
        self.responses.iter().map(Counter::value).sum()
    }
}
