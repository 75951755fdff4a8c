//! The newest position of the primary, asked for: what has certainly been committed when the question was sent.
//!
//! One question is under way at a time on a data worker, on a connection of its own. Whoever asks meanwhile gets the answer to
//! the next one, since the present one may be older than what it must see; and all that wait share that one.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::backend::{Backend, BackendError, Key};
use super::gtid::Position;
use super::serve::Splitter;
use super::shared::Health;
use crate::runtime::time::timeout;

/// What asks have to do with each other. Pure.
#[derive(Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    /// To the last question that ended; `None`: the primary did not answer, or told nothing.
    answer: Option<Position>,
    waiting: Vec<Waker>,
}

impl Rounds {
    /// The first question that begins from now on.
    fn next(&self) -> u64 {
        self.begun + 1
    }

    /// Whether somebody has to begin a question, for one that waits for `round`.
    fn begins(&mut self, round: u64) -> bool {
        let begins = self.begun == self.ended && self.begun < round;
        self.begun += u64::from(begins);
        begins
    }

    fn end(&mut self, answer: Option<Position>) -> Vec<Waker> {
        self.ended = self.begun;
        self.answer = answer;
        std::mem::take(&mut self.waiting)
    }
}

/// The questions of one data worker to one primary.
#[derive(Default)]
pub(super) struct Frontier {
    rounds: RefCell<Rounds>,
    connection: RefCell<Option<Backend>>,
}

impl Splitter {
    /// The primary, while there is one that answers.
    pub(super) fn primary_at_work(&self) -> Option<usize> {
        self.shared.lead().primary.filter(|primary| self.shared.server(*primary).health() != Health::Down)
    }

    /// Everything that was committed on the primary before this call is in it. `None`: it does not answer, or it tells no
    /// GTIDs.
    pub(super) async fn frontier(self: &Rc<Self>) -> Option<Position> {
        self.primary_at_work()?;
        let round = self.frontier.rounds.borrow().next();
        std::future::poll_fn(|cx| {
            let mut rounds = self.frontier.rounds.borrow_mut();
            if rounds.ended >= round {
                return Poll::Ready(rounds.answer.clone());
            }
            rounds.waiting.push(cx.waker().clone());
            if rounds.begins(round) {
                let splitter = Rc::clone(self);
                crate::runtime::spawn(async move { splitter.ask_frontier().await });
            }
            Poll::Pending
        })
        .await
    }

    async fn ask_frontier(self: Rc<Self>) {
        self.stats().causal_questions.inc();
        let limit = self.config().connect_timeout;
        let answer = timeout(limit, self.newest_position()).await.ok().flatten();
        let waiting = self.frontier.rounds.borrow_mut().end(answer);
        waiting.into_iter().for_each(Waker::wake);
    }

    async fn newest_position(&self) -> Option<Position> {
        let lead = self.shared.lead();
        let primary = lead.primary?;
        let facts = self.shared.server(primary);
        let life = (primary, facts.generation(), facts.term(), self.reach());
        let is_of_life =
            |kept: &Backend| (kept.server, kept.generation, kept.term, kept.reach) == life && kept.is_quiet();
        let mut backend = match self.frontier.connection.take().filter(is_of_life) {
            Some(kept) => kept,
            None => Box::pin(self.connect_for_questions(life)).await.ok()?,
        };
        let question: &[u8] = match backend.is_mariadb {
            true => b"SELECT @@global.gtid_binlog_pos",
            false => b"SELECT @@global.gtid_executed",
        };
        let row = backend.row(question).await.ok()?;
        if self.shared.lead() != lead {
            return None; // another one may have more by now
        }
        self.frontier.connection.replace(Some(backend));
        let text = row.into_iter().next().flatten()?;
        // Without a binary log there is none, either: whether that is so must be known first.
        let is_sure = self.shared.tells_gtids() == Some(true);
        Position::parse(&text).filter(|position| is_sure || !position.is_empty())
    }

    async fn connect_for_questions(&self, life: (usize, u32, u32, u32)) -> Result<Backend, BackendError> {
        let (server, generation, term, reach) = life;
        let key = Key { capabilities: 0, collation: 45, account: 0 };
        let config = self.config();
        let target = self.target(&config, server, key.account);
        let (mut backend, _) = Backend::open(target, self.next_id(), server, key, None).await?;
        (backend.generation, backend.term, backend.reach) = (generation, term, reach);
        Ok(backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_while_a_question_is_under_way_waits_for_the_next_one() {
        let mut rounds = Rounds::default();
        let first = rounds.next();
        assert!(rounds.begins(first) && !rounds.begins(first), "one begins it");
        let (second, third) = (rounds.next(), rounds.next());
        assert_eq!(second, third, "and these share one");
        assert!(!rounds.begins(second), "not before the first has ended");
        rounds.end(None);
        assert!(rounds.ended >= first && rounds.ended < second);
        assert!(rounds.begins(second) && !rounds.begins(third));
        rounds.end(Position::parse(b"0-1-5"));
        assert!(rounds.ended >= third && rounds.answer == Position::parse(b"0-1-5"));
        assert!(rounds.next() > third);
    }
}
