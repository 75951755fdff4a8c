//! Another config in a running process, as the control thread takes it: which servers there are, and who leads.
//!
//! Three steps: there is room for what is new ([`Shared::make_room`]); all data workers have the new config; then, here, servers
//! come and go. So no worker meets a server that it does not know.
//!
//! A server that goes is drained for good: no new read, no new write, its idle connections are closed, it is not looked at any
//! more. What is known of those that stay (who leads, positions, what the operator wants) is kept.

use std::sync::Arc;
use std::time::Instant;

use super::govern::Council;
use super::gtid::Position;
use super::look::Replication;
use super::shared::{Duty, Health, Shared, Terms};
use super::topology::{Lead, Rules, Topology};
use crate::config::Config;
use crate::config::model::PrimaryRule;

impl Shared {
    /// Takes the splitter with this index in `config` in the place of what there was. All data workers have it already.
    pub fn go_on_with(&self, config: Arc<Config>, index: usize, now: Instant) {
        let (old, next) = (self.config(), Arc::new(Terms::new(config, index)));
        self.set_terms(next.clone());
        if **old == **next {
            return;
        }
        let mut council = self.council();
        council.grow(self.servers());
        for (server, wanted) in next.servers.iter().enumerate() {
            let is_gone = self.server(server).duty() == Duty::Gone;
            match (is_gone, wanted.is_gone) {
                (false, true) => self.dismiss(&mut council, server, now),
                (true, false) => self.readmit(&mut council, server),
                _ => {}
            }
        }
        (old.servers.len()..next.servers.len()).for_each(|server| self.tell_of(server, "mysql server is new"));
        self.settle_lead(&mut council, old.primary, next.primary, now);
        self.publish_eligibility(&council);
        drop(council);
        self.changed.notify_one();
        self.present().for_each(|server| self.doubt(server));
    }

    fn tell_of(&self, server: usize, what: &str) {
        tracing::info!(splitter = %self.config().name, server = %self.address(server), "{what}");
    }

    fn dismiss(&self, council: &mut Council, server: usize, now: Instant) {
        self.tell_of(server, "mysql server is removed: it finishes what it has");
        self.server(server).set_duty(Duty::Gone);
        council.seen[server] = None;
        if council.announced.as_ref().is_some_and(|announced| announced.server == server) {
            council.announced = None;
            self.announce(false);
        }
        self.decide(council, |topology| topology.take_out(server, true, now));
    }

    /// It was there once, and may have become anything since.
    fn readmit(&self, council: &mut Council, server: usize) {
        self.tell_of(server, "mysql server is back");
        let facts = self.server(server);
        facts.set_health(Health::Unknown);
        facts.set_position(&Position::default());
        facts.set_duty(Duty::Ready);
        if let Some(topology) = &mut council.topology {
            topology.restore(server);
        }
    }

    fn settle_lead(&self, council: &mut Council, old: PrimaryRule, next: PrimaryRule, now: Instant) {
        match next {
            PrimaryRule::Fixed(primary) => {
                if let Some(topology) = council.topology.take() {
                    council.acknowledged = topology.committed().clone();
                    (0..self.servers()).for_each(|server| self.server(server).set_fenced(false));
                }
                self.appoint(council, primary);
            }
            PrimaryRule::Found { looks, dwell } => {
                let rules = Rules { looks, dwell };
                if let Some(topology) = &mut council.topology {
                    topology.set_rules(rules);
                }
                if matches!(old, PrimaryRule::Fixed(_)) {
                    self.begin_to_find(council, rules, now);
                }
            }
        }
    }

    /// The config names the primary.
    fn appoint(&self, council: &mut Council, primary: usize) {
        let lead = self.lead();
        if lead.primary == Some(primary) {
            return;
        }
        // What sessions of the one before were told, before the new one has any: it is compared once it follows nobody.
        self.closing.close(lead.epoch, primary);
        for tokens in self.tokens() {
            let (epoch, position) = tokens.get();
            // What was let go before is missed by nobody.
            if epoch >= self.voided().before() {
                let _ = council.acknowledged.unite(&position);
            }
        }
        council.is_compared = false;
        // Nobody takes a connection of the next term for one to the primary of this one.
        self.set_lead(Lead { primary: None, ..lead }, None);
        lead.primary.into_iter().chain([primary]).for_each(|server| self.server(server).end_turn());
        council.switchovers += u64::from(lead.primary.is_some());
        council.announced = None;
        self.announce(false);
        // What was seen of it as a replica says nothing of it any more: statements may try it.
        self.server(primary).set_health(Health::Unknown);
        self.begin_with(council, Some(primary));
        self.set_lead(Lead { epoch: lead.epoch + 1, primary: Some(primary) }, None);
        tracing::warn!(splitter = %self.config().name, server = %self.address(primary), epoch = lead.epoch + 1,
            "mysql server is the primary: the config says so");
    }

