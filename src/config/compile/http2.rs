//! `[http2]`: what the SETTINGS announce, and the limits of [`crate::http::h2::Guard`].

use crate::config::model::Http2;
use crate::config::report::Problem;
use crate::config::section::Section;
use crate::http::h2::Limits;

/// A header block is compressed, so a list within its limit never takes more bytes than that. Beyond the limit a client
/// gets 431, beyond this multiple of it the connection ends; the `h2` crate does the same with the decompressed list.
const BLOCK_PER_LIST: u32 = 4;

pub(super) fn compile(section: &Section<'_>) -> Http2 {
    let (streams_max, stream_window_bytes): (u32, u32) = (section.get("streams_max"), section.get("stream_window"));
    let http2 = Http2 {
        streams_max,
        stream_window_bytes,
        connection_window_bytes: connection_window_bytes(section, streams_max, stream_window_bytes),
        frame_bytes_max: section.get("frame_max"),
        header_list_bytes_max: section.get("header_list_max"),
        header_table_bytes: section.get("header_table"),
        send_buffer_bytes_max: section.get("send_buffer_max"),
        guard: guard_limits(section),
    };
    if http2.stream_window_bytes > http2.connection_window_bytes {
        let title = "`stream_window` is larger than `connection_window`";
        let label = "a stream never gets more than the connection has";
        section.cx.warn(Problem::new(title, section.value_span("stream_window"), label));
    }
    http2
}

/// `connection_window`: what all streams can fill at once, so that those which wait cannot keep a window from those which are read.
/// No window is larger than 2^31-1 (RFC 9113 section 6.9.1).
pub(super) fn connection_window_bytes(section: &Section<'_>, streams_max: u32, stream_window_bytes: u32) -> u32 {
    const WINDOW_BYTES_MAX: u32 = i32::MAX as u32;
    let whole = streams_max.saturating_mul(stream_window_bytes).min(WINDOW_BYTES_MAX);
    section.find("connection_window").unwrap_or(whole)
}

fn guard_limits(section: &Section<'_>) -> Limits {
    let header_list_bytes_max: u32 = section.get("header_list_max");
    Limits {
        streams_max: section.get("streams_max"),
        frame_bytes_max: section.get("frame_max"),
        header_block_bytes_max: header_list_bytes_max.saturating_mul(BLOCK_PER_LIST),
        continuation_max: section.get("continuation_max"),
        rst_per_second: section.get("rst_per_second"),
        rst_max: section.get("rst_max"),
        early_rst_max: section.get("early_rst_max"),
        rst_emitted_max: section.get("rst_emitted_max"),
        ping_per_second: section.get("ping_per_second"),
        settings_per_second: section.get("settings_per_second"),
        priority_per_second: section.get("priority_per_second"),
        empty_data_per_second: section.get("empty_data_per_second"),
        window_update_per_second: section.get("window_update_per_second"),
        tiny_window_update_per_second: section.get("tiny_window_update_per_second"),
        unknown_per_second: section.get("unknown_per_second"),
        glitches_per_second: section.get("glitches_per_second"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key::Table;
    use crate::config::section::{Context, Overrides};

    #[test]
    fn the_defaults_are_those_of_the_guard() {
        let overrides = Overrides::default();
        let cx = Context::new(&[], &overrides, None);
        let http2 = compile(&Section::absent(&cx, Table::Http2));
        assert_eq!(http2.guard, Limits::default());
        assert_eq!(http2.connection_window_bytes, 100 * (64 << 10), "all streams at once");
        assert!(cx.warnings.borrow().is_empty() && cx.problems.borrow().is_empty());
    }

    #[test]
    fn a_stream_window_that_the_connection_does_not_have_is_pointed_at() {
        let text = "[http2]\nstream_window = \"2MiB\"\nconnection_window = \"1MiB\"\n[app.echo]\n[listener.l]\naddress = \"127.0.0.1:0\"\n[site.s]\n[[site.s.route]]\npath = \"/\"\napp = \"echo\"";
        let Ok((config, warnings)) = crate::config::parse("site.toml", text, &["echo"]) else { panic!("no mistake") };
        let warnings: Vec<String> = warnings.iter().map(|warning| warning.render(false)).collect();
        assert!(warnings.len() == 1 && warnings[0].contains("site.toml:2:"), "{warnings:?}");
        assert_eq!(config.http2.guard.header_block_bytes_max, 4 * config.http2.header_list_bytes_max);
    }
}
