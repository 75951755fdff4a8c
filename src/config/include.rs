//! `include = ["sites/*.toml"]`: a config in several files.
//!
//! The files become one text, the including one in front, so that everything behind this module knows one place for
//! each byte; [`Source`] tells which file it is in. Included files hold tables and nothing above them but an `include`
//! of their own. A table that stands in two files is a mistake, and so is a file that is included twice: that also
//! ends circles.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use toml_edit::{Document, Item, TableLike, Value as TomlValue};

use super::key::Table;
use super::report::{Problem, Report, Source, Span};
use super::section::type_name;
use super::{FILE_BYTES_MAX, syntax_error};

/// Files of one config.
const FILES_MAX: usize = 1000;
/// How deep files include others.
const DEPTH_MAX: usize = 8;

/// Where files are read. It never writes.
pub(super) trait Folder {
    /// The text of a file.
    fn text(&self, path: &Path) -> io::Result<String>;
    /// Names of what a folder holds, in any order.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// One path for each file, however it is reached; the same path when that cannot be told.
    fn real(&self, path: &Path) -> PathBuf;
}

/// All files of a config.
pub(super) struct Included {
    /// As written.
    pub(super) source: Source,
    /// The same with the `include` keys blanked out: one TOML document.
    pub(super) toml: String,
    /// Patterns that match no file.
    pub(super) warnings: Vec<Problem>,
    /// Path and place of each file.
    files: Vec<(PathBuf, Span)>,
}

impl Included {
    /// A text that is no file and includes none. Errors: it says it does.
    pub(super) fn none(name: &str, text: &str) -> Result<Included, Report> {
        let mut gathering = Gathering { folder: None, ..Gathering::default() };
        gathering.add(Path::new(name), text, 0);
        gathering.finish()
    }

    /// The files that hold a password and that every user may read, by `is_readable`.
    pub(super) fn open_passwords(&self, is_readable: impl Fn(&Path) -> bool) -> Vec<String> {
        let holds = |span: &Span| holds_password(&self.toml[span.clone()]);
        let open = self.files.iter().filter(|(path, span)| holds(span) && is_readable(path));
        open.map(|(path, _)| path.display().to_string()).collect()
    }
}

/// Reads what `text`, the file at `path`, includes. Errors: every mistake that has to do with it.
pub(super) fn gather(path: &Path, text: &str, folder: &dyn Folder) -> Result<Included, Report> {
    let mut gathering = Gathering { folder: Some(folder), ..Gathering::default() };
    gathering.seen.insert(folder.real(path), None);
    gathering.add(path, text, 0);
    gathering.finish()
}

