//! Order, bounds and counts of a gate, and a soak under threads.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Waker;

use proptest::prelude::*;

use super::*;
use crate::config::Heirs;
use crate::config::model::{Server, Upstream};
use crate::util::random::Random;

/// So many places at each server, for everybody.
struct Places(Vec<u32>);

impl Open for Places {
    fn places(&self, server: usize, _new: bool) -> Option<u32> {
        Some(self.0[server])
    }
}

fn deliver(queue: &Queue, open: &Places) {
    let mut cx = Context::from_waker(Waker::noop());
    while pin!(queue.deliver(|| Places(open.0.clone()))).poll(&mut cx).is_ready() {}
}

fn poll(waiting: &mut Waiting<'_, Places>) -> Option<Granted> {
    match pin!(waiting.granted()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(granted) => Some(granted),
        Poll::Pending => None,
    }
}

fn queues(gate: &Arc<Gate>, workers: usize) -> Vec<Queue> {
    (0..workers).map(|worker| Queue::new(gate.clone(), worker)).collect()
}

#[test]
fn places_go_to_workers_in_the_order_in_which_their_requests_came() {
    let (gate, open) = (gate(1, 3, None, Waits { all: 10, own: 10 }), Places(vec![1]));
    let queues = queues(&gate, 3);
    assert!(gate.try_take(0, Some(1)) && !gate.try_take(0, Some(1)));
    let mut waiting: Vec<_> = [2, 0, 1].iter().map(|&w: &usize| queues[w].wait(Kind::Any, &open).unwrap()).collect();
    assert_eq!(waiting.iter().map(|one| one.ahead).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(!gate.has_room(0, Some(9)), "others wait");
    for turn in 0..3 {
        gate.give_back(0, &open);
        queues.iter().for_each(|queue| deliver(queue, &open));
        let granted: Vec<_> = waiting.iter_mut().map(poll).collect();
        assert_eq!(granted.iter().position(Option::is_some), Some(turn), "{granted:?}");
    }
    assert_eq!((gate.used(0), gate.waiting()), (1, 0));
    gate.give_back(0, &open);
    assert!(gate.has_room(0, Some(1)));
}

#[test]
fn the_queue_is_bounded_and_whoever_leaves_leaves_no_hole() {
    let (gate, open) = (gate(2, 2, Some(2), Waits { all: 2, own: 2 }), Places(vec![9, 9]));
    let queues = queues(&gate, 2);
    assert!(gate.try_take(0, None) && gate.try_take(1, None) && !gate.try_take(1, None), "two in all");
    let first = queues[0].wait(Kind::Any, &open).unwrap();
    let mut second = queues[1].wait(Kind::Any, &open).unwrap();
    assert_eq!(queues[0].wait(Kind::Any, &open).err(), Some(QueueFull));
    drop(first);
    gate.give_back(1, &open);
    // Its ticket comes first, and worker 0 passes the place on.
    queues.iter().for_each(|queue| deliver(queue, &open));
    assert_eq!(poll(&mut second), Some(Granted::Place(1)));
    drop(second);
    assert_eq!((gate.used(0), gate.used(1), gate.waiting()), (1, 1, 0), "where one has ended");
    // Thousands that come and go need no more room.
    for _ in 0..1000 {
        drop(queues[0].wait(Kind::Any, &open).unwrap());
    }
    let one_more = queues[0].wait(Kind::Any, &open).unwrap();
    drop(one_more);
}

#[test]
fn a_place_granted_to_one_that_leaves_goes_on() {
    let (gate, open) = (gate(1, 2, None, Waits { all: 10, own: 10 }), Places(vec![1]));
    let queues = queues(&gate, 2);
    assert!(gate.try_take(0, Some(1)));
    let first = queues[0].wait(Kind::Any, &open).unwrap();
    let mut second = queues[1].wait(Kind::Any, &open).unwrap();
    gate.give_back(0, &open);
    queues.iter().for_each(|queue| deliver(queue, &open));
    drop(first);
    queues.iter().for_each(|queue| deliver(queue, &open));
    assert_eq!(poll(&mut second), Some(Granted::Place(0)));
}

#[test]
fn those_that_belong_to_a_server_and_the_others_take_turns() {
    let (gate, open) = (gate(2, 1, None, Waits { all: 20, own: 20 }), Places(vec![1, 0]));
    let queue = Queue::new(gate.clone(), 0);
    assert!(gate.try_take(0, Some(1)));
    let kinds = [Kind::Any, Kind::Any, Kind::Own(0), Kind::Own(0), Kind::Own(1)];
    let mut waiting: Vec<_> = kinds.into_iter().map(|kind| queue.wait(kind, &open).unwrap()).collect();
    let mut order = Vec::new();
    for _ in 0..4 {
        gate.give_back(0, &open);
        deliver(&queue, &open);
        order.extend(waiting.iter_mut().position(|one| poll(one).is_some()));
    }
    assert_eq!(order, [2, 0, 3, 1]);
    // The last one waits for a server that takes nobody, until it is told to look elsewhere.
    assert_eq!(poll(&mut waiting[4]), None);
    queue.send_elsewhere(1);
    assert_eq!(poll(&mut waiting[4]), Some(Granted::Nothing));
    drop(waiting);
    assert_eq!(gate.waiting(), 0);
}

/// The limits of the gate itself.
struct Most<'a>(&'a Gate);

