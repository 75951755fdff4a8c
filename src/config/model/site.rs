//! Sites, routes and their actions.

use std::sync::Arc;
use std::time::Duration;

use super::files::Files;
use super::options::Options;
use crate::util::pattern::Pattern;
use crate::util::template::{Encoding, Template};
use crate::variables::Condition;

/// Host names a site answers for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// One name, lower case, without port.
    Exact(String),
    /// `*.example.org`, stored as `.example.org`: any name that ends so and is longer.
    Suffix(String),
    /// `www.example.*`, stored as `www.example.`: any name that begins so and is longer.
    Prefix(String),
    /// `~^www\d+\.`: an expression, matched against the name in lower case.
    Regex(Pattern),
    /// Any host.
    Any,
}

/// A set of host names with their routes.
#[derive(Clone, Debug)]
pub struct Site {
    /// Name in logs and metrics.
    pub name: String,
    /// Names it answers for.
    pub hosts: Vec<HostPattern>,
    /// Answers for hosts no site names.
    pub default: bool,
    /// Requests in clear text are sent to https on this port, but for those of [`crate::route::https`]; `None`: they are
    /// answered.
    pub https_port: Option<u16>,
    /// Counts where no route matches, and as what routes inherit.
    pub options: Arc<Options>,
    /// Routes in order of writing; for precedence see [`crate::route`].
    pub routes: Vec<Route>,
}

/// How a route matches a path. Paths are percent-decoded and free of dot segments before matching.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Its beginning, byte by byte, as nginx does: `/api` also matches `/apis`, `/api/` does not.
    Prefix(String),
    /// An expression, matched against the path's bytes.
    Regex(Pattern),
    /// No path: the route is reached as `@name` alone.
    Named(String),
}

impl std::fmt::Display for PathMatch {
    /// As the page of counters and `ctl show` have it: `/path`, `=/path`, `~regex`, `@name`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PathMatch::Exact(path) => write!(f, "={path}"),
            PathMatch::Prefix(path) => f.write_str(path),
            PathMatch::Regex(pattern) => write!(f, "~{}", pattern.as_str()),
            PathMatch::Named(name) => write!(f, "@{name}"),
        }
    }
}

/// One line of a site's routing table.
#[derive(Clone, Debug)]
pub struct Route {
    /// What it matches.
    pub path: PathMatch,
    /// Methods it takes; empty: all. GET stands for HEAD too.
    pub methods: Vec<String>,
    /// It is there for those requests alone for which all of these hold.
    pub conditions: Vec<Condition>,
    /// Of a prefix: when it is the longest one, expressions are not tried (nginx's `^~`).
    pub over_regex: bool,
    /// Only reached by internal redirects; for clients it does not exist.
    pub internal: bool,
    /// The target as the action sees it (nginx's `rewrite … break`); never beside [`Action::Rewrite`].
    pub rewrite: Option<Arc<Rewrite>>,
    /// What it does.
    pub action: Action,
    /// How it does it.
    pub options: Arc<Options>,
}

impl Route {
    /// A route for every method and request, without a rewrite.
    pub fn new(path: PathMatch, action: Action, options: Arc<Options>) -> Route {
        let (methods, conditions) = (Vec::new(), Vec::new());
        Route { path, methods, conditions, over_regex: false, internal: false, rewrite: None, action, options }
    }

    /// Whether some text in it needs what the path's expression captured.
    pub fn uses_captures(&self) -> bool {
        let of_action = match &self.action {
            Action::Redirect(redirect) => redirect.to.uses_captures(),
            Action::Rewrite(rewrite) => rewrite.to.uses_captures(),
            Action::Respond(respond) => respond.body.uses_captures(),
            Action::Files(_) | Action::Proxy(_) | Action::ProxyBy(_) | Action::Close | Action::Tarpit(_) => false,
        };
        of_action
            || self.rewrite.as_ref().is_some_and(|rewrite| rewrite.to.uses_captures())
            || self.options.use_captures()
            || self.conditions.iter().any(Condition::uses_captures)
    }
}

/// What happens to a matched request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Serve files.
    Files(Arc<Files>),
    /// Forward to the upstream of this index.
    Proxy(usize),
    /// Forward to the upstream that a variable names.
    ProxyBy(Arc<ProxyBy>),
    /// Tell the client to go elsewhere.
    Redirect(Arc<Redirect>),
    /// Route again with another target (nginx's `rewrite … last`).
    Rewrite(Arc<Rewrite>),
    /// A fixed answer.
    Respond(Arc<Respond>),
    /// Close the connection without an answer (nginx's `return 444`).
    Close,
    /// An error, after a while.
    Tarpit(Tarpit),
}

/// An upstream by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyBy {
    /// One variable.
    pub name: Template,
    /// All that it may be, with their indexes into [`Config::upstreams`](super::Config::upstreams).
    pub upstreams: Vec<(String, usize)>,
}

/// Where copies of requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Index into [`Config::upstreams`](super::Config::upstreams).
    pub upstream: usize,
    /// Share of the requests, hundredths of a percent.
    pub share: u32,
    /// Copies under way at once, in the whole process; more are not made.
    pub requests_max: usize,
}

/// An error that is answered late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tarpit {
    /// How long it is held back.
    pub delay: Duration,
    /// Its status.
    pub status: u16,
}

/// A redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Value of Location, to be put as [`Encoding::Url`]; may be relative (RFC 9110 section 10.2.2).
    pub to: Template,
}

/// An internal redirect; see [`crate::route::rewrite`] for what becomes of the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Path and perhaps query.
    pub to: Template,
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// Status code.
    pub status: u16,
    /// Value of Content-Type.
    pub content_type: String,
    /// The body.
    pub body: Template,
    /// What the content type asks of values in the body.
    pub encoding: Encoding,
}
