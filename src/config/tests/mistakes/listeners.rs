//! `[listener.NAME]`, and addresses that are used twice.

use super::*;

#[test]
fn listeners() {
    check(
        "[listener.a]",
        &[
            "1:1 missing key `address` in [listener.a] | add `address`: an address, for example \"0.0.0.0:8080\"",
            "1:11 no site is reached through [listener.a] | add a [site.NAME], or name this listener in the `listeners` of one",
        ],
    );
    let two = "[listener.a]\naddress = \"127.0.0.1:80\"\n[listener.b]\naddress = \"127.0.0.1:80\"\n[site.s]\nhosts=\"s.invalid\"\n[[site.s.route]]\npath = \"/\"\nproxy = \"u\"\n[upstream.u]\nservers = \"10.0.0.1:1\"";
    check(two, &["4:11 127.0.0.1:80 is used twice, in [listener.a] and [listener.b] | take another address or port"]);
    let admin = "[admin]\naddress = \"10.0.0.1:80\"\n[mysql.m]\nlisten = \"10.0.0.1:80\"\nprimary = \"10.0.0.1:3306\"\nuser = \"u\"\npassword = \"p\"";
    check(admin, &["2:11 10.0.0.1:80 is used twice, in [mysql.m] and [admin] | take another address or port"]);
    let control = "[process]\ncontrol = \"/run/one.sock\"\n[mysql.m]\nlisten = \"unix:/run/one.sock\"\nprimary = \"10.0.0.1:3306\"\nuser = \"u\"\npassword = \"p\"";
    check(
        control,
        &[
            "0:0 unix:/run/one.sock is used twice, in [mysql.m] and `control` of [process] | take another address or port",
        ],
    );
    let stats = "[process]\ncontrol = \"/run/one.sock\"\nstats_socket = \"/run/one.sock\"";
    check(
        stats,
        &[
            "0:0 unix:/run/one.sock is used twice, in `control` of [process] and `stats_socket` of [process] | take another address or port",
        ],
    );
    let bad = |mode: &str| format!("[process]\nstats_socket = \"/run/one.sock\"\nstats_socket_mode = \"{mode}\"");
    for mode in ["rw", "66", "0888", "1777", "7777", "00660", "-600"] {
        let problem =
            "3:21 bad value for `stats_socket_mode` in [process] | write permissions in octal, for example \"660\"";
        check(&bad(mode), &[problem]);
    }
    check(&bad("0660"), &[]);
    let for_all = format!("{}\nstats_socket_level = \"admin\"", bad("666"));
    let warned = warnings(&for_all);
    assert!(warned[0].contains("everybody on this machine may change servers through `stats_socket`"), "{warned:?}");
    assert!(warnings(&bad("666")).is_empty(), "who only looks");
    check(
        "[process]\nstats_socket_mode = \"600\"\nstats_socket_level = \"admin\"",
        &[
            "2:21 bad value for `stats_socket_mode` in [process] | add `stats_socket`: it is about that one",
            "3:22 bad value for `stats_socket_level` in [process] | add `stats_socket`: it is about that one",
        ],
    );
    // Port 0 is a different one each time.
    check("[admin]\naddress = \"127.0.0.1:0\"", &[]);
    assert_eq!(
        problems(""),
        [
            "0:0 the file starts nothing | add a [listener.NAME] with an `address` and a [site.NAME] with a route, or a [mysql.NAME]"
        ]
    );
    assert_eq!(
        problems("[site.s]\n[[site.s.route]]\npath=\"/\"\nrespond={}"),
        [
            "0:0 the file starts nothing | add a [listener.NAME] with an `address` and a [site.NAME] with a route, or a [mysql.NAME]",
            "1:1 [site.s] is reached through no listener | add a [listener.NAME] with an `address`",
        ]
    );
}
