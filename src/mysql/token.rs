//! What reads must see: everything that was written before, as far as the servers' trackers tell. Pure.
//!
//! A write that was committed without a GTID (a server without binary log, a lost answer) leaves a
//! *doubt*: which position includes it is not known, so only the primary can be asked. The doubt ends when every domain
//! (source) known at the time has shown a GTID that was given later: whatever was logged before is before that. What a session
//! writes with `sql_log_bin=0` is never logged and comes to no replica: it is asked for at the primary for good.

use super::gtid::Position;

/// Intervals of MySQL's sets that are kept per source. Sessions write in between others, so their own transactions have
/// holes, and a wait should not grow with the life of a session.
const INTERVALS_MAX: usize = 8;

/// What a statement told of its writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum News {
    /// It wrote nothing, or has not committed.
    #[default]
    None,
    /// It committed these transactions.
    Gtids(Position),
    /// It wrote, or may have, and did not tell which transaction it was.
    Untold,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Doubt {
    #[default]
    None,
    /// Something was written after this position.
    Since(Position),
    /// The position is incomplete: there are too many domains, or something was written that has no position.
    Forever,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    position: Position,
    doubt: Doubt,
    writes: u64,
}

impl Token {
    /// What it names may be lost: what must be seen of it is `floor`, which is all that is left.
    pub fn void(&mut self, floor: Position) {
        *self = Token { position: floor, doubt: Doubt::None, writes: self.writes.wrapping_add(1) };
    }

    /// What is written from here on may be logged nowhere.
    pub fn doubt_for_good(&mut self) {
        self.doubt = Doubt::Forever;
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.position.is_empty() && self.doubt == Doubt::None
    }

    /// What must be seen; `None`: only the primary has it for sure.
    pub fn position(&self) -> Option<&Position> {
        (self.doubt == Doubt::None).then_some(&self.position)
    }

    /// Changes with each write.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Takes in what a statement told that was sent after everything known here was done.
    pub fn learn(&mut self, news: &News) {
        self.add(news);
        if let (News::Gtids(_), Doubt::Since(before)) = (news, &self.doubt)
            && self.position.is_past(before)
        {
            // Of MySQL's numbers, a later one alone says nothing of those before it.
            self.position.fill();
            self.doubt = Doubt::None;
        }
    }

    /// Takes in what a statement told that may have run before what is in doubt: it settles none.
    pub fn add(&mut self, news: &News) {
        match news {
            News::None => return,
            News::Gtids(gtids) => {
                if self.position.unite(gtids) {
                    self.position.widen(INTERVALS_MAX);
                } else {
                    self.doubt = Doubt::Forever;
                }
            }
            News::Untold if self.doubt != Doubt::Forever => self.doubt = Doubt::Since(self.position.clone()),
            News::Untold => {}
        }
        self.writes = self.writes.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> Position {
        Position::parse(text.as_bytes()).unwrap()
    }

    fn told(text: &str) -> News {
        News::Gtids(position(text))
    }

    #[test]
    fn a_doubt_ends_with_a_later_gtid_of_every_known_domain() {
        let mut token = Token::default();
        assert_eq!(token.position(), Some(&Position::default()));
        token.learn(&News::Untold);
        assert_eq!(token.position(), None);
        token.learn(&told("0-1-5"));
        assert_eq!(token.position(), Some(&position("0-1-5")), "no domain was known, so any will do");
        token.learn(&told("7-1-3"));
        token.learn(&News::Untold);
        for early in ["0-1-5", "0-1-6", "9-1-1", "7-1-3"] {
            token.learn(&told(early));
            assert_eq!(token.position(), None, "{early}");
        }
        token.learn(&told("7-1-4"));
        assert_eq!(token.position(), Some(&position("0-1-6,7-1-4,9-1-1")));
    }

    #[test]
    fn what_is_never_logged_is_in_doubt_for_good() {
        let mut token = Token::default();
        token.learn(&told("0-1-5"));
        token.doubt_for_good();
        token.learn(&told("0-1-6"));
        assert!(token.position().is_none() && !token.is_empty());
    }

    #[test]
    fn what_may_have_run_before_settles_nothing() {
        let mut token = Token::default();
        token.learn(&News::Untold);
        token.add(&told("0-1-5"));
        assert_eq!(token.position(), None);
        token.learn(&told("0-1-4"));
        assert_eq!(token.position(), Some(&position("0-1-5")));
    }

    #[test]
    fn of_mysql_all_transactions_before_the_later_one_are_wanted() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mut token = Token::default();
        token.learn(&told(&format!("{uuid}:5")));
        token.learn(&told(&format!("{uuid}:9")));
        assert_eq!(token.position(), Some(&position(&format!("{uuid}:5:9"))));
        token.learn(&News::Untold);
        token.learn(&told(&format!("{uuid}:12")));
        assert_eq!(token.position(), Some(&position(&format!("{uuid}:1-12"))));
    }

    #[test]
    fn tokens_stay_small() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mut token = Token::default();
        for n in 1..10_000 {
            token.learn(&told(&format!("{uuid}:{}", n * 2)));
        }
        let all = token.position().unwrap();
        assert!(all.set().intervals() <= INTERVALS_MAX && all.covers(&position(&format!("{uuid}:2:19998"))));
        let mut token = Token::default();
        for domain in 0..9 {
            token.learn(&told(&format!("{domain}-1-1")));
        }
        token.learn(&told("0-1-2,1-1-2,2-1-2,3-1-2,4-1-2,5-1-2,6-1-2,7-1-2"));
        assert_eq!(token.position(), None, "one domain is not in it");
    }

    #[test]
    fn every_write_counts() {
        let mut token = Token::default();
        token.learn(&News::None);
        let before = token.writes();
        token.learn(&News::Untold);
        token.learn(&told("0-1-1"));
        assert_eq!(token.writes(), before + 2);
    }
}
