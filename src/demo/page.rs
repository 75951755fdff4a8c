//! The guest book's page as HTML. Every value that comes from outside goes through [`escape`].

use std::borrow::Cow;
use std::fmt::Write;

use super::entry::{Entry, MESSAGE_CHARS_MAX, NAME_CHARS_MAX};

/// What stands in the form.
#[derive(Default)]
pub(super) struct Draft<'a> {
    pub(super) name: &'a str,
    pub(super) message: &'a str,
    /// Why it was not accepted.
    pub(super) problem: Option<String>,
}

/// The page with `entries`, newest first. `described` says where they are kept.
pub(super) fn render(entries: &[Entry], described: &str, draft: &Draft<'_>) -> String {
    let problem = match &draft.problem {
        Some(problem) => format!("<p class=\"form-note bad\" role=\"alert\">{}</p>", escape(problem)),
        None => String::new(),
    };
    let mut list = String::new();
    for entry in entries {
        push_entry(&mut list, entry);
    }
    if entries.is_empty() {
        list.push_str("<li class=\"empty\">Nobody has signed yet. Be the first!</li>");
    }
    frame(&format!(
        r#"<form class="card sign" method="post" action="/guestbook/">
<label>Name <input name="name" required maxlength="{NAME_CHARS_MAX}" autocomplete="name" value="{name}"></label>
<label>Message <textarea name="message" required maxlength="{MESSAGE_CHARS_MAX}" rows="3">
{message}</textarea></label>
{problem}<button class="primary">Sign the book</button>
</form>
<p class="quiet">{described}</p>
<ol class="entries" id="entries">
{list}</ol>
"#,
        name = escape(draft.name),
        message = escape(draft.message),
        described = escape(described),
    ))
}

/// The page when there is nothing to show.
pub(super) fn render_failure(text: &str) -> String {
    frame(&format!("<p class=\"form-note bad\" role=\"alert\">{}</p>\n", escape(text)))
}

fn frame(content: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Guest book · 0ne-Server</title>
<link rel="icon" href="/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header class="bar">
<a class="brand" href="/"><img src="/favicon.svg" alt="" width="28" height="28">0ne-Server</a>
<nav aria-label="Main"><a href="/">Start</a><a href="/guestbook/" aria-current="page">Guest book</a><a href="/live.html">Live</a></nav>
</header>
<main class="narrow">
<h1>Guest book</h1>
<p>This page is rendered by an application worker and needs no JavaScript.</p>
{content}</main>
</body>
</html>
"#
    )
}

fn push_entry(list: &mut String, entry: &Entry) {
    let iso = iso_utc(entry.written_ms);
    // Writing into a String does not fail.
    let _ = writeln!(
        list,
        r#"<li><p class="who"><b>{name}</b> <time datetime="{iso}">{date} {time} UTC</time></p><p class="what">{message}</p></li>"#,
        name = escape(&entry.name),
        date = &iso[..10],
        time = &iso[11..16],
        message = escape(&entry.message),
    );
}

/// Text for use between tags and inside quoted attributes.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// `2026-11-22T20:15:00Z`. Times after the year 9999 show as its last second.
fn iso_utc(unix_ms: u64) -> String {
    let seconds = (unix_ms / 1000).min(253_402_300_799);
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of the proleptic Gregorian calendar, `days` after 1970-01-01. Years are counted from March, so
/// that the leap day is a year's last; 400 years have 146,097 days.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let since_march_0000 = days + 719_468;
    let (era, day_of_era) = (since_march_0000 / 146_097, since_march_0000 % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_match_httpdate() {
        // Every 9 days and some seconds over 300 years, against the crate that formats our Date fields.
        for step in 0..12_000_u64 {
            let seconds = step * (9 * 86_400 + 12_345);
            let http = httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds));
            let iso = iso_utc(seconds * 1000 + 999);
            let months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec";
            let month: usize = iso[5..7].parse().unwrap();
            let (day, name, year, time) = (&iso[8..10], &months[4 * (month - 1)..][..3], &iso[..4], &iso[11..19]);
            assert_eq!(http[5..], format!("{day} {name} {year} {time} GMT"));
        }
        assert_eq!(iso_utc(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn a_message_keeps_its_first_line_feed() {
        // HTML drops one line feed right after <textarea>; ours stands there already.
        let draft = Draft { message: "\nx", ..Draft::default() };
        assert!(render(&[], "", &draft).contains("rows=\"3\">\n\nx</textarea>"));
    }
}
