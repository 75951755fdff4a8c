//! Content in which texts are replaced on its way: see [`crate::http::substitute`].

use super::super::connection::Broken;
use super::super::cx::Cx;
use super::{Answer, PIECE_BYTES_MAX, Wire, length_of, validates_weakly};
use crate::http::answer::Content;
use crate::http::coding::Candidate;
use crate::http::h1::Method;
use crate::http::substitute;

impl Answer<'_> {
    /// Begins to change the content, if that is asked for.
    pub(super) fn substitute(&mut self, cx: &Cx<'_>, fields: &mut Vec<u8>, status: u16, content: Content) -> Content {
        let Some(policy) = &cx.options.substitute else { return content };
        if matches!(self.wire, Wire::Noted(_)) {
            return content;
        }
        let candidate = Candidate { length: length_of(content), ..Candidate::of(status, fields) };
        if status == 304 {
            let told = candidate.content_type.or(self.validated_type.as_deref().map(str::as_bytes));
            let whole = Candidate { status: 200, length: None, content_type: told, ..candidate };
            if policy.applies(&whole) || (told.is_none() && validates_weakly(cx, fields)) {
                substitute::not_modified(fields, policy);
            }
            return content;
        }
        if !policy.applies(&candidate) {
            return content;
        }
        let substitution = policy.begin(candidate.content_type, cx);
        substitute::apply(fields, policy);
        if self.method == Method::Head {
            return Content::Absent(None);
        }
        self.substitution = Some(Box::new(substitution));
        Content::Stream
    }

    /// Adds content that is changed before it is coded.
    pub(super) async fn write_substituted(&mut self, data: &[u8]) -> Result<(), Broken> {
        for mut piece in data.chunks(PIECE_BYTES_MAX) {
            while let Some(substitution) = &mut self.substitution {
                let mut changed = self.worker.hot.take_buffer(piece.len());
                let step = substitution.write(piece, &mut changed);
                piece = &piece[step.taken..];
                self.write_changed(changed).await?;
                if !step.is_full {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn write_changed(&mut self, changed: Vec<u8>) -> Result<(), Broken> {
        let written = if changed.is_empty() { Ok(()) } else { self.write_coded(&changed).await };
        self.worker.hot.give_buffer_back(changed);
        written
    }

    /// Adds what was held back: the content has ended.
    pub(super) async fn finish_substitution(&mut self) -> Result<(), Broken> {
        while let Some(substitution) = &mut self.substitution {
            let mut changed = self.worker.hot.take_buffer(1024);
            if !substitution.finish(&mut changed) {
                self.substitution = None;
            }
            self.write_changed(changed).await?;
        }
        Ok(())
    }
}
