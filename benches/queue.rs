//! The queue between cores: one message there, a burst, and a round trip to another thread.

use std::hint::black_box;
use std::task::{Context, Waker};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use one_server::runtime::mailbox::mailbox;

fn same_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("mailbox");
    let (sender, mut receiver) = mailbox::<[u64; 8]>(1024);
    group.bench_function("send and receive one", |b| {
        b.iter(|| {
            sender.send(black_box([1; 8])).expect("room");
            receiver.try_recv()
        });
    });
    group.throughput(Throughput::Elements(64));
    group.bench_function("burst of 64 with one wake-up", |b| {
        let mut cx = Context::from_waker(Waker::noop());
        b.iter(|| {
            for n in 0..64 {
                sender.send(black_box([n; 8])).expect("room");
            }
            while receiver.poll_recv(&mut cx).is_ready() {}
        });
    });
    group.finish();
}

/// Both threads sleep between messages, as workers do: this is the price of a wake-up there and one back.
fn two_threads(c: &mut Criterion) {
    let (there, mut jobs) = mailbox::<u64>(64);
    let (back, mut answers) = mailbox::<u64>(64);
    let echo = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            loop {
                match jobs.recv().await {
                    u64::MAX => return,
                    n => back.send(n).expect("room"),
                }
            }
        });
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    c.bench_function("mailbox/round trip between sleeping threads", |b| {
        b.iter(|| {
            runtime.block_on(async {
                there.send(black_box(7)).expect("room");
                answers.recv().await
            })
        });
    });
    there.send(u64::MAX).expect("room");
    echo.join().expect("the echo thread");
}

criterion_group!(benches, same_thread, two_threads);
criterion_main!(benches);
