//! `http3` and `alt_svc` of listeners, `[http3]`.

use super::*;
use crate::config::model::{Http3, QuicRetry};
use crate::http::h3::ResetLimits;

/// A listener with these lines, from line 3 on, and a site.
fn listener(lines: &str) -> String {
    format!(
        "[listener.l]\naddress = \"127.0.0.1:1\"\n{lines}\n[site.l]\nlisteners = \"l\"\nroute = [{{ path = \"/\", respond = {{}} }}]\n"
    )
}

const TLS: &str = "tls.certificates = [{ chain = \"/a.pem\", key = \"/a.key\" }]";

#[test]
fn every_setting_is_compiled() {
    let compiled = |lines: &str| config(&format!("{}{BASE}", listener(lines)));
    let plain = compiled("");
    assert!(!plain.listeners[0].http3 && plain.listeners[0].alt_svc.is_none());
    let written = compiled(&format!("http3 = true\nalt_svc = \"\"\n{TLS}"));
    assert!(written.listeners[0].http3);
    assert_eq!(written.listeners[0].alt_svc.as_deref(), Some(""));
    let http3 = "[http3]\nstreams_max = 7\nstream_window = \"16KiB\"\nconnection_window = \"64KiB\"\n\
                 send_buffer_max = \"64KiB\"\nheader_list_max = \"4KiB\"\nrst_per_second = 5\n\
                 rst_max = 6\nearly_rst_max = 3\nretry = \"always\"\n";
    let expect = Http3 {
        streams_max: 7,
        stream_window_bytes: 16 << 10,
        connection_window_bytes: 64 << 10,
        send_buffer_bytes_max: 64 << 10,
        header_list_bytes_max: 4 << 10,
        resets: ResetLimits { per_second: 5, total: 6, early: 3 },
        retry: QuicRetry::Always,
    };
    assert_eq!(config(&format!("{http3}{BASE}")).http3, expect);
}

#[test]
fn what_does_not_fit_together_is_told() {
    check(
        &listener("http3 = true"),
        &[
            "3:9 bad value for `http3` in [listener.l] | QUIC is always encrypted: add `tls` with a certificate to this listener",
        ],
    );
    check(
        &listener(&format!("http3 = true\nproxy_protocol = \"required\"\n{TLS}")),
        &[
            "3:9 bad value for `http3` in [listener.l] | datagrams have no header of the PROXY protocol: clients of HTTP/3 need a listener without it",
        ],
    );
    let warned = warnings(&listener(&format!("alt_svc = 'h3=\":443\"'\n{TLS}")));
    assert_eq!(warned, ["`alt_svc` of [listener.l] is not used"]);
    let warned = warnings("[http3]\nstream_window = \"2MiB\"\nconnection_window = \"1MiB\"\n");
    assert_eq!(warned, ["`stream_window` is larger than `connection_window`"]);
}
