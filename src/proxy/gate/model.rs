//! The queue under every interleaving of two workers.

use loom::future::block_on;

use super::*;

/// One place at one server.
struct One;

impl Open for One {
    fn places(&self, _server: usize, _new: bool) -> Option<u32> {
        Some(1)
    }
}

fn request(queue: &Queue) {
    let gate = queue.gate();
    if !(gate.has_room(0, Some(1)) && gate.try_take(0, Some(1))) {
        let mut waiting = queue.wait(Kind::Any, &One).expect("room");
        block_on(async {
            while waiting.waiter.granted.get().is_none() {
                queue.deliver(|| One).await;
            }
            waiting.granted().await;
        });
    }
    gate.give_back(0, &One);
}

/// Two workers want the only place: under every interleaving both get it (else the model deadlocks).
#[test]
fn loom_nobody_waits_beside_a_free_place() {
    loom::model(|| {
        let gate = gate(1, 2, None, Waits { all: 2, own: 2 });
        let other = gate.clone();
        let thread = loom::thread::spawn(move || request(&Queue::new(other, 1)));
        request(&Queue::new(gate.clone(), 0));
        thread.join().unwrap();
        assert_eq!((gate.used(0), gate.waiting()), (0, 0));
    });
}
