//! What a route does: `files`, `redirect`, `respond`.

use super::*;

#[test]
fn actions() {
    check_route(
        "path = \"/\"\nfiles = {}",
        &["5:9 missing key `root` in files of [[site.s.route]] | add `root`: a path, for example \"/var/www/html\""],
    );
    check_route(
        "path = \"/\"\nfiles = 5",
        &[
            "5:9 bad value for `files` in [[site.s.route]] | it is a whole number, but the key takes a folder, or a table such as { root = \"/var/www/html\" }",
        ],
    );
    check_route("path = \"/\"\nfiles = \"\"", &["5:9 bad value for `files` in [[site.s.route]] | the path is empty"]);
    check_route(
        "path = \"/\"\nfiles = { root = \"/x\", index = [\"a/b\"] }",
        &["5:33 bad index in files of [[site.s.route]] | write the name of a file, without a folder"],
    );
    check_route(
        "path = \"/\"\nfiles = { root = \"/x\", fallback = \"x\" }",
        &["5:35 bad value for `fallback` in files of [[site.s.route]] | a path begins with `/`: write \"/x\""],
    );
    check_route(
        "path = \"/\"\nredirect = {}",
        &["5:12 missing key `to` in redirect of [[site.s.route]] | add `to`: a text of visible ASCII characters"],
    );
    check_route(
        "path = \"/\"\nredirect = { to = \"/x\", status = 304 }",
        &[
            "5:34 bad value for `status` in redirect of [[site.s.route]] | 304 is not a redirect: write 301, 302, 303, 307 or 308",
        ],
    );
    check_route(
        "path = \"/\"\nredirect = \"example.org\"",
        &[
            "5:12 bad value for `redirect` in [[site.s.route]] | `example.org` is no target: write \"https://host/path\", \"/path\" or \"https://host$path\"",
        ],
    );
    check_route(
        "path = \"/\"\nredirect = \"/a\\r\\nSet-Cookie: x\"",
        &[
            "5:12 bad value for `redirect` in [[site.s.route]] | '\\r' cannot stand in a header field: write visible ASCII characters",
        ],
    );
    check_route(
        "path = \"/\"\nredirect = { to = \"https://x.org$colour\" }",
        &["5:33 bad value for `to` in redirect of [[site.s.route]] | `$colour` is not known; `$$` is a dollar"],
    );
    check_route(
        "path = \"/\"\nredirect = { to = \"https://x.org$pth\" }",
        &["5:33 bad value for `to` in redirect of [[site.s.route]] | `$pth` is not known: did you mean `$path`?"],
    );
    check_route(
        "path = \"/\"\nredirect = { to = \"/a b\" }",
        &["5:19 bad value for `to` in redirect of [[site.s.route]] | a target has no spaces: write %20"],
    );
    check_route(
        "path = \"/\"\nrespond = \"ok\"",
        &["5:11 bad value for `respond` in [[site.s.route]] | write a table, such as { status = 200, body = \"ok\" }"],
    );
    check_route(
        "path = \"/\"\nrespond = { status = 204, body = \"x\" }",
        &[
            "5:34 bad value for `body` in respond of [[site.s.route]] | an answer with status 204 has no body: take it away or change the status",
        ],
    );
    check_route(
        "path = \"/\"\nrespond = { status = 101 }",
        &["5:22 bad value for `status` in respond of [[site.s.route]] | 101 is too small: the least is 200"],
    );
    assert_eq!(
        warnings(&route("path = \"/a/\"\nfiles = { root = \"/x\", strip_prefix = \"/b\" }")),
        ["`strip_prefix` of a [[site.s.route]] never matches"]
    );
}

#[test]
fn files_tables() {
    let check = |lines: &str, expect: &str| {
        let text = route(&format!("path = \"/\"\n[site.s.route.files]\nroot = \"/x\"\n{lines}"));
        super::check(&text, &[format!("7:{expect}").as_str()]);
    };
    let title = |key: &str| format!("bad {key} in files of [[site.s.route]]");
    let entry = |lines: &str, column: u32, key: &str, label: &str| {
        check(lines, &format!("{column} {} | {label}", title(key)));
    };
    entry(
        "try = [\"$path\", \"=200\"]",
        17,
        "try",
        "`=200` is no status: write \"=404\", or another number from 400 to 599",
    );
    entry("try = [\"=404\", \"$path\"]", 8, "try", "a status is the end: put it last");
    entry("try = [\"$uri\"]", 8, "try", "`$uri` is not known: the path is called $path here");
    entry("try = [\"$path$query\"]", 8, "try", "`$query` is not known: there is only $path, once");
    entry("try = [\"index.html\"]", 8, "try", "a path begins with `/` or `$path`: write \"/index.html\"");
    entry("try = [\"/a/../b\"]", 8, "try", "write a plain path, without `.` and `..`");
    entry("try = [\"$path..\"]", 8, "try", "write a plain path, without `.` and `..`");
    entry("precompressed = [\"br\", \"gzip\", \"br\"]", 32, "precompressed", "it is named twice");
    entry(
        "types = { \".wasm\" = \"application/wasm\" }",
        21,
        "types",
        "`.wasm` is no extension: write what follows the last dot, for example `wasm`",
    );
    entry(
        "types = { a = \"text\" }",
        15,
        "types",
        "`text` is no media type: write type/subtype, for example \"application/wasm\"",
    );
    entry(
        "types = { a = \"text/html; charset=x\" }",
        15,
        "types",
        "write the type without parameters; `charset` adds that one",
    );
    entry("types = { a = \"text/a\", A = \"text/b\" }", 29, "types", "`a` is named twice");
    entry("charset_types = [\"text\"]", 18, "charset_types", "write a type, `type/*` or `*+suffix`");
    let value = |lines: &str, column: u32, key: &str, label: &str| {
        check(lines, &format!("{column} bad value for `{key}` in files of [[site.s.route]] | {label}"));
    };
    value(
        "types = \"a\"",
        9,
        "types",
        "it is a text, but the key takes a table of extensions such as { wasm = \"application/wasm\" }",
    );
    value(
        "precompressed = [\"deflate\"]",
        18,
        "precompressed",
        "`deflate` is not known: write \"br\", \"zstd\" or \"gzip\"",
    );
    value("listing = \"on\"", 11, "listing", "`on` is not known: write \"off\", \"html\", \"json\" or \"auto\"");
    value("charset = \"utf 8\"", 11, "charset", "`utf 8` is no charset: write one word, for example \"utf-8\"");
    value(
        "default_type = \"plain\"",
        16,
        "default_type",
        "`plain` is no media type: write type/subtype, for example \"application/wasm\"",
    );
}