#[derive(Default)]
struct Gathering<'f> {
    /// `None`: nothing may be read.
    folder: Option<&'f dyn Folder>,
    source: Source,
    toml: String,
    files: Vec<(PathBuf, Span)>,
    /// Files by their real path, with the place where each is included.
    seen: HashMap<PathBuf, Option<Span>>,
    /// Tables by name, with the place of the first.
    tables: HashMap<String, (usize, Span)>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Gathering<'_> {
    fn finish(self) -> Result<Included, Report> {
        if self.problems.is_empty() {
            Ok(Included { source: self.source, toml: self.toml, warnings: self.warnings, files: self.files })
        } else {
            Err(Report::new(self.source, self.problems))
        }
    }

    /// Adds a file and all that it includes.
    fn add(&mut self, path: &Path, text: &str, depth: usize) {
        let span = self.source.add(path.display().to_string(), text);
        // What the source puts between two files.
        self.toml.push_str(&"\n".repeat(span.start - self.toml.len()));
        let document = match Document::parse(text) {
            Ok(document) => document,
            Err(error) => {
                self.toml.push_str(text);
                return self.problems.push(syntax_error(text, &error).moved(span.start));
            }
        };
        let root = document.as_table();
        let include = root.get_key_value("include");
        let whole = include.and_then(|(key, item)| Some(key.span()?.start..item.span()?.end));
        self.toml.push_str(&blanked(text, whole));
        let index = self.files.len();
        self.files.push((path.to_owned(), span.clone()));
        self.note_tables(root, index, span.start);
        if let Some((key, item)) = include {
            let place = item.span().or_else(|| key.span()).unwrap_or_default();
            self.include(path, item, (place.start + span.start)..(place.end + span.start), span.start, depth);
        }
    }

    /// Reports tables that stand in another file too, and keys above the tables, which would fall into the last table
    /// of the file before.
    fn note_tables(&mut self, root: &toml_edit::Table, file: usize, start: usize) {
        let moved = |span: Option<Span>| span.map_or(start..start, |span| span.start + start..span.end + start);
        for (name, item) in root.iter().filter(|(name, _)| *name != "include") {
            let place = moved(root.key(name).and_then(|key| key.span()).or_else(|| item.span()));
            let is_key = item.is_value() || item.as_table().is_some_and(toml_edit::Table::is_dotted);
            if is_key && file > 0 {
                let title = format!("key `{name}` stands outside of a table");
                self.problems.push(Problem::new(
                    title,
                    Some(place),
                    "an included file holds tables: write [http] or another",
                ));
                continue;
            }
            let is_named = Table::TOP.iter().any(|(top, table)| *top == name && table.header().contains("NAME"));
            match item.as_table_like().filter(|_| is_named) {
                Some(toml) => {
                    for (own, item) in toml.iter() {
                        let place = moved(toml.key(own).and_then(|key| key.span()).or_else(|| item.span()));
                        self.note(format!("[{name}.{own}]"), file, place);
                    }
                }
                None => self.note(format!("[{name}]"), file, place),
            }
        }
    }

    fn note(&mut self, table: String, file: usize, place: Span) {
        match self.tables.get(&table) {
            Some((first_file, first)) if *first_file != file => {
                let title = format!("{table} stands in two files");
                let problem = Problem::new(title, Some(place), "put both into one table, or give it another name");
                self.problems.push(problem.related(Some(first.clone()), "the first one"));
            }
            Some(_) => {}
            None => drop(self.tables.insert(table, (file, place))),
        }
    }

    /// Reads the files that `item`, the value of `include` in the file at `path`, names. `start` is where that file
    /// begins in the source.
    fn include(&mut self, path: &Path, item: &Item, place: Span, start: usize, depth: usize) {
        let problem = |title: &str, label: String| Problem::new(title, Some(place.clone()), label);
        let title = "bad value for `include`";
        let Some(folder) = self.folder else {
            let label = "nothing can be included here: the config is no file";
            return self.problems.push(problem("`include` in a text", label.into()));
        };
        let values: Vec<&TomlValue> = match item {
            Item::Value(TomlValue::Array(array)) => array.iter().collect(),
            Item::Value(value) => vec![value],
            item => {
                let label = format!("it is {}: write file names, [\"sites/*.toml\"]", type_name(item));
                return self.problems.push(problem(title, label));
            }
        };
        if depth == DEPTH_MAX {
            let label = format!("files include others at most {DEPTH_MAX} deep");
            return self.problems.push(problem(title, label));
        }
        for value in values {
            let place = value.span().map_or(place.clone(), |span| span.start + start..span.end + start);
            let Some(pattern) = value.as_str() else {
                self.problems.push(Problem::new(title, Some(place), "write file names, [\"sites/*.toml\"]"));
                continue;
            };
            match matching(path, pattern, folder) {
                Err(label) => self.problems.push(Problem::new(title, Some(place), label)),
                Ok(found) if found.is_empty() => {
                    let title = format!("no file matches \"{pattern}\"");
                    self.warnings.push(Problem::new(
                        title,
                        Some(place),
                        "names are relative to the file they stand in",
                    ));
                }
                Ok(found) => found.iter().for_each(|found| self.read(folder, found, place.clone(), depth + 1)),
            }
        }
    }

    fn read(&mut self, folder: &dyn Folder, path: &Path, place: Span, depth: usize) {
        let name = path.display();
        let real = folder.real(path);
        if let Some(first) = self.seen.get(&real) {
            let problem = Problem::new(format!("{name} is included twice"), Some(place), "take it away");
            return self.problems.push(problem.related(first.clone(), "first included here"));
        }
        self.seen.insert(real, Some(place.clone()));
        let text = match folder.text(path) {
            Ok(text) => text,
            Err(error) => {
                let title = format!("cannot read the included file {name}: {error}");
                return self.problems.push(Problem::new(
                    title,
                    Some(place),
                    "names are relative to the file they stand in",
                ));
            }
        };
        let bytes = self.source.text().len() + text.len();
        if self.files.len() == FILES_MAX || bytes as u64 > FILE_BYTES_MAX {
            let label = format!("a config has at most {FILES_MAX} files and 8 MiB");
            return self.problems.push(Problem::new(format!("{name} is one file too many"), Some(place), label));
        }
        self.add(path, &text, depth);
    }
}

