//! Files that change, files that are not in memory, and any path at all.

use super::*;

#[test]
fn a_large_file_that_is_written_into_is_noticed_at_once() {
    let mut site = Site::new();
    let path = site.put("big", &"a".repeat(5000));
    set_mtime(&path, 1_000_000_000);
    let (_, head, body) = site.plan_of("/big");
    let PlanBody::File(slice) = body else { panic!("a large file") };
    assert!(slice.is_intact());
    // Within the validity, and of the same length.
    fs::write(&path, "b".repeat(5000)).expect("write");
    assert!(!slice.is_intact(), "the download under way must break");
    let (_, new_head, body) = site.plan_of("/big");
    assert_ne!(head, new_head, "another tag");
    assert!(
        matches!(&body, PlanBody::File(slice) if slice.is_intact() && content_of(slice) == "b".repeat(5000).as_bytes())
    );
    // Shorter, longer, small.
    for len in [4500, 6000, 10] {
        fs::write(&path, "c".repeat(len)).expect("write");
        site.check("/big", 200, &"c".repeat(len));
    }
    // Replaced or removed, it stays of one piece.
    let path = site.put("other", &"d".repeat(5000));
    set_mtime(&path, 1_000_000_000);
    let PlanBody::File(slice) = site.plan_of("/other").2 else { panic!("a large file") };
    fs::remove_file(path).expect("remove");
    assert!(slice.is_intact());
}

#[test]
fn what_is_in_memory_is_answered_without_the_disk() {
    let mut site = Site::new();
    site.put("a.txt", "a");
    site.put("c/index.htm", "c");
    let quick = |site: &mut Site, target: &str| {
        let mut scratch = Vec::new();
        let path = normalize(target.as_bytes(), &mut scratch).expect("a good path");
        let request = Request {
            method: Method::Get,
            path,
            query: None,
            conditions: Conditions::default(),
            accepts: CodingSet::NONE,
            accept: Lines::default(),
            substitute: None,
        };
        let plan = prepare_cached(&site.files, 0, &mut site.cache, &request, site.now, &site.stats);
        site.cache.check_invariants();
        plan.map(|plan| plan.status)
    };
    assert_eq!(quick(&mut site, "/a.txt"), None, "the root is not open yet");
    WarmUp::new(&site.files, crate::util::path::Path::from_normal(b"/a.txt").expect("a path")).run();
    site.check("/a.txt", 200, "a");
    assert_eq!(quick(&mut site, "/a.txt"), Some(200));
    site.check("/c/", 200, "c");
    assert_eq!(quick(&mut site, "/c/"), Some(200));
    // Seldom looked at, but its name may still be in the kernel's memory.
    site.later(VALID);
    for (target, status) in [("/a.txt", 200), ("/c/", 200), ("/none", 404)] {
        let answer = quick(&mut site, target);
        assert!(answer.is_none() || answer == Some(status), "{target}: {answer:?}");
    }
    // However it went, the plain way still works.
    site.check("/a.txt", 200, "a");
    site.check_status("/none", 404);
    assert_eq!(quick(&mut site, "/none"), Some(404), "remembered");
}

#[test]
fn a_helper_thread_warms_up_what_a_worker_needs() {
    let site = Site::with(limits(), |files| files.precompressed = vec![Coding::Br]);
    site.put("a.txt", "a");
    site.put("large", &"l".repeat(100_000));
    for path in ["/a.txt", "/large", "/none", "/", "/.hidden"] {
        let errand = WarmUp::new(&site.files, crate::util::path::Path::from_normal(path.as_bytes()).expect("a path"));
        std::thread::spawn(move || errand.run()).join().expect("no panic");
    }
}

#[test]
fn any_path_is_answered() {
    use proptest::prelude::*;
    let site = Site::with(limits(), |files| {
        files.precompressed = vec![Coding::Gzip];
        files.listing = Listing::Auto;
        files.candidates = vec![
            Candidate::Path { before: String::new(), takes_path: true, after: String::new() },
            Candidate::Path { before: String::new(), takes_path: true, after: "/".into() },
            Candidate::Path { before: "/a".into(), takes_path: true, after: ".html".into() },
        ];
    });
    fs::write(site.dir.path().join("secret"), "secret").expect("write");
    site.put("a/b", "b");
    symlink("../secret", site.path("out")).expect("link");
    let piece = prop_oneof!["/", "\\.\\.", "a", "b", "out", "%2e", "%c0", "secret", "[^%]{1,3}"];
    let paths = proptest::collection::vec(piece, 0..8).prop_map(|pieces| format!("/{}", pieces.concat()));
    let mut runner = proptest::test_runner::TestRunner::default();
    let site = std::cell::RefCell::new(site);
    let result = runner.run(&(paths, "[-0-9,=bytes]{0,12}", "[*/W\"a-f0-9, ]{0,12}"), |(path, range, tag)| {
        let mut scratch = Vec::new();
        if normalize(path.as_bytes(), &mut scratch).is_err() || path.contains('?') {
            return Ok(());
        }
        let conditions = Conditions {
            range: Some(range.as_bytes()),
            if_none_match: tag.as_bytes().into(),
            if_range: Some(tag.as_bytes()),
            ..Conditions::default()
        };
        let accepts = [Coding::Gzip].into_iter().collect();
        let answer = site.borrow_mut().ask_for(Method::Get, &path, conditions, accepts, &tag);
        prop_assert!(matches!(answer.status, 200 | 206 | 301 | 304 | 404), "{path}: {}", answer.status);
        prop_assert!(answer.body != b"secret");
        Ok(())
    });
    result.expect("holds for every path");
}
