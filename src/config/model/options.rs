//! What `[http]`, sites and routes have in common.

use std::sync::Arc;
use std::time::Duration;

use super::cgi::Cgi;
use super::site::Mirror;
use crate::guard::{AddressRules, Auth};
use crate::http::caching::Expires;
use crate::http::coding::Policy;
use crate::http::cookies::CookieRules;
use crate::http::fields::HeaderRules;
use crate::http::location::LocationRules;
use crate::http::substitute::Policy as Substitute;
use crate::util::template::Template;
use crate::variables::{Condition, SetVariables};

/// What `[http]`, sites and routes have in common, resolved: a route's options are complete.
///
/// A key written in a route wins over the site's, which wins over that of `[http]`. Header rules are merged by field
/// name, everything else is replaced whole.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is done to the fields of answers.
    pub headers: HeaderRules,
    /// What is done to the fields of requests to upstreams and applications.
    pub request_headers: HeaderRules,
    /// Value of Cache-Control; `None`: what the answer has, or what `expires` says.
    pub cache_control: Option<String>,
    /// Lifetimes of answers by media type.
    pub expires: Expires,
    /// Strict-Transport-Security.
    pub hsts: Hsts,
    /// What is shown instead of errors.
    pub error_pages: ErrorPages,
    /// Error pages also stand for errors that upstreams and applications answer with.
    pub intercept_errors: bool,
    /// Bytes of a request body; beyond it 413. 0: no limit.
    pub body_bytes_max: u64,
    /// Requests are written to the access log.
    pub log_access: bool,
    /// The same, of those alone for which all of these hold once they are answered.
    pub log_conditions: Vec<Condition>,
    /// Variables that are set.
    pub variables: Arc<SetVariables>,
    /// X-Accel-Redirect of upstreams and applications is obeyed.
    pub x_accel: bool,
    /// Folders and the paths of the site that stand for them, for X-Sendfile; empty: it is not obeyed.
    pub x_sendfile: SentFolders,
    /// How answers are compressed; `None`: not at all.
    pub compress: Option<Arc<Policy>>,
    /// Who may come in; `None`: everyone.
    pub access: Option<Arc<AddressRules>>,
    /// The login; `None`: none.
    pub auth: Option<Arc<Auth>>,
    /// What requests must keep, indexes into [`Config::limits`](super::Config::limits).
    pub limits: Arc<[usize]>,
    /// Whether all that is asked for must be met, or any of it.
    pub satisfy: Satisfy,
    /// Target of the subrequest that is asked before; `None`: none is.
    pub auth_request: Option<Arc<str>>,
    /// Names of fields that only the answer to such a subrequest may bring into a request.
    pub auth_request_headers: Arc<[String]>,
    /// What becomes of URLs in Location and Refresh of upstreams; `None`: they stay.
    pub location_rewrite: Option<LocationRules>,
    /// Where copies of requests to an upstream go; `None`: nowhere. Only routes have it.
    pub mirror: Option<Arc<Mirror>>,
    /// What servers are told that speak FastCGI, uwsgi or SCGI; `None`: there are none. Only routes have it.
    pub cgi: Option<Arc<Cgi>>,
    /// What becomes of the attributes of cookies that upstreams set; `None`: they stay.
    pub cookie_rewrite: Option<Arc<CookieRules>>,
    /// What is put in the place of what in the bodies of answers; `None`: they stay.
    pub substitute: Option<Arc<Substitute>>,
    /// Bytes a second of one answer's content; 0: any rate.
    pub limit_rate: u64,
    /// Bytes of an answer that leave at any rate before.
    pub limit_rate_after: u64,
    /// Servers get Forwarded.
    pub forwarded: bool,
    /// What this hop is called in Via; `None`: it adds none.
    pub via: Option<Arc<str>>,
}

