//! Encoder of the Prometheus text exposition format 0.0.4. Pure: numbers go in, text comes out.
//!
//! A family is opened once and then takes its samples, which keeps them together as the format demands. Absent on
//! purpose: a registry. The caller walks the counters; nothing is looked up.
//! Source: Prometheus documentation, "Exposition formats", text-based format.

use std::fmt::{Display, Write};
use std::time::Duration;

use crate::metrics::HistogramSnapshot;

/// Value of Content-Type for this format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of exposed latency buckets: OpenTelemetry's for `http.server.request.duration` (5 ms to 10 s), with
/// finer ones below, where a server on this machine answers. Each with its text, so that it never varies.
const BOUNDS: [(&str, Duration); 20] = [
    ("5e-05", Duration::from_micros(50)),
    ("0.0001", Duration::from_micros(100)),
    ("0.00025", Duration::from_micros(250)),
    ("0.0005", Duration::from_micros(500)),
    ("0.001", Duration::from_millis(1)),
    ("0.0025", Duration::from_micros(2500)),
    ("0.005", Duration::from_millis(5)),
    ("0.01", Duration::from_millis(10)),
    ("0.025", Duration::from_millis(25)),
    ("0.05", Duration::from_millis(50)),
    ("0.075", Duration::from_millis(75)),
    ("0.1", Duration::from_millis(100)),
    ("0.25", Duration::from_millis(250)),
    ("0.5", Duration::from_millis(500)),
    ("0.75", Duration::from_millis(750)),
    ("1", Duration::from_secs(1)),
    ("2.5", Duration::from_millis(2500)),
    ("5", Duration::from_secs(5)),
    ("7.5", Duration::from_millis(7500)),
    ("10", Duration::from_secs(10)),
];

/// What kind of number a family holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Counter,
    Gauge,
}

/// The text so far.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
}

/// Labels of a sample: names are ours, values may be anything.
pub(crate) type Labels<'a> = [(&'a str, &'a str)];

impl Exposition {
    /// The finished text.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    /// Opens a family of counters or gauges.
    pub(crate) fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head(name, kind, help);
        Family { text: &mut self.text, name }
    }

    /// Opens a family of histograms of durations; `name` ends in `_seconds`.
    pub(crate) fn histograms<'a>(&'a mut self, name: &'a str, help: &str) -> Histograms<'a> {
        self.head(name, "histogram", help);
        Histograms { text: &mut self.text, name }
    }

    /// `help` is one line of ours without backslashes.
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        debug_assert!(!help.contains(['\n', '\\']));
        put(&mut self.text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }
}

/// An open family of counters or gauges.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Family<'_> {
    /// Adds one sample.
    pub(crate) fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.text.push_str(self.name);
        put_labels(self.text, labels, None);
        put(self.text, format_args!(" {value}\n"));
    }
}

/// An open family of histograms.
#[derive(Debug)]
pub(crate) struct Histograms<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Histograms<'_> {
    /// Adds one histogram. A duration counts below a bound when its whole bucket of ours lies below it, so quantiles
    /// taken from the text are never too small, and at most an eighth too large.
    pub(crate) fn sample(&mut self, labels: &Labels<'_>, histogram: &HistogramSnapshot) {
        for (text, bound) in BOUNDS {
            self.line("_bucket", labels, Some(text), histogram.count_below(bound));
        }
        let count = histogram.count();
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, histogram.sum().as_secs_f64());
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: &Labels<'_>, le: Option<&str>, value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        put_labels(self.text, labels, le);
        put(self.text, format_args!(" {value}\n"));
    }
}

fn put_labels(text: &mut String, labels: &Labels<'_>, le: Option<&str>) {
    let mut open = '{';
    for (name, value) in labels.iter().copied().chain(le.map(|bound| ("le", bound))) {
        text.push(open);
        open = ',';
        text.push_str(name);
        text.push_str("=\"");
        put_escaped(text, value);
        text.push('"');
    }
    if open == ',' {
        text.push('}');
    }
}

