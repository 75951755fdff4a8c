//! Watches the bytes of one HTTP/2 connection in both directions and says when a client makes too much work for
//! nothing (RFC 9113 section 10.5).
//!
//! It stands between the socket and the `h2` crate: what comes in passes [`Guard::on_inbound`] before `h2` reads it, what
//! goes out passes [`Guard::on_outbound`] before it is sent, so that nobody knows more than the guard. A frame costs the
//! same whatever its length; one that ends or breaks a stream costs a search among the open ones.
//!
//! Rates are counted in windows of a second that follow each other, so a client can have twice a limit across the end of a
//! window but not on average. What grows with honest use of a connection is measured against that use:
//!
//! | counted | against |
//! |---|---|
//! | WINDOW_UPDATE | DATA frames we sent and streams opened, [`UPDATES_PER_CAUSE`] for each, for life |
//! | PING | DATA frames we sent lately: gRPC clients measure with one PING a round trip while data flows |
//! | PRIORITY, unknown kinds | streams opened lately, [`HINTS_PER_STREAM`] for each |
//! | resets before an answer | streams answered: [`ANSWERS_PER_PARDON`] take one reset off the count |
//!
//! What makes us reset a stream is not looked for among the frames of the client, whose ways to do it are many
//! (h2o/h2o#3502): the resets themselves are counted when they leave.

use std::time::{Duration, Instant};

use super::flood::Flood;
use super::frame::{ErrorCode, Event, Frame, FrameHead, FrameScanner, flag, kind};
use super::streams::Streams;

/// Length of a window in which rates are counted.
const WINDOW: Duration = Duration::from_secs(1);
/// WINDOW_UPDATE frames for each DATA frame we send and each stream: a client that reads in pieces of 4 KiB sends 8 for
/// a full frame, half of them for the connection.
const UPDATES_PER_CAUSE: u32 = 10;
/// Most WINDOW_UPDATE frames that may be saved up.
const UPDATES_SAVED_MAX: u32 = 1 << 20;
/// What a connection may carry before its first WINDOW_UPDATE: RFC 9113 section 6.9.2.
const INITIAL_WINDOW_BYTES: i64 = 65_535;
/// Increments below this are tiny: each lets us send less than the frame that carries it costs.
const TINY_INCREMENT: u32 = 64;
/// Priority signals and frames of unknown kinds for each stream.
const HINTS_PER_STREAM: u32 = 2;
/// Streams answered in full for which one early reset is forgiven. A browser that gives up one request in ten may do
/// so for ever; for an attacker the work in between is more than what the reset wastes.
const ANSWERS_PER_PARDON: u32 = 10;

/// What one connection may do. The fields are counts of frames unless they say otherwise; one more is a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams open at the same time, as announced in our SETTINGS.
    pub streams_max: u32,
    /// Payload of a frame, bytes, as announced in our SETTINGS.
    pub frame_bytes_max: u32,
    /// Bytes of a header block as sent, all its frames together.
    pub header_block_bytes_max: u32,
    /// CONTINUATION frames of a header block.
    pub continuation_max: u32,
    /// RST_STREAM received, a second.
    pub rst_per_second: u32,
    /// RST_STREAM received, in the connection's life.
    pub rst_max: u32,
    /// RST_STREAM received before we sent HEADERS on the stream, in the connection's life, less what is forgiven.
    pub early_rst_max: u32,
    /// RST_STREAM sent because of mistakes of the client, in the connection's life.
    pub rst_emitted_max: u32,
    /// PING a second, beyond the DATA frames we sent.
    pub ping_per_second: u32,
    /// SETTINGS a second.
    pub settings_per_second: u32,
    /// PRIORITY and PRIORITY_UPDATE a second, beyond those that new streams explain.
    pub priority_per_second: u32,
    /// DATA without content and END_STREAM, a second.
    pub empty_data_per_second: u32,
    /// WINDOW_UPDATE a second: those of zero, and those that what we sent does not explain.
    pub window_update_per_second: u32,
    /// WINDOW_UPDATE a second of less than 64 bytes.
    pub tiny_window_update_per_second: u32,
    /// Frames of unknown kinds a second, beyond those that new streams explain.
    pub unknown_per_second: u32,
    /// Frames a second that no correct client sends.
    pub glitches_per_second: u32,
}

