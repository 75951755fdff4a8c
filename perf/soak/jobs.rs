//! The requests, and what their answers must be.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::World;
use crate::client::{Client, Upload, chain};
use crate::content::{Content, File, PAGE};
use crate::multipart;
use crate::upstream::LENGTH_FIELD;

/// A job that takes longer hangs. Slow readers take the longest, and they may hold up others of their connection.
const PATIENCE: Duration = Duration::from_secs(90);
/// Bytes of an upload, at most; the config of the server allows more.
const UPLOAD_BYTES_MAX: usize = 4_000_000;
/// A body that is collected instead of compared as it comes.
const COLLECTED_BYTES_MAX: usize = 60_000_000;

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Whole,
    Head,
    Range,
    Ranges,
    Unsatisfiable,
    Conditional,
    GivenUp,
    Slow,
    Upload,
    BrokenUpload,
    Proxied,
    Compressed,
    Precompressed,
    Missing,
}

/// How often each is done.
const JOBS: [(Job, u32); 14] = [
    (Job::Whole, 40),
    (Job::Head, 5),
    (Job::Range, 12),
    (Job::Ranges, 6),
    (Job::Unsatisfiable, 2),
    (Job::Conditional, 10),
    (Job::GivenUp, 5),
    (Job::Slow, 1),
    (Job::Upload, 10),
    (Job::BrokenUpload, 2),
    (Job::Proxied, 10),
    (Job::Compressed, 8),
    (Job::Precompressed, 4),
    (Job::Missing, 3),
];

impl Job {
    /// The client leaves in the middle, which ends a connection of HTTP/1.1.
    fn breaks_off(self) -> bool {
        matches!(self, Job::GivenUp | Job::BrokenUpload)
    }

    fn name(self) -> &'static str {
        match self {
            Job::Whole => "whole",
            Job::Head => "head",
            Job::Range => "range",
            Job::Ranges => "ranges",
            Job::Unsatisfiable => "unsatisfiable",
            Job::Conditional => "conditional",
            Job::GivenUp => "given up",
            Job::Slow => "slow reader",
            Job::Upload => "upload",
            Job::BrokenUpload => "broken upload",
            Job::Proxied => "proxied",
            Job::Compressed => "compressed",
            Job::Precompressed => "precompressed",
            Job::Missing => "missing",
        }
    }
}

/// Does one random job on `client`, and counts it.
pub(crate) async fn perform(world: &World, client: &mut Client, rng: &mut StdRng) {
    let weight = |(job, weight): &(Job, u32)| if job.breaks_off() && !client.may_break_off { 0 } else { *weight };
    let job = JOBS.choose_weighted(rng, weight).map_or(Job::Whole, |(job, _)| *job);
    let task = Task { world, content: &world.content, client };
    let transport = task.client.transport.name();
    let done = match tokio::time::timeout(PATIENCE, task.perform(job, rng)).await {
        Ok(done) => done,
        Err(_) => Err(format!("not done in {} s", PATIENCE.as_secs())),
    };
    match done {
        Ok(body_bytes) => world.tally.done(job.name(), transport, body_bytes),
        Err(failure) => {
            client.break_off();
            world.tally.fail(&format!("{} over {transport}", job.name()), &failure);
        }
    }
}

/// A job on a connection. Each way to do one gives the bytes of the bodies it compared.
struct Task<'a> {
    world: &'a World,
    content: &'a Content,
    client: &'a mut Client,
}

