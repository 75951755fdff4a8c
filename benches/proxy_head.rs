//! Heads on their way through the balancer: a browser's request and a usual answer, parsed and written anew.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use one_server::http::answer::AnswerHead;
use one_server::http::h1::{
    AnswerContext, BodyKind, Limits, Method, RequestHead, ResponseHead, Version, parse_request, parse_response,
    write_answer_head,
};
use one_server::proxy::head::{RequestContext, Scheme, response_content, write_request_head, write_response_fields};

const REQUEST: &[u8] = b"GET /articles/2041?page=2 HTTP/1.1\r\n\
    Host: www.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.org/articles\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    If-None-Match: \"5f3c-61e0\"\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Server: app\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 18342\r\n\
    Cache-Control: private, max-age=0\r\n\
    ETag: \"5f3c-61e1\"\r\n\
    Vary: Accept-Encoding\r\n\
    Set-Cookie: session=0123456789abcdef0123456789abcdef; Path=/; HttpOnly; SameSite=Lax\r\n\
    Connection: keep-alive\r\n\r\n";

fn request(c: &mut Criterion) {
    let (limits, mut head, mut out) = (Limits::default(), RequestHead::default(), Vec::new());
    parse_request(REQUEST, &limits, &mut head).expect("a request");
    let context = RequestContext {
        client_ip: b"192.0.2.1",
        scheme: Scheme::Http,
        listener_port: 8080,
        server_host: b"10.0.0.7:80",
        request_id: b"0123456789abcdef",
        body: BodyKind::None,
        keep_alive: true,
        upgrade: None,
        forwarded: false,
        via: None,
    };
    let mut group = c.benchmark_group("request");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    group.bench_function("parse", |b| b.iter(|| parse_request(black_box(REQUEST), &limits, &mut head)));
    group.bench_function("write", |b| {
        b.iter(|| {
            out.clear();
            write_request_head(&mut out, &head, black_box(REQUEST), &context)
        });
    });
    group.finish();
}

fn response(c: &mut Criterion) {
    let (limits, mut head, mut out) = (Limits::default(), ResponseHead::default(), Vec::new());
    parse_response(RESPONSE, &limits, Method::Get, &mut head).expect("a response");
    let context = AnswerContext {
        method: Method::Get,
        version: Version::Http11,
        keep_alive: true,
        server: b"",
        date: b"Sun, 06 Nov 1994 08:49:37 GMT",
    };
    let mut fields = Vec::new();
    let mut group = c.benchmark_group("response");
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("parse", |b| b.iter(|| parse_response(black_box(RESPONSE), &limits, Method::Get, &mut head)));
    group.bench_function("write", |b| {
        b.iter(|| {
            out.clear();
            fields.clear();
            let written = write_response_fields(&mut fields, &head, black_box(RESPONSE));
            let content = response_content(&head, RESPONSE, Method::Get);
            let answer = AnswerHead { status: head.status, reason: None, fields: &fields, content };
            (written, write_answer_head(&mut out, &answer, &context))
        });
    });
    group.finish();
}

criterion_group!(benches, request, response);
criterion_main!(benches);
