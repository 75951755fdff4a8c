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
        if let Some(topology) = &mut council.topology {
            let events = topology.take_out(server, true, now);
            self.apply(council, events);
        }
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
                if council.topology.take().is_some() {
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
        lead.primary.into_iter().chain([primary]).for_each(|server| self.server(server).end_term());
        council.switchovers += u64::from(lead.primary.is_some());
        council.announced = None;
        self.announce(false);
        // What was seen of it as a replica says nothing of it any more: statements may try it.
        self.server(primary).set_health(Health::Unknown);
        self.set_lead(Lead { epoch: lead.epoch + 1, primary: Some(primary) }, None);
        tracing::warn!(splitter = %self.config().name, server = %self.address(primary), epoch = lead.epoch + 1,
            "mysql server is the primary: the config says so");
    }

    /// The config named the primary until now, and no longer does.
    fn begin_to_find(&self, council: &mut Council, rules: Rules, now: Instant) {
        let mut topology = Topology::led_by(self.servers(), rules, self.lead(), self.voided().before());
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