    /// The primary that the config names now was looked at: what sessions of the one before were told and it lacks is not waited for
    /// by reads any more.
    pub(super) fn compare_appointed(&self, council: &mut Council) {
        let lead = self.lead();
        let seen = lead.primary.and_then(|primary| council.seen[primary].as_ref());
        let Some(seen) = seen.filter(|_| council.topology.is_none() && !council.is_compared) else { return };
        // One that still follows has not all of what it will have.
        let Some(position) = seen.current.clone().filter(|_| seen.replication == Replication::None) else { return };
        council.is_compared = true;
        if position.covers(&council.acknowledged) {
            return;
        }
        council.acknowledged = position.clone();
        self.voided().set(lead.epoch, position);
        let server = lead.primary.map(|primary| self.address(primary).to_string());
        tracing::error!(splitter = %self.config().name, server, epoch = lead.epoch,
            "the primary that the config names lacks transactions that clients were told are committed: reads do not wait for these");
    }

    /// The config named the primary until now, and no longer does.
    fn begin_to_find(&self, council: &mut Council, rules: Rules, now: Instant) {
        let mut topology = Topology::led_by(self.servers(), rules, self.lead(), self.voided().before());
        topology.on_tokens(self.lead().epoch, &council.acknowledged);
        let is_out = |server: &usize| !self.server(*server).duty().is_watched();
        let out = (0..self.servers()).filter(is_out);
        let events = out.flat_map(|server| topology.take_out(server, true, now)).collect();
        council.topology = Some(topology);
        self.apply(council, events);
    }
}

