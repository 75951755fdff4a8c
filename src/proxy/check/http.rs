//! One HTTP/1.1 request and whether its answer is a healthy one.
//!
//! The answer is read by the codec of the data path: what that would refuse with 502 does not pass here either.

use super::{CheckStatus, Step, Verdict};
use crate::config::model::{HttpProbe, TextMatch};
use crate::http::h1::{BodyDecoder, Limits, Method, ResponseHead, parse_response};

/// Heads of checks are short.
const LIMITS: Limits = Limits { head_bytes_max: 16 << 10, target_bytes_max: 0, headers_max: 128 };
/// Interim answers (RFC 9110 section 15.2) before the final one; their bytes count together with its head.
const INTERIM_BYTES_MAX: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Http<'a> {
    probe: &'a HttpProbe,
    authority: &'a str,
    has_sent: bool,
    /// Bytes of interim answers that have been passed over.
    passed: usize,
    body: Option<Body>,
}

/// A body that is searched.
#[derive(Debug)]
struct Body {
    decoder: BodyDecoder,
    status: u16,
    /// Bytes of the input that the head and the decoder have taken.
    taken: usize,
    content: Vec<u8>,
}

impl<'a> Http<'a> {
    pub(super) fn new(probe: &'a HttpProbe, authority: &'a str) -> Http<'a> {
        Http { probe, authority, has_sent: false, passed: 0, body: None }
    }

    pub(super) fn begin(&mut self) -> Step {
        if std::mem::replace(&mut self.has_sent, true) {
            return Step::Read;
        }
        let HttpProbe { method, path, host, fields, .. } = self.probe;
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", host.as_deref().unwrap_or(self.authority));
        for (name, value) in [("User-Agent", "one-server/health"), ("Accept", "*/*")] {
            if !fields.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)) {
                request.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        for (name, value) in fields {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("Connection: close\r\n\r\n");
        Step::Send(request.into_bytes())
    }

    /// `has_ended`: nothing comes behind `input`.
    pub(super) fn on_bytes(&mut self, input: &[u8], has_ended: bool) -> Step {
        if self.body.is_none()
            && let Err(step) = self.read_head(input)
        {
            return step;
        }
        let (Some(body), Some(expect)) = (&mut self.body, &self.probe.expect_body) else { return Step::Read };
        body.search(input, expect, self.probe.body_bytes_max, has_ended)
    }

    /// Reads the head; `Err`: what to do instead of going on with the body.
    fn read_head(&mut self, input: &[u8]) -> Result<(), Step> {
        let mut head = ResponseHead::default();
        let method = Method::of(self.probe.method.as_bytes());
        loop {
            let rest = &input[self.passed.min(input.len())..];
            match parse_response(rest, &LIMITS, method, &mut head) {
                Ok(None) => return Err(Step::Read),
                Err(error) => return Err(Step::Done(Verdict::invalid(format!("the answer is not HTTP: {error}")))),
                Ok(Some(())) if (100..200).contains(&head.status) && head.status != 101 => {
                    self.passed += head.head_bytes;
                    if self.passed > INTERIM_BYTES_MAX {
                        return Err(Step::Done(Verdict::invalid("no final answer behind 16 KiB of interim ones")));
                    }
                }
                Ok(Some(())) => return self.judge_head(rest, &head),
            }
        }
    }

    fn judge_head(&mut self, input: &[u8], head: &ResponseHead) -> Result<(), Step> {
        let status = head.status;
        let done = |result, text| Err(Step::Done(Verdict::with_code(result, status, text)));
        if !self.probe.statuses.contains(status) {
            return done(CheckStatus::BadStatus, format!("status {status} (expected {})", self.probe.statuses));
        }
        if let Some(expect) = &self.probe.expect_header {
            let fits = |field: &crate::http::h1::Field| expect.fits(field.name.of(input), field.value.of(input));
            if !head.fields.iter().any(fits) {
                return done(CheckStatus::Invalid, format!("status {status}, but no field {expect}"));
            }
        }
        if self.probe.expect_body.is_none() {
            return done(CheckStatus::Healthy, format!("status {status}"));
        }
        let taken = self.passed + head.head_bytes;
        self.body = Some(Body { decoder: BodyDecoder::new(head.body), status, taken, content: Vec::new() });
        Ok(())
    }
}

impl Body {
    fn search(&mut self, input: &[u8], expect: &TextMatch, bytes_max: usize, has_ended: bool) -> Step {
        let status = self.status;
        while self.taken < input.len() && !self.decoder.is_done() && self.content.len() < bytes_max {
            match self.decoder.decode(&input[self.taken..]) {
                Err(error) => return self.done(CheckStatus::Invalid, format!("status {status}, but {error}")),
                Ok(decoded) => {
                    let data = &input[self.taken + decoded.data.start..self.taken + decoded.data.end];
                    let room = bytes_max - self.content.len();
                    self.content.extend_from_slice(&data[..data.len().min(room)]);
                    self.taken += decoded.consumed;
                    if decoded.consumed == 0 {
                        break;
                    }
                }
            }
        }
        let is_all = has_ended || self.decoder.is_done() || self.content.len() >= bytes_max;
        // What an expression says of the beginning of a body may be wrong for all of it.
        let may_decide = is_all || matches!(expect, TextMatch::Contains(_));
        if may_decide && expect.is_in(&self.content) {
            return self.done(CheckStatus::Healthy, format!("status {status}, {expect} in its body"));
        }
        if self.content.len() >= bytes_max {
            let text = format!("status {status}, but no {expect} in the first {bytes_max} bytes of its body");
            return self.done(CheckStatus::Invalid, text);
        }
        if has_ended && self.decoder.on_eof().is_err() {
            return self.done(CheckStatus::Invalid, format!("status {status}, but closed within the body"));
        }
        if has_ended || self.decoder.is_done() {
            return self.done(CheckStatus::Invalid, format!("status {status}, but no {expect} in its body"));
        }
        Step::Read
    }

    fn done(&self, result: CheckStatus, text: String) -> Step {
        Step::Done(Verdict::with_code(result, self.status, text))
    }
}
