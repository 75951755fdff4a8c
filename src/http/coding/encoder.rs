//! Streaming encoders: bytes of a body in, coded bytes out. Pure.
//!
//! Each encoder takes a known amount of memory, whatever goes through it ([`Encoder::bytes_max`]), and a worker's
//! encoders together no more than [`Encoders`] was given. That is what the windows are chosen for: 128 KiB for br and
//! zstd, where files of text find nearly all of their repetitions, and well below the 8 MiB that every client must read
//! (RFC 9659). Levels end where a piece of 64 KiB would hold up the other connections of a worker for long, or where
//! tables take many MiB.

use std::cell::{Cell, RefCell};
use std::fmt;

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{
    BrotliEncoderDestroyInstance, BrotliEncoderInitParams, BrotliEncoderOperation, BrotliEncoderStateStruct,
};
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, compress_bound};

use super::Coding;

/// Base 2 logarithm of the largest window of br and zstd.
const WINDOW_LOG_MAX: u32 = 17;
/// The same of the smallest: shorter bodies gain nothing from less.
const WINDOW_LOG_MIN: u32 = 10;
/// The smallest of brotli from level 5 on: below it the library takes a hash table of 32 MiB.
const BR_WINDOW_LOG_MIN: u32 = 17;
/// Size hint, bytes, from which on the brotli library takes tables of 4 MiB and more.
const BR_SIZE_HINT_END: u64 = 1 << 20;
/// Room made in the output at least, bytes, so that an encoder is not asked for a few bytes at a time.
const ROOM_MIN: usize = 512;
/// Room made in the output at most, bytes: the next round makes more.
const ROOM_MAX: usize = 32 << 10;

/// An encoder could not go on: no memory, or a mistake in a library. What it wrote is no whole body: cut the response
/// off, do not complete it. Whose fault: ours; the response may be asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError;

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the encoder failed; the response must be cut off")
    }
}

impl std::error::Error for EncodeError {}

/// What is to become of the bytes that the encoder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It may keep them back for a better result.
    Go,
    /// They leave, so that the client can read all that was written.
    Flush,
    /// They leave, and the body ends.
    End,
}

/// One body on its way through a coding.
pub struct Encoder {
    library: Library,
    level: u8,
    /// Something was written since the last flush.
    holds: bool,
    /// After an error, and after the end, it takes nothing more.
    closed: bool,
}

enum Library {
    Br(Box<Br>),
    Zstd(CCtx<'static>),
    Gzip(Compress),
}

impl Encoder {
    /// An encoder at `level`, which is brought into the coding's range: 1 to 6 for br, 1 to 9 for zstd and gzip.
    /// `size_hint` is the length of the body in bytes if it is known: that of a short body saves memory. It may be wrong.
    pub fn new(coding: Coding, level: u8, size_hint: Option<u64>) -> Result<Encoder, EncodeError> {
        let level = level_in_range(coding, level);
        let library = match coding {
            Coding::Br => Library::Br(Box::new(Br::new(level, size_hint))),
            Coding::Zstd => {
                let mut context = CCtx::try_create().ok_or(EncodeError)?;
                prepare_zstd(&mut context, level, size_hint)?;
                Library::Zstd(context)
            }
            Coding::Gzip => Library::Gzip(Compress::new_gzip(Compression::new(u32::from(level)), 15)),
        };
        Ok(Encoder { library, level, holds: false, closed: false })
    }

    /// Appends what `data` becomes to `out`, as far as it does not stay in the encoder for now.
    ///
    /// `out` grows by about the length of `data` and what the encoder held, 256 KiB at most, even if nothing in it can
    /// be made shorter.
    pub fn write(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.holds |= !data.is_empty();
        self.step(data, Then::Go, out)
    }

