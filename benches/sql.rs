//! Cost of deciding where a statement goes, of its normal form, and of following a result by its packets.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use one_server::mysql::protocol::follow::{Expect, Follower};
use one_server::mysql::protocol::packet::put_packet;
use one_server::mysql::protocol::response::OkPacket;
use one_server::mysql::sql::digest::Digester;
use one_server::mysql::sql::{Cache, Mode, classify};

const POINT_SELECT: &str = "SELECT c FROM sbtest1 WHERE id=4711";
const JOIN: &str = "SELECT o.id, o.total, COUNT(i.id) AS items, MAX(i.price) FROM orders o \
    JOIN order_items i ON i.order_id = o.id WHERE o.customer_id = 42 AND o.state IN ('paid', 'sent') \
    GROUP BY o.id, o.total HAVING COUNT(i.id) > 1 ORDER BY o.id DESC LIMIT 20";
const INSERT: &str = "INSERT INTO sbtest1 (id, k, c, pad) VALUES (0, 5032, '68487932199-96439406143', '22195207048')";

fn statements(c: &mut Criterion) {
    let mut group = c.benchmark_group("classify");
    for (name, sql) in [("point select", POINT_SELECT), ("join", JOIN), ("insert", INSERT), ("begin", "BEGIN")] {
        group.throughput(Throughput::Bytes(sql.len() as u64));
        group.bench_function(name, |b| b.iter(|| classify(black_box(sql.as_bytes()), Mode::default())));
    }
    let mut cache = Cache::new(1, true);
    let mut look = |sql: &str| cache.look(black_box(sql.as_bytes()), Mode::default(), 0, |_| 0);
    group.bench_function("join, cached", |b| b.iter(|| look(JOIN)));
    group.finish();
}

/// The normal form of a statement whose text is a new one.
fn digests(c: &mut Criterion) {
    let mut group = c.benchmark_group("digest");
    let mut digester = Digester::default();
    for (name, sql) in [("point select", POINT_SELECT), ("join", JOIN), ("insert", INSERT)] {
        group.throughput(Throughput::Bytes(sql.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| digester.digest(black_box(sql.as_bytes()), Mode::default()).len());
        });
    }
    group.finish();
}

/// One column, `rows` rows of `row_bytes`, as a server sends them.
fn result(rows: usize, row_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_packet(&mut out, 1, |p| p.push(1));
    put_packet(&mut out, 2, |p| p.extend_from_slice(b"\x03def column definition of some length"));
    for n in 0..rows {
        put_packet(&mut out, (n + 3) as u8, |p| p.resize(p.len() + row_bytes, b'x'));
    }
    OkPacket::plain(2).encode(&mut out, (rows + 3) as u8, true);
    out
}

fn results(c: &mut Criterion) {
    let mut group = c.benchmark_group("follow");
    for (name, rows, row_bytes) in
        [("1 row of 100 B", 1, 100), ("1000 rows of 100 B", 1000, 100), ("16 rows of 64 KiB", 16, 65_536)]
    {
        let input = result(rows, row_bytes);
        let mut out = Vec::with_capacity(input.len() + 64);
        group.throughput(Throughput::Bytes(input.len() as u64));
        for (client, deprecate_eof) in [("", true), (", old client", false)] {
            group.bench_function(format!("{name}{client}"), |b| {
                b.iter(|| {
                    out.clear();
                    let mut follower = Follower::new(Expect::Results, deprecate_eof, 2);
                    follower.feed(black_box(&input), &mut out).expect("a sound result");
                    assert!(follower.is_done());
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, statements, digests, results);
criterion_main!(benches);