impl Task<'_> {
    async fn perform(mut self, job: Job, rng: &mut StdRng) -> Result<u64, String> {
        match job {
            Job::Whole => self.whole(rng).await,
            Job::Head => self.head(rng).await,
            Job::Range => self.range(rng).await,
            Job::Ranges => self.ranges(rng).await,
            Job::Unsatisfiable => self.unsatisfiable(rng).await,
            Job::Conditional => self.conditional(rng).await,
            Job::GivenUp => self.given_up(rng).await,
            Job::Slow => self.slow(rng).await,
            Job::Upload => self.upload(rng).await,
            Job::BrokenUpload => self.broken_upload(rng).await,
            Job::Proxied => self.proxied(rng).await,
            Job::Compressed => self.compressed(rng).await,
            Job::Precompressed => self.precompressed().await,
            Job::Missing => self.missing().await,
        }
    }

    async fn get(&mut self, path: &str, fields: &[(&str, String)]) -> Result<Response<Incoming>, String> {
        self.client.ask("GET", path, fields, Upload::none()).await.map_err(|e| format!("GET {path} {fields:?}: {e}"))
    }

    async fn whole(&mut self, rng: &mut StdRng) -> Result<u64, String> {
        let file = self.content.any(rng);
        let answer = self.get(&format!("/{}", file.name), &[]).await?;
        expect_status(&answer, StatusCode::OK)?;
        expect_length(&answer, file.body.len())?;
        expect_same_validators(file, &answer)?;
        compare(answer, &file.body).await
    }

    async fn head(&mut self, rng: &mut StdRng) -> Result<u64, String> {
        let file = self.content.any(rng);
        let path = format!("/{}", file.name);
        let answer =
            self.client.ask("HEAD", &path, &[], Upload::none()).await.map_err(|e| format!("HEAD {path}: {e}"))?;
        expect_status(&answer, StatusCode::OK)?;
        expect_length(&answer, file.body.len())?;
        expect_same_validators(file, &answer)?;
        compare(answer, &[]).await
    }

    async fn range(&mut self, rng: &mut StdRng) -> Result<u64, String> {
        let file = self.content.between(rng, 1, usize::MAX);
        let length = file.body.len();
        let first = rng.random_range(0..length);
        let last = rng.random_range(first..length);
        let (asked, first, last) = match rng.random_range(0..4) {
            0 => (format!("{first}-"), first, length - 1),
            1 => (format!("-{}", length - first), first, length - 1),
            2 => (format!("{first}-{}", length + 7), first, length - 1),
            _ => (format!("{first}-{last}"), first, last),
        };
        let answer = self.get(&format!("/{}", file.name), &[("range", format!("bytes={asked}"))]).await?;
        expect_range(&answer, &asked, first, last, length)?;
        compare(answer, &file.body[first..=last]).await
    }

    /// A few ranges in order, far enough from each other that nobody would join them.
    async fn ranges(&mut self, rng: &mut StdRng) -> Result<u64, String> {
        let file = self.content.between(rng, 4_095, 5_000_000);
        let count = rng.random_range(2..6);
        let stretch = file.body.len() / count;
        let ranges: Vec<(usize, usize)> = (0..count)
            .map(|index| {
                let first = index * stretch + rng.random_range(0..stretch / 4);
                (first, first + rng.random_range(0..stretch / 4))
            })
            .collect();
        let asked: Vec<_> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let fields = [("range", format!("bytes={}", asked.join(if rng.random() { "," } else { ", " })))];
        let answer = self.get(&format!("/{}", file.name), &fields).await?;
        expect_status(&answer, StatusCode::PARTIAL_CONTENT)?;
        let content_type = field(&answer, "content-type").unwrap_or_default().to_owned();
        let body = collect(answer).await?;
        let parts = multipart::parse(&content_type, &body)?;
        if parts.len() != ranges.len() {
            return Err(format!("{} parts for {asked:?}", parts.len()));
        }
        for (part, (first, last)) in parts.iter().zip(ranges) {
            if (part.first, part.last, part.length) != (first as u64, last as u64, file.body.len() as u64) {
                return Err(format!("a part {}-{}/{} for {asked:?}", part.first, part.last, part.length));
            }
            same(part.body, &file.body[first..=last])?;
        }
        Ok(body.len() as u64)
    }

    async fn unsatisfiable(&mut self, rng: &mut StdRng) -> Result<u64, String> {
        let file = self.content.any(rng);
        let length = file.body.len();
        let answer = self.get(&format!("/{}", file.name), &[("range", format!("bytes={}-", length + 1))]).await?;
        expect_status(&answer, StatusCode::RANGE_NOT_SATISFIABLE)?;
        let range = field(&answer, "content-range").unwrap_or_default();
        if range != format!("bytes */{length}") {
            return Err(format!("Content-Range of a 416 is {range:?}, the file has {length} bytes"));
        }
        collect(answer).await.map(|body| body.len() as u64)
    }

    async fn conditional(&mut self, rng: &mut StdRng) -> Result<u64, String> {
        let file = self.content.between(rng, 1, 1_000_000);
        let path = format!("/{}", file.name);
        let answer =
            self.client.ask("HEAD", &path, &[], Upload::none()).await.map_err(|e| format!("HEAD {path}: {e}"))?;
        expect_status(&answer, StatusCode::OK)?;
        let validators = Validators::of(&answer)?;
        compare(answer, &[]).await?;
        if self.client.is_over {
            return Ok(0); // the server's limit of requests
        }
        let (tag, modified, stale) = (validators.tag, validators.modified, "\"0-0\"".to_owned());
        let (half, length) = (file.body.len() / 2, file.body.len());
        let range = ("range", format!("bytes={half}-"));
        let (fields, status): (Vec<(&str, String)>, _) = match rng.random_range(0..7) {
            0 => (vec![("if-none-match", tag)], StatusCode::NOT_MODIFIED),
            1 => (vec![("if-none-match", format!("{stale}, W/{tag}"))], StatusCode::NOT_MODIFIED),
            2 => (vec![("if-none-match", stale)], StatusCode::OK),
            3 => (vec![("if-modified-since", modified)], StatusCode::NOT_MODIFIED),
            4 => (vec![("if-match", stale)], StatusCode::PRECONDITION_FAILED),
            5 => (vec![("if-range", tag), range], StatusCode::PARTIAL_CONTENT),
            _ => (vec![("if-range", stale), range], StatusCode::OK),
        };
        let answer = self.get(&path, &fields).await?;
        match status {
            StatusCode::PARTIAL_CONTENT => {
                expect_range(&answer, "if-range", half, length - 1, length)?;
                compare(answer, &file.body[half..]).await
            }
            StatusCode::OK => {
                expect_status(&answer, status)?;
                compare(answer, &file.body).await
            }
            StatusCode::NOT_MODIFIED => {
                expect_status(&answer, status)?;
                compare(answer, &[]).await
            }
            _ => {
                expect_status(&answer, status)?;
                collect(answer).await.map(|body| body.len() as u64)
            }
        }
        .map_err(|e| format!("GET {path} {fields:?}: {e}"))
    }

    /// The client leaves somewhere in a large answer.
    async fn given_up(&mut self, rng: &mut StdRng) -> Result<u64, String> {
        let is_proxied = rng.random_bool(0.3);
        let file = self.content.between(rng, 1_000_000, usize::MAX);
        let (path, expect): (_, &[u8]) = match is_proxied {
            true => (format!("/up/bytes/{}", self.content.stream.len()), &self.content.stream),
            false => (format!("/{}", file.name), &file.body),
        };
        let answer = self.get(&path, &[]).await?;
        expect_status(&answer, StatusCode::OK)?;
        let least = rng.random_range(0..expect.len() / 2);
        let (mut body, mut at) = (answer.into_body(), 0);
        while at < least {
            at += next(&mut body, &expect[at..]).await?.ok_or_else(|| format!("the body ends after {at} bytes"))?;
        }
        self.client.break_off();
        Ok(at as u64)
    }

    async fn slow(&mut self, rng: &mut StdRng) -> Result<u64, String> {
        let file = self.content.between(rng, 5_000_000, 10_000_000);
        let answer = self.get(&format!("/{}", file.name), &[]).await?;
        expect_status(&answer, StatusCode::OK)?;
        let (mut body, mut at, mut pauses) = (answer.into_body(), 0, rng.random_range(20..300));
        while let Some(bytes) = next(&mut body, &file.body[at..]).await? {
            at += bytes;
            if pauses > 0 {
                pauses -= 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        complete(at, file.body.len())
    }

    fn upload_bytes(&self, rng: &mut StdRng, least: usize) -> Bytes {
        let most = match rng.random_range(0..10) {
            0 => UPLOAD_BYTES_MAX,
            1..4 => 300_000,
            _ => 20_000,
        };
        let length = rng.random_range(least..=most.max(least));
        let from = rng.random_range(0..=self.content.stream.len() - length);
        self.content.stream.slice(from..from + length)
    }

    async fn upload(&mut self, rng: &mut StdRng) -> Result<u64, String> {
        let bytes = self.upload_bytes(rng, 0);
        let path = ["/up/echo/chunked", "/up/echo/declared"][rng.random_range(0..2)];
        let method = ["POST", "PUT"][rng.random_range(0..2)];
        let fields = [(LENGTH_FIELD, bytes.len().to_string())];
        let upload = Upload::new(bytes.clone(), rng.random());
        let answer = self.client.ask(method, path, &fields, upload).await;
        let answer = answer.map_err(|e| format!("{method} {path} of {} bytes: {e}", bytes.len()))?;
        expect_status(&answer, StatusCode::OK)?;
        compare(answer, &bytes).await.map(|echoed| 2 * echoed)
    }

    /// The client leaves in the middle of an upload: whatever it hears, it is not that all is well.
    async fn broken_upload(&mut self, rng: &mut StdRng) -> Result<u64, String> {
        let bytes = self.upload_bytes(rng, 10_000);
        let upload = Upload::new(bytes.clone(), rng.random()).cut(rng.random_range(1..bytes.len()));
        let fields = [(LENGTH_FIELD, bytes.len().to_string())];
        let answer = self.client.ask("PUT", "/up/echo/declared", &fields, upload).await;
        self.client.break_off();
        match answer {
            Ok(answer) if answer.status().is_success() => {
                Err(format!("an upload that broke off was answered with {}", answer.status()))
            }
            _ => Ok(0),
        }
    }

    async fn proxied(&mut self, rng: &mut StdRng) -> Result<u64, String> {
        let most = [100, 5_000, 200_000, 2_000_000][rng.random_range(0..4)];
        let length = rng.random_range(0..=most);
        let answer = self.get(&format!("/up/bytes/{length}"), &[]).await?;
        expect_status(&answer, StatusCode::OK)?;
        compare(answer, &self.content.stream[..length]).await
    }

    /// A text that the server compresses, read from a file or from the upstream.
    async fn compressed(&mut self, rng: &mut StdRng) -> Result<u64, String> {
        let (path, expect): (_, &[u8]) = match self.content.texts.choose(rng) {
            Some(text) if rng.random() => (format!("/text/{}", text.name), &text.body),
            _ => {
                let length = rng.random_range(0..400_000);
                (format!("/up/text/{length}"), &self.content.text_stream[..length])
            }
        };
        let accepted = ["gzip", "br", "zstd", "gzip;q=0.5, br;q=0.8", "br, zstd, gzip", "identity", "gzip;q=0"]
            [rng.random_range(0..7)];
        let answer = self.get(&path, &[("accept-encoding", accepted.to_owned())]).await?;
        expect_status(&answer, StatusCode::OK)?;
        let coding = field(&answer, "content-encoding").unwrap_or("identity").to_owned();
        if coding != "identity" && (!accepted.contains(&coding) || accepted.ends_with("q=0")) {
            return Err(format!("{coding} for `Accept-Encoding: {accepted}`"));
        }
        let body = collect(answer).await?;
        let decoded = decode(&coding, &body, expect.len())?;
        same(&decoded, expect).map_err(|e| format!("GET {path} as {coding}: {e}"))?;
        self.world.tally.coding(&coding);
        Ok(decoded.len() as u64)
    }

    async fn precompressed(&mut self) -> Result<u64, String> {
        let answer = self.get(&format!("/{PAGE}"), &[("accept-encoding", "gzip, br".to_owned())]).await?;
        expect_status(&answer, StatusCode::OK)?;
        if field(&answer, "content-encoding") != Some("br") {
            return Err(format!("the compressed copy is not served: {:?}", answer.headers()));
        }
        expect_length(&answer, self.content.page_br.len())?;
        let body = collect(answer).await?;
        same(&body, &self.content.page_br)?;
        same(&decode("br", &body, self.content.page.body.len())?, &self.content.page.body)?;
        Ok(body.len() as u64)
    }

    async fn missing(&mut self) -> Result<u64, String> {
        let answer = self.get("/there/is/no/such.file", &[]).await?;
        expect_status(&answer, StatusCode::NOT_FOUND)?;
        collect(answer).await.map(|body| body.len() as u64)
    }
}

fn field<'a>(answer: &'a Response<Incoming>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).and_then(|value| value.to_str().ok())
}