    /// Appends all that the encoder holds to `out`: the client can read then what was written so far. For a body that
    /// pauses; each flush costs the client a few bytes. Without a write since the last one nothing is appended.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if !std::mem::take(&mut self.holds) {
            return if self.closed { Err(EncodeError) } else { Ok(()) };
        }
        self.step(&[], Then::Flush, out)
    }

    /// Appends the rest of the body to `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.end(out)
    }

    /// The coding it writes.
    pub fn coding(&self) -> Coding {
        match self.library {
            Library::Br(_) => Coding::Br,
            Library::Zstd(_) => Coding::Zstd,
            Library::Gzip(_) => Coding::Gzip,
        }
    }

    /// Bytes of memory that an encoder of that kind takes at most, rounded up. Measured, see the tests.
    pub fn bytes_max(coding: Coding, level: u8) -> usize {
        const KIB: usize = 1 << 10;
        match (coding, level_in_range(coding, level)) {
            (Coding::Br, ..=1) => 768 * KIB,
            (Coding::Br, 2..=3) => 1408 * KIB,
            (Coding::Br, 4) => 2560 * KIB,
            (Coding::Br, 5) => 3840 * KIB,
            (Coding::Br, _) => 4864 * KIB,
            (Coding::Zstd, ..=2) => 1152 * KIB,
            (Coding::Zstd, 3) => 1408 * KIB,
            (Coding::Zstd, _) => 1792 * KIB,
            (Coding::Gzip, _) => 384 * KIB,
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.step(&[], Then::End, out)?;
        self.closed = true;
        Ok(())
    }

    fn step(&mut self, data: &[u8], then: Then, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.closed {
            return Err(EncodeError);
        }
        self.closed = true; // until it went well
        match &mut self.library {
            Library::Br(br) => br.step(data, then, out)?,
            Library::Zstd(context) => step_zstd(context, data, then, out)?,
            Library::Gzip(deflate) => step_gzip(deflate, data, then, out)?,
        }
        self.closed = false;
        Ok(())
    }

    /// Makes it ready for another body. False: its memory cannot be used again.
    fn reset(&mut self, level: u8, size_hint: Option<u64>) -> bool {
        let level = level_in_range(self.coding(), level);
        let ready = match &mut self.library {
            // The library has no way to start again; its tables would have to be cleared as well, which is most of
            // what a new encoder costs.
            Library::Br(_) => false,
            Library::Zstd(context) => prepare_zstd(context, level, size_hint).is_ok(),
            Library::Gzip(deflate) => {
                deflate.reset();
                level == self.level || deflate.set_level(Compression::new(u32::from(level))).is_ok()
            }
        };
        (self.level, self.holds, self.closed) = (level, false, !ready);
        ready
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("coding", &self.coding()).field("level", &self.level).finish_non_exhaustive()
    }
}

/// Codes a whole body at once. For bodies that are in memory anyway; `level` as in [`Encoder::new`].
pub fn compress_all(coding: Coding, level: u8, body: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    if coding == Coding::Zstd {
        // In one call the library reads `body` where it is, and needs no buffers.
        let mut context = CCtx::try_create().ok_or(EncodeError)?;
        prepare_zstd(&mut context, level_in_range(coding, level), Some(body.len() as u64))?;
        out.reserve_exact(compress_bound(body.len()));
        context.compress2(&mut out, body).map_err(|_| EncodeError)?;
    } else {
        let mut encoder = Encoder::new(coding, level, Some(body.len() as u64))?;
        out.reserve_exact(body.len() / 3 + ROOM_MIN);
        encoder.write(body, &mut out)?;
        encoder.finish(&mut out)?;
    }
    out.shrink_to_fit();
    Ok(out)
}

fn level_in_range(coding: Coding, level: u8) -> u8 {
    match coding {
        Coding::Br => level.clamp(1, 6),
        Coding::Zstd | Coding::Gzip => level.clamp(1, 9),
    }
}

/// The smallest window in which all of a body of that size lies, within our limits.
fn window_log(size_hint: Option<u64>) -> u32 {
    let bytes = size_hint.unwrap_or(u64::MAX).clamp(1 << WINDOW_LOG_MIN, 1 << WINDOW_LOG_MAX);
    bytes.next_power_of_two().ilog2()
}

/// Makes room for more of the output, in proportion to what is to be written.
fn make_room(out: &mut Vec<u8>, input_bytes: usize) {
    out.reserve(input_bytes.clamp(ROOM_MIN, ROOM_MAX));
}

