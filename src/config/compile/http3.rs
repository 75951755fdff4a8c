//! `[http3]`, and what a listener says about HTTP/3.

use super::http2::connection_window_bytes;
use crate::config::model::{Http3, QuicRetry};
use crate::config::report::Problem;
use crate::config::section::Section;
use crate::http::h3::ResetLimits;

pub(super) fn compile(section: &Section<'_>) -> Http3 {
    let (streams_max, stream_window_bytes): (u32, u32) = (section.get("streams_max"), section.get("stream_window"));
    let http3 = Http3 {
        streams_max,
        stream_window_bytes,
        connection_window_bytes: connection_window_bytes(section, streams_max, stream_window_bytes),
        send_buffer_bytes_max: section.get("send_buffer_max"),
        header_list_bytes_max: section.get("header_list_max"),
        resets: ResetLimits {
            per_second: section.get("rst_per_second"),
            total: section.get("rst_max"),
            early: section.get("early_rst_max"),
        },
        retry: match section.get("retry") {
            "always" => QuicRetry::Always,
            _ => QuicRetry::Auto,
        },
    };
    if http3.stream_window_bytes > http3.connection_window_bytes {
        let title = "`stream_window` is larger than `connection_window`";
        let label = "a stream never gets more than the connection has";
        section.cx.warn(Problem::new(title, section.value_span("stream_window"), label));
    }
    http3
}

/// `http3` of a listener.
pub(super) fn listener(section: &Section<'_>, proxy_protocol: bool) -> bool {
    let is_wanted: bool = section.get("http3");
    if is_wanted && section.item("tls").is_none() && !section.may_be_misspelt(&["tls"]) {
        section.bad_value("http3", "QUIC is always encrypted: add `tls` with a certificate to this listener");
    }
    if is_wanted && proxy_protocol {
        let advice = "datagrams have no header of the PROXY protocol: clients of HTTP/3 need a listener without it";
        section.bad_value("http3", advice);
    }
    is_wanted
}

/// `alt_svc` of a listener.
pub(super) fn alt_svc(section: &Section<'_>, has_http3: bool) -> Option<String> {
    let text: String = section.find("alt_svc")?;
    if !has_http3 {
        let title = format!("`alt_svc` of {} is not used", section.title);
        section.cx.warn(Problem::new(title, section.key_span("alt_svc"), "add `http3 = true`, or take it away"));
    }
    Some(text)
}