fn expect_status(answer: &Response<Incoming>, status: StatusCode) -> Result<(), String> {
    match answer.status() {
        got if got == status => Ok(()),
        got => Err(format!("status {got}, not {status}: {:?}", answer.headers())),
    }
}

fn expect_length(answer: &Response<Incoming>, bytes: usize) -> Result<(), String> {
    match field(answer, "content-length") {
        Some(length) if length == bytes.to_string() => Ok(()),
        length => Err(format!("Content-Length {length:?}, not {bytes}")),
    }
}

fn expect_range(
    answer: &Response<Incoming>,
    asked: &str,
    first: usize,
    last: usize,
    length: usize,
) -> Result<(), String> {
    expect_status(answer, StatusCode::PARTIAL_CONTENT).map_err(|e| format!("{asked}: {e}"))?;
    let range = field(answer, "content-range").unwrap_or_default();
    match multipart::parse_content_range(range) == Some((first as u64, last as u64, length as u64)) {
        true => expect_length(answer, last - first + 1),
        false => Err(format!("Content-Range {range:?} for {asked}, not {first}-{last}/{length}")),
    }
}

/// What a client may ask with later.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Validators {
    tag: String,
    modified: String,
}

impl Validators {
    fn of(answer: &Response<Incoming>) -> Result<Validators, String> {
        let take = |name: &str| field(answer, name).map(str::to_owned).ok_or_else(|| format!("no {name}"));
        Ok(Validators { tag: take("etag")?, modified: take("last-modified")? })
    }
}