impl Options {
    /// Nothing but the limit of `[http]`.
    pub fn new(body_bytes_max: u64) -> Options {
        Options {
            headers: HeaderRules::default(),
            request_headers: HeaderRules::default(),
            cache_control: None,
            expires: Expires::default(),
            hsts: Hsts::default(),
            error_pages: ErrorPages::default(),
            intercept_errors: false,
            body_bytes_max,
            log_access: true,
            log_conditions: Vec::new(),
            variables: Arc::default(),
            compress: None,
            access: None,
            auth: None,
            limits: Arc::default(),
            satisfy: Satisfy::All,
            auth_request: None,
            auth_request_headers: Arc::default(),
            location_rewrite: None,
            mirror: None,
            cgi: None,
            cookie_rewrite: None,
            substitute: None,
            forwarded: false,
            via: None,
            limit_rate: 0,
            limit_rate_after: 0,
            x_accel: true,
            x_sendfile: Arc::default(),
        }
    }

    /// Whether some text in it needs the captures of the route.
    pub fn use_captures(&self) -> bool {
        self.headers.use_captures()
            || self.request_headers.use_captures()
            || self.error_pages.iter().any(|(_, page)| page.from.uses_captures())
            || self.variables.values().any(Template::uses_captures)
            || self.location_rewrite.as_ref().is_some_and(LocationRules::use_captures)
            || self.cookie_rewrite.as_ref().is_some_and(|rules| rules.use_captures())
            || self.substitute.as_ref().is_some_and(|substitute| substitute.use_captures())
            || self.cgi.as_ref().is_some_and(|cgi| cgi.params.iter().any(|(_, value)| value.uses_captures()))
    }
}

/// Folders, each with the path of the site that stands for it; both end in a slash.
pub type SentFolders = Arc<[(Box<str>, Box<str>)]>;

/// What lets a request in where several things are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Satisfy {
    /// All of them agree.
    #[default]
    All,
    /// One of them does.
    Any,
}

/// Strict-Transport-Security, to be sent over TLS alone (RFC 6797 section 7.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hsts {
    /// How long browsers come by https alone; `None`: the field is not sent.
    pub max_age: Option<Duration>,
    /// So they do for the names below.
    pub subdomains: bool,
    /// The site may be put on the lists that browsers come with.
    pub preload: bool,
    /// Value of the field.
    field: Option<String>,
}

impl Hsts {
    /// The policy with its field, written once.
    pub fn new(max_age: Option<Duration>, subdomains: bool, preload: bool) -> Hsts {
        let end = |wanted, text: &'static str| if wanted { text } else { "" };
        let field = max_age.map(|max_age| {
            let (subdomains, preload) = (end(subdomains, "; includeSubDomains"), end(preload, "; preload"));
            format!("max-age={}{subdomains}{preload}", max_age.as_secs())
        });
        Hsts { max_age, subdomains, preload, field }
    }

    /// Value of Strict-Transport-Security; `None`: it is not sent.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

/// Error pages by status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// Ranges of statuses, both ends included; the narrower ones first.
    pages: Vec<(std::ops::RangeInclusive<u16>, ErrorPage)>,
}

impl ErrorPages {
    /// Pages for ranges of statuses; of two that fit, the narrower one counts.
    pub fn new(mut pages: Vec<(std::ops::RangeInclusive<u16>, ErrorPage)>) -> ErrorPages {
        pages.sort_by_key(|(range, _)| range.end() - range.start());
        ErrorPages { pages }
    }

    /// The page for `status`.
    pub fn page(&self, status: u16) -> Option<&ErrorPage> {
        self.pages.iter().find(|(range, _)| range.contains(&status)).map(|(_, page)| page)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &(std::ops::RangeInclusive<u16>, ErrorPage)> {
        self.pages.iter()
    }
}

/// What is shown instead of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    /// Where it comes from.
    pub from: PageSource,
    /// The status the client gets.
    pub status: PageStatus,
}

/// Where an error page comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageSource {
    /// A path of the same site, routed again as an internal redirect and asked for with GET (HEAD stays HEAD); `$status`
    /// is the one of the error.
    Path(Template),
    /// The named route of this index into [`Site::routes`](super::Site::routes), which gets the request as it is.
    Route(usize),
}

impl PageSource {
    /// Whether its text needs the captures of the route.
    pub fn uses_captures(&self) -> bool {
        matches!(self, PageSource::Path(path) if path.uses_captures())
    }
}

/// Status of the answer that an error page makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStatus {
    /// That of the error.
    Error,
    /// That with which the page itself is answered.
    Page,
    /// This one.
    Fixed(u16),
}