/// Label values escape backslash, quote and line feed, nothing else.
fn put_escaped(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String cannot fail");
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::metrics::Histogram;

    #[test]
    fn samples_follow_their_head_and_label_values_are_escaped() {
        let mut out = Exposition::default();
        let mut family = out.family("x_total", Kind::Counter, "Things.");
        family.sample(&[], 3u64);
        family.sample(&[("a", "q\"b\\n\n"), ("b", "é")], 0.5);
        assert_eq!(
            out.finish(),
            "# HELP x_total Things.\n# TYPE x_total counter\nx_total 3\nx_total{a=\"q\\\"b\\\\n\\n\",b=\"é\"} 0.5\n"
        );
    }

    #[test]
    fn histogram_buckets_accumulate_and_end_with_everything() {
        let histogram = Histogram::default();
        for us in [10, 400, 3_000, 90_000, 40_000_000] {
            histogram.record(Duration::from_micros(us));
        }
        let mut out = Exposition::default();
        out.histograms("d_seconds", "Durations.").sample(&[("t", "x")], &histogram.snapshot());
        let text = out.finish();
        for line in [
            "d_seconds_bucket{t=\"x\",le=\"5e-05\"} 1\n",
            "d_seconds_bucket{t=\"x\",le=\"0.0005\"} 2\n",
            "d_seconds_bucket{t=\"x\",le=\"0.005\"} 3\n",
            "d_seconds_bucket{t=\"x\",le=\"0.1\"} 4\n",
            "d_seconds_bucket{t=\"x\",le=\"10\"} 4\n",
            "d_seconds_bucket{t=\"x\",le=\"+Inf\"} 5\n",
            "d_seconds_sum{t=\"x\"} 40.09341\n",
            "d_seconds_count{t=\"x\"} 5\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(validate(&text).is_ok(), "{:?}", validate(&text));
    }

    #[test]
    fn bounds_rise_and_their_texts_are_their_values() {
        for pair in BOUNDS.windows(2) {
            assert!(pair[0].1 < pair[1].1);
        }
        for (text, bound) in BOUNDS {
            assert_eq!(text.parse::<f64>().unwrap(), bound.as_secs_f64());
        }
    }

    /// Checks a whole exposition: every line's form, families together and announced once, no sample twice, counters
    /// named `_total` unless `bare_counters` says so, histogram buckets rising and ending in `_count`.
    pub(crate) fn validate(text: &str) -> Result<usize, String> {
        use std::collections::HashSet;
        let (mut families, mut series) = (HashSet::new(), HashSet::new());
        let (mut name, mut kind, mut helped) = (String::new(), String::new(), String::new());
        let mut last_bucket: Option<(String, u64)> = None;
        if !text.ends_with('\n') {
            return Err("no line feed at the end".into());
        }
        for line in text.lines() {
            let fail = |why: &str| Err(format!("{why}: {line}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (family, help) = rest.split_once(' ').ok_or("help without text")?;
                if help.is_empty() || !families.insert(family.to_string()) {
                    return fail("empty help or family twice");
                }
                helped = family.into();
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (family, type_name) = rest.split_once(' ').ok_or("type without kind")?;
                if family != helped || !["counter", "gauge", "histogram"].contains(&type_name) {
                    return fail("type");
                }
                (name, kind) = (family.into(), type_name.into());
                continue;
            }
            let (id, value) = split_sample(line).ok_or_else(|| format!("not a sample: {line}"))?;
            if value.parse::<f64>().map_or(true, |v| v.is_nan() || v < 0.0) {
                return fail("value");
            }
            if !series.insert(id.to_string()) {
                return fail("series twice");
            }
            let base = id.split('{').next().unwrap_or("");
            let suffix = base.strip_prefix(name.as_str()).ok_or_else(|| format!("outside its family: {line}"))?;
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            if !suffixes.contains(&suffix) {
                return fail("suffix");
            }
            if suffix == "_bucket" {
                let (labels, le) = id.rsplit_once("le=").ok_or("bucket without le")?;
                let n: u64 = value.parse().map_err(|_| "bucket count")?;
                if let Some((before, m)) = &last_bucket
                    && before == labels
                    && n < *m
                {
                    return fail("buckets fall");
                }
                last_bucket = Some((labels.to_string(), n));
                if le == "\"+Inf\"}" && value.parse::<u64>().is_err() {
                    return fail("+Inf");
                }
            }
            if suffix == "_count" {
                let (_, everything) = last_bucket.take().ok_or("count without buckets")?;
                if value.parse::<u64>() != Ok(everything) {
                    return fail("count is not the +Inf bucket");
                }
            }
        }
        Ok(series.len())
    }

    /// Splits `name{labels} value`, walking the labels by the format's grammar.
    fn split_sample(line: &str) -> Option<(&str, &str)> {
        let name_end = line.find(['{', ' '])?;
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if name_end == 0 || !line[..name_end].chars().all(valid) || line.as_bytes()[0].is_ascii_digit() {
            return None;
        }
        let mut at = name_end;
        if line.as_bytes()[at] == b'{' {
            loop {
                at += 1;
                let label_end = at + line[at..].find("=\"")?;
                if label_end == at || !line[at..label_end].chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    return None;
                }
                at = label_end + 2;
                while line.as_bytes().get(at)? != &b'"' {
                    at += if line.as_bytes()[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                match line.as_bytes().get(at)? {
                    b',' => continue,
                    b'}' => break,
                    _ => return None,
                }
            }
            at += 1;
        }
        let value = line[at..].strip_prefix(' ')?;
        (!value.contains(' ')).then_some((&line[..at], value))
    }

    #[test]
    fn the_validator_of_the_tests_finds_mistakes() {
        let head = "# HELP a_total x\n# TYPE a_total counter\n";
        assert_eq!(validate(&format!("{head}a_total{{b=\"c\\\"}} d\"}} 1\n")), Ok(1));
        for wrong in
            ["a_total 1", "b_total 1\n", "a_total 1\na_total 2\n", "a_total x\n", "a_total{b=c} 1\n", "a_total{} 1 2\n"]
        {
            assert!(validate(&format!("{head}{wrong}")).is_err(), "{wrong}");
        }
        assert!(validate(&format!("{head}a_total 1\n{head}")).is_err(), "family twice");
    }
}
