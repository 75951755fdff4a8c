//! Forms compressed on the way, kept with their file.

use super::*;

#[test]
fn a_form_compressed_on_the_way_is_kept_with_its_file() {
    let mut site = Site::new();
    let path = site.put("a.css", "body {}");
    let mut plan = site.plan("/a.css");
    let entry = plan.compressible().expect("a plain file").clone();
    assert_eq!((entry.essence(), entry.len(), entry.compressed(Coding::Gzip)), ("text/css", 7, None));
    let before = site.cache.bytes();
    assert!(site.cache.keep_compressed(&entry, Coding::Gzip, "GZ".into(), &site.stats));
    site.cache.check_invariants();
    assert_eq!(site.cache.bytes(), before + 2);
    let again = site.plan("/a.css").compressible().expect("the same").compressed(Coding::Gzip);
    assert_eq!(again.as_deref(), Some(b"GZ".as_slice()));
    plan.compress(Coding::Gzip, again.expect("kept"));
    let answer = Answer::of(plan, Method::Get);
    assert_eq!((answer.text(), answer.field("Content-Encoding")), ("GZ", Some("gzip")));
    assert_eq!((answer.field("Vary"), answer.field("Accept-Ranges")), (Some("Accept-Encoding"), None));
    // Weak, section 8.8.1, and found again by the weak comparison of If-None-Match, section 13.1.2.
    let tag = answer.field("ETag").expect("a tag").to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    let conditions = Conditions { if_none_match: tag.as_bytes().into(), ..Conditions::default() };
    let mut plan = site.plan_for(Method::Get, "/a.css", conditions, CodingSet::NONE, "");
    (plan.is_weak, plan.varies) = (true, true);
    let answer = Answer::of(plan, Method::Get);
    assert_eq!((answer.status, answer.field("ETag")), (304, Some(tag.as_str())));
    // For HEAD the same head.
    let mut plan = site.plan_for(Method::Head, "/a.css", Conditions::default(), CodingSet::NONE, "");
    plan.compress(Coding::Gzip, "GZ".into());
    let head = Answer::of(plan, Method::Head);
    assert_eq!((head.field("Content-Length"), head.body.len()), (Some("2"), 0));
    // It goes with its entry.
    tick();
    fs::write(path, "changed {}").expect("write");
    site.later(VALID);
    let entry = site.plan("/a.css").compressible().expect("the new one").clone();
    assert_eq!(entry.compressed(Coding::Gzip), None);
    assert!(site.cache.bytes() < before + 10);
}

#[test]
fn compressed_forms_stay_within_the_limits() {
    let mut site = Site::with(Limits { bytes_max: 4000, ..limits() }, |_| {});
    for n in 0..3 {
        site.put(&format!("{n}"), "x");
    }
    site.put("large", &"l".repeat(5000));
    let entries: Vec<_> = ["/0", "/1", "/2", "/large"]
        .iter()
        .map(|target| site.plan(target).compressible().expect("a file").clone())
        .collect();
    let form = |len: usize| bytes::Bytes::from(vec![b'z'; len]);
    for entry in &entries {
        site.cache.keep_compressed(entry, Coding::Br, form(1500), &site.stats);
        site.cache.check_invariants();
    }
    assert!(site.stats.cache_evictions.value() > 0);
    assert!(!site.cache.keep_compressed(&entries[3], Coding::Gzip, form(4001), &site.stats), "too large");
    // An entry that is no longer cached takes nothing with it.
    site.cache.reconfigure(limits(), 0, &site.stats);
    assert!(site.cache.is_empty() && site.cache.bytes() == 0);
    assert!(!site.cache.keep_compressed(&entries[0], Coding::Gzip, form(10), &site.stats));
    site.cache.check_invariants();
}