fn prepare_zstd(context: &mut CCtx<'static>, level: u8, size_hint: Option<u64>) -> Result<(), EncodeError> {
    context.reset(ResetDirective::SessionAndParameters).map_err(|_| EncodeError)?;
    let window_log = window_log(size_hint);
    // The library fits its tables to the window only where it knows the size of the body. These are about what it
    // takes at each level for bodies of 128 KiB.
    let (chain_log, hash_log) = match level {
        ..=1 => (12, 13),
        2 => (13, 15),
        3 => (15, 16),
        _ => (16, 17),
    };
    for parameter in [
        CParameter::CompressionLevel(i32::from(level)),
        CParameter::WindowLog(window_log),
        CParameter::ChainLog(window_log.min(chain_log)),
        CParameter::HashLog((window_log + 1).min(hash_log)),
    ] {
        context.set_parameter(parameter).map_err(|_| EncodeError)?;
    }
    Ok(())
}

fn step_zstd(context: &mut CCtx<'static>, data: &[u8], then: Then, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let directive = match then {
        Then::Go => ZSTD_EndDirective::ZSTD_e_continue,
        Then::Flush => ZSTD_EndDirective::ZSTD_e_flush,
        Then::End => ZSTD_EndDirective::ZSTD_e_end,
    };
    let mut input = InBuffer::around(data);
    loop {
        let unread = data.len() - input.pos();
        make_room(out, unread);
        let (before, room) = (out.len(), out.capacity() - out.len());
        let mut output = OutBuffer::around_pos(out, before);
        let left = context.compress_stream2(&mut output, &mut input, directive).map_err(|_| EncodeError)?;
        let done = if then == Then::Go { input.pos() == data.len() } else { left == 0 };
        if done {
            return Ok(());
        }
        let (read, written) = (unread - (data.len() - input.pos()), out.len() - before);
        if read == 0 && written == 0 && room > 0 {
            return Err(EncodeError);
        }
    }
}

fn step_gzip(deflate: &mut Compress, data: &[u8], then: Then, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let flush = match then {
        Then::Go => FlushCompress::None,
        Then::Flush => FlushCompress::Sync,
        Then::End => FlushCompress::Finish,
    };
    let start = deflate.total_in();
    loop {
        let read = usize::try_from(deflate.total_in() - start).map_err(|_| EncodeError)?;
        let unread = data.get(read..).ok_or(EncodeError)?;
        make_room(out, unread.len());
        let before = (deflate.total_in(), out.len());
        let status = deflate.compress_vec(unread, out, flush).map_err(|_| EncodeError)?;
        // Room is left when nothing more is to come, see deflate() in zlib's manual.
        let room_left = out.len() < out.capacity();
        let done = match then {
            Then::Go => deflate.total_in() - start == data.len() as u64 && room_left,
            Then::Flush => room_left,
            Then::End => status == Status::StreamEnd,
        };
        if done {
            return Ok(());
        }
        if before == (deflate.total_in(), out.len()) {
            return Err(EncodeError);
        }
    }
}

/// The state of the brotli library.
struct Br(BrotliEncoderStateStruct<StandardAlloc>);

impl Br {
    fn new(level: u8, size_hint: Option<u64>) -> Br {
        let window_log = window_log(size_hint).max(if level < 5 { WINDOW_LOG_MIN } else { BR_WINDOW_LOG_MIN });
        let mut params = BrotliEncoderInitParams();
        params.quality = i32::from(level);
        params.lgwin = window_log as i32;
        // Without a hint the library takes the first write for one.
        params.size_hint = size_hint.unwrap_or(BR_SIZE_HINT_END).clamp(1, BR_SIZE_HINT_END - 1) as usize;
        let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
        state.params = params;
        Br(state)
    }

