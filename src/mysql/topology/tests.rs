//! Cases by hand, and a simulation of servers, faults and operators against what must never happen.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const RULES: Rules = Rules { looks: 3, dwell: Duration::from_secs(5) };
const STEP: Duration = Duration::from_secs(1);

fn look(standing: Standing) -> Look {
    Look { standing, position: None, cluster: None }
}

/// A topology and its clock.
struct Bench {
    topology: Topology,
    now: Instant,
}

impl Bench {
    fn new(servers: usize) -> Bench {
        Bench { topology: Topology::new(servers, RULES), now: Instant::now() }
    }

    /// All servers are looked at once, in order: `W`ritable, `F`ollows, `S`ilent, `U`nready.
    fn round(&mut self, standings: &str) -> Vec<Event> {
        self.now += STEP;
        let looks = standings.chars().enumerate().map(|(server, letter)| {
            let standing = match letter {
                'W' => Standing::Writable,
                'F' => Standing::Follows,
                'U' => Standing::Unready,
                _ => Standing::Silent,
            };
            (server, look(standing))
        });
        looks.flat_map(|(server, look)| self.topology.on_look(server, look, self.now)).collect()
    }

    fn rounds(&mut self, count: u32, standings: &str) -> Vec<Event> {
        (0..count).flat_map(|_| self.round(standings)).collect()
    }

    fn leads(&self) -> (u64, Option<usize>) {
        (self.topology.lead().epoch, self.topology.lead().primary)
    }
}

fn elected(server: usize, before: Option<usize>) -> Event {
    Event::Elected { server, before, forgiven: false }
}

#[test]
fn the_only_writable_server_leads_after_enough_looks() {
    let mut bench = Bench::new(3);
    assert_eq!(bench.topology.vacancy(), Some(Vacancy::Starting));
    assert_eq!(bench.rounds(2, "FWF"), []);
    assert_eq!((bench.leads(), bench.topology.vacancy()), ((0, None), Some(Vacancy::Settling)));
    assert_eq!(bench.round("FWF"), [elected(1, None)]);
    assert_eq!((bench.leads(), bench.topology.vacancy()), ((1, Some(1)), None));
    assert_eq!(bench.rounds(9, "FWF"), []);
}

#[test]
fn a_look_that_differs_begins_the_count_anew() {
    let mut bench = Bench::new(2);
    bench.rounds(2, "WF");
    bench.round("FF");
    assert_eq!(bench.topology.vacancy(), Some(Vacancy::NoCandidate));
    bench.rounds(2, "WF");
    assert_eq!(bench.leads(), (0, None));
    bench.round("WF");
    assert_eq!(bench.leads(), (1, Some(0)));
}

#[test]
fn a_candidate_must_have_what_clients_were_told_be_it_by_numbers_or_by_sets() {
    let position = |text: &str| Position::parse(text.as_bytes());
    let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let (some, hole, all) = (format!("{uuid}:1-6"), format!("{uuid}:1-5:7-9"), format!("{uuid}:1-7"));
    for (told, lacking, having) in [
        ("0-1-7", "0-1-6", "0-2-8"),
        (all.as_str(), some.as_str(), all.as_str()),
        (all.as_str(), hole.as_str(), all.as_str()),
    ] {
        let mut bench = Bench::new(2);
        bench.rounds(3, "FW");
        bench.topology.on_tokens(1, &position(told).unwrap());
        bench.rounds(9, "FS");
        let mut see = |text: &str| {
            bench.now += STEP;
            let look = Look { standing: Standing::Writable, position: position(text), cluster: None };
            bench.topology.on_look(0, look, bench.now)
        };
        assert_eq!((0..9).flat_map(|_| see(lacking)).collect::<Vec<_>>(), [Event::Behind(0)], "{lacking}");
        assert_eq!(see(having), [elected(0, Some(1))], "{having}");
    }
}

#[test]
fn two_candidates_are_none_and_begin_the_count_anew() {
    let mut bench = Bench::new(2);
    assert_eq!(bench.rounds(4, "WW"), [Event::Several(vec![0, 1])]);
    assert_eq!((bench.leads(), bench.topology.vacancy()), ((0, None), Some(Vacancy::Several)));
    bench.rounds(4, "WF");
    assert_eq!(bench.leads(), (1, Some(0)));
    assert_eq!(bench.round("WW"), [Event::Fell(0, Fall::Several), Event::Several(vec![0, 1])]);
    assert_eq!(bench.leads(), (1, None));
    bench.rounds(9, "WF");
    assert_eq!(bench.leads(), (2, Some(0)), "the one that is left, under a new epoch");
}

