//! Path → routes of one site, by exact path and prefix: a radix tree over bytes. Expressions are not its business.
//!
//! The nodes stand in one vector, siblings side by side, and their first bytes in a second one, so that choosing a
//! child is one search through adjacent bytes. The walk visits one node per place where routes branch, which is no
//! more than the path has bytes and in practice a handful.

use std::collections::VecDeque;

use crate::config::model::PathMatch;

/// The routes of a site by path; results are positions in the list that it was made of.
#[derive(Debug)]
pub(super) struct Paths {
    /// The root first, its label empty.
    nodes: Vec<Node>,
    /// First byte of each node's label, by node; the root's is unused.
    first_bytes: Vec<u8>,
    /// All labels, one behind the other.
    labels: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// The label's bytes behind the first, in `labels`.
    label_start: u32,
    label_end: u32,
    /// Children: `children_start..children_end` in `nodes`.
    children_start: u32,
    children_end: u32,
    /// Route for paths that begin with what leads here.
    prefix: Option<RouteIndex>,
    /// Route for the path that ends here.
    exact: Option<RouteIndex>,
}

/// Position of a route plus one, so that `Option` costs nothing.
type RouteIndex = std::num::NonZeroU32;

/// One route while the tree is built.
struct Entry<'a> {
    path: &'a [u8],
    is_exact: bool,
    route: u32,
}

/// What [`Paths::find`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) route: usize,
    pub(super) is_exact: bool,
}

/// What a path leads to.
struct Walk {
    exact: Option<RouteIndex>,
    /// The longest one.
    prefix: Option<RouteIndex>,
}

impl Paths {
    pub(super) fn new<'a>(routes: impl Iterator<Item = &'a PathMatch>) -> Paths {
        let mut entries: Vec<Entry<'a>> = routes.zip(0..).filter_map(|(path, route)| Entry::new(path, route)).collect();
        entries.sort_by_key(|entry| entry.path); // stable: the first of equal ones stays first
        let mut paths = Paths { nodes: Vec::new(), first_bytes: Vec::new(), labels: Vec::new() };
        // Breadth first, so that siblings get neighbouring places. Each item: a node's place, its entries, and how many
        // of their bytes lead to it.
        let mut open = VecDeque::from([(paths.push(&[]), entries.as_slice(), 0)]);
        while let Some((node, entries, depth)) = open.pop_front() {
            let own = entries.iter().take_while(|entry| entry.path.len() == depth).count();
            let (own, rest) = entries.split_at(own);
            paths.nodes[node].exact = first_of(own, true);
            paths.nodes[node].prefix = first_of(own, false);
            paths.nodes[node].children_start = paths.nodes.len() as u32;
            for siblings in rest.chunk_by(|a, b| a.path[depth] == b.path[depth]) {
                let shared = shared_bytes(siblings[0].path, siblings[siblings.len() - 1].path);
                let child = paths.push(&siblings[0].path[depth..shared]);
                open.push_back((child, siblings, shared));
            }
            paths.nodes[node].children_end = paths.nodes.len() as u32;
        }
        paths
    }

    /// The exact route of `path`, else the one with the longest prefix of it.
    #[inline]
    pub(super) fn find(&self, path: &[u8]) -> Option<Hit> {
        let walk = self.walk(path);
        walk.exact.map(|route| hit(route, true)).or(walk.prefix.map(|route| hit(route, false)))
    }

    /// The route with the longest prefix of `path`.
    pub(super) fn find_prefix(&self, path: &[u8]) -> Option<usize> {
        self.walk(path).prefix.map(|route| hit(route, false).route)
    }

    #[inline]
    fn walk(&self, path: &[u8]) -> Walk {
        let mut node = &self.nodes[0];
        let mut rest = path;
        let mut prefix = None;
        loop {
            prefix = node.prefix.or(prefix);
            let Some((&first, behind)) = rest.split_first() else { return Walk { exact: node.exact, prefix } };
            let children = node.children_start as usize..node.children_end as usize;
            let Some(child) = find_byte(first, &self.first_bytes[children]) else { break };
            node = &self.nodes[node.children_start as usize + child];
            match strip_label(behind, &self.labels[node.label_start as usize..node.label_end as usize]) {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        Walk { exact: None, prefix }
    }

    /// Adds a node without routes and children and returns its place.
    fn push(&mut self, label: &[u8]) -> usize {
        let (first, behind) = label.split_first().map_or((0, label), |(&first, behind)| (first, behind));
        let label_start = self.labels.len() as u32;
        self.labels.extend_from_slice(behind);
        self.first_bytes.push(first);
        self.nodes.push(Node {
            label_start,
            label_end: self.labels.len() as u32,
            children_start: 0,
            children_end: 0,
            prefix: None,
            exact: None,
        });
        self.nodes.len() - 1
    }
}

impl<'a> Entry<'a> {
    fn new(path: &'a PathMatch, route: u32) -> Option<Entry<'a>> {
        let (path, is_exact) = match path {
            PathMatch::Exact(path) => (path, true),
            PathMatch::Prefix(path) => (path, false),
            PathMatch::Regex(_) | PathMatch::Named(_) => return None,
        };
        Some(Entry { path: path.as_bytes(), is_exact, route })
    }
}

fn first_of(entries: &[Entry<'_>], exact: bool) -> Option<RouteIndex> {
    entries.iter().find(|entry| entry.is_exact == exact).and_then(|entry| RouteIndex::new(entry.route + 1))
}

fn hit(route: RouteIndex, is_exact: bool) -> Hit {
    Hit { route: route.get() as usize - 1, is_exact }
}

/// Bytes that `a` and `b` begin with in common; of sorted paths the first and the last share what all share.
fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// `path` without `label` in front. Most labels are a few bytes long, too few for a call of memcmp to pay.
#[inline]
fn strip_label<'a>(path: &'a [u8], label: &[u8]) -> Option<&'a [u8]> {
    let (start, behind) = path.split_at_checked(label.len())?;
    let same = if label.len() <= 8 { start.iter().eq(label) } else { start == label };
    same.then_some(behind)
}

/// Place of `byte` among the first bytes of siblings. Most nodes have few children, too few for a SIMD search to pay.
#[inline]
fn find_byte(byte: u8, siblings: &[u8]) -> Option<usize> {
    if siblings.len() <= 16 {
        siblings.iter().position(|&sibling| sibling == byte)
    } else {
        memchr::memchr(byte, siblings)
    }
}
