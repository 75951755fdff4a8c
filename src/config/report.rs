//! Mistakes and warnings of a config file, shown the way a compiler shows them.

use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

/// Bytes of the file, from the first to the one behind the last.
pub(super) type Span = Range<usize>;

/// More than this many are not shown: the rest are likely to follow from the first ones.
const SHOWN_MAX: usize = 50;

/// One thing that is wrong, or not quite right, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// What is wrong, one line without a full stop.
    pub(super) title: String,
    /// Where; `None` when it is no place of the file, such as a flag.
    pub(super) span: Option<Span>,
    /// Stands at the caret: what to do.
    pub(super) label: String,
    /// Another place that has to do with it.
    pub(super) related: Option<(Span, String)>,
    /// Lines below: how to repair it where the label has no room.
    pub(super) help: Vec<String>,
}

impl Problem {
    pub(super) fn new(title: impl Into<String>, span: Option<Span>, label: impl Into<String>) -> Problem {
        Problem { title: title.into(), span, label: label.into(), related: None, help: Vec::new() }
    }

    pub(super) fn related(mut self, span: Option<Span>, label: impl Into<String>) -> Problem {
        self.related = span.map(|span| (span, label.into()));
        self
    }

    /// The same problem with its place `bytes` further on.
    pub(super) fn moved(mut self, bytes: usize) -> Problem {
        self.span = self.span.map(|span| span.start + bytes..span.end + bytes);
        self
    }

    pub(super) fn help(mut self, line: impl Into<String>) -> Problem {
        self.help.push(line.into());
        self
    }
}

/// The text that problems are in: one file, or several, one behind the other.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Source {
    text: String,
    /// In order; the first is the one that was asked for.
    files: Vec<File>,
}

/// One file of a [`Source`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    name: String,
    /// Where it begins.
    start: usize,
}

impl fmt::Debug for Source {
    /// Without the text: there may be a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Source {
    pub(super) fn new(name: impl Into<String>, text: &str) -> Source {
        let mut source = Source::default();
        source.add(name.into(), text);
        source
    }

    /// Adds a file; returns its place.
    pub(super) fn add(&mut self, name: String, text: &str) -> Span {
        // A file ends with its last line, whether that is ended or not.
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        let start = self.text.len();
        self.files.push(File { name, start });
        self.text.push_str(text);
        start..self.text.len()
    }

    /// All files, one behind the other.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Name of the file that was asked for.
    fn name(&self) -> &str {
        self.files.first().map_or("", |file| &file.name)
    }

    /// Index of the file that holds `at`.
    fn file_at(&self, at: usize) -> usize {
        self.files.partition_point(|file| file.start <= at).saturating_sub(1)
    }

    /// The file's name and its bytes.
    fn file(&self, index: usize) -> (&str, Span) {
        let end = self.files.get(index + 1).map_or(self.text.len(), |next| next.start);
        self.files.get(index).map_or(("", 0..end), |file| (&file.name, file.start..end))
    }