#[test]
fn a_primary_that_turns_read_only_falls_at_once_and_one_that_is_silent_after_some_looks() {
    let mut bench = Bench::new(2);
    bench.rounds(9, "WF");
    assert_eq!(bench.rounds(2, "SF"), []);
    assert_eq!(bench.round("WF"), [], "it was away for less than it takes");
    assert_eq!(bench.leads(), (1, Some(0)));
    assert_eq!(bench.rounds(3, "SF"), [Event::Fell(0, Fall::Silent)]);
    bench.rounds(2, "WF");
    assert_eq!(bench.leads(), (1, None), "and comes back as any other");
    bench.rounds(9, "WF");
    assert_eq!(bench.leads(), (2, Some(0)));
    assert_eq!(bench.round("FF"), [Event::Fell(0, Fall::Follows)]);
    bench.rounds(9, "FW");
    assert_eq!(bench.leads(), (3, Some(1)));
}

#[test]
fn another_one_takes_over_from_a_silent_primary() {
    let mut bench = Bench::new(2);
    bench.rounds(9, "WF");
    bench.round("SF");
    let events = bench.rounds(4, "SW");
    assert_eq!(events, [Event::Fell(0, Fall::Silent), elected(1, Some(0))]);
    assert_eq!(bench.round("WW"), [Event::Fenced(0)], "the old one is back");
    assert_eq!((bench.leads(), bench.topology.is_fenced(0)), ((2, Some(1)), true));
    bench.round("WS");
    bench.rounds(9, "WF");
    assert_eq!(
        (bench.leads(), bench.topology.vacancy()),
        ((2, None), Some(Vacancy::Fenced)),
        "it never leads by itself"
    );
    assert_eq!(bench.round("FF"), [Event::Freed(0)]);
    bench.rounds(3, "WF");
    assert_eq!(bench.leads(), (3, Some(0)), "after it was seen to follow it is as good as any");
}

#[test]
fn the_operator_may_accept_a_fenced_server_unless_another_one_leads() {
    let mut bench = Bench::new(2);
    bench.rounds(9, "WF");
    bench.rounds(9, "SW");
    bench.round("WW");
    assert_eq!(bench.topology.accept(0), Err(1));
    bench.rounds(3, "WF");
    assert_eq!(bench.leads(), (2, None));
    assert_eq!(bench.topology.accept(0), Ok(()));
    bench.rounds(9, "WF");
    assert_eq!(bench.leads(), (3, Some(0)));
}

#[test]
fn a_dwell_damps_flapping() {
    let mut bench = Bench::new(2);
    bench.rounds(3, "WF");
    let mut epochs = Vec::new();
    for turn in 0..30 {
        bench.rounds(3, if turn % 2 == 0 { "FW" } else { "WF" });
        epochs.push(bench.leads().0);
    }
    assert!(bench.leads().0 <= 1 + 90 / 5, "{epochs:?}");
}

#[test]
fn a_candidate_must_have_what_clients_were_told() {
    let mut bench = Bench::new(2);
    bench.rounds(9, "WF");
    let position = |text: &str| Position::parse(text.as_bytes()).unwrap();
    bench.topology.on_tokens(1, &position("0-1-50"));
    bench.rounds(3, "SF");
    let seen = |bench: &mut Bench, text: &str| {
        bench.now += STEP;
        let look = Look { position: Some(position(text)), ..look(Standing::Writable) };
        bench.topology.on_look(1, look, bench.now)
    };
    let told: Vec<Event> = (0..9).flat_map(|_| seen(&mut bench, "0-1-49")).collect();
    assert_eq!(told, [Event::Behind(1)]);
    assert_eq!((bench.leads(), bench.topology.vacancy()), ((1, None), Some(Vacancy::Behind)));
    assert_eq!(seen(&mut bench, "0-1-50"), [elected(1, Some(0))], "it catches up");

    bench.topology.on_tokens(2, &position("0-1-60"));
    bench.rounds(9, "FF");
    (0..9).for_each(|_| drop(seen(&mut bench, "0-1-55")));
    assert_eq!(bench.leads(), (2, None));
    bench.topology.accept(1).unwrap();
    let events = seen(&mut bench, "0-1-55");
    assert_eq!(events, [Event::Elected { server: 1, before: Some(1), forgiven: true }]);
    bench.topology.on_tokens(2, &position("0-1-60"));
    assert_eq!(bench.topology.committed().text(), "0-1-55", "what was let go asks for nothing any more");
}

