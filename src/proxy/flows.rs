//! Flows of UDP: which datagrams of a client belong together, and when that is over.
//!
//! ```text
//! first datagram ──begin──▶ bound ──`requests` datagrams have come──▶ unbound ──▶ end
//!                             └─ answers all there · silence · the driver says so ─▶ end
//! ```
//! The next datagram of a client belongs to the flow that is *bound* to its address and ours; where none is, it begins one.
//! A flow that has taken its `requests` is bound no more and waits for its answers, while a new one may be there beside it.
//! This is how nginx's `proxy_requests`, `proxy_responses` and `proxy_timeout` work together.
//!
//! Pure: no socket, no clock. The caller bounds how many flows there are. Nothing is allocated for a datagram of a flow that
//! is there; all of it takes the same time however many flows there are.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ahash::RandomState;
use slab::Slab;

/// Whose datagrams belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Who sends them.
    pub client: SocketAddr,
    /// The address of ours that they come to, as far as it is known.
    pub local: Option<IpAddr>,
}

/// Names a flow; one that has ended is named by nothing again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId {
    index: usize,
    serial: u64,
}

/// When a flow is over by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Answers to each datagram; `None`: any number, so that silence alone ends it.
    pub responses: Option<u32>,
    /// Datagrams from the client; `None`: any number.
    pub requests: Option<u32>,
}

/// What went in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub datagrams: u64,
    /// Their bytes, without headers.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, more: Tally) {
        self.datagrams += more.datagrams;
        self.bytes += more.bytes;
    }
}

/// One flow.
#[derive(Debug)]
pub struct Flow<T> {
    /// Whose it is.
    pub key: FlowKey,
    /// What the driver has of it.
    pub value: T,
    /// From the client.
    pub up: Tally,
    /// From the server.
    pub down: Tally,
    /// When it began.
    pub opened: Instant,
    bounds: Bounds,
    serial: u64,
    is_bound: bool,
    last: Instant,
    older: Option<usize>,
    newer: Option<usize>,
}

impl<T> Flow<T> {
    /// Nothing more is expected of either side. Without a number of datagrams to wait for that is so as soon as all that came
    /// are answered.
    fn is_complete(&self) -> bool {
        let all_came = self.bounds.requests.is_none() || self.takes() == 0;
        all_came && self.bounds.responses.is_some() && !self.is_unanswered()
    }

    /// Answers that have to come are not there.
    pub fn is_unanswered(&self) -> bool {
        let expected = self.bounds.responses.map_or(0, |each| u64::from(each).saturating_mul(self.up.datagrams));
        self.down.datagrams < expected
    }

    /// Datagrams of the client that still belong to it.
    fn takes(&self) -> u64 {
        self.bounds.requests.map_or(u64::MAX, |most| u64::from(most).saturating_sub(self.up.datagrams))
    }
}

/// All flows of one listener on one data worker.
#[derive(Debug)]
pub struct Flows<T> {
    flows: Slab<Flow<T>>,
    bound: HashMap<FlowKey, usize, RandomState>,
    serials: u64,
    /// Ends of the list by time of the last datagram.
    oldest: Option<usize>,
    newest: Option<usize>,
}

