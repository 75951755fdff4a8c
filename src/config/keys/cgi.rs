//! Keys of `cgi = { … }` of a route.

use super::super::key::Absent::{Default, Means};
use super::super::key::{Key, Table, size};
use super::super::value::Kind;
use super::MIB;

pub(super) const KEYS: &[Key] = &[
    Key::new(Table::Cgi, "root", Kind::Path, Means("no scripts: SCRIPT_NAME is empty, and the whole path is PATH_INFO"))
        .help("folder of the scripts as the servers see it: DOCUMENT_ROOT, and the beginning of SCRIPT_FILENAME")
        .known_as(&["nginx root", "haproxy docroot"]),
    Key::new(Table::Cgi, "local_root", Kind::Path, Means("`root`"))
        .help("the same folder as this server sees it")
        .when("where a server runs in a container, or in a chroot, that calls the folder otherwise"),
    Key::new(Table::Cgi, "check", Kind::Switch, Default("true"))
        .help("a script must be a file below `local_root`, found by the rules of `files`, else the answer is 404")
        .when("`false` where the scripts are on another machine; then nothing but the server itself keeps a path from being taken apart in another way (`cgi.fix_pathinfo` of PHP)"),
    Key::new(Table::Cgi, "split", Kind::List(&Kind::Text), Default(".php"))
        .help("what the names of scripts end in, to the letter: the first such name in a path is the script, what stands behind it is PATH_INFO, and nothing else ever runs")
        .known_as(&["nginx fastcgi_split_path_info", "haproxy path-info"]),
    Key::new(Table::Cgi, "index", Kind::Field, Default("index.php"))
        .help("the script of a path that ends in `/`; empty: there is none")
        .known_as(&["nginx fastcgi_index", "haproxy index"]),
    Key::new(Table::Cgi, "fallback", Kind::UrlPath, Means("404"))
        .help("the script for paths that lead to none: the front controller of an application")
        .known_as(&["nginx try_files"])
        .when("\"/index.php\" for WordPress, Laravel, Symfony and the like"),
    Key::new(Table::Cgi, "params", Kind::Form("a table of variables such as { APP_ENV = \"production\" }"), Means("none"))
        .help("variables beside those that there always are, or in their place, as texts with variables; one that comes out empty is not sent")
        .known_as(&["nginx fastcgi_param", "nginx uwsgi_param", "nginx scgi_param", "haproxy set-param"]),
    Key::new(Table::Cgi, "software", Kind::Field, Default("one-server (as nginx)"))
        .help("SERVER_SOFTWARE")
        .when("seldom: WordPress makes links without `/index.php` only where `nginx` or `Apache` is in it"),
    Key::new(Table::Cgi, "unsized_body_max", size(0, 64 * MIB), Default("1MiB"))
        .help("bytes of a body without Content-Length that are kept in memory to learn its length, which these protocols have to tell first; beyond it 411, and 503 while a data worker has 64 MiB of such bodies")
        .known_as(&["nginx fastcgi_request_buffering"])
        .when("up for clients that send large chunked bodies, such as `git push`; it costs as much memory for each of them"),
    Key::new(Table::Cgi, "kept_body_max", size(0, 64 * MIB), Default("1MiB"))
        .help("a body with a Content-Length up to this is read to its end before a server gets the request; a larger one is streamed: a slow client holds a process of the server then, and the program of one that leaves in the middle may run with a part of the body; so is one for which a data worker has no room beside 64 MiB of others")
        .known_as(&["nginx fastcgi_request_buffering", "nginx client_body_buffer_size"])
        .when("up to `body_max` where programs do not compare what they read with CONTENT_LENGTH; it costs as much memory for each body"),
];
