//! Content that leaves at a limited rate: see [`crate::guard::Throttle`].

use std::num::NonZeroU64;

use super::super::connection::Broken;
use super::{Answer, GATHERED_BYTES_MAX, Wire};
use crate::config::model::Options;
use crate::guard::{Allowance, Throttle};
use crate::runtime::time::sleep;

impl Answer<'_> {
    /// A server or application wants its answer to leave at this many bytes a second; anything but digits says nothing.
    pub(in super::super) fn ask_for_rate(&mut self, value: &[u8]) {
        let rate = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        self.asked_rate = rate.or(self.asked_rate);
    }

    /// The content leaves at the rate that was asked for, or that of the route.
    pub(super) fn limit_rate(&mut self, options: &Options) {
        let rate = NonZeroU64::new(self.asked_rate.unwrap_or(options.limit_rate));
        if let Some(rate) = rate.filter(|_| !matches!(self.wire, Wire::Noted(_))) {
            self.throttle = Some(Box::new(Throttle::new(rate, options.limit_rate_after)));
        }
    }

    /// Adds content as far as it may leave, and the rest when it may.
    pub(super) async fn put_in_turns(&mut self, mut data: &[u8]) -> Result<(), Broken> {
        while !data.is_empty() {
            let turn = self.turn(data.len().min(GATHERED_BYTES_MAX) as u64).await?;
            let (now, later) = data.split_at(turn as usize);
            self.put_now(now).await?;
            data = later;
        }
        Ok(())
    }

    /// Waits until some of `wanted` bytes may leave, as far as their rate is limited; returns how many. [`Broken`]: the
    /// client has left meanwhile.
    pub(super) async fn turn(&mut self, wanted: u64) -> Result<u64, Broken> {
        loop {
            let Some(throttle) = &mut self.throttle else { return Ok(wanted) };
            match throttle.take(wanted, self.worker.now()) {
                Allowance::Send(bytes) => return Ok(bytes),
                Allowance::Wait(time) => {
                    // What may leave does so before the wait.
                    self.flush_wire().await?;
                    let presence = self.presence();
                    // The client is not slow, we are.
                    presence.watched().clear();
                    presence.while_client_stays(sleep(time)).await.map_err(|_| Broken)?;
                }
            }
        }
    }
}