    fn render(&self, level: Level<'static>, problem: &Problem, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut group = match &problem.span {
            None => {
                // Without a place in the file the label has no caret to stand at.
                let group = Group::with_title(level.primary_title(&problem.title));
                match problem.label.as_str() {
                    "" => group,
                    label => group.element(Level::HELP.message(label)),
                }
            }
            Some(span) => {
                let file = self.file_at(span.start);
                let mut caret = AnnotationKind::Primary.span(self.within(file, span));
                if !problem.label.is_empty() {
                    caret = caret.label(&problem.label);
                }
                let mut snippet = self.snippet(file).annotation(caret);
                let mut other = None;
                if let Some((span, label)) = &problem.related {
                    let file_of = self.file_at(span.start);
                    let related = AnnotationKind::Context.span(self.within(file_of, span)).label(label);
                    if file_of == file {
                        snippet = snippet.annotation(related);
                    } else {
                        other = Some(self.snippet(file_of).annotation(related));
                    }
                }
                let group = level.primary_title(&problem.title).element(snippet);
                match other {
                    Some(other) => group.element(other),
                    None => group,
                }
            }
        };
        for line in &problem.help {
            group = group.element(Level::HELP.message(line));
        }
        renderer.decor_style(DecorStyle::Ascii).render(&[group])
    }

    fn one_liner(&self, problem: &Problem) -> String {
        let place = problem.span.as_ref().map(|span| {
            let (line, column) = self.position(span);
            let (file, _) = self.file(self.file_at(span.start));
            format!("{file}:{line}:{column}: ")
        });
        let label = if problem.label.is_empty() { String::new() } else { format!(": {}", problem.label) };
        format!("{}{}{label}", place.unwrap_or_default(), problem.title)
    }

    fn snippet(&self, file: usize) -> Snippet<'_, Annotation<'_>> {
        let (name, bytes) = self.file(file);
        Snippet::source(&self.text[bytes]).path(name)
    }

    /// The span as places in its file.
    fn within(&self, file: usize, span: &Span) -> Span {
        let (_, bytes) = self.file(file);
        let span = self.clamp(span);
        span.start - bytes.start..span.end.min(bytes.end) - bytes.start
    }

    /// The span moved onto character boundaries inside the text, at most to the end of its first line: a value of
    /// many lines is shown by its beginning.
    fn clamp(&self, span: &Span) -> Span {
        let text = &self.text;
        let floor = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let start = floor(span.start);
        let end = floor(span.end.max(start));
        let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |length| start + length);
        start..end.min(line_end).max(start)
    }

    /// Line and column of the span's start in its file, from 1, in characters.
    fn position(&self, span: &Span) -> (usize, usize) {
        let (_, bytes) = self.file(self.file_at(span.start));
        let before = &self.text[bytes.start..self.clamp(span).start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// All mistakes of one config file, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    source: Source,
    problems: Vec<Problem>,
}

impl Report {
    /// Sorts by place; a mistake reported twice at one place is kept once.
    pub(super) fn new(source: Source, mut problems: Vec<Problem>) -> Report {
        problems.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.start, span.end)));
        problems.dedup();
        Report { source, problems }
    }

    /// How many mistakes there are.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// `(line, column, what)` of each mistake; lines and columns count from 1 within the mistake's file, and are 0 for a
    /// mistake that has no place in a file.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize, &str)> {
        self.problems.iter().map(|problem| {
            let (line, column) = problem.span.as_ref().map_or((0, 0), |span| self.source.position(span));
            (line, column, problem.title.as_str())
        })
    }

    /// One line for each mistake: file, line and column, what is wrong and what to do.
    pub fn one_liners(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(|problem| self.source.one_liner(problem))
    }

    /// `LINE:COLUMN title | label` of each.
    #[cfg(test)]
    pub(super) fn lines(&self) -> Vec<String> {
        let label = |(problem, (line, column, title)): (&Problem, (usize, usize, &str))| {
            format!("{line}:{column} {title} | {}", problem.label)
        };
        self.problems.iter().zip(self.places()).map(label).collect()
    }

    /// The text for a person; with ANSI colours for a terminal.
    pub fn render(&self, color: bool) -> String {
        let mut out = String::new();
        for problem in self.problems.iter().take(SHOWN_MAX) {
            out.push_str(&self.source.render(Level::ERROR, problem, color));
            out.push_str("\n\n");
        }
        let hidden = self.count().saturating_sub(SHOWN_MAX);
        if hidden > 0 {
            out.push_str(&format!("error: {hidden} more are not shown\n\n"));
        }
        let mistakes = if self.count() == 1 { "mistake" } else { "mistakes" };
        out.push_str(&format!("{}: {} {mistakes}\n", self.source.name(), self.count()));
        out
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

/// Something in a valid config that is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    source: std::sync::Arc<Source>,
    problem: Problem,
}

impl Warning {
    pub(super) fn new(source: &std::sync::Arc<Source>, problem: Problem) -> Warning {
        Warning { source: source.clone(), problem }
    }

    /// What it is about, one line.
    pub fn title(&self) -> &str {
        &self.problem.title
    }

    /// One line: file, line and column, what it is and what to do.
    pub fn one_liner(&self) -> String {
        self.source.one_liner(&self.problem)
    }

    /// The text for a person; with ANSI colours for a terminal.
    pub fn render(&self, color: bool) -> String {
        self.source.render(Level::WARNING, &self.problem, color) + "\n"
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}
