//! Coded forms beside a file.

use super::*;

fn coded() -> Site {
    let site = Site::with(limits(), |files| files.precompressed = vec![Coding::Br, Coding::Zstd, Coding::Gzip]);
    for (name, content) in [("app.js", "plain plain plain"), ("app.js.br", "BR"), ("app.js.gz", "GZIP")] {
        set_mtime(&site.put(name, content), 1_000_000_000);
    }
    site.put("plain.txt", "plain");
    site
}

#[test]
fn the_coded_form_that_the_client_prefers_is_served() {
    use Coding::*;
    let mut site = coded();
    let mut check = |codings: &[Coding], body: &str, coding: Option<&str>| {
        let answer = site.accepting("/app.js", codings);
        assert_eq!((answer.status, answer.text(), answer.field("Content-Encoding")), (200, body, coding));
        assert_eq!(answer.field("Vary"), Some("Accept-Encoding"));
        assert_eq!(answer.field("Content-Type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(answer.field("Accept-Ranges"), Some("bytes"));
        answer.field("ETag").expect("a tag").to_owned()
    };
    let tags = [
        check(&[], "plain plain plain", None),
        check(&[Br, Gzip], "BR", Some("br")),
        check(&[Zstd, Gzip, Br], "GZIP", Some("gzip")),
    ];
    assert_eq!(check(&[Zstd], "plain plain plain", None), tags[0]);
    // One tag for each form: section 8.8.3.3.
    assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2], "{tags:?}");
    // A file without coded forms may get one, so Vary is there too.
    let answer = site.accepting("/plain.txt", &[Br]);
    assert_eq!((answer.text(), answer.field("Vary")), ("plain", Some("Accept-Encoding")));
    // The coded file is a file of its own, too.
    let answer = site.accepting("/app.js.gz", &[Gzip]);
    assert_eq!((answer.text(), answer.field("Content-Encoding")), ("GZIP", None));
    let mut off = Site::new();
    off.put("app.js", "plain");
    off.put("app.js.br", "BR");
    let answer = off.accepting("/app.js", &[Br]);
    assert_eq!((answer.text(), answer.field("Vary")), ("plain", None));
}

#[test]
fn conditions_and_ranges_hold_for_the_form_that_is_served() {
    let mut site = coded();
    let br: CodingSet = [Coding::Br].into_iter().collect();
    let coded_tag = site.accepting("/app.js", &[Coding::Br]).field("ETag").expect("a tag").to_owned();
    let plain_tag = site.accepting("/app.js", &[]).field("ETag").expect("a tag").to_owned();
    let mut check = |accepts: CodingSet, tag: &str, status: u16| {
        let conditions = Conditions { if_none_match: tag.as_bytes().into(), ..Conditions::default() };
        let answer = site.ask_for(Method::Get, "/app.js", conditions, accepts, "");
        assert_eq!((answer.status, answer.field("Vary")), (status, Some("Accept-Encoding")));
        if status == 304 {
            // Section 15.4.5.
            assert_eq!((answer.field("ETag"), answer.field("Content-Encoding")), (Some(tag), None));
            assert!(answer.field("Last-Modified").is_some());
        }
    };
    check(br, &coded_tag, 304);
    check(br, &plain_tag, 200);
    check(CodingSet::NONE, &plain_tag, 304);
    check(CodingSet::NONE, &coded_tag, 200);
    let ranged = |range: &'static str| Conditions { range: Some(range.as_bytes()), ..Conditions::default() };
    let answer = site.ask_for(Method::Get, "/app.js", ranged("bytes=1-5"), br, "");
    assert_eq!((answer.status, answer.text(), answer.field("Content-Range")), (206, "R", Some("bytes 1-1/2")));
    assert_eq!(answer.field("Content-Encoding"), Some("br"));
    assert_eq!(site.ask_for(Method::Get, "/app.js", ranged("bytes=2-"), br, "").status, 416);
    // Several ranges of a coded form: the whole of it.
    let answer = site.ask_for(Method::Get, "/app.js", ranged("bytes=0-0,-1"), br, "");
    assert_eq!((answer.status, answer.text()), (200, "BR"));
}