impl Council {
    /// There are so many servers now.
    pub(super) fn grow(&mut self, servers: usize) {
        self.seen.resize_with(servers, || None);
        self.begun_with.resize_with(servers, || None);
        self.answered.resize_with(servers, || None);
        if let Some(topology) = &mut self.topology {
            topology.grow(servers);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::adopt;
    use crate::mysql::look::Seen;
    use crate::mysql::probe::Table;
    use crate::mysql::topology::Vacancy;

    const FOUND: &str = "primary_looks = 1\nprimary_dwell = \"0s\"\n";

    fn config(lines: &str) -> Config {
        let text = format!("[mysql.m]\nlisten = \"127.0.0.1:1\"\nuser = \"u\"\npassword = \"p\"\n{lines}\n");
        crate::config::parse("test.toml", &text, &[]).unwrap_or_else(|report| panic!("{report}")).0
    }

    fn start(lines: &str) -> Shared {
        Shared::new(&Arc::new(config(lines)), 0, 1)
    }

    /// As a reload does.
    fn reload(shared: &Shared, lines: &str) {
        let next = adopt(shared.config().config(), config(lines)).unwrap().config;
        shared.make_room(&next.splitters[0]);
        shared.go_on_with(Arc::new(next), 0, Instant::now());
    }

    fn present(shared: &Shared) -> Vec<usize> {
        shared.present().collect()
    }

    #[test]
    fn what_stays_keeps_all_that_is_known_of_it() {
        let shared = start("primary = \"1.1.1.1:1\"\nreplicas = [\"1.1.1.1:2\", \"1.1.1.1:3\"]");
        let position = Position::parse(b"0-1-7").unwrap();
        shared.server(2).set_position(&position);
        shared.server(2).set_health(Health::ReadOnly);
        shared.set_duty(2, Duty::Drained);
        reload(&shared, "primary = \"1.1.1.1:1\"\nreplicas = [\"1.1.1.1:4\", \"1.1.1.1:3\"]");
        assert_eq!((present(&shared), shared.address(3).to_string()), (vec![0, 2, 3], "1.1.1.1:4".into()));
        let facts = shared.server(2);
        assert_eq!((facts.duty(), facts.health(), facts.position()), (Duty::Drained, Health::ReadOnly, position));
        assert_eq!(shared.server(3).health(), Health::Unknown, "it must be looked at first");
        assert_eq!(shared.lead(), Lead { epoch: 1, primary: Some(0) });
        assert_eq!(shared.view().servers.iter().map(|server| server.index).collect::<Vec<_>>(), [0, 2, 3]);
    }

    #[test]
    fn what_is_seen_and_ordered_while_a_server_is_being_added_counts() {
        let shared = start(&format!("servers = [\"1.1.1.1:1\", \"1.1.1.1:2\"]\n{FOUND}"));
        let text = format!("servers = [\"1.1.1.1:1\", \"1.1.1.1:2\", \"1.1.1.1:3\"]\n{FOUND}");
        let next = adopt(shared.config().config(), config(&text)).unwrap().config;
        shared.make_room(&next.splitters[0]);
        shared.on_seen(0, None, Instant::now());
        shared.set_duty(1, Duty::Drained);
        assert_eq!((shared.server(0).health(), shared.view().servers.len()), (Health::Down, 2));
        shared.go_on_with(Arc::new(next), 0, Instant::now());
        shared.on_seen(2, None, Instant::now());
        assert_eq!((shared.server(2).health(), shared.view().servers.len()), (Health::Down, 3));
        assert_eq!(shared.view().servers[1].duty, Duty::Drained);
    }

    #[test]
    fn what_comes_back_is_another_life_of_the_same_server() {
        let (with, without) = ("primary = \"1.1.1.1:1\"\nreplicas = [\"1.1.1.1:2\"]", "primary = \"1.1.1.1:1\"");
        let shared = start(with);
        shared.server(1).set_health(Health::ReadOnly);
        shared.server(1).set_position(&Position::parse(b"0-1-7").unwrap());
        let life = shared.server(1).generation();
        reload(&shared, without);
        assert!(present(&shared) == [0] && shared.server(1).generation() == life, "what it has goes on");
        reload(&shared, with);
        assert_eq!((present(&shared), shared.server(1).position()), (vec![0, 1], Position::default()));
        shared.server(1).set_health(Health::ReadOnly);
        assert_ne!(shared.server(1).generation(), life);
    }

    #[test]
    fn a_primary_that_the_config_names_leads_at_once_in_another_epoch() {
        let shared = start("primary = \"1.1.1.1:1\"\nreplicas = [\"1.1.1.1:2\"]");
        reload(&shared, "primary = \"1.1.1.1:2\"\nreplicas = [\"1.1.1.1:1\"]");
        assert_eq!(shared.lead(), Lead { epoch: 2, primary: Some(1) });
        assert_eq!((shared.server(0).term(), shared.server(1).term()), (1, 1), "connections of before are not lent");
        reload(&shared, "primary = \"1.1.1.1:3\"");
        assert_eq!((shared.lead(), present(&shared)), (Lead { epoch: 3, primary: Some(2) }, vec![2]));
    }

    #[test]
    fn statements_are_read_as_the_next_primary_reads_them_before_it_leads() {
        let seen = |mode: &str| {
            let columns = vec!["sql_mode".into(), "read_only".into()];
            Some(Seen::new(&Table { columns, rows: vec![vec![Some(mode.into()), Some("0".into())]] }))
        };
        let begins = |shared: &Shared| (shared.beginning().1.beginning.server, shared.mode().ansi_quotes);
        let shared = start("primary = \"1.1.1.1:1\"\nreplicas = [\"1.1.1.1:2\"]");
        shared.on_seen(0, seen(""), Instant::now());
        shared.on_seen(1, seen("ANSI_QUOTES"), Instant::now());
        assert_eq!(begins(&shared), (Some(0), false));
        reload(&shared, "primary = \"1.1.1.1:2\"\nreplicas = [\"1.1.1.1:1\"]");
        assert_eq!(begins(&shared), (Some(1), true));
        // An order decides that nobody else is waited for.
        let shared = start(&format!("servers = [\"1.1.1.1:1\", \"1.1.1.1:2\"]\n{FOUND}"));
        shared.on_seen(0, seen("ANSI_QUOTES"), Instant::now());
        assert_eq!(shared.lead().primary, None, "the other one was not looked at");
        shared.set_duty(1, Duty::Maintenance);
        assert_eq!((shared.lead().primary, begins(&shared)), (Some(0), (Some(0), true)));
    }

    #[test]
    fn what_the_next_fixed_primary_lacks_is_not_waited_for() {
        let (one, other) = (
            "primary = \"1.1.1.1:1\"\nreplicas = [\"1.1.1.1:2\"]",
            "primary = \"1.1.1.1:2\"\nreplicas = [\"1.1.1.1:1\"]",
        );
        let seen = |position: &str, replication: Replication| {
            let current = Position::parse(position.as_bytes());
            Some(Seen { replication, current, ..Seen::new(&Table::default()) })
        };
        let follows = || Replication::Behind { lag: Duration::ZERO, source: 1 };
        for (has, expect) in [("0-1-5", 2), ("0-1-9", 0)] {
            let shared = start(one);
            shared.tokens()[0].raise(1, &Position::parse(b"0-1-9").unwrap());
            shared.on_seen(0, seen("0-1-9", Replication::None), Instant::now());
            reload(&shared, other);
            assert!(shared.closing.is_closed(1, 0) && !shared.closing.is_closed(2, 1));
            // What is written there meanwhile is of another epoch.
            shared.tokens()[0].raise(2, &Position::parse(b"0-2-6").unwrap());
            shared.on_seen(1, seen("0-1-5", follows()), Instant::now());
            assert_eq!(shared.voided().before(), 0, "it may still get it");
            shared.on_seen(1, seen(has, Replication::None), Instant::now());
            assert_eq!(shared.voided().before(), expect, "{has}");
            if expect > 0 {
                assert_eq!(shared.voided().floor(), Position::parse(has.as_bytes()).unwrap());
            }
        }
    }

    #[test]
    fn what_was_let_go_before_is_missed_by_no_primary_after_that() {
        let (shared, after) = (
            start("primary = \"1.1.1.1:1\"\nreplicas = [\"1.1.1.1:2\", \"1.1.1.1:3\"]"),
            [
                "primary = \"1.1.1.1:2\"\nreplicas = [\"1.1.1.1:3\"]",
                "primary = \"1.1.1.1:3\"\nreplicas = [\"1.1.1.1:2\"]",
            ],
        );
        shared.tokens()[0].raise(1, &Position::parse(b"0-1-9").unwrap());
        for (server, lines) in after.into_iter().enumerate() {
            reload(&shared, lines);
            let seen = Seen {
                replication: Replication::None,
                current: Position::parse(b"0-1-5"),
                ..Seen::new(&Table::default())
            };
            shared.on_seen(server + 1, Some(seen), Instant::now());
            assert_eq!((shared.lead().epoch, shared.voided().before()), (server as u64 + 2, 2));
        }
    }

    #[test]
    fn what_clients_are_told_while_a_primary_is_elected_counts() {
        let position = |text: &str| Position::parse(text.as_bytes()).unwrap();
        for is_told in [false, true] {
            let shared = start(&format!("servers = [\"1.1.1.1:1\", \"1.1.1.1:2\"]\n{FOUND}"));
            let seen = |read_only: &str, text: &str, replication: Replication| {
                let table = Table { columns: vec!["read_only".into()], rows: vec![vec![Some(read_only.into())]] };
                Seen { replication, current: Some(position(text)), ..Seen::new(&table) }
            };
            let follows = || Replication::Behind { lag: Duration::ZERO, source: 1 };
            let now = Instant::now();
            shared.on_seen(1, Some(seen("1", "0-1-5", follows())), now);
            shared.on_seen(0, Some(seen("0", "0-1-5", Replication::None)), now);
            assert_eq!(shared.lead(), Lead { epoch: 1, primary: Some(0) });
            shared.on_seen(0, Some(seen("1", "0-1-5", Replication::None)), now);
            // Behind the last look at what clients were told, in front of the next primary.
            let look = seen("0", "0-1-5", Replication::None).look();
            let first = std::cell::Cell::new(true);
            shared.decide(&mut shared.council(), |topology| {
                if first.replace(false) && is_told {
                    shared.tokens()[0].raise(1, &position("0-1-6"));
                    assert!(!shared.closing.is_closed(1, 0), "so the client was told");
                }
                topology.on_look(1, look.clone(), now)
            });
            let expect = if is_told { (None, false) } else { (Some(1), true) };
            assert_eq!((shared.lead().primary, shared.closing.is_closed(1, 0)), expect);
            assert!(!is_told || shared.vacancy() == Vacancy::Behind);
        }
    }

    #[test]
    fn who_leads_goes_on_when_the_primary_is_found_from_now_on() {
        let shared = start("primary = \"1.1.1.1:1\"\nreplicas = [\"1.1.1.1:2\"]");
        reload(&shared, &format!("servers = [\"1.1.1.1:1\", \"1.1.1.1:2\"]\n{FOUND}"));
        assert!(shared.finds_primary() && shared.lead() == Lead { epoch: 1, primary: Some(0) });
        reload(&shared, &format!("servers = [\"1.1.1.1:2\"]\n{FOUND}"));
        assert_eq!(
            (shared.lead().primary, shared.vacancy()),
            (None, Vacancy::Starting),
            "the other one was not looked at"
        );
        shared.on_seen(1, None, Instant::now() + Duration::from_secs(1));
        assert_eq!(shared.vacancy(), Vacancy::NoCandidate);
        reload(&shared, "primary = \"1.1.1.1:2\"");
        assert_eq!((shared.finds_primary(), shared.lead()), (false, Lead { epoch: 2, primary: Some(1) }));
    }
}
