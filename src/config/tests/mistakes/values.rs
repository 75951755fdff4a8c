//! Values that are not of their kind, in whatever table.

use super::*;

#[test]
fn wrong_types() {
    let bad = |key: &str, label: &str| format!("2:{} bad value for `{key}` in [http] | {label}", key.len() + 4);
    for (line, key, label) in [
        ("body_max = true", "body_max", "it is `true`, but the key takes a size, for example \"64KiB\""),
        (
            "body_max = 1.5",
            "body_max",
            "it is a number with a fraction, but the key takes a size, for example \"64KiB\"",
        ),
        ("headers_max = [1]", "headers_max", "it is a list, but the key takes a number from 1 to 1024"),
        ("headers_max = { a = 1 }", "headers_max", "it is a table, but the key takes a number from 1 to 1024"),
        (
            "body_timeout = 1979-05-27",
            "body_timeout",
            "it is a date or time, but the key takes a duration, for example \"30s\"",
        ),
        ("server_name = 5", "server_name", "it is a number, but the key takes a text of visible ASCII characters"),
        (
            "server_name = \"a\\nb\"",
            "server_name",
            "'\\n' cannot stand in a header field: write visible ASCII characters",
        ),
    ] {
        check(&format!("[http]\n{line}"), &[&bad(key, label)]);
    }
    check(
        "[admin]\naddress = true",
        &[
            "2:11 bad value for `address` in [admin] | it is `true`, but the key takes an address, for example \"127.0.0.1:9900\", or \"off\"",
        ],
    );
}

#[test]
fn bad_durations_and_sizes() {
    let value = |table: &str, key: &str, value: &str, label: &str| {
        let expect = format!("2:{} bad value for `{key}` in [{table}] | {label}", key.len() + 4);
        check(&format!("[{table}]\n{key} = {value}"), &[&expect]);
    };
    let duration = |text: &str, label: &str| value("http", "body_timeout", text, label);
    duration("30", "`30` has no unit: write \"30s\" for seconds or \"30ms\" for milliseconds");
    duration("\"30\"", "`30` has no unit: write \"30s\" for seconds or \"30ms\" for milliseconds");
    duration("\"30 sec\"", "`sec` is not a unit of time: did you mean \"30s\"?");
    duration("\"1.5s\"", "`1.5s` has a fraction: write it as a whole number of a smaller unit, for example \"1500ms\"");
    duration("\"soon\"", "`soon` is not a duration: write a number and one of us, ms, s, m, h, d, for example \"30s\"");
    duration("\"30x\"", "`30x` is not a duration: write a number and one of us, ms, s, m, h, d, for example \"30s\"");
    duration("\"0s\"", "0s is too small: the least is 1ms");
    duration("\"2d\"", "2d is too large: the most is 1d");
    duration("\"99999999999999999999d\"", "`99999999999999999999d` is too large");
    let size = |text: &str, label: &str| value("http", "head_max", text, label);
    size("\"8k\"", "`k` is not a unit: write \"8KiB\" (steps of 1024) or \"8kB\" (steps of 1000)");
    size("\"1m\"", "`m` is not a unit: write \"1MiB\" (steps of 1024) or \"1MB\" (steps of 1000)");
    size("\"8 parsec\"", "`8 parsec` is not a size: the units are B, KiB, MiB, GiB (1024) and kB, MB, GB (1000)");
    size("\"big\"", "`big` is not a size: write a number of bytes, or a unit with it, for example \"64KiB\"");
    size("-1", "`-1` is below zero");
    size("1", "1 is too small: the least is 1KiB");
    size("\"2MiB\"", "2MiB is too large: the most is 1MiB");
    value("process", "backlog", "0", "0 is too small: the least is 1");
    value("process", "backlog", "\"many\"", "`many` is not a whole number");
    value("process", "backlog", "\"-5\"", "`-5` is below zero");
    value("process", "backlog", "\"99999999999999999999\"", "`99999999999999999999` is too large");
}

#[test]
fn bad_words_cores_addresses() {
    let process = |line: &str, label: &str| {
        let key = line.split(' ').next().unwrap_or_default();
        let expect = format!("2:{} bad value for `{key}` in [process] | {label}", key.len() + 4);
        check(&format!("[process]\n{line}"), &[&expect]);
    };
    process("driver = \"iouring\"", "`iouring` is not known: did you mean \"io-uring\"?");
    process("driver = \"kqueue\"", "`kqueue` is not known: write \"auto\", \"io-uring\" or \"epoll\"");
    process("data_cores = \"a\"", "`a` is not a core: write numbers and ranges, for example \"0,2-5\", or \"auto\"");
    process("data_cores = \"5-2\"", "the range 5-2 runs backwards: write \"2-5\"");
    let shared = warnings("[process]\ndata_cores = \"0,1,0\"\n");
    assert_eq!(shared, ["core 0 is named several times in `data_cores`"]);
    process("data_cores = \"0-99999\"", "core 99999 is too large: the most is 8191");
    process("data_cores = \"\"", "`` is not a core: write numbers and ranges, for example \"0,2-5\", or \"auto\"");
    let address = |text: &str, label: &str| {
        check(
            &format!("[admin]\naddress = \"{text}\""),
            &[&format!("2:11 bad value for `address` in [admin] | {label}")],
        );
    };
    address(
        "8080",
        "the IP address is missing: write \"0.0.0.0:8080\" for every interface or \"127.0.0.1:8080\" for this machine only",
    );
    address(
        "*:8080",
        "the IP address is missing: write \"0.0.0.0:8080\" for every interface or \"127.0.0.1:8080\" for this machine only",
    );
    address("localhost:1", "names are not resolved: write \"127.0.0.1:1\"");
    address(
        "api.internal:1",
        "names are not resolved: write the IP address of `api.internal`, for example \"10.0.0.7:1\"",
    );
    address("10.0.0.1", "the port is missing: write \"10.0.0.1:80\" with the port you mean");
    address("::1", "the port is missing: write \"[::1]:80\" with the port you mean");
    address("10.0.0.1:99999", "`99999` is not a port: write 0 to 65535");
    address("http://10.0.0.1:80/", "an address has no scheme: write \"10.0.0.1:80\"");
    address("unix:/run/a", "a Unix socket cannot be used here: write IP:PORT");
    address("", "`` is not an address: write IP:PORT or [IPv6]:PORT, for example \"127.0.0.1:8080\"");
    check(
        "[log]\naccess = \"stderr\"",
        &[
            "2:10 bad value for `access` in [log] | the access log goes to \"stdout\", a file, or \"off\"; stderr carries the server's own messages",
        ],
    );
}

#[test]
fn limits_that_contradict_each_other() {
    check(
        "[process]\nread_buffer = \"64KiB\"",
        &[
            "2:15 `read_buffer` (65536 bytes) is larger than `head_max` (16384 bytes) | make it smaller, or head_max in [http] larger: a head that fits the first buffer must be allowed",
        ],
    );
    assert_eq!(warnings("[process]\nfile_cache = \"32KiB\""), ["`file_cache_file_max` is larger than `file_cache`"]);
    assert!(warnings("[process]\nfile_cache = 0").is_empty());
}
