//! Editing of field lines: the rules of `headers` and `request_headers`, and the few look-ups that code outside of the
//! codec needs.
//!
//! In and out: `Name: value\r\n` lines at the end of a buffer, as our writers append them, without the start line before
//! and the empty line behind. Lines that no edit names stay byte for byte what they were, whatever is in them. Edits
//! are made in place; nothing is allocated beyond the buffer. Names are compared without regard to case (RFC 9110
//! section 5.1).

use crate::util::template::{Encoding, Own, Template, Variable, Variables};

/// Field lines to read.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The lines in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { bytes }
    }

    /// Value of the first field called `name`.
    pub fn find(self, name: &str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// Values of all fields called `name`.
    pub fn values(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        // Most lines are others: of those no more is looked at than the name.
        lines(self.bytes).filter(move |line| is_called(line, name)).map(|line| line[name.len() + 1..].trim_ascii())
    }

    /// Values of the first fields called so, in one look at all lines.
    pub fn find_all<const COUNT: usize>(self, names: [&str; COUNT]) -> [Option<&'a [u8]>; COUNT] {
        let mut found = [None; COUNT];
        for line in lines(self.bytes) {
            for (value, name) in found.iter_mut().zip(names) {
                if value.is_none() && is_called(line, name) {
                    *value = Some(line[name.len() + 1..].trim_ascii());
                }
            }
        }
        found
    }

    /// `(name, value)` of every field, the value without the white space around it. Lines that are no field are left
    /// out.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        lines(self.bytes).filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }
}

/// Each line with its end.
fn lines(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let line_bytes = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        let (line, rest) = bytes.split_at(line_bytes);
        bytes = rest;
        (!line.is_empty()).then_some(line)
    })
}

/// Field lines to edit: all that stands in a buffer from some place on.
#[derive(Debug)]
pub struct FieldsMut<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> FieldsMut<'a> {
    /// The lines in `out[start..]`. Panics when `out` is shorter.
    pub fn new(out: &'a mut Vec<u8>, start: usize) -> FieldsMut<'a> {
        assert!(start <= out.len(), "the fields begin within the buffer");
        FieldsMut { out, start }
    }

    /// The same lines, to read.
    pub fn read(&self) -> Fields<'_> {
        Fields::new(&self.out[self.start..])
    }

    /// Value of the first field called `name`.
    pub fn find(&self, name: &str) -> Option<&[u8]> {
        self.read().find(name)
    }

    /// Takes every field called `name` away; returns how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        self.remove_before(name, self.out.len())
    }

    /// Takes the fields called `name` away whose lines end at or before `end`, a place between lines.
    fn remove_before(&mut self, name: &str, end: usize) -> usize {
        let (mut read, mut write, mut removed) = (self.start, self.start, 0);
        while read < end {
            let line = &self.out[read..end];
            let line_bytes = memchr::memchr(b'\n', line).map_or(line.len(), |at| at + 1);
            if is_called(&line[..line_bytes], name) {
                removed += 1;
            } else {
                if removed > 0 {
                    self.out.copy_within(read..read + line_bytes, write);
                }
                write += line_bytes;
            }
            read += line_bytes;
        }
        if removed > 0 {
            self.out.copy_within(end.., write);
            self.out.truncate(self.out.len() - (end - write));
        }
        removed
    }

    /// Adds a field behind the others. Bytes of `value` that would end the line become spaces.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        self.begin(name);
        let from = self.out.len();
        self.out.extend_from_slice(value);
        self.finish(from);
    }

    /// Puts a field in place of all that are called `name`.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    /// Applies `rules`. `status` is that of the answer; `None` for a request, whose rules all apply.
    ///
    /// `$sent_http_NAME` is looked up in these lines, as they are when its rule comes; all other variables are asked
    /// of `variables`.
    pub fn apply<V: Variables + ?Sized>(&mut self, rules: &HeaderRules, status: Option<u16>, variables: &V) {
        for rule in &rules.rules {
            if !rule.always && status.is_some_and(|status| !is_usual(status)) {
                continue;
            }
            match &rule.change {
                Change::Remove => drop(self.remove(&rule.name)),
                Change::Add(value) => drop(self.put(&rule.name, value, variables)),
                Change::Set(value) => {
                    // The old value is removed last: the new one may be made of it.
                    let end = self.put(&rule.name, value, variables);
                    self.remove_before(&rule.name, end);
                }
            }
        }
    }

    /// Appends a field, unless its value turns out empty; returns where the older lines end.
    fn put<V: Variables + ?Sized>(&mut self, name: &str, value: &Template, variables: &V) -> usize {
        let end = self.begin(name);
        let from = self.out.len();
        let variables = WithSent { variables, start: self.start, end };
        value.put(Encoding::Field, &variables, self.out);
        if self.out[from..].trim_ascii().is_empty() {
            self.out.truncate(end);
        } else {
            self.finish(from);
        }
        end
    }

    /// Begins a line; returns where the older ones end.
    fn begin(&mut self, name: &str) -> usize {
        debug_assert!(is_token(name), "field name {name:?}");
        let end = self.out.len();
        debug_assert!(end == self.start || self.out.ends_with(b"\r\n"), "the line before has no end");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        end
    }

    /// Ends the line whose value begins at `from`.
    fn finish(&mut self, from: usize) {
        if memchr::memchr3(b'\r', b'\n', 0, &self.out[from..]).is_some() {
            self.out[from..].iter_mut().filter(|b| matches!(b, b'\r' | b'\n' | 0)).for_each(|b| *b = b' ');
        }
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Answers `$sent_http_NAME` from the lines in `start..end` of the buffer that is written to.
struct WithSent<'a, V: ?Sized> {
    variables: &'a V,
    start: usize,
    end: usize,
}