impl Open for Most<'_> {
    fn places(&self, server: usize, _new: bool) -> Option<u32> {
        self.0.most(server)
    }
}

fn upstream(requests_max: Option<u32>, servers: &[(&str, Option<u32>)]) -> Upstream {
    let upstream = crate::config::Defaults::new(Default::default()).upstream("api");
    let server = |(address, requests_max): &(&str, Option<u32>)| Server {
        requests_max: *requests_max,
        ..Server::new(address.parse().unwrap())
    };
    Upstream { requests_max, queue_max: 12, servers: servers.iter().map(server).collect(), ..upstream }
}

/// As the config has them.
fn limits(upstream: &Upstream) -> Vec<Option<u32>> {
    upstream.servers.iter().map(|server| server.requests_max).collect()
}

#[test]
fn what_is_under_way_counts_by_every_config_and_limits_change_at_once() {
    let (a, b, c) = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1");
    let of = |upstream: &Upstream, workers| Gate::of(upstream, &limits(upstream), workers);
    let next = |old: &Gate, upstream: &Upstream, heirs: &Heirs| old.next(upstream, &limits(upstream), heirs, 1);
    let old = of(&upstream(Some(9), &[(a, Some(1)), (b, Some(2))]), 1).unwrap();
    assert!(old.try_take(0, old.most(0)) && old.try_take(1, old.most(1)) && old.try_take(1, old.most(1)));
    assert!(!old.try_take(0, old.most(0)));
    // `a` has gone, `b` may have more.
    let new = next(&old, &upstream(Some(4), &[(c, Some(1)), (b, Some(3))]), &Heirs(vec![None, Some(1)])).unwrap();
    assert_eq!((new.used(0), new.used(1), old.most(1)), (0, 2, Some(3)));
    assert!(new.try_take(1, new.most(1)) && !new.try_take(0, new.most(0)), "one at `a` and three at `b` are four");
    old.free(1);
    assert_eq!((new.used(1), old.used(1)), (2, 2));
    // It comes back before its request has ended.
    let back = next(&new, &upstream(None, &[(a, Some(1)), (b, Some(1))]), &Heirs(vec![None, Some(1)])).unwrap();
    assert_eq!((back.used(0), back.used(1)), (1, 2));
    assert!(!back.try_take(0, back.most(0)) && !old.try_take(1, old.most(1)));
    old.free(0);
    [&old, &new].iter().for_each(|gate| gate.free(1));
    assert!(back.try_take(0, back.most(0)) && back.try_take(1, back.most(1)));
    // Nothing is limited any more, for those who wait neither.
    let queue = Queue::new(back.clone(), 0);
    let open = Most(&back);
    let mut waiting = queue.wait(Kind::Any, &open).unwrap();
    let unlimited = next(&back, &upstream(None, &[(a, None), (b, None)]), &Heirs(vec![Some(0), Some(1)]));
    assert!(unlimited.is_none());
    back.settle(&open);
    queue.hand_out(&open);
    let granted = pin!(waiting.granted()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(granted, Poll::Ready(Granted::Place(_))), "{granted:?}");
}

#[test]
fn tickets_of_a_queue_that_has_gone_cost_no_place() {
    for is_granted_before in [false, true] {
        let (gate, open) = (gate(1, 2, None, Waits { all: 10, own: 10 }), Places(vec![1]));
        let (gone, stays) = (Queue::new(gate.clone(), 0), Queue::new(gate.clone(), 1));
        let bell = gone.bell();
        assert!(gate.try_take(0, Some(1)));
        drop(gone.wait(Kind::Any, &open).unwrap());
        let mut waiting = stays.wait(Kind::Any, &open).unwrap();
        if is_granted_before {
            gate.give_back(0, &open);
            drop(gone);
            gate.settle(&open);
        } else {
            drop(gone);
            gate.give_back(0, &open);
        }
        deliver(&stays, &open);
        assert_eq!((poll(&mut waiting), gate.used(0)), (Some(Granted::Place(0)), 1));
        let rung = pin!(bell.rung()).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(rung, Poll::Ready(false), "who delivered there ends");
    }
}

