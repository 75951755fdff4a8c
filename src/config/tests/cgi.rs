//! Upstreams of FastCGI, uwsgi and SCGI, and what they are told.

use super::*;
use crate::config::model::{Cgi, Protocol};
use crate::proxy::gateway::Form;

/// The mistakes begin at line 9, in the route.
fn site(protocol: &str, lines: &str) -> String {
    format!(
        "[upstream.u]\nservers = \"127.0.0.1:1\"\nprotocol = \"{protocol}\"\n[site.c]\nhosts = \"c.invalid\"\n\
         [[site.c.route]]\npath = \"/\"\nproxy = \"u\"\n{lines}\n"
    )
}

fn cgi(protocol: &str, lines: &str) -> Cgi {
    let config = config(&format!("{}{BASE}", site(protocol, lines)));
    let of_site = config.sites.iter().find(|site| site.name == "c").expect("the site");
    of_site.routes[0].options.cgi.as_deref().expect("it is for such servers").clone()
}

#[test]
fn protocols_and_their_idle_connections() {
    for (protocol, form) in [("fastcgi", Form::FastCgi), ("uwsgi", Form::Uwsgi), ("scgi", Form::Scgi)] {
        for (lines, expect) in [("", 0), ("keep_idle = 3", if form == Form::FastCgi { 3 } else { 0 })] {
            let route = route("path = \"/\"\nproxy = \"u\"\ncgi = \"/srv/www\"");
            let text =
                format!("{route}[upstream.u]\nservers = \"127.0.0.1:1\"\nprotocol = \"{protocol}\"\n{lines}\n{BASE}");
            let upstream = &config(&text).upstreams[0];
            assert_eq!(
                (upstream.protocol, upstream.keep_idle),
                (Protocol::Gateway(form), expect),
                "{protocol} {lines}"
            );
            let health = upstream.health.as_ref().expect("they are connected to");
            assert_eq!(health.protocol, Protocol::Gateway(form), "{protocol}");
        }
    }
    let told = warnings(
        "[upstream.u]\nservers = \"127.0.0.1:1\"\nprotocol = \"scgi\"\nkeep_idle = 3\nupgrade = \"x\"\nh2_streams_max = 3\n",
    );
    for key in ["keep_idle", "upgrade", "h2_streams_max"] {
        assert!(told.contains(&format!("`{key}` of [upstream.u] does nothing")), "{told:?}");
    }
}

#[test]
fn what_servers_are_told() {
    let short = cgi("fastcgi", "cgi = \"/srv/www\"");
    assert_eq!(
        (short.root.as_deref(), short.lookup.as_deref()),
        (Some("/srv/www".as_ref()), Some("/srv/www".as_ref()))
    );
    assert_eq!((short.index.as_str(), short.split.as_slice()), ("index.php", &[".php".into()][..]));
    assert_eq!((short.fallback, short.params.len(), short.unsized_body_bytes_max), (None, 0, 1 << 20));
    assert_eq!(short.kept_body_bytes_max, 1 << 20);
    assert!(short.software.contains("nginx"), "WordPress looks for the word");
    let long = cgi(
        "fastcgi",
        "cgi = { root = \"/app\", local_root = \"/srv/www\", split = [\".php\", \".fcgi\"], fallback = \"/a/front.fcgi\", \
         params = { APP_ENV = \"x\", HTTP_FOO = \"$host\" } }",
    );
    assert_eq!((long.root.as_deref(), long.lookup.as_deref()), (Some("/app".as_ref()), Some("/srv/www".as_ref())));
    assert_eq!(long.fallback.as_deref(), Some("/a/front.fcgi"));
    assert!(long.sets(b"HTTP_FOO") && long.sets(b"APP_ENV") && !long.sets(b"HTTP_BAR"));
    assert_eq!(cgi("fastcgi", "cgi = { root = \"/app\", check = false }").lookup, None);
    assert!(cgi("fastcgi", "cgi = { root = \"www\" }").root.is_some_and(|root| root.is_absolute()));
    assert_eq!(cgi("fastcgi", "cgi = { root = \"/x\", split = \".fcgi\" }").index, "", "that one is no script");
    for protocol in ["uwsgi", "scgi"] {
        assert_eq!(cgi(protocol, "").root, None, "an application");
    }
    assert_eq!(cgi("fastcgi", "cgi = { split = [] }").root, None, "the same over FastCGI");
}

#[test]
fn what_does_not_go_together() {
    check(
        &site("fastcgi", ""),
        &[
            "8:1 a [[site.c.route]] does not say where the scripts are | add cgi = { root = \"/var/www/html\" }; for a program that is no folder of scripts, cgi = { split = [] }",
        ],
    );
    check(
        &site("http1", "cgi = \"/srv\""),
        &[
            "9:1 `cgi` of a [[site.c.route]] does nothing | it is for `proxy` to an upstream with protocol = \"fastcgi\", \"uwsgi\" or \"scgi\", and for an `app` with type = \"php\"",
        ],
    );
    check(
        &site(
            "fastcgi",
            "cgi = { root = \"/x\", index = \"a.html\", fallback = \"/b\", split = [\"php\"], params = { \"A-B\" = \"1\", CONTENT_LENGTH = \"1\", C = 1 } }",
        ),
        &[
            "9:30 bad value for `index` in cgi of [[site.c.route]] | `a.html` is no name that ends as `split` says",
            "9:51 bad value for `fallback` in cgi of [[site.c.route]] | `/b` is no path of a script whose name ends as `split` says",
            "9:66 bad value for `split` in cgi of [[site.c.route]] | `php` is no end of a name: write one such as \".php\"",
            "9:85 bad variable `A-B` in params of cgi of [[site.c.route]] | a name has letters, digits and `_`",
            "9:98 bad variable `CONTENT_LENGTH` in params of cgi of [[site.c.route]] | it says where the body ends, and nothing else can be said of that",
            "9:124 bad variable `C` in params of cgi of [[site.c.route]] | it is a whole number: write a text",
        ],
    );
    for bad in ["/../x.php", "/a//x.php", "/x.php/info"] {
        let found = problems(&format!(
            "{}{BASE}",
            site("fastcgi", &format!("cgi = {{ root = \"/x\", fallback = \"{bad}\" }}"))
        ));
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
    }
    let mirrored = "mirror = \"u\"\ncgi = \"/srv\"";
    check(
        &site("fastcgi", mirrored),
        &[
            "9:10 bad value for `mirror` in [[site.c.route]] | copies go to servers of HTTP alone, and its protocol is \"fastcgi\"",
        ],
    );
    let told = warnings(&site("scgi", "cgi = { fallback = \"/x.php\", local_root = \"/y\" }"));
    assert!(told.iter().any(|title| title.contains("`fallback` of cgi of [[site.c.route]] does nothing")), "{told:?}");
}