/// `text` with spaces for the bytes of `hidden`, line ends excepted.
fn blanked(text: &str, hidden: Option<Span>) -> String {
    let Some(hidden) = hidden else { return text.to_owned() };
    let blank: String = text[hidden.clone()].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
    [&text[..hidden.start], &blank, &text[hidden.end..]].concat()
}

/// The files that `pattern`, written in the file at `from`, means, in order of their names.
fn matching(from: &Path, pattern: &str, folder: &dyn Folder) -> Result<Vec<PathBuf>, String> {
    let base = from.parent().unwrap_or(Path::new(""));
    let (inner, name) = pattern.rsplit_once('/').map_or(("", pattern), |(inner, name)| (inner, name));
    if name.is_empty() || pattern.contains('\0') {
        return Err("write the name of a file, or a pattern such as \"sites/*.toml\"".into());
    }
    if inner.contains(['*', '?', '[']) {
        return Err("a `*` stands in the last part of the path alone, for example \"sites/*.toml\"".into());
    }
    // An absolute pattern stays one: joining replaces what was there.
    let inner = if pattern.starts_with('/') { base.join(format!("/{inner}")) } else { base.join(inner) };
    if !name.contains(['*', '?']) {
        return Ok(vec![inner.join(name)]);
    }
    let shown = if inner.as_os_str().is_empty() { Path::new(".") } else { &inner };
    let names =
        folder.names(shown).map_err(|error| format!("the folder {} cannot be read: {error}", shown.display()))?;
    let mut names: Vec<String> = names.into_iter().filter(|found| fits(name.as_bytes(), found.as_bytes())).collect();
    names.sort_unstable();
    let own = folder.real(from);
    // A pattern for all files of a folder means all the others.
    Ok(names.iter().map(|name| inner.join(name)).filter(|path| folder.real(path) != own).collect())
}