#[test]
fn members_of_a_cluster_agree_and_the_writer_stays() {
    let mut bench = Bench::new(3);
    let member = |standing| Look { cluster: Some("c".into()), ..look(standing) };
    let mut rounds = |count: u32, standings: [Standing; 3]| {
        for _ in 0..count {
            bench.now += STEP;
            for (server, standing) in standings.into_iter().enumerate() {
                bench.topology.on_look(server, member(standing), bench.now);
            }
        }
        bench.leads()
    };
    use Standing::{Unready, Writable};
    assert_eq!(rounds(3, [Unready, Writable, Writable]), (1, Some(1)), "the first that may");
    assert_eq!(rounds(9, [Writable; 3]), (1, Some(1)), "and it stays");
    rounds(9, [Writable, Unready, Writable]);
    assert_eq!(rounds(1, [Writable; 3]), (2, Some(0)));
    bench.topology.on_look(2, Look { cluster: Some("other".into()), ..look(Writable) }, bench.now);
    assert_eq!(bench.leads(), (2, None), "two clusters do not agree");
}

#[test]
fn a_server_that_is_taken_out_counts_as_gone() {
    let mut bench = Bench::new(2);
    bench.rounds(9, "WF");
    assert_eq!(bench.topology.take_out(0, true, bench.now), [Event::Fell(0, Fall::TakenOut)]);
    bench.rounds(9, "WW");
    assert_eq!(bench.leads(), (2, Some(1)));
    assert_eq!(bench.topology.take_out(0, false, bench.now), [], "nobody knows yet what it is by now");
    assert_eq!(bench.round("WW"), [Event::Fenced(0)]);
    assert_eq!(bench.leads(), (2, Some(1)));
}

/// A server of the simulation, as it really is.
#[derive(Clone, Copy)]
struct Real {
    writable: bool,
    reachable: bool,
    /// Transactions applied.
    position: u64,
}

/// What a checker of its own remembers of the looks.
#[derive(Clone, Copy, Default)]
struct Seen {
    standing: Option<Standing>,
    /// Looks in a row that saw it writable while no other server that counts was.
    alone: u32,
    silent: u32,
    /// The epoch it led in last, and it was not seen to follow since.
    led: u64,
    position: u64,
}

/// Faults: crashes, partitions, promotions, demotions, forgotten promotions, operators; the invariants hold after each step.
#[test]
fn simulated_faults_never_make_two_primaries() {
    for seed in 0..400 {
        let elections = simulate(seed);
        assert!(elections > 0, "seed {seed}: nobody ever led");
    }
}

fn simulate(seed: u64) -> u64 {
    let mut random = StdRng::seed_from_u64(seed);
    let count = random.random_range(2..=6);
    let mut bench = Bench::new(count);
    let mut real = vec![Real { writable: false, reachable: true, position: 0 }; count];
    real[random.random_range(0..count)].writable = true;
    let mut seen = vec![Seen::default(); count];
    let (mut committed, mut primaries, mut last_election) = (0, Vec::<usize>::new(), None::<Instant>);
    for step in 0..1500 {
        // Faults stop in the end, with one server that takes writes and has everything.
        if step == 1200 {
            real.fill(Real { writable: false, reachable: true, position: committed });
        } else if step == 1300 {
            real[0].writable = true;
        } else if step < 1200 {
            disturb(&mut random, &mut real, committed);
        }
        bench.now += Duration::from_millis(random.random_range(1..800));
        let server = random.random_range(0..count);
        let Real { writable, reachable, position } = real[server];
        let standing = match (reachable, writable) {
            (false, _) => Standing::Silent,
            (true, false) => Standing::Follows,
            (true, true) => Standing::Writable,
        };
        let text = format!("0-1-{position}");
        let look =
            Look { standing, position: reachable.then(|| Position::parse(text.as_bytes()).unwrap()), cluster: None };
        let before = bench.leads();
        note(&mut seen, server, standing, position, before.0);
        let events = bench.topology.on_look(server, look, bench.now);
        let (epoch, primary) = bench.leads();
        let context = format!("seed {seed} step {step}: {before:?} -> {:?}, {events:?}", (epoch, primary));

        assert!(epoch == before.0 || epoch == before.0 + 1, "epochs go up one by one. {context}");
        if epoch > before.0 {
            let chosen = primary.unwrap_or_else(|| panic!("an epoch has a primary. {context}"));
            primaries.push(chosen);
            assert_eq!(primaries.len() as u64, epoch, "one primary for each epoch. {context}");
            assert!(seen[chosen].alone >= RULES.looks, "seen writable {} times. {context}", seen[chosen].alone);
            assert!(seen[chosen].position >= committed, "it has what was told. {context}");
            assert!(last_election.is_none_or(|at| bench.now - at >= RULES.dwell), "too soon. {context}");
            last_election = Some(bench.now);
            seen[chosen].led = epoch;
        } else {
            assert!(primary.is_none() || primary == before.1, "no other one in the same epoch. {context}");
        }
        if let Some(primary) = primary {
            let standing = seen[primary].standing.unwrap();
            let is_good = standing == Standing::Writable || seen[primary].silent < RULES.looks;
            assert!(is_good && standing != Standing::Follows, "{standing:?} leads. {context}");
            let others = (0..count).filter(|s| *s != primary && counts(&seen[*s], epoch));
            assert!(standing != Standing::Writable || others.count() == 0, "two take writes. {context}");
            // Clients write through the splitter, to the primary that it names.
            if real[primary].reachable && real[primary].writable && random.random_bool(0.3) {
                real[primary].position += 1;
                committed = committed.max(real[primary].position);
                let text = format!("0-1-{}", real[primary].position);
                bench.topology.on_tokens(epoch, &Position::parse(text.as_bytes()).unwrap());
            }
        }
        // Replicas follow whoever has most and is reachable.
        if random.random_bool(0.5) {
            let most = real.iter().filter(|server| server.reachable).map(|server| server.position).max().unwrap_or(0);
            let follower = random.random_range(0..count);
            if real[follower].reachable && !real[follower].writable {
                real[follower].position = most;
            }
        }
    }
    assert_eq!(bench.topology.lead().primary, Some(0), "seed {seed}: it comes to rest at the one that takes writes");
    primaries.len() as u64
}