proptest! {
    /// Requests come through the gates of several configs, the older ones with the last requests that have them: together
    /// they never have more places than there are, and none is lost.
    #[test]
    fn gates_of_several_configs_are_one(seed: u64, workers in 1usize..3) {
        let mut random = Random::new(seed);
        let most = (random.below(2) == 0).then(|| 1 + random.below(4) as u32);
        let config = upstream(most, &[("10.0.0.1:1", Some(2)), ("10.0.0.2:1", Some(1))]);
        let turned = upstream(most, &[("10.0.0.2:1", Some(1)), ("10.0.0.1:1", Some(2))]);
        let first = Gate::of(&config, &limits(&config), workers).unwrap();
        let second = first.next(&turned, &limits(&turned), &Heirs(vec![Some(1), Some(0)]), workers).unwrap();
        let third = second.next(&config, &limits(&config), &Heirs(vec![Some(1), Some(0)]), workers).unwrap();
        let gates = [first, second, third];
        let opens: Vec<Most<'_>> = gates.iter().map(|gate| Most(gate)).collect();
        let queues: Vec<Vec<Queue>> = gates.iter().map(|gate| queues(gate, workers)).collect();
        // By the order of the first.
        let server_of = |config: usize, server: usize| if config == 1 { 1 - server } else { server };
        let mut under_way: Vec<(usize, usize)> = Vec::new();
        let mut waiting = Vec::new();
        for step in 0..300 {
            match random.below(5) {
                0 | 1 => {
                    let newest = step / 100;
                    let config = if random.below(4) == 0 { random.below(newest + 1) } else { newest };
                    let (gate, server) = (&gates[config], random.below(2));
                    if gate.has_room(server, gate.most(server)) && gate.try_take(server, gate.most(server)) {
                        under_way.push((config, server));
                    } else if let Ok(one) = queues[config][random.below(workers)].wait(Kind::Any, &opens[config]) {
                        waiting.push((config, Box::pin(one)));
                    }
                }
                2 | 3 if !under_way.is_empty() => {
                    let (config, server) = under_way.swap_remove(random.below(under_way.len()));
                    gates[config].free(server);
                }
                4 if !waiting.is_empty() => drop(waiting.swap_remove(random.below(waiting.len()))),
                _ => {}
            }
            for _ in 0..2 * 12 {
                gates.iter().zip(&opens).for_each(|(gate, open)| gate.settle(open));
                queues.iter().zip(&opens).for_each(|(queues, open)| queues.iter().for_each(|q| q.hand_out(open)));
            }
            waiting.retain_mut(|(config, one)| {
                match pin!(one.granted()).poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Granted::Place(server)) => under_way.push((*config, server)),
                    Poll::Ready(Granted::Nothing) => unreachable!("nobody is sent elsewhere"),
                    Poll::Pending => return true,
                }
                false
            });
            let mut has_free = false;
            for (server, places) in [2, 1].into_iter().enumerate() {
                let count = under_way.iter().filter(|(config, at)| server_of(*config, *at) == server).count() as u32;
                prop_assert!(count <= places);
                has_free |= count < places;
                for (config, gate) in gates.iter().enumerate() {
                    prop_assert_eq!(gate.used(server_of(config, server)), count);
                }
            }
            let total = under_way.len() as u32;
            prop_assert!(most.is_none_or(|most| total <= most));
            let has_free = has_free && most.is_none_or(|most| total < most);
            prop_assert!(waiting.is_empty() || !has_free, "{} wait beside a free place", waiting.len());
        }
    }

    /// Requests come, get places, end and give up at random in several workers: never more than may are under way,
    /// nobody waits beside a free place, and nobody waits for more grants than there were tickets before it.
    #[test]
    fn places_are_neither_lost_nor_given_twice(seed: u64, workers in 1usize..5, servers in 1usize..4) {
        let mut random = Random::new(seed);
        let open = Places((0..servers).map(|_| 1 + random.below(3) as u32).collect());
        let most = (random.below(2) == 0).then(|| 1 + random.below(4) as u32);
        let gate = gate(servers, workers, most, Waits { all: 12, own: 12 });
        let queues = queues(&gate, workers);
        let mut under_way: Vec<usize> = Vec::new();
        let mut waiting: Vec<(Pin<Box<Waiting<'_, Places>>>, usize)> = Vec::new();
        let mut grants = 0usize;
        for _ in 0..600 {
            match random.below(6) {
                0 | 1 => {
                    let server = random.below(servers);
                    let places = Some(open.0[server]);
                    if gate.has_room(server, places) && gate.try_take(server, places) {
                        under_way.push(server);
                    } else if let Ok(one) = queues[random.below(workers)].wait(Kind::Any, &open) {
                        let bound = grants + one.ahead;
                        waiting.push((Box::pin(one), bound));
                    }
                }
                2 | 3 if !under_way.is_empty() => {
                    let at = random.below(under_way.len());
                    gate.give_back(under_way.swap_remove(at), &open);
                }
                4 if !waiting.is_empty() => {
                    let at = random.below(waiting.len());
                    waiting.swap_remove(at);
                }
                _ => {}
            }
            // Whatever is on its way arrives.
            for _ in 0..2 * 12 {
                queues.iter().for_each(|queue| deliver(queue, &open));
            }
            let mut at = 0;
            let mut now = 0;
            while at < waiting.len() {
                match poll(&mut waiting[at].0) {
                    Some(Granted::Place(server)) => {
                        under_way.push(server);
                        let (_, bound) = waiting.remove(at);
                        prop_assert!(grants <= bound, "{grants} others got places, {bound} were ahead");
                        now += 1;
                    }
                    Some(Granted::Nothing) => unreachable!("nobody is sent elsewhere"),
                    None => at += 1,
                }
            }
            grants += now;
            for server in 0..servers {
                let count = under_way.iter().filter(|&&at| at == server).count() as u32;
                prop_assert_eq!(count, gate.used(server));
                prop_assert!(count <= open.0[server]);
            }
            let total = under_way.len() as u32;
            prop_assert!(most.is_none_or(|most| total <= most));
            let has_free = (0..servers).any(|server| gate.used(server) < open.0[server])
                && most.is_none_or(|most| total < most);
            prop_assert!(waiting.is_empty() || !has_free, "{} wait beside a free place", waiting.len());
            prop_assert_eq!(gate.waiting(), waiting.len());
        }
    }
}