impl Default for Limits {
    /// Sozu's, and for what it does not count some that honest clients do not come near.
    fn default() -> Self {
        Limits {
            streams_max: 100,
            frame_bytes_max: 16 << 10,
            header_block_bytes_max: 256 << 10,
            continuation_max: 20,
            rst_per_second: 100,
            rst_max: 10_000,
            early_rst_max: 50,
            rst_emitted_max: 500,
            ping_per_second: 100,
            settings_per_second: 50,
            priority_per_second: 100,
            empty_data_per_second: 100,
            window_update_per_second: 100,
            tiny_window_update_per_second: 1000,
            unknown_per_second: 100,
            glitches_per_second: 100,
        }
    }
}

/// What a connection has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// A header block has begun and its last byte has not come: the header deadline runs.
    pub is_header_block_open: bool,
    /// The client's bytes end within a frame.
    pub is_inbound_within_frame: bool,
    /// Our bytes end within a frame: nothing but its rest may be sent next.
    pub is_outbound_within_frame: bool,
    /// Streams opened, those refused at once not among them.
    pub streams_opened: u64,
    /// Of these, streams that have ended in both directions or by a reset.
    pub streams_closed: u64,
    /// Highest identifier of a stream that the client used; for GOAWAY.
    pub highest_stream_id: u32,
    /// RST_STREAM frames received.
    pub resets_received: u64,
    /// RST_STREAM frames sent.
    pub resets_sent: u64,
    /// GOAWAY frames sent.
    pub goaways_sent: u64,
    /// Bytes of content that the client may still send on all its streams together (RFC 9113 section 6.9.1), as far as our
    /// bytes have been seen; below zero when it sends more than it may.
    pub inbound_window_bytes: i64,
    /// The `h2` crate found a flood and has said GOAWAY itself; it only remains to count it.
    pub found_by_h2: Option<Flood>,
}

/// Counts for one connection. Everything in here is bounded; only the table of open streams is allocated.
#[derive(Clone, Debug)]
pub struct Guard {
    limits: Limits,
    inbound: FrameScanner,
    outbound: FrameScanner,
    streams: Streams,
    block: Option<HeaderBlock>,
    window: Window,
    life: Life,
    summary: Summary,
    flood: Option<Flood>,
}

/// A header block that goes on in CONTINUATION frames (RFC 9113 section 4.3).
#[derive(Clone, Copy, Debug)]
struct HeaderBlock {
    stream_id: u32,
    continuation_count: u32,
    bytes: u32,
}

/// Counts of one second.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    began_at: Option<Instant>,
    rst: u32,
    ping: u32,
    settings: u32,
    priority: u32,
    empty_data: u32,
    window_update: u32,
    tiny_window_update: u32,
    unknown: u32,
    glitches: u32,
    activity: Activity,
    earlier: Activity,
}

/// Honest use of the connection, by which some counts are measured.
#[derive(Clone, Copy, Debug, Default)]
struct Activity {
    data_sent: u32,
    streams: u32,
}

impl Window {
    /// Begins anew when a second is over.
    fn turn(&mut self, now: Instant) {
        let Some(began_at) = self.began_at else {
            self.began_at = Some(now);
            return;
        };
        let age = now.saturating_duration_since(began_at);
        if age >= WINDOW {
            let earlier = if age < 2 * WINDOW { self.activity } else { Activity::default() };
            *self = Window { began_at: Some(now), earlier, ..Window::default() };
        }
    }

    fn data_sent(&self) -> u32 {
        self.activity.data_sent.saturating_add(self.earlier.data_sent)
    }

    fn hints(&self) -> u32 {
        self.activity.streams.saturating_add(self.earlier.streams).saturating_mul(HINTS_PER_STREAM)
    }
}

/// Counts of the connection's whole life.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    rst: u32,
    early_rst: u32,
    rst_emitted: u32,
    /// Streams answered since the last pardon.
    answers: u32,
    /// WINDOW_UPDATE frames that what we sent explains and that have not come.
    updates_saved: u32,
    /// SETTINGS and PING of ours that wait for their acknowledgement.
    settings_unanswered: u32,
    pings_unanswered: u32,
    goaways_received: u32,
}

/// Counts one more.
fn count(counter: &mut u32, max: u32, flood: Flood) -> Result<(), Flood> {
    *counter = counter.saturating_add(1);
    if *counter > max { Err(flood) } else { Ok(()) }
}

impl Guard {
    /// For a new connection, before its first byte.
    pub fn new(limits: &Limits) -> Guard {
        Guard {
            limits: *limits,
            inbound: FrameScanner::of_client(),
            outbound: FrameScanner::of_server(),
            streams: Streams::default(),
            block: None,
            window: Window::default(),
            life: Life::default(),
            summary: Summary { inbound_window_bytes: INITIAL_WINDOW_BYTES, ..Summary::default() },
            flood: None,
        }
    }