fn disturb(random: &mut StdRng, real: &mut [Real], committed: u64) {
    let server = random.random_range(0..real.len());
    match random.random_range(0..60) {
        0 => real[server].reachable = false,
        1..4 => real[server].reachable = true,
        4 => real[server].writable = true,
        5 => real[server].writable = false,
        // A proper promotion: the others are demoted before.
        6..8 => {
            real.iter_mut().for_each(|server| server.writable = false);
            real[server] = Real { writable: true, reachable: true, position: committed };
        }
        // A promotion of one that lacks something.
        8 => real[server].writable = true,
        _ => {}
    }
}

/// Writable, and not one that led before another one did.
fn counts(seen: &Seen, epoch: u64) -> bool {
    seen.standing == Some(Standing::Writable) && (seen.led == 0 || seen.led == epoch)
}

fn note(seen: &mut [Seen], server: usize, standing: Standing, position: u64, epoch: u64) {
    let now = &mut seen[server];
    now.standing = Some(standing);
    now.position = if standing == Standing::Silent { now.position } else { position };
    now.silent = if standing == Standing::Silent { now.silent + 1 } else { 0 };
    if standing == Standing::Follows {
        now.led = 0;
    }
    let writable: Vec<usize> = (0..seen.len()).filter(|s| counts(&seen[*s], epoch)).collect();
    for (s, one) in seen.iter_mut().enumerate() {
        match writable == [s] {
            true => one.alone += u32::from(s == server),
            false => one.alone = 0,
        }
    }
}

#[test]
fn one_that_does_not_tell_what_it_has_is_not_known_to_have_it() {
    let mut bench = Bench::new(2);
    bench.rounds(3, "FW");
    bench.topology.on_tokens(1, &Position::parse(b"0-1-7").unwrap());
    bench.rounds(9, "FS");
    assert!(bench.rounds(9, "WS").contains(&Event::Behind(0)));
    assert_eq!((bench.leads(), bench.topology.vacancy()), ((1, None), Some(Vacancy::Behind)));
    bench.topology.accept(0).unwrap();
    assert!(matches!(bench.round("WS")[..], [Event::Elected { server: 0, forgiven: true, .. }]));
}

#[test]
fn one_that_leads_is_not_accepted_beforehand() {
    let mut bench = Bench::new(2);
    bench.rounds(3, "WF");
    bench.topology.accept(0).unwrap();
    bench.rounds(9, "SF");
    assert_eq!(bench.rounds(3, "SW"), [elected(1, Some(0))]);
    let events = bench.rounds(9, "WW");
    assert_eq!(
        (events, bench.leads()),
        (vec![Event::Fenced(0)], (2, Some(1))),
        "what was said before does not free it"
    );
}

#[test]
fn one_that_comes_back_from_maintenance_is_what_it_is_then() {
    let mut bench = Bench::new(3);
    bench.rounds(3, "WFF");
    assert_eq!(bench.round("WFW"), [Event::Fell(0, Fall::Several), Event::Several(vec![0, 2])]);
    let out = bench.topology.take_out(2, true, bench.now);
    bench.rounds(9, "WFS");
    assert_eq!((out, bench.leads()), (vec![], (2, Some(0))));
    assert_eq!(bench.topology.take_out(2, false, bench.now), [], "it was repaired meanwhile");
    assert_eq!(bench.rounds(9, "WFF"), []);
    assert_eq!(bench.leads(), (2, Some(0)));
}