/// The files never change, so their validators must not.
fn expect_same_validators(file: &File, answer: &Response<Incoming>) -> Result<(), String> {
    static SEEN: OnceLock<Mutex<HashMap<String, Validators>>> = OnceLock::new();
    let validators = Validators::of(answer)?;
    let mut seen = SEEN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    match seen.get(&file.name) {
        Some(before) if *before != validators => Err(format!("{validators:?} of {}, before {before:?}", file.name)),
        Some(_) => Ok(()),
        None => {
            seen.insert(file.name.clone(), validators);
            Ok(())
        }
    }
}

/// Reads the rest of an answer and compares it as it comes.
async fn compare(answer: Response<Incoming>, expect: &[u8]) -> Result<u64, String> {
    let (mut body, mut at) = (answer.into_body(), 0);
    while let Some(bytes) = next(&mut body, &expect[at..]).await? {
        at += bytes;
    }
    complete(at, expect.len())
}

/// The next bytes of a body, compared with what must come. `None`: it has ended properly.
async fn next(body: &mut Incoming, expect: &[u8]) -> Result<Option<usize>, String> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(format!("body, {} bytes before its end: {}", expect.len(), chain(&error))),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                let Some(expect) = expect.get(..data.len()) else {
                    return Err(format!("{} bytes too many", data.len() - expect.len()));
                };
                same(&data, expect)?;
                return Ok(Some(data.len()));
            }
        }
    }
}