    /// Sees bytes from the client, before the `h2` crate does.
    ///
    /// `Err`: it is enough. These bytes must not reach `h2`; the connection ends with [`super::goaway_frame`]. Every later
    /// call says the same.
    pub fn on_inbound(&mut self, mut bytes: &[u8], now: Instant) -> Result<Summary, Flood> {
        self.window.turn(now);
        while self.flood.is_none()
            && let Some(event) = self.inbound.next(&mut bytes)
        {
            let counted = match event {
                Event::Begin(frame) => self.received(&frame),
                Event::End(head) => {
                    self.received_all(&head);
                    Ok(())
                }
            };
            self.flood = counted.err();
        }
        self.result()
    }

    /// Sees bytes for the client, in the order in which they are sent.
    ///
    /// `Err`: it is enough, as for [`Guard::on_inbound`]. These bytes may still be sent; they are looked at in any case, so
    /// that [`Guard::summary`] tells where a last GOAWAY may stand.
    pub fn on_outbound(&mut self, mut bytes: &[u8], now: Instant) -> Result<Summary, Flood> {
        self.window.turn(now);
        while let Some(event) = self.outbound.next(&mut bytes) {
            if let Event::Begin(frame) = event
                && let Err(flood) = self.sent(&frame)
            {
                self.flood.get_or_insert(flood);
            }
        }
        self.result()
    }

    /// What has happened so far.
    pub fn summary(&self) -> Summary {
        let is_of_block = |head: &FrameHead| matches!(head.kind, kind::HEADERS | kind::CONTINUATION);
        Summary {
            is_header_block_open: self.block.is_some() || self.inbound.current().is_some_and(is_of_block),
            is_inbound_within_frame: self.inbound.is_within_frame(),
            is_outbound_within_frame: self.outbound.is_within_frame(),
            ..self.summary
        }
    }

    fn result(&self) -> Result<Summary, Flood> {
        match self.flood {
            Some(flood) => Err(flood),
            None => Ok(self.summary()),
        }
    }

    // From the client.

    fn received(&mut self, frame: &Frame) -> Result<(), Flood> {
        let head = &frame.head;
        if head.payload_bytes > self.limits.frame_bytes_max {
            self.glitch()?;
        }
        let continues = |block: &HeaderBlock| head.kind == kind::CONTINUATION && head.stream_id == block.stream_id;
        if self.block.as_ref().is_some_and(|block| !continues(block)) {
            self.glitch()?;
        }
        match head.kind {
            kind::DATA => self.data_received(frame),
            kind::HEADERS => self.headers_received(frame),
            kind::CONTINUATION => self.continuation_received(head),
            kind::PRIORITY | kind::PRIORITY_UPDATE => self.priority_received(frame),
            kind::RST_STREAM => self.reset_received(head),
            kind::SETTINGS => self.settings_received(head),
            kind::PING => self.ping_received(head),
            kind::WINDOW_UPDATE => self.window_update_received(frame),
            // A second GOAWAY may lower what the first one said; more say nothing.
            kind::GOAWAY => count(&mut self.life.goaways_received, 2, Flood::Glitches).or_else(|_| self.glitch()),
            // Clients do not push: RFC 9113 section 8.4.
            kind::PUSH_PROMISE => self.glitch(),
            _ => {
                let max = self.limits.unknown_per_second.saturating_add(self.window.hints());
                count(&mut self.window.unknown, max, Flood::Unknown)
            }
        }
    }

    /// The last byte of a frame has come.
    fn received_all(&mut self, head: &FrameHead) {
        if head.kind == kind::CONTINUATION && head.has(flag::END_HEADERS) {
            self.block = None;
        }
    }

    fn data_received(&mut self, frame: &Frame) -> Result<(), Flood> {
        let head = &frame.head;
        // The length of the padding is a byte of its own: RFC 9113 section 6.1.
        let padding = if head.has(flag::PADDED) { frame.kept().first().map_or(1, |&n| u32::from(n) + 1) } else { 0 };
        let is_end = head.has(flag::END_STREAM);
        self.summary.inbound_window_bytes -= i64::from(head.payload_bytes);
        if padding > head.payload_bytes {
            self.glitch()?;
        }
        if head.payload_bytes <= padding && !is_end {
            count(&mut self.window.empty_data, self.limits.empty_data_per_second, Flood::EmptyData)?;
            self.glitch()?;
        }
        match self.streams.get(head.stream_id).map(|stream| stream.is_client_done) {
            Some(true) => self.mistake(head.stream_id),
            Some(false) if is_end => {
                self.client_done(head.stream_id);
                Ok(())
            }
            // The rest of a body may be under way when we reset its stream.
            None if self.is_idle(head.stream_id) => self.glitch(),
            _ => Ok(()),
        }
    }

