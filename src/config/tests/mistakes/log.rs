//! `[log]`.

use super::*;

#[test]
fn formats_of_the_access_log() {
    check("[log]\nformat = \"jsno\"", &["2:10 bad value for `format` in [log] | did you mean \"json\"?"]);
    check(
        "[log]\nformat = \"hello\"",
        &[
            "2:10 bad value for `format` in [log] | it has no variable: write combined, common, json, haproxy, or a text with variables such as $status",
        ],
    );
    // Each at its place, also behind escapes of TOML and for the second of its kind.
    check(
        "[log]\nformat = \"\\\"$remote_adr\\\" $status $staus %tr %TS $staus\"",
        &[
            "2:13 unknown variable `$remote_adr` in `format` in [log] | did you mean `$remote_addr`?",
            "2:35 unknown variable `$staus` in `format` in [log] | did you mean `$status`?",
            "2:46 unknown directive `%TS` in `format` in [log] | did you mean `%Ts`?",
            "2:50 unknown variable `$staus` in `format` in [log] | did you mean `$status`?",
        ],
    );
    check(
        "[log]\nformat = '$status 100% %[src] %{+X}ci $wholly_unheard_of'",
        &[
            "2:22 bad value for `format` in [log] | no name follows the `%`: write `%%` for the sign itself",
            "2:24 bad value for `format` in [log] | sample expressions are not known: write `$http_NAME` for a field of the request, `$sent_http_NAME` for one of the answer",
            "2:31 bad value for `format` in [log] | `+X` is not a flag: write `+Q` for quotes around the value",
            "2:39 unknown variable `$wholly_unheard_of` in `format` in [log] | `one-server config-reference` lists them",
        ],
    );
    check(
        "[log]\nformat = \"$status\\n\"",
        &[
            "2:10 bad value for `format` in [log] | a line of the log cannot hold a line break: end the lines of a \"\"\" text with `\\`",
        ],
    );
    check(
        "[log]\nescape = \"jason\"",
        &["2:10 bad value for `escape` in [log] | `jason` is not known: did you mean \"json\"?"],
    );
    assert_eq!(
        warnings("[log]\nescape = \"json\"\nformat = '{\"a\":$status,}'"),
        ["the lines of the access log are not JSON"]
    );
    assert!(warnings("[log]\nescape = \"json\"\nformat = '{\"a\":$status,\"b\":\"$host\"}'").is_empty());
    assert!(warnings("[log]\nescape = \"json\"\nformat = '$host {'").is_empty());
}

#[test]
fn a_format_given_as_a_flag_has_no_place() {
    let mut overrides = Overrides::default();
    let key = Table::Log.key("format").expect("a key");
    overrides.set(key, key.kind.parse("$staus").expect("a text"));
    let text = format!("[log]\nformat = \"json\"{BASE}");
    let report = parse_with_flags("site.toml", &text, PROGRAMS, &overrides).expect_err("a mistake");
    assert_eq!(report.lines(), ["0:0 unknown variable `$staus` in `format` in [log] | did you mean `$status`?"]);
}