    fn step(&mut self, data: &[u8], then: Then, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let operation = match then {
            Then::Go => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
            Then::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
            Then::End => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
        };
        let (mut unread, mut read) = (data.len(), 0);
        loop {
            let before = unread;
            // Without room of ours it writes into its own, from where we take it.
            let went_well = self.0.compress_stream(
                operation,
                &mut unread,
                data,
                &mut read,
                &mut 0,
                &mut [],
                &mut 0,
                &mut None,
                &mut |_, _, _, _| (),
            );
            if !went_well {
                return Err(EncodeError);
            }
            let mut bytes = 0;
            let written = self.0.take_output(&mut bytes);
            out.extend_from_slice(written.get(..bytes).ok_or(EncodeError)?);
            let done = match then {
                Then::Go | Then::Flush => unread == 0 && !self.0.has_more_output(),
                Then::End => self.0.is_finished(),
            };
            if done {
                return Ok(());
            }
            if before == unread && bytes == 0 {
                return Err(EncodeError);
            }
        }
    }
}

impl Drop for Br {
    fn drop(&mut self) {
        BrotliEncoderDestroyInstance(&mut self.0);
    }
}

/// The encoders of one worker: those under way, and some that wait for the next body. Together they take no more memory
/// than the worker was given for them.
#[derive(Debug)]
pub struct Encoders {
    idle: RefCell<Vec<Encoder>>,
    /// Fewest idle ones since the last trim: these were not needed.
    spare: Cell<usize>,
    /// Bytes of all, those under way and the idle ones, by [`Encoder::bytes_max`].
    bytes: Cell<usize>,
    bytes_max: usize,
}

/// Idle encoders kept; more are seldom taken in one turn of a worker.
const IDLE_MAX: usize = 16;

impl Encoders {
    /// Enough for 170 bodies in gzip at the same time, 46 in zstd, or 25 in br, at the default levels.
    pub const BYTES_DEFAULT: usize = 64 << 20;

    /// None yet. `bytes_max`: memory that all of them may take.
    pub fn new(bytes_max: usize) -> Encoders {
        Encoders { idle: RefCell::default(), spare: Cell::default(), bytes: Cell::default(), bytes_max }
    }

    /// An encoder for one body; it comes back when the lease is dropped. Arguments as in [`Encoder::new`].
    ///
    /// `None`: the memory for encoders is used up, or one could not be made. Send the body as it is then, or try a
    /// coding that takes less: gzip needs a seventh of br.
    pub fn take(&self, coding: Coding, level: u8, size_hint: Option<u64>) -> Option<Lease<'_>> {
        let level = level_in_range(coding, level);
        let bytes = Encoder::bytes_max(coding, level);
        if let Some(encoder) = self.take_idle(coding, bytes, level, size_hint) {
            return Some(Lease { pool: self, encoder: Some(encoder), bytes });
        }
        while self.bytes.get() + bytes > self.bytes_max {
            self.drop_idle()?;
        }
        let encoder = Encoder::new(coding, level, size_hint).ok()?;
        self.bytes.set(self.bytes.get() + bytes);
        Some(Lease { pool: self, encoder: Some(encoder), bytes })
    }

    /// Frees half of the idle encoders that have not been needed since the last call. For a tick of the worker.
    pub fn trim(&self) {
        let unneeded = self.spare.get().div_ceil(2);
        for _ in 0..unneeded {
            self.drop_idle();
        }
        self.spare.set(self.idle.borrow().len());
    }

    /// Bytes of memory that the encoders take, for a gauge.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// One that takes as much memory as a new one would.
    fn take_idle(&self, coding: Coding, bytes: usize, level: u8, size_hint: Option<u64>) -> Option<Encoder> {
        let mut idle = self.idle.borrow_mut();
        let fits = |encoder: &Encoder| encoder.coding() == coding && charge(encoder) == bytes;
        let at = idle.iter().rposition(fits)?;
        let mut encoder = idle.swap_remove(at);
        self.spare.set(self.spare.get().min(idle.len()));
        if encoder.reset(level, size_hint) {
            return Some(encoder);
        }
        self.bytes.set(self.bytes.get() - bytes);
        None
    }

    /// `None`: there is none.
    fn drop_idle(&self) -> Option<()> {
        let encoder = self.idle.borrow_mut().pop()?;
        self.bytes.set(self.bytes.get() - charge(&encoder));
        self.spare.set(self.spare.get().min(self.idle.borrow().len()));
        Some(())
    }

    fn give_back(&self, encoder: Encoder, bytes: usize) {
        let mut idle = self.idle.borrow_mut();
        if encoder.coding() != Coding::Br && idle.len() < IDLE_MAX {
            idle.push(encoder);
        } else {
            self.bytes.set(self.bytes.get() - bytes);
        }
    }
}

