//! The HTTP/1.1 codec on the path of every request: what one head, one chunk, one answer costs.
//!
//! All our own code may take about 2 microseconds for a request. Compare with httparse alone: what stands above it is
//! the price of strict framing.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use one_server::http::date::HttpDate;
use one_server::http::h1::*;
use std::hint::black_box;

/// What load generators send.
const SHORT: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// What a browser sends.
const BROWSER: &[u8] = b"GET /static/app/main.7f3a9c.js?v=20260101 HTTP/1.1\r\n\
Host: www.example.com\r\n\
Connection: keep-alive\r\n\
sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
sec-ch-ua-mobile: ?0\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
sec-ch-ua-platform: \"Linux\"\r\n\
Accept: */*\r\n\
Sec-Fetch-Site: same-origin\r\n\
Sec-Fetch-Mode: no-cors\r\n\
Sec-Fetch-Dest: script\r\n\
Referer: https://www.example.com/\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=1\r\n\
If-None-Match: \"68c1a2b3-1f40\"\r\n\
If-Modified-Since: Wed, 10 Sep 2025 12:00:00 GMT\r\n\r\n";

/// What an application server answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
Content-Type: application/json\r\n\
Content-Length: 1234\r\n\
Date: Wed, 10 Sep 2025 12:00:00 GMT\r\n\
Cache-Control: no-store\r\n\
Set-Cookie: session=0123456789abcdef; Path=/; HttpOnly\r\n\r\n";

fn heads(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("head");
    for (name, bytes) in [("request_short", SHORT), ("request_browser", BROWSER)] {
        let mut head = RequestHead::default();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group
            .bench_function(name, |b| b.iter(|| parse_request(black_box(bytes), &limits, &mut head).unwrap().unwrap()));
    }
    let mut head = ResponseHead::default();
    group.throughput(Throughput::Bytes(ANSWER.len() as u64));
    group.bench_function("response", |b| {
        b.iter(|| parse_response(black_box(ANSWER), &limits, Method::Get, &mut head).unwrap().unwrap())
    });
    group.finish();
}

/// The worst a sender can do: the longest head, one byte at a time, each making us look at all of it again.
fn dripping_head(c: &mut Criterion) {
    let limits = Limits::default();
    let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    for _ in 0..limits.headers_max - 2 {
        bytes.extend_from_slice(format!("X: {}\r\n", "y".repeat(250)).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    assert!(bytes.len() <= limits.head_bytes_max);
    let mut group = c.benchmark_group("dripping_head");
    group.sample_size(10).throughput(Throughput::Elements(bytes.len() as u64));
    group.bench_function("32_kib", |b| {
        let mut head = RequestHead::default();
        b.iter(|| {
            let complete =
                (1..=bytes.len()).filter(|&end| parse_request(&bytes[..end], &limits, &mut head).unwrap().is_some());
            assert_eq!(complete.count(), 1);
        })
    });
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunked_body");
    for (name, chunk_bytes) in [("chunks_of_64", 64), ("chunks_of_16384", 16384)] {
        let mut wire = Vec::new();
        for _ in 0..65536 / chunk_bytes {
            write_chunk_head(&mut wire, chunk_bytes);
            wire.resize(wire.len() + chunk_bytes, b'x');
            wire.extend_from_slice(CHUNK_END);
        }
        wire.extend_from_slice(LAST_CHUNK);
        group.throughput(Throughput::Elements((65536 / chunk_bytes) as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let (mut decoder, mut at, mut content) = (BodyDecoder::new(BodyKind::Chunked), 0, 0);
                while !decoder.is_done() {
                    let decoded = decoder.decode(black_box(&wire[at..])).unwrap();
                    at += decoded.consumed;
                    content += decoded.data.len();
                }
                assert_eq!(content, 65536);
            })
        });
    }
    group.finish();
}

fn answers(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    let date = HttpDate::from_unix(1_757_505_600);
    group.bench_function("answer_head", |b| {
        b.iter_batched_ref(
            || Vec::with_capacity(512),
            |out| {
                write_status_line(out, 200);
                write_field(out, "Date", date.as_bytes());
                write_field(out, "Content-Type", b"text/html; charset=utf-8");
                out.extend_from_slice(b"Content-Length: ");
                write_decimal(out, black_box(12345));
                out.extend_from_slice(b"\r\n\r\n");
            },
            BatchSize::SmallInput,
        )
    });
    group.bench_function("chunk_head", |b| {
        b.iter_batched_ref(
            || Vec::with_capacity(32),
            |out| write_chunk_head(out, black_box(16384)),
            BatchSize::SmallInput,
        )
    });
    group.bench_function("date", |b| b.iter(|| HttpDate::from_unix(black_box(1_757_505_600))));
    group.finish();
}

criterion_group!(benches, heads, dripping_head, bodies, answers);
criterion_main!(benches);