fn complete(got: usize, expect: usize) -> Result<u64, String> {
    if got == expect { Ok(got as u64) } else { Err(format!("the body ends after {got} of {expect} bytes")) }
}

fn same(got: &[u8], expect: &[u8]) -> Result<(), String> {
    if got == expect {
        return Ok(());
    }
    let at = got.iter().zip(expect).position(|(got, expect)| got != expect).unwrap_or(got.len().min(expect.len()));
    Err(format!("a body differs at byte {at}: {} bytes, not {}", got.len(), expect.len()))
}

async fn collect(answer: Response<Incoming>) -> Result<Bytes, String> {
    let body = http_body_util::Limited::new(answer.into_body(), COLLECTED_BYTES_MAX);
    body.collect().await.map(|collected| collected.to_bytes()).map_err(|e| format!("body: {}", chain(&*e)))
}

/// Undoes a content coding; never makes more than one byte beyond `bytes_max`. Errors: not in that coding.
fn decode(coding: &str, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, String> {
    let reader: Box<dyn Read + '_> = match coding {
        "identity" => Box::new(body),
        "gzip" => Box::new(flate2::read::MultiGzDecoder::new(body)),
        "br" => Box::new(brotli::Decompressor::new(body, 4096)),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(body).map_err(|e| format!("zstd: {e}"))?),
        _ => return Err(format!("unknown coding {coding:?}")),
    };
    let mut decoded = Vec::with_capacity(bytes_max + 1);
    reader.take(bytes_max as u64 + 1).read_to_end(&mut decoded).map_err(|e| format!("{coding}: {e}"))?;
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_with_its_place() {
        assert_eq!(same(b"abc", b"abc"), Ok(()));
        assert!(same(b"abd", b"abc").unwrap_err().contains("byte 2"));
        assert!(same(b"ab", b"abc").unwrap_err().contains("byte 2"));
        assert!(complete(3, 4).is_err());
    }

    #[test]
    fn codings_are_undone_or_refused() {
        use std::io::Write;
        let text = b"players ".repeat(500);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&text[..], 3).unwrap();
        for (coding, body) in [("gzip", gzip), ("zstd", zstd), ("identity", text.clone())] {
            assert_eq!(decode(coding, &body, text.len()).unwrap(), text, "{coding}");
            let cut = decode(coding, &body[..body.len() - 1], text.len());
            assert!(cut.is_err() || cut.unwrap() != text, "{coding} cut");
            assert!(decode(coding, &body, 10).unwrap_or_default().len() <= 11, "{coding} limited");
        }
        assert!(decode("compress", b"", 1).is_err());
    }

    #[test]
    fn every_kind_of_job_is_done() {
        assert!(JOBS.iter().all(|(_, weight)| *weight > 0));
        let names: std::collections::HashSet<_> = JOBS.iter().map(|(job, _)| job.name()).collect();
        assert_eq!(names.len(), JOBS.len());
    }
}