/// Threads that take, wait and give back as quickly as they can: all come to their end, so no place is lost.
#[test]
fn soak_no_place_is_lost() {
    const REQUESTS: usize = 2000;
    let gate = gate(2, 3, Some(3), Waits { all: 64, own: 64 });
    let peak = std::sync::atomic::AtomicU32::new(0);
    let busy = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (gate, peak, busy) = (gate.clone(), &peak, &busy);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                let local = tokio::task::LocalSet::new();
                let queue = Rc::new(Queue::new(gate, worker));
                let deliverer = queue.clone();
                local.spawn_local(async move {
                    loop {
                        deliverer.deliver(|| Places(vec![2, 2])).await;
                    }
                });
                let one = move |queue: Rc<Queue>, n: usize| async move {
                    let open = Places(vec![2, 2]);
                    let server = n % 2;
                    let is_taken = queue.gate().has_room(server, Some(2)) && queue.gate().try_take(server, Some(2));
                    let server = match is_taken {
                        true => server,
                        false => match queue.wait(Kind::Any, &open).expect("room").granted().await {
                            Granted::Place(server) => server,
                            Granted::Nothing => unreachable!(),
                        },
                    };
                    peak.fetch_max(busy.fetch_add(1, SeqCst) + 1, SeqCst);
                    tokio::task::yield_now().await;
                    busy.fetch_sub(1, SeqCst);
                    queue.gate().give_back(server, &open);
                };
                let all = local.run_until(async {
                    let tasks = (0..4).map(|task| {
                        let queue = queue.clone();
                        async move {
                            for n in 0..REQUESTS / 4 {
                                one(queue.clone(), n + task).await;
                            }
                        }
                    });
                    let mut tasks: Vec<Pin<Box<dyn Future<Output = ()>>>> =
                        tasks.map(|task| Box::pin(task) as Pin<Box<dyn Future<Output = ()>>>).collect();
                    poll_fn(|cx| {
                        tasks.retain_mut(|task| task.as_mut().poll(cx).is_pending());
                        if tasks.is_empty() { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                });
                runtime.block_on(async {
                    tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("a place was lost");
                    // Places for requests of others may still come here and have to be passed on.
                    local.run_until(tokio::time::sleep(std::time::Duration::from_millis(300))).await;
                });
            });
        }
    });
    assert!(peak.into_inner() <= 3);
    assert_eq!((gate.used(0), gate.used(1), gate.waiting()), (0, 0, 0));
}