impl Default for Encoders {
    fn default() -> Self {
        Encoders::new(Encoders::BYTES_DEFAULT)
    }
}

fn charge(encoder: &Encoder) -> usize {
    Encoder::bytes_max(encoder.coding(), encoder.level)
}

/// An encoder on loan from the pool. Dropping it gives it back, also in the middle of a body.
#[derive(Debug)]
pub struct Lease<'a> {
    pool: &'a Encoders,
    /// `None` only while it is dropped.
    encoder: Option<Encoder>,
    bytes: usize,
}

impl Lease<'_> {
    /// See [`Encoder::write`].
    pub fn write(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.encoder().write(data, out)
    }

    /// See [`Encoder::flush`].
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.encoder().flush(out)
    }

    /// See [`Encoder::finish`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.encoder().end(out)
    }

    fn encoder(&mut self) -> &mut Encoder {
        self.encoder.as_mut().expect("present until dropped")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(encoder) = self.encoder.take() {
            self.pool.give_back(encoder, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use proptest::prelude::*;

    use super::*;
    use crate::runtime::sys::allocations;

    fn decode(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        match coding {
            Coding::Br => brotli::Decompressor::new(coded, 4096).read_to_end(&mut body).map(drop),
            Coding::Zstd => zstd::stream::copy_decode(coded, &mut body),
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut body).map(drop),
        }
        .unwrap_or_else(|error| panic!("{coding:?}: {error}, {} bytes", coded.len()));
        body
    }

    /// What a client can read when only the beginning of the coded body has come.
    fn decode_beginning(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        match coding {
            Coding::Br => {
                let alloc = StandardAlloc::default;
                let mut state = brotli::BrotliState::new(alloc(), alloc(), alloc());
                let (mut unread, mut read, mut written) = (coded.len(), 0, 0);
                body.resize(1 << 20, 0);
                let mut room = body.len();
                let mut at = 0;
                let end = brotli::BrotliDecompressStream(
                    &mut unread,
                    &mut read,
                    coded,
                    &mut room,
                    &mut at,
                    &mut body,
                    &mut written,
                    &mut state,
                );
                assert!(matches!(end, brotli::BrotliResult::NeedsMoreInput), "a valid beginning");
                body.truncate(at);
            }
            Coding::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(&mut body).expect("a decoder");
                decoder.write_all(coded).expect("a valid beginning");
                decoder.flush().expect("a valid beginning");
            }
            Coding::Gzip => {
                let mut decoder = flate2::write::GzDecoder::new(&mut body);
                decoder.write_all(coded).expect("a valid beginning");
                decoder.flush().expect("a valid beginning");
                std::mem::forget(decoder);
            }
        }
        body
    }

    /// Lines as a template writes them, different each.
    fn html(bytes: usize) -> Vec<u8> {
        let mut page = String::from("<!doctype html><title>Guests</title><ul class=\"guests\">\n");
        for at in 0u32.. {
            if page.len() >= bytes {
                break;
            }
            let number = at.wrapping_mul(2_654_435_761);
            page += &format!(
                "<li id=\"g{at}\"><a href=\"/guest/{number:x}\">Guest {}</a> wrote on day {}</li>\n",
                number % 977,
                at % 365
            );
        }
        page.truncate(bytes);
        page.into_bytes()
    }

    /// Bytes that nothing makes shorter.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        std::iter::repeat_with(next).take(bytes).collect()
    }

    /// Short words that repeat, with bytes between that do not: the most matches that a body can have.
    fn words(bytes: usize) -> Vec<u8> {
        let choice = noise(bytes);
        let mut body = Vec::with_capacity(bytes + 8);
        for two in choice.chunks_exact(2) {
            let word = u32::from(two[0]).wrapping_mul(2_654_435_761) | 1;
            body.extend_from_slice(&word.to_le_bytes());
            body.push(two[1]);
            if body.len() >= bytes {
                break;
            }
        }
        body
    }

    fn levels(coding: Coding) -> std::ops::RangeInclusive<u8> {
        match coding {
            Coding::Br => 1..=6,
            Coding::Zstd | Coding::Gzip => 1..=9,
        }
    }

    #[test]
    fn every_level_codes_text_noise_and_nothing() {
        for coding in Coding::ALL {
            for level in levels(coding) {
                for body in [html(30_000), noise(20_000), vec![b'a'; 40_000], html(1), Vec::new()] {
                    let coded = compress_all(coding, level, &body).expect("coded");
                    assert!(decode(coding, &coded) == body, "{coding:?} {level}, {} bytes", body.len());
                    assert!(
                        coded.len() < body.len() / 16 * 17 + 64,
                        "{coding:?} {level}, {} from {} bytes",
                        coded.len(),
                        body.len()
                    );
                }
                let page = html(30_000);
                assert!(compress_all(coding, level, &page).expect("coded").len() < page.len() / 3);
            }
        }
    }

    #[test]
    fn levels_outside_of_the_range_are_brought_into_it() {
        let page = html(3000);
        for coding in Coding::ALL {
            let (least, most) = (*levels(coding).start(), *levels(coding).end());
            assert!(compress_all(coding, 0, &page) == compress_all(coding, least, &page));
            assert!(compress_all(coding, 255, &page) == compress_all(coding, most, &page));
        }
    }

    #[test]
    fn a_wrong_size_hint_does_no_harm() {
        let page = html(200_000);
        for coding in Coding::ALL {
            for hint in [None, Some(0), Some(1), Some(5000), Some(200_000), Some(1 << 21), Some(u64::MAX)] {
                let mut encoder = Encoder::new(coding, 5, hint).expect("an encoder");
                let mut out = Vec::new();
                encoder.write(&page, &mut out).expect("written");
                encoder.finish(&mut out).expect("finished");
                assert!(decode(coding, &out) == page, "{coding:?} {hint:?}");
            }
        }
    }

    #[test]
    fn what_was_flushed_can_be_read() {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, 4, None).expect("an encoder");
            let (mut out, mut written) = (Vec::new(), Vec::new());
            encoder.flush(&mut out).expect("flushed");
            assert!(out.is_empty(), "nothing was written yet");
            for piece in [&b"data: 1\n\n"[..], b"x", &html(70_000), &noise(3000), b"data: 2\n\n"] {
                encoder.write(piece, &mut out).expect("written");
                encoder.flush(&mut out).expect("flushed");
                written.extend_from_slice(piece);
                let read = decode_beginning(coding, &out);
                assert!(read == written, "{coding:?}: {} of {} bytes", read.len(), written.len());
                let before = out.len();
                encoder.flush(&mut out).expect("flushed");
                assert_eq!(out.len(), before, "{coding:?}: a second flush adds nothing");
            }
            encoder.finish(&mut out).expect("finished");
            assert!(decode(coding, &out) == written, "{coding:?}");
        }
    }

    #[test]
    fn a_body_without_its_end_is_not_whole() {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, 4, None).expect("an encoder");
            let mut out = Vec::new();
            encoder.write(&html(5000), &mut out).expect("written");
            encoder.flush(&mut out).expect("flushed");
            let whole = match coding {
                Coding::Br => brotli::Decompressor::new(&out[..], 4096).read_to_end(&mut Vec::new()).is_ok(),
                Coding::Zstd => zstd::stream::copy_decode(&out[..], Vec::new()).is_ok(),
                Coding::Gzip => flate2::read::GzDecoder::new(&out[..]).read_to_end(&mut Vec::new()).is_ok(),
            };
            assert!(!whole, "{coding:?}");
        }
    }

    #[test]
    fn nothing_is_taken_behind_the_end() {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, 4, None).expect("an encoder");
            let mut out = Vec::new();
            encoder.end(&mut out).expect("finished");
            let whole = out.clone();
            assert_eq!(encoder.write(b"more", &mut out), Err(EncodeError));
            assert_eq!(encoder.flush(&mut out), Err(EncodeError));
            assert_eq!(encoder.end(&mut out), Err(EncodeError));
            assert_eq!(out, whole, "{coding:?}");
        }
    }

    /// Windows that every decoder must read: RFC 9659 for zstd; for br it is a matter of memory.
    #[test]
    fn windows_are_small() {
        assert_eq!([Some(0), Some(1025), Some(1 << 17), Some(u64::MAX), None].map(window_log), [10, 11, 17, 17, 17]);
        let mut encoder = Encoder::new(Coding::Zstd, 9, None).expect("an encoder");
        let mut out = Vec::new();
        encoder.write(&html(400_000), &mut out).expect("written");
        encoder.finish(&mut out).expect("finished");
        let mut decoder = zstd::stream::read::Decoder::new(&out[..]).expect("a decoder");
        decoder.window_log_max(WINDOW_LOG_MAX).expect("a limit");
        let mut body = Vec::new();
        decoder.read_to_end(&mut body).expect("the window is within the limit");
        assert_eq!(body.len(), 400_000);
    }

    /// Bytes that one encoder takes at most while `body` goes through it in pieces.
    fn memory(coding: Coding, level: u8, hint: Option<u64>, body: &[u8], piece_bytes: usize) -> usize {
        let mut out = Vec::with_capacity(2 * body.len() + (1 << 20));
        let (rust, c) = allocations::peak(|| {
            let mut encoder = Encoder::new(coding, level, hint).expect("an encoder");
            for piece in body.chunks(piece_bytes) {
                encoder.write(piece, &mut out).expect("written");
            }
            let c = match &encoder.library {
                Library::Zstd(context) => context.sizeof(), // its memory is not Rust's
                _ => 0,
            };
            encoder.finish(&mut out).expect("finished");
            c
        });
        assert!(decode(coding, &out) == body, "{coding:?} {level}");
        rust + c
    }

    #[test]
    fn an_encoder_takes_no_more_memory_than_it_says() {
        let bodies = [html(400_000), words(400_000), [html(150_000), noise(150_000)].concat()];
        for coding in Coding::ALL {
            for level in levels(coding) {
                let said = Encoder::bytes_max(coding, level);
                let used = bodies.iter().map(|body| memory(coding, level, None, body, 64 << 10)).max();
                let used = used.unwrap_or_default();
                assert!(used <= said, "{coding:?} {level}: {used} of {said}");
                assert!(used > said / 4 * 3, "{coding:?} {level}: {used} of {said}, which is too much");
            }
            // Hints that the libraries would take larger tables for.
            let used = memory(coding, 4, Some(u64::MAX), &bodies[0], 64 << 10);
            assert!(used <= Encoder::bytes_max(coding, 4), "{coding:?}: {used}");
        }
    }

    #[test]
    fn encoders_are_used_again() {
        let pool = Encoders::default();
        let page = html(20_000);
        let mut out = Vec::with_capacity(64 << 10);
        for coding in [Coding::Zstd, Coding::Gzip] {
            for round in 0..4u8 {
                out.clear();
                let (allocations, ()) = allocations::count(|| {
                    let mut lease = pool.take(coding, 5, Some(page.len() as u64)).expect("there is memory");
                    lease.write(&page, &mut out).expect("written");
                    if round != 1 {
                        lease.finish(&mut out).expect("finished"); // else it is given back in the middle of a body
                    }
                });
                assert!(round == 0 || allocations == 0, "{coding:?}: {allocations}");
                assert!(round == 1 || decode(coding, &out) == page, "{coding:?}");
            }
        }
        assert_eq!(pool.bytes(), Encoder::bytes_max(Coding::Zstd, 5) + Encoder::bytes_max(Coding::Gzip, 5));
    }

    #[test]
    fn an_idle_encoder_takes_over_another_level_and_size() {
        let pool = Encoders::default();
        let page = html(50_000);
        for coding in [Coding::Zstd, Coding::Gzip] {
            for (level, hint) in [(5, None), (9, Some(50_000)), (1, Some(100)), (6, None)] {
                let mut out = Vec::new();
                let mut lease = pool.take(coding, level, hint).expect("there is memory");
                lease.write(&page, &mut out).expect("written");
                lease.finish(&mut out).expect("finished");
                assert!(decode(coding, &out) == page, "{coding:?} {level}");
                let mut fresh = Vec::new();
                let mut encoder = Encoder::new(coding, level, hint).expect("an encoder");
                encoder.write(&page, &mut fresh).expect("written");
                encoder.finish(&mut fresh).expect("finished");
                assert!(out == fresh, "{coding:?} {level}: nothing is left of the body before");
            }
        }
    }

    #[test]
    fn the_memory_of_a_worker_is_a_limit() {
        let gzip = Encoder::bytes_max(Coding::Gzip, 5);
        let pool = Encoders::new(2 * gzip + 1);
        let first = pool.take(Coding::Gzip, 5, None).expect("one");
        let second = pool.take(Coding::Gzip, 5, None).expect("two");
        assert!(pool.take(Coding::Gzip, 5, None).is_none());
        drop(first);
        assert!(pool.take(Coding::Br, 5, None).is_none(), "br takes more than there is");
        assert!(pool.take(Coding::Gzip, 5, None).is_some());
        drop(second);
        assert!(pool.bytes() <= 2 * gzip);
        assert!(Encoders::new(0).take(Coding::Gzip, 5, None).is_none());
    }

    /// Idle ones make room for others, and a worker with nothing to do gives all of them back.
    #[test]
    fn idle_encoders_give_way() {
        let zstd = Encoder::bytes_max(Coding::Zstd, 3);
        let pool = Encoders::new(zstd);
        drop(pool.take(Coding::Gzip, 5, None));
        assert_eq!(pool.bytes(), Encoder::bytes_max(Coding::Gzip, 5));
        drop(pool.take(Coding::Zstd, 3, None).expect("the idle one gave way"));
        assert_eq!(pool.bytes(), zstd);
        pool.trim();
        assert_eq!(pool.bytes(), zstd, "it may have been needed since the last time");
        pool.trim();
        assert_eq!(pool.bytes(), 0);
        let pool = Encoders::default();
        drop(pool.take(Coding::Br, 4, None).expect("br"));
        assert_eq!(pool.bytes(), 0, "the library cannot start again");
        let leases: Vec<_> = (0..IDLE_MAX + 5).filter_map(|_| pool.take(Coding::Gzip, 1, None)).collect();
        assert_eq!(leases.len(), IDLE_MAX + 5);
        drop(leases);
        assert_eq!(pool.bytes(), IDLE_MAX * Encoder::bytes_max(Coding::Gzip, 1));
    }

    fn body() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..3000),
            prop::collection::vec(prop::sample::select(b"ab<>/ ".to_vec()), 0..9000),
            (0usize..150_000).prop_map(html),
            (0usize..150_000).prop_map(noise),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// decode(encode(body)) == body, in pieces of any length, with flushes anywhere.
        #[test]
        fn any_body_comes_back(
            body in body(),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..12),
            level in 1u8..=9,
            hinted in any::<bool>(),
        ) {
            let mut cuts: Vec<(usize, bool)> = cuts.into_iter().map(|(at, flush)| (at.index(body.len() + 1), flush)).collect();
            cuts.sort_unstable();
            for coding in Coding::ALL {
                let mut encoder = Encoder::new(coding, level, hinted.then_some(body.len() as u64)).expect("an encoder");
                let (mut out, mut from) = (b"before".to_vec(), 0);
                for &(to, flush) in &cuts {
                    encoder.write(&body[from..to], &mut out).expect("written");
                    if flush {
                        encoder.flush(&mut out).expect("flushed");
                        prop_assert_eq!(decode_beginning(coding, &out[6..]).len(), to);
                    }
                    from = to;
                }
                encoder.write(&body[from..], &mut out).expect("written");
                encoder.finish(&mut out).expect("finished");
                prop_assert!(out.starts_with(b"before"));
                prop_assert!(decode(coding, &out[6..]) == body, "{coding:?}");
            }
        }
    }
}