impl<V: Variables + ?Sized> Variables for WithSent<'_, V> {
    fn put(&self, variable: &Variable, out: &mut Vec<u8>) {
        let Variable::SentField(name) = variable else { return self.variables.put(variable, out) };
        let lines = &out[self.start..self.end];
        if let Some(value) = Fields::new(lines).find(name) {
            // A piece of `out` itself, told by its place.
            let from = value.as_ptr() as usize - out.as_ptr() as usize;
            let to = from + value.len();
            out.extend_from_within(from..to);
        }
    }

    fn put_own(&self, own: Own, encoding: Encoding, base: &dyn Variables, out: &mut Vec<u8>) {
        self.variables.put_own(own, encoding, base, out);
    }
}

fn is_called(line: &[u8], name: &str) -> bool {
    line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
}

/// Statuses for which rules without `always` count: those of nginx's `add_header`.
fn is_usual(status: u16) -> bool {
    matches!(status, 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
}

/// What is done to field lines, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    rules: Vec<HeaderRule>,
}

/// What is done to the fields of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRule {
    /// The name as it is to be written; [`refusal`] has nothing against it.
    pub name: Box<str>,
    /// What is done.
    pub change: Change,
    /// For every status, and not only for those of nginx's `add_header`.
    pub always: bool,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Takes the fields away.
    Remove,
    /// Puts one in place of them; takes them away when the value is empty.
    Set(Template),
    /// Adds one; nothing when the value is empty.
    Add(Template),
}

impl HeaderRules {
    /// Rules that are applied in this order.
    pub fn new(rules: Vec<HeaderRule>) -> HeaderRules {
        HeaderRules { rules }
    }

    /// These rules, and of `upper` those for names that none of these is about.
    #[must_use]
    pub fn over(self, upper: &HeaderRules) -> HeaderRules {
        let is_new = |rule: &&HeaderRule| !self.rules.iter().any(|own| own.name.eq_ignore_ascii_case(&rule.name));
        let mut rules: Vec<HeaderRule> = upper.rules.iter().filter(is_new).cloned().collect();
        rules.extend(self.rules);
        HeaderRules { rules }
    }

    /// There is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// In the order in which they are applied.
    pub fn iter(&self) -> impl Iterator<Item = &HeaderRule> {
        self.rules.iter()
    }

    /// Whether some value needs the captures of the route.
    pub fn use_captures(&self) -> bool {
        self.rules.iter().any(|rule| match &rule.change {
            Change::Remove => false,
            Change::Set(value) | Change::Add(value) => value.uses_captures(),
        })
    }
}

/// Whether a message is a request or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To an upstream or an application.
    Request,
    /// To the client.
    Response,
}

