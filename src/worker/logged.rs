//! What the access log asks of a request once it is answered: whether it is written, and what the config's own variables
//! are worth.

use std::rc::Rc;

use super::Worker;
use super::connection::Connection;
use super::cx::{AnswerVariables, Cx};
use super::exchange::Request;
use super::trail::Trail;
use crate::config::Config;
use crate::config::model::{Options, Site};
use crate::log::AccessLog;
use crate::route::Captures;
use crate::util::template::{Template, Variable};
use crate::variables::{Condition, Test, all_hold};

/// What a worker needs to know of it, in its own memory.
#[derive(Default)]
pub(super) struct Logged {
    /// By site.
    sites: Vec<SiteConditions>,
    /// Some variable or condition looks at the fields of the answer.
    pub(super) wants_fields: bool,
    /// Variables of the config's own stand in the log or in conditions.
    pub(super) wants_own: bool,
}

struct SiteConditions {
    /// For requests that no route takes.
    own: Vec<Condition>,
    routes: Vec<Vec<Condition>>,
}

/// What has been routed, for captures in variables that the log asks for.
pub(super) struct Routed {
    path: Vec<u8>,
    captures: Captures,
}

impl Logged {
    pub(super) fn new(config: &Config, log: Option<&AccessLog>) -> Logged {
        let Some(log) = log else { return Logged::default() };
        // A clone of an expression matches with memory of its own.
        let site = |site: &Site| SiteConditions {
            own: site.options.log_conditions.clone(),
            routes: site.routes.iter().map(|route| route.options.log_conditions.clone()).collect(),
        };
        let sites: Vec<SiteConditions> = config.sites.iter().map(site).collect();
        let wants_own = log.wants_own() || conditions(&sites).next().is_some();
        Logged { wants_fields: wants_own && look_at_fields(config, &sites), wants_own, sites }
    }

    fn conditions(&self, trail: &Trail) -> &[Condition] {
        let Some(site) = trail.site.and_then(|site| self.sites.get(usize::from(site))) else { return &[] };
        trail.route.and_then(|route| site.routes.get(usize::from(route))).unwrap_or(&site.own)
    }
}

fn conditions(sites: &[SiteConditions]) -> impl Iterator<Item = &Condition> {
    sites.iter().flat_map(|site| site.routes.iter().flatten().chain(&site.own))
}

fn look_at_fields(config: &Config, sites: &[SiteConditions]) -> bool {
    let looks = |template: &Template| template.variables().any(|variable| matches!(variable, Variable::SentField(_)));
    let asks =
        |condition: &Condition| looks(&condition.left) || matches!(&condition.test, Test::Is(text) if looks(text));
    let mut texts = config.lookups.iter().flat_map(|lookup| lookup.results().chain([&lookup.from]));
    texts.any(looks) || conditions(sites).any(asks)
}

impl Routed {
    pub(super) fn new(path: &[u8], captures: Captures) -> Routed {
        Routed { path: path.to_vec(), captures }
    }
}

/// The answered request as the route saw it.
pub(super) fn cx<'a>(
    worker: &'a Rc<Worker>,
    connection: &'a Connection,
    request: Request<'a>,
    trail: &'a Trail,
) -> Cx<'a> {
    let (path, captures) = match &trail.routed {
        Some(routed) => (&routed.path[..], routed.captures),
        None => (&b""[..], Captures::NONE),
    };
    Cx {
        worker,
        connection,
        request: Request { user: trail.user.as_deref(), ..request },
        site: trail.site.map(usize::from),
        options: options(&worker.config, trail),
        path,
        captures,
    }
}

fn options<'a>(config: &'a Config, trail: &Trail) -> &'a Options {
    let site = trail.site.and_then(|site| config.sites.get(usize::from(site)));
    let route = trail.route.and_then(|route| site?.routes.get(usize::from(route)));
    match (site, route) {
        (_, Some(route)) => &route.options,
        (Some(site), None) => &site.options,
        (None, None) => &config.http.options,
    }
}

/// Whether the conditions of the request's place hold.
pub(super) fn is_wanted(variables: &AnswerVariables<'_>) -> bool {
    let conditions = variables.cx.worker.logged.conditions(variables.trail);
    conditions.is_empty() || all_hold(conditions, variables, &mut Vec::new())
}