impl<T> Flows<T> {
    /// No flows. `seed` must not be known to clients, who could else choose addresses that collide.
    pub fn new(seed: [u64; 4]) -> Flows<T> {
        let [a, b, c, d] = seed;
        let bound = HashMap::with_hasher(RandomState::with_seeds(a, b, c, d));
        Flows { flows: Slab::new(), bound, serials: 0, oldest: None, newest: None }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// The flow that the next datagram of `key` belongs to; `None`: it begins one.
    pub fn find(&self, key: &FlowKey) -> Option<FlowId> {
        let index = *self.bound.get(key)?;
        Some(FlowId { index, serial: self.flows[index].serial })
    }

    /// A new flow, bound to `key`, to which none is bound.
    pub fn begin(&mut self, key: FlowKey, bounds: Bounds, value: T, now: Instant) -> FlowId {
        self.serials += 1;
        let (serial, tally) = (self.serials, Tally::default());
        let flow = Flow {
            key,
            value,
            up: tally,
            down: tally,
            opened: now,
            bounds,
            serial,
            is_bound: true,
            last: now,
            older: None,
            newer: None,
        };
        let index = self.flows.insert(flow);
        let before = self.bound.insert(key, index);
        debug_assert!(before.is_none(), "one flow is bound to a client at a time");
        self.link_as_newest(index);
        FlowId { index, serial }
    }

    /// What the driver has of a flow; `None`: it has ended.
    pub fn value(&self, id: FlowId) -> Option<&T> {
        self.at(id).map(|flow| &flow.value)
    }

    /// Datagrams of the client that still belong to the flow.
    pub fn takes(&self, id: FlowId) -> u64 {
        self.at(id).map_or(0, Flow::takes)
    }

    /// The flow; `None`: it has ended.
    pub fn at(&self, id: FlowId) -> Option<&Flow<T>> {
        self.flows.get(id.index).filter(|flow| flow.serial == id.serial)
    }

    /// So much of the client has gone to the server. Tells whether the flow is complete: end it.
    pub fn on_up(&mut self, id: FlowId, sent: Tally, now: Instant) -> bool {
        let Some(flow) = self.touch(id, now) else { return false };
        flow.up.add(sent);
        let (is_complete, key) = (flow.is_complete(), flow.key);
        if flow.takes() == 0 && std::mem::take(&mut flow.is_bound) {
            self.bound.remove(&key);
        }
        is_complete
    }

    /// So much of the server has gone to the client. Tells whether the flow is complete: end it.
    pub fn on_down(&mut self, id: FlowId, sent: Tally, now: Instant) -> bool {
        let Some(flow) = self.touch(id, now) else { return false };
        flow.down.add(sent);
        flow.is_complete()
    }

    /// Takes a flow out; `None`: it has ended before.
    pub fn end(&mut self, id: FlowId) -> Option<Flow<T>> {
        self.at(id)?;
        self.unlink(id.index);
        let flow = self.flows.remove(id.index);
        if flow.is_bound {
            self.bound.remove(&flow.key);
        }
        Some(flow)
    }

    /// The flow that has been silent for longest, if that is `idle` or more.
    pub fn silent(&self, idle: Duration, now: Instant) -> Option<FlowId> {
        let index = self.oldest?;
        let flow = &self.flows[index];
        (now.saturating_duration_since(flow.last) >= idle).then_some(FlowId { index, serial: flow.serial })
    }

    /// All flows of which `is_wanted` says so.
    pub fn select(&self, is_wanted: impl Fn(&T) -> bool) -> Vec<FlowId> {
        let wanted = self.flows.iter().filter(|(_, flow)| is_wanted(&flow.value));
        wanted.map(|(index, flow)| FlowId { index, serial: flow.serial }).collect()
    }

    /// Something happened to a flow: it is the newest.
    fn touch(&mut self, id: FlowId, now: Instant) -> Option<&mut Flow<T>> {
        self.at(id)?;
        if self.newest != Some(id.index) {
            self.unlink(id.index);
            self.link_as_newest(id.index);
        }
        let flow = &mut self.flows[id.index];
        flow.last = flow.last.max(now);
        Some(flow)
    }

    fn link_as_newest(&mut self, index: usize) {
        let older = self.newest.replace(index);
        match older {
            Some(older) => self.flows[older].newer = Some(index),
            None => self.oldest = Some(index),
        }
        let flow = &mut self.flows[index];
        (flow.older, flow.newer) = (older, None);
    }

    fn unlink(&mut self, index: usize) {
        let (older, newer) = (self.flows[index].older, self.flows[index].newer);
        match older {
            Some(older) => self.flows[older].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.flows[newer].older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(port: u16) -> FlowKey {
        FlowKey { client: ([192, 0, 2, 1], port).into(), local: None }
    }

    fn flows() -> Flows<u32> {
        Flows::new([1, 2, 3, 4])
    }

    const ONE: Tally = Tally { datagrams: 1, bytes: 10 };

    fn bounds(requests: Option<u32>, responses: Option<u32>) -> Bounds {
        Bounds { responses, requests }
    }

    #[test]
    fn a_client_stays_with_its_flow_until_silence() {
        let (mut flows, now) = (flows(), Instant::now());
        let id = flows.begin(key(1), Bounds::default(), 7, now);
        for n in 0..5 {
            assert_eq!(flows.find(&key(1)), Some(id));
            assert!(!flows.on_up(id, ONE, now + n * SECOND));
            assert!(!flows.on_down(id, ONE, now + n * SECOND));
        }
        let other = FlowKey { local: Some([192, 0, 2, 9].into()), ..key(1) };
        assert_eq!((flows.find(&key(2)), flows.find(&other)), (None, None), "another port, another address of ours");
        assert_eq!(flows.silent(3 * SECOND, now + 6 * SECOND), None);
        assert_eq!(flows.silent(3 * SECOND, now + 7 * SECOND), Some(id));
        let flow = flows.end(id).expect("a flow");
        assert_eq!((flow.up.datagrams, flow.down.bytes, flow.is_unanswered(), flow.value), (5, 50, false, 7));
        assert_eq!((flows.find(&key(1)), flows.end(id).is_none(), flows.is_empty()), (None, true, true));
    }

    #[test]
    fn answers_end_a_flow_as_in_nginx() {
        // Datagrams and answers in turn, and behind which of these the flow is complete.
        for (requests, responses, steps, complete_at) in [
            (None, Some(1), "ud", Some(1)),
            (None, Some(2), "udd", Some(2)),
            (None, Some(1), "uudd", Some(3)),
            (None, Some(0), "u", Some(0)),
            (Some(1), Some(1), "ud", Some(1)),
            (Some(2), Some(1), "udud", Some(3)),
            (Some(3), Some(0), "uuu", Some(2)),
            (Some(2), None, "udud", None),
            (None, None, "uddd", None),
        ] {
            let (mut flows, now) = (flows(), Instant::now());
            let id = flows.begin(key(1), bounds(requests, responses), 0, now);
            let complete: Vec<bool> = steps
                .chars()
                .map(|step| if step == 'u' { flows.on_up(id, ONE, now) } else { flows.on_down(id, ONE, now) })
                .collect();
            let found = complete.iter().position(|complete| *complete);
            assert_eq!(found, complete_at, "requests {requests:?}, responses {responses:?}, {steps}");
        }
    }

    #[test]
    fn a_full_flow_waits_for_its_answers_beside_the_next_one() {
        let (mut flows, now) = (flows(), Instant::now());
        let first = flows.begin(key(1), bounds(Some(2), Some(1)), 1, now);
        assert_eq!(flows.takes(first), 2);
        flows.on_up(first, ONE, now);
        assert_eq!((flows.takes(first), flows.find(&key(1))), (1, Some(first)));
        flows.on_up(first, ONE, now);
        assert_eq!((flows.takes(first), flows.find(&key(1))), (0, None));
        let second = flows.begin(key(1), bounds(Some(2), Some(1)), 2, now);
        assert!(!flows.on_down(first, ONE, now));
        assert!(flows.at(first).expect("it waits").is_unanswered());
        assert!(flows.on_down(first, ONE, now));
        flows.end(first);
        assert_eq!(flows.find(&key(1)), Some(second), "the end of the first is not that of the second");
    }

    #[test]
    fn datagrams_of_flows_that_are_there_allocate_nothing() {
        let (mut flows, now) = (flows(), Instant::now());
        let ids: Vec<FlowId> = (0..100).map(|port| flows.begin(key(port), Bounds::default(), 0, now)).collect();
        let (allocations, ()) = crate::runtime::sys::allocations::count(|| {
            for (n, port) in (0..1000).zip((0..100).cycle()) {
                let id = flows.find(&key(port)).expect("its flow");
                assert_eq!((id, flows.takes(id)), (ids[usize::from(port)], u64::MAX));
                assert!(!flows.on_up(id, ONE, now + n * SECOND) && !flows.on_down(id, ONE, now + n * SECOND));
                assert_eq!(flows.silent(2000 * SECOND, now + n * SECOND), None);
            }
        });
        assert_eq!(allocations, 0);
    }

    #[test]
    fn a_name_is_not_given_twice() {
        let (mut flows, now) = (flows(), Instant::now());
        let old = flows.begin(key(1), bounds(None, Some(1)), 1, now);
        flows.end(old);
        let new = flows.begin(key(2), bounds(None, Some(1)), 2, now);
        assert_eq!(old.index, new.index);
        assert!(!flows.on_down(old, ONE, now) && !flows.on_up(old, ONE, now));
        assert_eq!((flows.value(old), flows.value(new), flows.takes(old)), (None, Some(&2), 0));
        assert_eq!(flows.at(new).map(|flow| flow.down), Some(Tally::default()));
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Datagrams from a client: to its flow, or to a new one.
        Up(u16, u64),
        /// Answers of the n-th flow that there is.
        Down(usize),
        End(usize),
        Pass(u64),
        Expire,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6u16, 1..5u64).prop_map(|(port, count)| Step::Up(port, count)),
            4 => (0..8usize).prop_map(Step::Down),
            1 => (0..8usize).prop_map(Step::End),
            3 => (1..5u64).prop_map(Step::Pass),
            2 => Just(Step::Expire),
        ]
    }

    /// The same, told without tricks: a list that is searched.
    struct Model {
        id: FlowId,
        port: u16,
        up: u64,
        down: u64,
        last: Instant,
    }

    proptest! {
        /// Whatever comes in whatever order: a client's datagrams go to one flow, no flow takes more than it may, each ends when
        /// its answers are there or its silence is, and nothing of one that has ended stays.
        #[test]
        fn flows_are_what_a_list_of_them_says(
            requests in proptest::option::of(1..4u32), responses in proptest::option::of(0..3u32), steps in vec(step(), 0..200)
        ) {
            let (mut flows, mut now) = (flows(), Instant::now());
            let mut model: Vec<Model> = Vec::new();
            let most = requests.map_or(u64::MAX, u64::from);
            let is_complete = |flow: &Model| {
                let answered = responses.is_some_and(|each| flow.down >= u64::from(each) * flow.up);
                answered && (requests.is_none() || flow.up >= most)
            };
            for step in steps {
                match step {
                    Step::Up(port, mut count) => while count > 0 {
                        let bound = model.iter().position(|flow| flow.port == port && flow.up < most);
                        prop_assert_eq!(flows.find(&key(port)), bound.map(|at| model[at].id));
                        let at = bound.unwrap_or_else(|| {
                            let id = flows.begin(key(port), bounds(requests, responses), 0, now);
                            model.push(Model { id, port, up: 0, down: 0, last: now });
                            model.len() - 1
                        });
                        let flow = &mut model[at];
                        let taken = count.min(most - flow.up);
                        prop_assert_eq!(flows.takes(flow.id).min(count), taken);
                        count -= taken;
                        (flow.up, flow.last) = (flow.up + taken, now);
                        let complete = flows.on_up(flow.id, Tally { datagrams: taken, bytes: 0 }, now);
                        prop_assert_eq!(complete, is_complete(flow));
                        if complete {
                            prop_assert!(flows.end(model.remove(at).id).is_some());
                        }
                    },
                    Step::Down(at) if at < model.len() => {
                        let flow = &mut model[at];
                        (flow.down, flow.last) = (flow.down + 1, now);
                        let complete = flows.on_down(flow.id, ONE, now);
                        prop_assert_eq!(complete, is_complete(flow));
                        if complete {
                            prop_assert!(flows.end(model.remove(at).id).is_some());
                        }
                    }
                    Step::End(at) if at < model.len() => {
                        let flow = model.remove(at);
                        let ended = flows.end(flow.id).expect("it is there");
                        prop_assert_eq!((ended.up.datagrams, ended.down.datagrams), (flow.up, flow.down));
                        prop_assert!(flows.end(flow.id).is_none() && flows.value(flow.id).is_none());
                    }
                    Step::Down(_) | Step::End(_) => {}
                    Step::Pass(seconds) => now += Duration::from_secs(seconds),
                    Step::Expire => {
                        while let Some(id) = flows.silent(5 * SECOND, now) {
                            flows.end(id);
                            let at = model.iter().position(|flow| flow.id == id).expect("a flow of the model");
                            let flow = model.remove(at);
                            prop_assert!(now - flow.last >= 5 * SECOND);
                            prop_assert!(model.iter().all(|other| other.last >= flow.last), "the oldest first");
                        }
                        prop_assert!(model.iter().all(|flow| now - flow.last < 5 * SECOND));
                    }
                }
                prop_assert_eq!(flows.len(), model.len());
                let bound = model.iter().filter(|flow| flow.up < most).count();
                prop_assert_eq!(flows.bound.len(), bound);
            }
        }
    }
}