/// Why no rule may be about fields called `name`; `None` when it may.
///
/// Framing and connection handling are always ours: a rule about them could move the end of a message
/// (RFC 9112 section 6.3) or speak for a connection that is not the sender's (RFC 9110 section 7.6.1).
pub fn refusal(name: &str, direction: Direction) -> Option<String> {
    if !is_token(name) {
        return Some(format!("`{name}` is no field name: letters, digits and `-`, for example \"X-Frame-Options\""));
    }
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    if is("Content-Length") || is("Transfer-Encoding") {
        return Some("the length of a body is told by the server itself".into());
    }
    if ["Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Upgrade", "HTTP2-Settings"]
        .into_iter()
        .any(is)
    {
        return Some(format!("`{name}` is about one connection, and the server handles its connections itself"));
    }
    match direction {
        Direction::Request if is("Expect") => Some("`Expect` is answered by the server itself".into()),
        Direction::Response if is("Strict-Transport-Security") => {
            Some("write `hsts = \"730d\"`: it is sent over TLS alone, as RFC 6797 section 7.2 demands".into())
        }
        _ => None,
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::util::template::Scope;

    const LINES: &str = "Server: x\r\nX-A: 1\r\nset-cookie: a=b\r\nX-AB: 2\r\nSet-Cookie: c=d\r\n";

    /// The lines stand behind something that is none of an edit's business.
    fn edited(lines: &str, edit: impl FnOnce(&mut FieldsMut<'_>)) -> String {
        let mut out = format!("HTTP/1.1 200 OK\r\nX-A: not this\r\n{lines}").into_bytes();
        let start = out.len() - lines.len();
        edit(&mut FieldsMut::new(&mut out, start));
        let before = out.drain(..start).collect::<Vec<u8>>();
        assert_eq!(before, b"HTTP/1.1 200 OK\r\nX-A: not this\r\n");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_found_in_any_case() {
        let fields = Fields::new(LINES.as_bytes());
        assert_eq!(fields.find("x-a"), Some(&b"1"[..]));
        assert_eq!(fields.find("X-Ab"), Some(&b"2"[..]));
        assert_eq!(fields.find("X"), None);
        assert_eq!(fields.find(""), None);
        assert_eq!(fields.values("SET-COOKIE").collect::<Vec<_>>(), [b"a=b", b"c=d"]);
        assert_eq!(
            Fields::new(b"a:  x y \t\r\nno field\r\nb:").iter().collect::<Vec<_>>(),
            [(&b"a"[..], &b"x y"[..]), (b"b", b"")]
        );
    }

    #[test]
    fn edits_leave_other_lines_alone() {
        assert_eq!(edited(LINES, |f| assert_eq!(f.remove("Set-Cookie"), 2)), "Server: x\r\nX-A: 1\r\nX-AB: 2\r\n");
        assert_eq!(edited(LINES, |f| assert_eq!(f.remove("nothing"), 0)), LINES);
        assert_eq!(edited(LINES, |f| f.set("SERVER", b"y")), LINES.replace("Server: x\r\n", "") + "SERVER: y\r\n");
        assert_eq!(edited(LINES, |f| f.add("X-A", b"3")), LINES.to_owned() + "X-A: 3\r\n");
        assert_eq!(edited("", |f| f.set("A", b"b")), "A: b\r\n");
        // RFC 9112 section 11.1
        assert_eq!(edited("", |f| f.add("A", b"b\r\nC: d\0")), "A: b  C: d \r\n");
    }

    struct Value<'a>(&'a str);

    impl Variables for Value<'_> {
        fn put(&self, _: &Variable, out: &mut Vec<u8>) {
            out.extend_from_slice(self.0.as_bytes());
        }
    }

    fn template(text: &str) -> Template {
        Template::parse(text, Scope { captures: &[], answer: true, ..Scope::default() }).unwrap()
    }

    fn rule(name: &str, change: Change) -> HeaderRule {
        HeaderRule { name: name.into(), change, always: true }
    }

    fn applied(rules: Vec<HeaderRule>, status: Option<u16>, value: &str) -> String {
        edited(LINES, |fields| fields.apply(&HeaderRules::new(rules), status, &Value(value)))
    }

    #[test]
    fn rules_are_applied_in_order() {
        let rules = vec![
            rule("Set-Cookie", Change::Remove),
            rule("X-A", Change::Set(template("<$host>"))),
            rule("X-A", Change::Add(template("$http_x"))),
            rule("X-AB", Change::Set(template(""))),
        ];
        assert_eq!(applied(rules, None, "v\r\nw"), "Server: x\r\nX-A: <v  w>\r\nX-A: v  w\r\n");
    }

    #[test]
    fn a_value_that_is_empty_is_no_field() {
        let rules =
            || vec![rule("X-New", Change::Add(template("$http_x"))), rule("X-A", Change::Set(template(" $host")))];
        assert_eq!(applied(rules(), None, ""), LINES.replace("X-A: 1\r\n", ""));
        assert!(applied(rules(), None, "v").ends_with("X-New: v\r\nX-A:  v\r\n"));
    }

    #[test]
    fn a_field_may_be_made_of_itself() {
        let rules = vec![rule("Server", Change::Set(template("$sent_http_server, $sent_http_x_ab$sent_http_none")))];
        assert!(applied(rules, Some(200), "no").ends_with("Set-Cookie: c=d\r\nServer: x, 2\r\n"));
    }

    #[test]
    fn rules_without_always_count_for_usual_statuses() {
        let rules = || vec![HeaderRule { always: false, ..rule("X-AB", Change::Remove) }];
        for (status, expect) in
            [(Some(200), false), (Some(304), false), (Some(404), true), (Some(500), true), (None, false)]
        {
            assert_eq!(applied(rules(), status, "").contains("X-AB"), expect, "{status:?}");
        }
    }

    #[test]
    fn the_lower_level_wins_by_name() {
        let upper = HeaderRules::new(vec![
            rule("X-A", Change::Set(template("upper"))),
            rule("x-a", Change::Add(template("upper"))),
            rule("X-B", Change::Remove),
        ]);
        let lower = HeaderRules::new(vec![rule("X-a", Change::Set(template("lower")))]);
        let merged = lower.over(&upper);
        let names: Vec<(&str, &Change)> = merged.iter().map(|rule| (&*rule.name, &rule.change)).collect();
        assert_eq!(names, [("X-B", &Change::Remove), ("X-a", &Change::Set(template("lower")))]);
        assert_eq!(HeaderRules::default().over(&upper), upper);
        assert!(HeaderRules::default().is_empty() && !upper.is_empty());
    }

    #[test]
    fn framing_and_connections_are_no_business_of_rules() {
        for name in
            ["Content-Length", "transfer-encoding", "CONNECTION", "Keep-Alive", "TE", "Upgrade", "", "a b", "ä", "a:"]
        {
            assert!(
                refusal(name, Direction::Request).is_some() && refusal(name, Direction::Response).is_some(),
                "{name}"
            );
        }
        assert!(refusal("Expect", Direction::Request).is_some() && refusal("Expect", Direction::Response).is_none());
        assert!(refusal("Host", Direction::Request).is_none());
        assert!(refusal("X-Frame-Options", Direction::Response).is_none());
    }

    /// Lines as tests of properties make them: any bytes but line ends, then CR LF.
    fn any_lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![4 => prop::sample::select(b"aAbB:- ".to_vec()), 1 => any::<u8>()];
        let line = prop::collection::vec(byte.prop_filter("line ends", |b| !matches!(b, b'\r' | b'\n')), 0..8);
        prop::collection::vec(line.prop_map(|line| [&line[..], b"\r\n"].concat()), 0..8)
    }

    proptest! {
        #[test]
        fn a_field_is_found_as_reading_all_of_them_finds_it(lines in any_lines(), name in "[abAB]{0,3}", rest in "[aA:b]{0,4}") {
            let bytes = [lines.concat(), rest.into_bytes()].concat();
            let fields = Fields::new(&bytes);
            let expect: Vec<&[u8]> =
                fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value).collect();
            prop_assert_eq!(fields.values(&name).collect::<Vec<_>>(), expect.clone());
            prop_assert_eq!(fields.find_all([&name, "b", &name]), [expect.first().copied(), fields.find("b"), expect.first().copied()]);
        }

        #[test]
        fn edits_keep_other_lines_byte_for_byte(lines in any_lines(), name in "[abAB]{1,3}", value in "[a-z]{0,5}", set: bool) {
            let mut out = lines.concat();
            let prefix = name.to_ascii_lowercase() + ":";
            let other = |line: &&Vec<u8>| !line.to_ascii_lowercase().starts_with(prefix.as_bytes());
            let mut expect: Vec<u8> = lines.iter().filter(other).flatten().copied().collect();
            if set {
                FieldsMut::new(&mut out, 0).set(&name, value.as_bytes());
                expect.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            } else {
                let removed = FieldsMut::new(&mut out, 0).remove(&name);
                prop_assert_eq!(removed, lines.iter().filter(|line| !other(line)).count());
            }
            prop_assert_eq!(out, expect);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), start in 0usize..60, name in "[!-~]{0,3}") {
            let mut out = bytes.clone();
            let start = start.min(out.len());
            let _ = Fields::new(&bytes).find(&name);
            let _ = Fields::new(&bytes).iter().count();
            FieldsMut::new(&mut out, start).remove(&name);
            prop_assert_eq!(&out[..start], &bytes[..start]);
        }
    }
}
