//! How a listing looks: a page without scripts, or JSON as nginx's `autoindex_format json` has it. Pure.

use super::entry::{http_date, push};
use super::listing::{ENTRIES_MAX, Line, Order, Page, Sort};
use crate::runtime::sys::files::FileTime;
use crate::util::path;

/// Works down to 390 px: sizes and times stay in one line, long names break.
const STYLE: &str = "\
:root{color-scheme:light dark;--line:#d8dee4;--soft:#57606a;--link:#0550ae}
@media(prefers-color-scheme:dark){:root{--line:#30363d;--soft:#9198a1;--link:#79b8ff}}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
h1{font-size:1.25rem;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}
th,td{padding:.35rem .5rem;text-align:left;border-bottom:1px solid var(--line)}
th{font-weight:600}
td:first-child{overflow-wrap:anywhere}
th:nth-child(2),td:nth-child(2){text-align:right}
td:nth-child(n+2){white-space:nowrap;color:var(--soft);font-variant-numeric:tabular-nums}
a{color:var(--link);text-decoration:none}
a:hover,a:focus{text-decoration:underline}
p{color:var(--soft)}
@media(max-width:480px){body{padding:.5rem;font-size:15px}th,td{padding:.35rem .25rem}td:nth-child(3){font-size:.8rem}}
";

/// A whole HTML document.
pub(super) fn write_html(page: &Page<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(2048 + 160 * page.lines.len());
    let mut title = Vec::new();
    push_escaped(&String::from_utf8_lossy(page.path), &mut title);
    out.extend_from_slice(b"<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    out.extend_from_slice(b"<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>Index of ");
    out.extend_from_slice(&title);
    push(&mut out, format_args!("</title>\n<style>\n{STYLE}</style></head>\n<body><h1>Index of "));
    out.extend_from_slice(&title);
    out.extend_from_slice(b"</h1>\n<table><thead><tr>");
    for (sort, word, label) in
        [(Sort::Name, "name", "Name"), (Sort::Size, "size", "Size"), (Sort::Time, "time", "Modified (UTC)")]
    {
        push_column(page.order, sort, word, label, &mut out);
    }
    out.extend_from_slice(b"</tr></thead>\n<tbody>\n");
    if page.has_parent {
        out.extend_from_slice(b"<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n");
    }
    for line in &page.lines {
        push_row(line, &mut out);
    }
    out.extend_from_slice(b"</tbody></table>\n");
    if page.is_cut {
        push(&mut out, format_args!("<p>This folder has more entries; {} are shown.</p>\n", page.lines.len()));
    } else if page.lines.is_empty() {
        out.extend_from_slice(b"<p>This folder is empty.</p>\n");
    }
    out.extend_from_slice(b"</body></html>\n");
    out
}

/// A heading that sorts by its column, in the other direction if that is so already.
fn push_column(order: Order, sort: Sort, word: &str, label: &str, out: &mut Vec<u8>) {
    let is_current = order.sort == sort;
    let next = if is_current && !order.descending { "desc" } else { "asc" };
    let (aria, arrow) = match (is_current, order.descending) {
        (false, _) => ("", ""),
        (true, false) => (" aria-sort=\"ascending\"", " \u{2191}"),
        (true, true) => (" aria-sort=\"descending\"", " \u{2193}"),
    };
    push(out, format_args!("<th{aria}><a href=\"?sort={word}&amp;order={next}\">{label}{arrow}</a></th>"));
}

fn push_row(line: &Line, out: &mut Vec<u8>) {
    let slash = if line.is_directory { "/" } else { "" };
    // The dot keeps a name with a colon from being taken for a scheme (RFC 3986 section 4.2).
    let mut link = b"./".to_vec();
    path::encode(&line.name, &mut link);
    out.extend_from_slice(b"<tr><td><a href=\"");
    push_escaped(&String::from_utf8_lossy(&link), out);
    push(out, format_args!("{slash}\">"));
    push_escaped(&String::from_utf8_lossy(&line.name), out);
    push(out, format_args!("{slash}</a></td><td>"));
    if !line.is_directory {
        push_size(line.size, out);
    }
    out.extend_from_slice(b"</td><td>");
    push_time(line.mtime, out);
    out.extend_from_slice(b"</td></tr>\n");
}

/// With three digits at most: `512 B`, `1.5 KiB`, `12 MiB`.
fn push_size(bytes: u64, out: &mut Vec<u8>) {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit_name = UNITS[unit];
    if unit == 0 || value >= 9.95 {
        push(out, format_args!("{value:.0} {unit_name}"));
    } else {
        push(out, format_args!("{value:.1} {unit_name}"));
    }
}

/// `2026-11-23 10:00`; nothing for a time out of any calendar.
fn push_time(time: FileTime, out: &mut Vec<u8>) {
    if let Ok(time) = jiff::Timestamp::from_second(time.seconds) {
        push(out, format_args!("{}", time.strftime("%Y-%m-%d %H:%M")));
    }
}

/// For text and for attributes in double quotes.
fn push_escaped(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            _ => out.push(byte),
        }
    }
}

/// An array of objects with `name`, `type`, `mtime` and, for files, `size`.
pub(super) fn write_json(page: &Page<'_>) -> Vec<u8> {
    debug_assert!(page.lines.len() <= ENTRIES_MAX);
    let mut out = Vec::with_capacity(2 + 112 * page.lines.len());
    out.push(b'[');
    for (at, line) in page.lines.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"\n{\"name\":" } else { b",\n{\"name\":" });
        // Writing a text to memory cannot fail.
        let written = serde_json::to_writer(&mut out, &String::from_utf8_lossy(&line.name));
        debug_assert!(written.is_ok());
        push(&mut out, format_args!(",\"type\":\"{}\"", if line.is_directory { "directory" } else { "file" }));
        if let Some(date) = http_date(line.mtime) {
            push(&mut out, format_args!(",\"mtime\":\"{}\"", String::from_utf8_lossy(&date)));
        }
        if !line.is_directory {
            push(&mut out, format_args!(",\"size\":{}", line.size));
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"\n]\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(name: &[u8], is_directory: bool, size: u64) -> Line {
        Line { name: name.into(), is_directory, mtime: FileTime { seconds: 784_111_777, nanoseconds: 0 }, size }
    }

    fn page(path: &'static [u8], lines: Vec<Line>) -> Page<'static> {
        let order = Order { sort: Sort::Name, descending: false };
        Page { path, has_parent: true, order, lines, is_cut: false }
    }

    fn html(page: &Page<'_>) -> String {
        String::from_utf8(write_html(page)).expect("text")
    }

    #[test]
    fn a_row_links_to_its_entry() {
        let text = html(&page(b"/a/", vec![line(b"sub", true, 4096), line(b"a b.txt", false, 1536)]));
        assert!(text.contains(
            "<tr><td><a href=\"./sub/\">sub/</a></td><td></td><td>1994-11-06 08:49</td></tr>\n\
             <tr><td><a href=\"./a%20b.txt\">a b.txt</a></td><td>1.5 KiB</td><td>1994-11-06 08:49</td></tr>\n"
        ));
        assert!(text.contains("<a href=\"../\">") && text.contains("<title>Index of /a/</title>"));
        let top = Page { has_parent: false, ..page(b"/", Vec::new()) };
        assert!(!html(&top).contains("../") && html(&top).contains("This folder is empty."));
        let cut = Page { is_cut: true, ..page(b"/", vec![line(b"a", false, 1)]) };
        assert!(html(&cut).contains("This folder has more entries; 1 are shown."));
    }

    #[test]
    fn headings_sort_and_turn_round() {
        let text = html(&page(b"/", Vec::new()));
        assert!(text.contains("<th aria-sort=\"ascending\"><a href=\"?sort=name&amp;order=desc\">Name \u{2191}</a>"));
        assert!(text.contains("<th><a href=\"?sort=size&amp;order=asc\">Size</a>"));
        let order = Order { sort: Sort::Time, descending: true };
        let text = html(&Page { order, ..page(b"/", Vec::new()) });
        assert!(text.contains("<th aria-sort=\"descending\"><a href=\"?sort=time&amp;order=asc\">"));
    }

    #[test]
    fn names_cannot_become_markup_or_another_address() {
        let names: [&[u8]; 6] =
            [b"<script>alert(1)</script>", b"\"onclick=\"x", b"javascript:alert(1)", b"a&lt;b", b"'", b"\xff\xfe"];
        let text = html(&page(b"/<b>&\"'/", names.iter().map(|name| line(name, false, 0)).collect()));
        assert!(!text.contains("<script") && !text.contains("\"onclick") && !text.contains("<b>"));
        assert!(text.contains("href=\"./javascript:alert(1)\"") && text.contains("href=\"./%FF%FE\""));
        assert!(text.contains("Index of /&lt;b&gt;&amp;&quot;&#39;/"));
    }

    #[test]
    fn sizes_have_three_digits_at_most() {
        for (bytes, expect) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10_239, "10 KiB"),
            (1_048_575, "1.0 MiB"),
            (123_456_789, "118 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            let mut out = Vec::new();
            push_size(bytes, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expect, "{bytes}");
        }
    }

    #[test]
    fn json_is_what_nginx_writes() {
        let text = write_json(&page(b"/", vec![line(b"sub", true, 4096), line(b"a\"\xc3\xa9", false, 5)]));
        assert_eq!(
            String::from_utf8_lossy(&text),
            "[\n{\"name\":\"sub\",\"type\":\"directory\",\"mtime\":\"Sun, 06 Nov 1994 08:49:37 GMT\"},\n\
             {\"name\":\"a\\\"é\",\"type\":\"file\",\"mtime\":\"Sun, 06 Nov 1994 08:49:37 GMT\",\"size\":5}\n]\n"
        );
        assert_eq!(write_json(&page(b"/", Vec::new())), b"[\n]\n");
    }

    proptest! {
        /// Whatever a file is called, its link leads to it and to nothing else.
        #[test]
        fn a_link_leads_to_its_name(name in proptest::collection::vec(any::<u8>(), 1..24)) {
            let fits = !name.iter().any(|&byte| byte == b'/' || byte.is_ascii_control()) && name != b"." && name != b"..";
            prop_assume!(fits);
            let text = html(&page(b"/", vec![line(&name, false, 1)]));
            let link = text.split("href=\"").nth(5).and_then(|rest| rest.split('"').next()).expect("a link");
            let link = link.replace("&amp;", "&").replace("&#39;", "'");
            let target = format!("/folder/{link}");
            let mut scratch = Vec::new();
            let path = path::normalize(target.as_bytes(), &mut scratch).expect("a path");
            prop_assert_eq!(path.as_bytes(), [b"/folder/".as_slice(), &name].concat());
            let json = write_json(&page(b"/", vec![line(&name, false, 1)]));
            let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
            let shown = String::from_utf8_lossy(&name);
            prop_assert_eq!(value[0]["name"].as_str(), Some(shown.as_ref()));
        }
    }
}