    fn headers_received(&mut self, frame: &Frame) -> Result<(), Flood> {
        let (id, is_end) = (frame.head.stream_id, frame.head.has(flag::END_STREAM));
        if !frame.head.has(flag::END_HEADERS) {
            self.block = Some(HeaderBlock { stream_id: id, continuation_count: 0, bytes: frame.head.payload_bytes });
        }
        if frame.head.payload_bytes > self.limits.header_block_bytes_max {
            return Err(Flood::Continuation);
        }
        if id > self.summary.highest_stream_id && id % 2 == 1 {
            self.summary.highest_stream_id = id;
            self.window.activity.streams = self.window.activity.streams.saturating_add(1);
            self.save_updates();
            if self.streams.open(id, self.limits.streams_max) {
                self.summary.streams_opened += 1;
            }
        } else {
            // Trailers, and nothing else: RFC 9113 section 8.1.
            match self.streams.get(id) {
                Some(stream) if !stream.is_client_done && is_end => {}
                _ => self.mistake(id)?,
            }
        }
        if frame.head.has(flag::PRIORITY) {
            let at = usize::from(frame.head.has(flag::PADDED));
            if frame.number31(at) == Some(id) {
                self.mistake(id)?;
            }
        }
        if is_end {
            self.client_done(id);
        }
        Ok(())
    }

    fn continuation_received(&mut self, head: &FrameHead) -> Result<(), Flood> {
        let Some(block) = &mut self.block else { return self.glitch() };
        block.bytes = block.bytes.saturating_add(head.payload_bytes);
        count(&mut block.continuation_count, self.limits.continuation_max, Flood::Continuation)?;
        if block.bytes > self.limits.header_block_bytes_max {
            return Err(Flood::Continuation);
        }
        if head.payload_bytes == 0 { self.glitch() } else { Ok(()) }
    }

    /// Priorities say nothing to us, but each frame has to be read.
    fn priority_received(&mut self, frame: &Frame) -> Result<(), Flood> {
        let max = self.limits.priority_per_second.saturating_add(self.window.hints());
        count(&mut self.window.priority, max, Flood::Priority)?;
        let id = frame.head.stream_id;
        // RFC 7540 section 5.3.1: a stream cannot depend on itself.
        if frame.head.kind == kind::PRIORITY && frame.number31(0) == Some(id) { self.mistake(id) } else { Ok(()) }
    }

    fn reset_received(&mut self, head: &FrameHead) -> Result<(), Flood> {
        self.summary.resets_received += 1;
        match self.streams.close(head.stream_id) {
            Some(stream) => {
                self.summary.streams_closed += 1;
                if !stream.is_answered {
                    count(&mut self.life.early_rst, self.limits.early_rst_max, Flood::RapidReset)?;
                }
            }
            None if self.is_idle(head.stream_id) => self.glitch()?,
            // Our answer's end and the reset can cross.
            None => {}
        }
        count(&mut self.window.rst, self.limits.rst_per_second, Flood::Rst)?;
        count(&mut self.life.rst, self.limits.rst_max, Flood::Rst)
    }

    fn settings_received(&mut self, head: &FrameHead) -> Result<(), Flood> {
        if !head.has(flag::ACK) {
            return count(&mut self.window.settings, self.limits.settings_per_second, Flood::Settings);
        }
        match self.life.settings_unanswered.checked_sub(1) {
            Some(left) => {
                self.life.settings_unanswered = left;
                Ok(())
            }
            None => self.glitch(),
        }
    }

    fn ping_received(&mut self, head: &FrameHead) -> Result<(), Flood> {
        if head.has(flag::ACK)
            && let Some(left) = self.life.pings_unanswered.checked_sub(1)
        {
            self.life.pings_unanswered = left;
            return Ok(());
        }
        let max = self.limits.ping_per_second.saturating_add(self.window.data_sent());
        count(&mut self.window.ping, max, Flood::Ping)
    }

    fn window_update_received(&mut self, frame: &Frame) -> Result<(), Flood> {
        let Some(increment) = frame.number31(0) else { return self.glitch() };
        if increment == 0 {
            count(&mut self.window.window_update, self.limits.window_update_per_second, Flood::WindowUpdate)?;
            return self.mistake(frame.head.stream_id);
        }
        if increment < TINY_INCREMENT {
            let max = self.limits.tiny_window_update_per_second;
            count(&mut self.window.tiny_window_update, max, Flood::WindowUpdate)?;
        }
        match self.life.updates_saved.checked_sub(1) {
            Some(left) => {
                self.life.updates_saved = left;
                Ok(())
            }
            None => count(&mut self.window.window_update, self.limits.window_update_per_second, Flood::WindowUpdate),
        }
    }

