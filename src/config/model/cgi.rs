//! What servers behind FastCGI, uwsgi and SCGI are told.

use std::path::PathBuf;

use crate::util::template::Template;

/// `cgi` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgi {
    /// The folder of the scripts as the servers see it, absolute; `None`: there are none, a server is one application.
    pub root: Option<PathBuf>,
    /// The same folder as this process sees it, where a script must be there to run; `None`: nobody looks.
    pub lookup: Option<PathBuf>,
    /// The script in a path that ends in `/`; empty: none.
    pub index: String,
    /// What the names of scripts end in.
    pub split: Vec<Box<str>>,
    /// The script that runs where a path leads to none.
    pub fallback: Option<String>,
    /// Variables beside those that there always are, or in their place. One that comes out empty is not sent.
    pub params: Vec<(Box<str>, Template)>,
    /// What we are called.
    pub software: String,
    /// Bytes of a body without a length that are kept to learn it.
    pub unsized_body_bytes_max: usize,
    /// Bytes of a body with a length that are kept until it is whole; a larger one is streamed.
    pub kept_body_bytes_max: usize,
}

impl Cgi {
    /// Whether a variable is set otherwise than it would be.
    pub fn sets(&self, name: &[u8]) -> bool {
        self.params.iter().any(|(set, _)| set.as_bytes() == name)
    }
}
