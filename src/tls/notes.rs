//! What rustls's callbacks learn during a handshake and its unbuffered connection does not tell afterwards: the name the
//! client asked for, and why its certificate was not accepted.
//!
//! A callback runs on the thread, and within the call, that feeds the bytes; so it leaves its note in a cell of the
//! thread, and the session picks it up before the call returns. Reading the name from the ClientHello with a second
//! parser of our own would be a parser differential: the certificate chosen by one name, the site by another.

use std::cell::RefCell;

/// Notes of one session. They outlive a single call, because a handshake takes several.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// What the client sent as server name, in lower case.
    pub(super) server_name: Option<Box<str>>,
    /// The name has no certificate and was refused.
    pub(super) is_refused: bool,
    /// Why the client's certificate is not accepted, in OpenSSL's words.
    pub(super) failure: Option<&'static str>,
}

thread_local! {
    static NOTES: RefCell<Notes> = const { RefCell::new(Notes { server_name: None, is_refused: false, failure: None }) };
}

/// Runs `action`, whose callbacks add to `notes`.
pub(super) fn collect<T>(notes: &mut Notes, action: impl FnOnce() -> T) -> T {
    NOTES.with_borrow_mut(|cell| std::mem::swap(cell, notes));
    let result = action();
    NOTES.with_borrow_mut(|cell| std::mem::swap(cell, notes));
    // Also after a panic in an earlier action of this thread, which left its notes behind.
    NOTES.set(Notes::default());
    result
}

/// For callbacks.
pub(super) fn note(change: impl FnOnce(&mut Notes)) {
    NOTES.with_borrow_mut(change);
}