    /// Counts a frame that no correct client sends.
    fn glitch(&mut self) -> Result<(), Flood> {
        count(&mut self.window.glitches, self.limits.glitches_per_second, Flood::Glitches)
    }

    /// The same for one that breaks its stream: should we reset that, it is because of this.
    fn mistake(&mut self, id: u32) -> Result<(), Flood> {
        if let Some(stream) = self.streams.get(id) {
            stream.is_faulty = true;
        }
        self.glitch()
    }

    /// Not opened yet. Streams of even numbers would be ours, and we open none.
    fn is_idle(&self, id: u32) -> bool {
        id == 0 || id.is_multiple_of(2) || id > self.summary.highest_stream_id
    }

    fn client_done(&mut self, id: u32) {
        let Some(stream) = self.streams.get(id) else { return };
        stream.is_client_done = true;
        if stream.is_server_done {
            self.close(id);
        }
    }

    // To the client.

    fn sent(&mut self, frame: &Frame) -> Result<(), Flood> {
        let head = &frame.head;
        match head.kind {
            kind::DATA => {
                self.window.activity.data_sent = self.window.activity.data_sent.saturating_add(1);
                self.save_updates();
            }
            kind::HEADERS => {
                if let Some(stream) = self.streams.get(head.stream_id) {
                    stream.is_answered = true;
                }
            }
            kind::RST_STREAM => return self.reset_sent(frame),
            kind::SETTINGS if !head.has(flag::ACK) => {
                self.life.settings_unanswered = self.life.settings_unanswered.saturating_add(1);
            }
            kind::WINDOW_UPDATE if head.stream_id == 0 => {
                self.summary.inbound_window_bytes += i64::from(frame.number31(0).unwrap_or_default());
            }
            kind::PING if !head.has(flag::ACK) => {
                self.life.pings_unanswered = self.life.pings_unanswered.saturating_add(1);
            }
            kind::GOAWAY => {
                self.summary.goaways_sent += 1;
                if self.flood.is_none() {
                    self.summary.found_by_h2 = self.summary.found_by_h2.or(Flood::of_goaway(frame));
                }
            }
            _ => {}
        }
        if matches!(head.kind, kind::DATA | kind::HEADERS) && head.has(flag::END_STREAM) {
            self.server_done(head.stream_id);
        }
        Ok(())
    }

    fn reset_sent(&mut self, frame: &Frame) -> Result<(), Flood> {
        self.summary.resets_sent += 1;
        let stream = self.streams.close(frame.head.stream_id);
        if stream.is_some() {
            self.summary.streams_closed += 1;
        }
        let is_blamed = frame.number(0).is_some_and(|code| ErrorCode(code).blames_the_peer());
        if is_blamed || stream.is_some_and(|stream| stream.is_faulty) {
            count(&mut self.life.rst_emitted, self.limits.rst_emitted_max, Flood::MadeYouReset)?;
        }
        Ok(())
    }

    fn server_done(&mut self, id: u32) {
        let Some(stream) = self.streams.get(id) else { return };
        stream.is_server_done = true;
        if stream.is_client_done {
            self.close(id);
        }
        self.life.answers += 1;
        if self.life.answers >= ANSWERS_PER_PARDON {
            self.life.answers = 0;
            self.life.early_rst = self.life.early_rst.saturating_sub(1);
        }
    }

    fn close(&mut self, id: u32) {
        if self.streams.close(id).is_some() {
            self.summary.streams_closed += 1;
        }
    }

    fn save_updates(&mut self) {
        self.life.updates_saved = self.life.updates_saved.saturating_add(UPDATES_PER_CAUSE).min(UPDATES_SAVED_MAX);
    }

    /// What holds after any bytes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn check_invariants(&self) {
        let (open, summary) = (self.streams.count(), &self.summary);
        assert!(open <= self.limits.streams_max as usize);
        assert_eq!(summary.streams_opened - summary.streams_closed, open as u64);
        assert!(summary.highest_stream_id <= i32::MAX as u32);
        assert!(self.life.answers < ANSWERS_PER_PARDON && self.life.updates_saved <= UPDATES_SAVED_MAX);
        assert!(
            self.block.is_none_or(|block| block.bytes <= self.limits.header_block_bytes_max || self.flood.is_some())
        );
    }
}