/// Whether `name` fits `pattern`: `*` stands for any bytes, `?` for one. Names that begin with a dot are hidden from
/// both.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    // Where to go on after a mismatch: behind the last `*`, with one more byte left to it.
    let mut again: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                again = Some((p + 1, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => match again {
                Some((star, from)) => {
                    again = Some((star, from + 1));
                    (p, n) = (star, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

fn holds_password(text: &str) -> bool {
    let Ok(document) = Document::parse(text) else { return false };
    let any = |kind: &str, is_it: fn(&Item) -> bool| {
        document
            .get(kind)
            .and_then(Item::as_table_like)
            .is_some_and(|tables| tables.iter().any(|(_, item)| is_it(item)))
    };
    any("mysql", |splitter| splitter.get("password").is_some() || splitter.get("users").is_some_and(has_password))
        || any("upstream", |upstream| upstream.get("sticky").is_some_and(|sticky| sticky.get("secret").is_some()))
}

/// One of the tables in `list` has a password.
fn has_password(list: &Item) -> bool {
    let of_table = |table: &dyn TableLike| table.get("password").is_some();
    match list {
        Item::ArrayOfTables(tables) => tables.iter().any(|table| of_table(table)),
        Item::Value(TomlValue::Array(values)) => {
            values.iter().filter_map(TomlValue::as_inline_table).any(|table| of_table(table))
        }
        item => item.as_table_like().is_some_and(of_table),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Files in memory.
    struct Files(Vec<(&'static str, &'static str)>);

    impl Folder for Files {
        fn text(&self, path: &Path) -> io::Result<String> {
            let found = self.0.iter().find(|(name, _)| Path::new(name) == self.real(path));
            found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
            let inside = self.0.iter().filter(|(name, _)| Path::new(name).parent() == Some(&self.real(folder)));
            let names: Vec<String> =
                inside.filter_map(|(name, _)| Some(Path::new(name).file_name()?.to_str()?.into())).collect();
            if names.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(names) }
        }

        fn real(&self, path: &Path) -> PathBuf {
            path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
        }
    }

    /// The first file includes the others.
    fn gathered(files: &[(&'static str, &'static str)]) -> Result<Included, Report> {
        let folder = Files(files.to_vec());
        gather(Path::new(files[0].0), files[0].1, &folder)
    }

    #[track_caller]
    fn check(files: &[(&'static str, &'static str)], expect: &[&str]) {
        let lines = gathered(files).err().map_or(Vec::new(), |report| report.lines());
        assert_eq!(lines, expect);
    }

    #[test]
    fn files_become_one_document() {
        let included = gathered(&[
            (
                "/etc/one/site.toml",
                "# main\ninclude = [ # ä\n  \"sites/*.toml\",\n  'more.toml' ]\n[http]\nbody_max = 1",
            ),
            ("/etc/one/sites/b.toml", "[site.b]"),
            ("/etc/one/sites/a.toml", "include = \"../x/deep.toml\"\n[site.a]\n"),
            ("/etc/one/sites/.hidden.toml", "not TOML"),
            ("/etc/one/sites/a.txt", "not TOML"),
            ("/etc/one/sites/../x/deep.toml", "[upstream.deep]\n"),
            ("/etc/one/more.toml", "[log]"),
        ]);
        let included = included.unwrap_or_else(|report| panic!("{report}"));
        let names: Vec<&str> = included.files.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        let folder = "/etc/one/";
        let expect = ["site.toml", "sites/a.toml", "sites/../x/deep.toml", "sites/b.toml", "more.toml"];
        assert_eq!(names, expect.map(|name| format!("{folder}{name}")));
        assert_eq!(included.source.text().len(), included.toml.len(), "places are the same in both");
        let document = Document::parse(included.toml.as_str()).unwrap();
        let tables: Vec<&str> = document.as_table().iter().map(|(name, _)| name).collect();
        assert_eq!(tables, ["http", "site", "upstream", "log"]);
        assert!(included.warnings.is_empty());
    }

    #[test]
    fn what_cannot_be_included() {
        check(&[("/a", "include = 5")], &["1:11 bad value for `include` | write file names, [\"sites/*.toml\"]"]);
        check(
            &[("/a", "[include]")],
            &["1:1 bad value for `include` | it is a table: write file names, [\"sites/*.toml\"]"],
        );
        check(
            &[("/a", "include = [\"b\", \"c\"]"), ("/c", "[log]")],
            &["1:12 cannot read the included file /b: entity not found | names are relative to the file they stand in"],
        );
        check(
            &[("/a", "include = [\"*/b\"]")],
            &[
                "1:12 bad value for `include` | a `*` stands in the last part of the path alone, for example \"sites/*.toml\"",
            ],
        );
        check(
            &[("/a", "include = [\"x/*\"]")],
            &["1:12 bad value for `include` | the folder /x cannot be read: entity not found"],
        );
        check(
            &[("/a", "include = [\"b\"]"), ("/b", "[http\n")],
            &["1:6 this is not TOML | unclosed table, expected `]`"],
        );
        check(
            &[("/a", "include = [\"b\"]\n[log]"), ("/b", "x = 1\nhttp.body_max = 2\n")],
            &[
                "1:1 key `x` stands outside of a table | an included file holds tables: write [http] or another",
                "2:1 key `http` stands outside of a table | an included file holds tables: write [http] or another",
            ],
        );
        let no_match = gathered(&[("/a", "include = [\"*.toml\"]")]).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(no_match.warnings[0].title, "no file matches \"*.toml\"");
        let text = Included::none("text", "include = [\"b\"]").err().map(|report| report.lines());
        assert_eq!(text.unwrap(), ["1:11 `include` in a text | nothing can be included here: the config is no file"]);
    }

    #[test]
    fn circles_and_doubles_end() {
        check(
            &[("/a", "include = [\"b\"]"), ("/b", "include = [\"./a\", \"c\"]"), ("/c", "include = \"b\"")],
            &["1:12 /./a is included twice | take it away", "1:11 /b is included twice | take it away"],
        );
        check(&[("/d/a.toml", "include = [\"*.toml\"]"), ("/d/b.toml", "[log]")], &[]);
        check(
            &[("/d/a.toml", "include = [\"*.toml\"]"), ("/d/b.toml", "include = \"*.toml\"\n[log]")],
            &["1:11 /d/a.toml is included twice | take it away"],
        );
        check(
            &[
                ("/0", "include = \"1\""),
                ("/1", "include = \"2\""),
                ("/2", "include = \"3\""),
                ("/3", "include = \"4\""),
                ("/4", "include = \"5\""),
                ("/5", "include = \"6\""),
                ("/6", "include = \"7\""),
                ("/7", "include = \"8\""),
                ("/8", "include = \"9\""),
            ],
            &["1:11 bad value for `include` | files include others at most 8 deep"],
        );
    }

    #[test]
    fn tables_in_two_files_are_shown_in_both() {
        let files = [
            ("/a.toml", "include = [\"b.toml\"]\n[http]\n[site.one]\nhosts = \"a\"\n[[site.one.route]]\n"),
            ("/b.toml", "\n[site.two]\n[site.one]\n[http]\n"),
        ];
        check(
            &files,
            &[
                "3:7 [site.one] stands in two files | put both into one table, or give it another name",
                "4:2 [http] stands in two files | put both into one table, or give it another name",
            ],
        );
        let shown = gathered(&files).err().unwrap().render(false);
        assert!(shown.contains("--> /b.toml:3:7") && shown.contains("::: /a.toml:3:7"), "{shown}");
        assert!(shown.ends_with("/a.toml: 2 mistakes\n"), "{shown}");
    }

    #[test]
    fn passwords_are_found_in_every_file() {
        let files = [("/a", "include = \"b\"\n[http]"), ("/b", "[mysql.m]\npassword = \"x\"")];
        let included = gathered(&files).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(included.open_passwords(|_| true), ["/b"]);
        assert!(included.open_passwords(|_| false).is_empty());
    }

    proptest! {
        #[test]
        fn patterns_fit_as_expressions_do(pattern in "[ab*?.]{0,6}", name in "[ab.]{0,6}") {
            let expression: String = pattern
                .chars()
                .map(|c| match c { '*' => "(?s:.*)".into(), '?' => "(?s:.)".into(), c => regex::escape(&c.to_string()) })
                .collect();
            let hidden = name.starts_with('.') && !pattern.starts_with('.');
            let expect = !hidden && regex::Regex::new(&format!("^{expression}$")).unwrap().is_match(&name);
            prop_assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expect);
        }
    }
}