#[test]
fn a_coded_form_older_than_its_original_is_ignored() {
    let mut site = coded();
    set_mtime(&site.path("app.js"), 1_000_000_001);
    assert_eq!(site.accepting("/app.js", &[Coding::Br, Coding::Gzip]).text(), "plain plain plain");
    set_mtime(&site.path("app.js.gz"), 1_000_000_002);
    site.later(VALID);
    assert_eq!(site.accepting("/app.js", &[Coding::Br, Coding::Gzip]).text(), "GZIP");
}

#[test]
fn coded_forms_come_and_go_with_the_next_look() {
    let mut site = coded();
    let both = [Coding::Zstd, Coding::Br];
    assert_eq!(site.accepting("/app.js", &both).text(), "BR");
    set_mtime(&site.put("app.js.zst", "ZSTD"), 1_000_000_000);
    assert_eq!(site.accepting("/app.js", &both).text(), "BR");
    site.later(VALID);
    assert_eq!(site.accepting("/app.js", &both).text(), "ZSTD");
    let misses = site.stats.cache_misses.value();
    site.later(VALID);
    assert_eq!(site.accepting("/app.js", &both).text(), "ZSTD");
    assert_eq!(site.stats.cache_misses.value(), misses, "looked at, not read again");
    fs::remove_file(site.path("app.js.zst")).expect("remove");
    tick();
    fs::write(site.path("app.js.br"), "BRBR").expect("write");
    site.later(VALID);
    assert_eq!(site.accepting("/app.js", &both).text(), "BRBR");
    fs::remove_file(site.path("app.js")).expect("remove");
    site.later(VALID);
    assert_eq!(site.accepting("/app.js", &both).status, 404);
    assert!(site.cache.is_empty());
}

#[test]
fn a_coded_form_stays_beneath_the_root_and_is_a_file() {
    let mut site = coded();
    fs::write(site.dir.path().join("secret"), "secret").expect("write");
    fs::remove_file(site.path("app.js.br")).expect("remove");
    symlink("../secret", site.path("app.js.br")).expect("link");
    fs::create_dir(site.path("app.js.zst")).expect("folder");
    let answer = site.accepting("/app.js", &[Coding::Br, Coding::Zstd]);
    assert_eq!((answer.status, answer.text()), (200, "plain plain plain"));
    site.later(VALID);
    assert_eq!(site.accepting("/app.js", &[Coding::Br]).text(), "plain plain plain");
}

#[test]
fn a_cached_file_with_coded_forms_costs_no_allocation() {
    let mut site = coded();
    site.put("large.txt", &"l".repeat(5000));
    site.put("large.txt.br", "small");
    for target in ["/app.js", "/plain.txt", "/large.txt"] {
        let accepts: CodingSet = [Coding::Br, Coding::Gzip].into_iter().collect();
        assert_eq!(site.accepting(target, &[Coding::Br, Coding::Gzip]).status, 200);
        let mut out = Vec::with_capacity(1024);
        let mut scratch = Vec::new();
        let (allocations, status) = crate::runtime::sys::allocations::count(&mut || {
            out.clear();
            let path = normalize(target.as_bytes(), &mut scratch).expect("a good path");
            let request = Request {
                method: Method::Get,
                path,
                query: None,
                conditions: Conditions::default(),
                accepts,
                accept: Lines::default(),
                substitute: None,
            };
            let plan = prepare(&site.files, 0, &mut site.cache, &request, site.now, &site.stats);
            write_fields(&plan, &mut out);
            plan.status
        });
        assert_eq!((allocations, status), (0, 200), "{target}");
        let head = String::from_utf8(out).expect("text");
        assert_eq!(head.contains("Content-Encoding: br"), target != "/plain.txt", "{head}");
    }
}

#[test]
fn descriptors_of_coded_forms_count() {
    let mut site = Site::with(Limits { descriptors_max: 4, ..limits() }, |files| {
        files.precompressed = vec![Coding::Br, Coding::Gzip];
    });
    for n in 0..4 {
        site.put(&format!("{n}"), &"l".repeat(5000));
        site.put(&format!("{n}.br"), &"b".repeat(5000));
        site.check_status(&format!("/{n}"), 200);
        assert!(site.cache.len() <= 2);
    }
    // Room for one with three descriptors only by letting go of both with two.
    site.put("3.gz", &"g".repeat(5000));
    site.later(VALID);
    site.check_status("/3", 200);
    assert_eq!(site.cache.len(), 1);
}
