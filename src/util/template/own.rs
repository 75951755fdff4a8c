//! Variables that the config defines itself.

use super::Variable;
use crate::util::captures::Captures;

/// One of them, by its number; whoever implements [`super::Variables`] knows what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Own {
    /// One that is looked up in a table and means the same everywhere.
    Lookup(u16),
    /// A text that levels of the config may set anew.
    Set(u16),
}

/// The name of one, for texts that are compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnName {
    /// Without `$`.
    pub name: String,
    /// What it names.
    pub own: Own,
    /// It is made of something of the answer, and has no value before there is one.
    pub in_answers: bool,
}

/// What an expression has matched on the way to a value, and where that stands in the buffer: the captures of the text
/// that becomes the value.
#[derive(Clone, Copy)]
pub struct Matched<'a> {
    /// Where the matched text begins in the buffer.
    pub start: usize,
    /// Places in it.
    pub captures: &'a Captures,
    /// The captures are encoded as if they were the value of this one.
    pub like: &'a Variable,
}
