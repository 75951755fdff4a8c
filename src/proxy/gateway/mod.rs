//! What servers behind us speak that do not speak HTTP: FastCGI, uwsgi and SCGI, three ways to carry the variables of the
//! Common Gateway Interface. Pure: heads and bytes come in, bytes go out; `worker` owns the sockets.
//!
//! | part | does |
//! |---|---|
//! | `record` | records of FastCGI 1.0, both ways |
//! | `vars` | names and values in the words of each protocol, within its limits |
//! | `meta` | the meta-variables of a request, RFC 3875 section 4.1, and its fields as `HTTP_*` |
//! | `script` | which part of a path is the script, and which is for it |
//! | `reply` | the head of an answer, RFC 3875 section 6, as one of HTTP/1.1 |
//! | `stderr` | what a program complains of, line by line |
//!
//! Deliberately absent: FCGI_ABORT_REQUEST, because a connection has one request at a time and closing it says the same
//! (FastCGI specification, section 5.4); the roles Authorizer and Filter; FCGI_GET_VALUES. The answer of a uwsgi server is one
//! of HTTP, which [`crate::http::h1`] reads.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod meta;
mod record;
mod reply;
mod script;
mod stderr;
mod vars;

pub use self::meta::{Meta, put_fields, put_meta};
pub use self::record::{
    Decoded, Decoder, End, Event, Opening, ProtocolStatus, RecordError, announce, end_content, put_content,
};
pub use self::reply::{Redirects, ReplyError, head_end, write_head};
pub use self::script::{Split, split};
pub use self::stderr::Complaints;
pub use self::vars::{Form, Vars, VarsError};
