//! A client's statement under the rules of the config and the wishes of its comments: looked up, changed, refused.

use std::rc::Rc;

use super::client::Client;
use super::protocol::command;
use super::protocol::packet::{HEADER_BYTES, PAYLOAD_BYTES_MAX, put_message};
use super::rules::Verdict;
use super::sql::lexer::{Lexer, Token};
use super::sql::{Class, Mode, Seen};
use super::statement::Reject;
use crate::util::pattern::Pattern;

/// ER_NOT_ALLOWED_COMMAND, which ProxySQL uses for the same.
const NOT_ALLOWED: u16 = 1148;

impl Client {
    /// What is known of the text in the command under way.
    pub(super) fn look(&self) -> Seen {
        let sql = self.sql();
        let about = |digest: &[u8]| self.settings().rules.about(digest);
        self.splitter.classes.borrow_mut().look(sql, self.session.mode(), self.edition, about)
    }

    /// The class of the text in the command under way, and into [`super::insight::Watch::verdict`] what rules and comments
    /// say of it. A rule may change the text.
    pub(super) fn steer(&mut self) -> Class {
        let seen = self.look();
        let (mut class, mut digest) = (seen.class, seen.digest);
        let bits = seen.rules & self.watch.rules;
        let hint = seen.hint.filter(|_| self.settings().hints);
        if bits == 0 && hint.is_none() {
            self.watch.verdict = Verdict { digest, ..Verdict::default() };
            return class;
        }
        let settings = Rc::clone(self.settings());
        let number = settings.rules.first(bits, self.session.state.schema.as_deref());
        let rule = number.map(|number| (number, settings.rules.get(number)));
        if let Some((pattern, with)) = rule.and_then(|(_, rule)| rule.rewrite.as_ref())
            && self.rewrite(pattern, with)
        {
            self.splitter.stats().rewritten.inc();
            let seen = self.look();
            (class, digest) = (seen.class, seen.digest);
        }
        self.watch.verdict = Verdict { digest, ..Verdict::new(&mut class, rule, hint) };
        class
    }

    /// The same for a statement that was prepared under another config, in this mode. Its text stays as it is.
    pub(super) fn steer_again(&mut self, sql: &[u8], mode: Mode) -> Class {
        let settings = Rc::clone(self.settings());
        let about = |digest: &[u8]| settings.rules.about(digest);
        let seen = self.splitter.classes.borrow_mut().look(sql, mode, self.edition, about);
        let (mut class, hint) = (seen.class, seen.hint.filter(|_| settings.hints));
        let number = settings.rules.first(seen.rules & self.watch.rules, self.session.state.schema.as_deref());
        let rule = number.map(|number| (number, settings.rules.get(number)));
        self.watch.verdict = match (rule, hint) {
            (None, None) => Verdict { digest: seen.digest, ..Verdict::default() },
            _ => Verdict { digest: seen.digest, ..Verdict::new(&mut class, rule, hint) },
        };
        class
    }

    /// Changes the text of the command under way; `false`: it stays as it is.
    fn rewrite(&mut self, pattern: &Pattern, with: &str) -> bool {
        let (code, sql) = (self.request[HEADER_BYTES], self.sql());
        let Some(changed) = pattern.replace(sql, with) else { return false };
        let mode = self.session.mode();
        // Its parameters are sent by number.
        let is_bound = code == command::STMT_PREPARE && parameters(&changed, mode) != parameters(sql, mode);
        // The command's code, and attributes if there are any.
        let head = &self.request[HEADER_BYTES..self.sql_at];
        if is_bound || changed.is_empty() || head.len() + changed.len() >= PAYLOAD_BYTES_MAX {
            return false;
        }
        let payload = [head, &changed[..]].concat();
        self.request.clear();
        put_message(&mut self.request, &payload);
        true
    }

    /// What the client is told when a rule refuses its statement.
    pub(super) fn rejection(&self) -> Option<Reject> {
        let number = self.watch.verdict.rule.filter(|_| self.watch.verdict.rejected)?;
        let text = self.settings().rules.get(number).reject.clone()?;
        self.splitter.stats().rejected.inc();
        Some(Reject(NOT_ALLOWED, b"42000", text.into()))
    }
}

/// Parameters of a statement that is prepared; `None`: that cannot be told.
fn parameters(sql: &[u8], mode: Mode) -> Option<usize> {
    let mut count = 0;
    for token in Lexer::new(sql, mode) {
        match token {
            Token::Sign(b'?') => count += 1,
            Token::Doubt => return None,
            _ => {}
        }
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_not_looked_for_in_texts() {
        for (sql, expect) in
            [("SELECT ?, '?', `?`, \"?\" -- ?\n, ?", Some(2)), ("SELECT 1", Some(0)), ("SELECT '?", None)]
        {
            assert_eq!(parameters(sql.as_bytes(), Mode::default()), expect, "{sql}");
        }
    }
}
