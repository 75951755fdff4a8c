//! A text out, a text in.

use super::{CheckStatus, Step, Verdict, closed, excerpt};
use crate::config::model::TextProbe;

#[derive(Debug)]
pub(super) struct Text<'a> {
    probe: &'a TextProbe,
    has_sent: bool,
}

impl<'a> Text<'a> {
    pub(super) fn new(probe: &'a TextProbe) -> Text<'a> {
        Text { probe, has_sent: false }
    }

    pub(super) fn is_silent(&self) -> bool {
        self.probe.send.is_empty() && self.probe.expect.is_none()
    }

    pub(super) fn begin(&mut self) -> Step {
        if !self.has_sent && !self.probe.send.is_empty() {
            self.has_sent = true;
            return Step::Send(self.probe.send.clone());
        }
        match self.probe.expect {
            Some(_) => Step::Read,
            None => Step::Done(Verdict::new(CheckStatus::Healthy, "sent")),
        }
    }

    pub(super) fn on_bytes(&mut self, input: &[u8]) -> Step {
        let Some(expect) = &self.probe.expect else { return self.begin() };
        let bytes_max = self.probe.bytes_max;
        if expect.is_in(&input[..input.len().min(bytes_max)]) {
            return Step::Done(Verdict::new(CheckStatus::Healthy, format!("{expect} came")));
        }
        if input.len() < bytes_max {
            return Step::Read;
        }
        let text = format!("no {expect} in the first {bytes_max} bytes, which begin {}", excerpt(input));
        Step::Done(Verdict::invalid(text))
    }

    pub(super) fn on_end(&mut self, input: &[u8]) -> Verdict {
        match (self.on_bytes(input), &self.probe.expect) {
            (Step::Done(verdict), _) => verdict,
            (_, Some(expect)) if !input.is_empty() => {
                Verdict::invalid(format!("closed without {expect} behind {}", excerpt(input)))
            }
            _ => closed(input),
        }
    }
}
