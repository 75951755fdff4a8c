//! The application of `one-server demo`: a guest book, written as any Rust application for this server would be.
//!
//! It is an ordinary axum router and knows nothing about the server around it; its two inputs are the address of a
//! MySQL server (the splitter's, so reads go to a replica and writes to the primary without the application's help)
//! and the `X-Request-Id` field, which it repeats in a comment in front of every statement so that the live page can
//! join a request with its statements. Without a database the entries stay in the memory of the process.
//!
//! | path | answers |
//! |---|---|
//! | `GET /guestbook/` | the page with the latest entries; works without JavaScript |
//! | `POST /guestbook/` | signs the book (a form); 303 back to the page, or 201 with JSON when `Accept` asks for JSON |
//! | `GET /guestbook/api/entries` | the latest entries as JSON |
//! | `GET /guestbook/stream` | a text that takes three seconds, a line at a time |
//! | `GET /guestbook/hello` | one line, and nothing behind it |

mod database;
mod entry;
mod handlers;
mod page;
pub mod site;
mod store;
mod stream;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;

pub use self::entry::{Entry, MESSAGE_CHARS_MAX, NAME_CHARS_MAX};
use self::store::{Memory, Store};
use crate::config::model::Secret;
use crate::runtime::net::Address;

/// Longest form body, bytes: name and message at their limits, every character four bytes, percent-encoded.
const FORM_BYTES_MAX: usize = 12 * (NAME_CHARS_MAX + MESSAGE_CHARS_MAX) + 256;

/// What the guest book needs to know. Clone it for each application worker: clones share the entries kept in memory.
#[derive(Clone, Debug, Default)]
pub struct DemoSettings {
    /// Where entries are kept; `None`: in the memory of the process.
    pub database: Option<DatabaseSettings>,
    memory: Arc<Mutex<Memory>>,
}

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// A MySQL server, or what speaks for several.
    pub address: Address,
    /// User name.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Database (schema) that holds our one table.
    pub database: String,
}

impl DemoSettings {
    /// Entries go to `database`, or stay in memory.
    pub fn new(database: Option<DatabaseSettings>) -> DemoSettings {
        DemoSettings { database, memory: Arc::default() }
    }
}

/// The application, one for each application worker. Connections are opened by the first request that needs one, on
/// the runtime that runs it.
pub fn router(settings: DemoSettings) -> Router {
    let store = match settings.database {
        Some(database) => Store::database(&database),
        None => Store::memory(settings.memory),
    };
    Router::new()
        .route("/guestbook/", get(handlers::page).post(handlers::sign))
        .route("/guestbook/api/entries", get(handlers::entries))
        .route("/guestbook/stream", get(handlers::stream))
        .route("/guestbook/hello", get(handlers::hello))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(Arc::new(store))
}
