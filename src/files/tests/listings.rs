//! Directories without index.

use super::*;

fn listing(format: Listing) -> Site {
    let site = Site::with(limits(), |files| files.listing = format);
    fs::write(site.dir.path().join("secret"), "secret").expect("write");
    site.put("pub/b.txt", "12345");
    site.put("pub/a & b.txt", "1");
    site.put("pub/.hidden", "hidden");
    site.put("pub/sub/x", "x");
    symlink("../../secret", site.path("pub/out")).expect("link");
    symlink("b.txt", site.path("pub/link")).expect("link");
    symlink("nowhere", site.path("pub/dangling")).expect("link");
    rustix::fs::mknodat(rustix::fs::CWD, site.path("pub/fifo"), rustix::fs::FileType::Fifo, 0o644.into(), 0)
        .expect("fifo");
    site
}

#[test]
fn a_directory_without_index_is_listed() {
    let mut site = listing(Listing::Html);
    let answer = site.get("/pub/");
    assert_eq!((answer.status, answer.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!((answer.field("Cache-Control"), answer.field("Vary")), (Some("no-cache"), None));
    let links: Vec<&str> = answer.text().split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(links[3..], ["../", "./sub/", "./a%20&amp;%20b.txt", "./b.txt", "./link"]);
    let head = site.ask(Method::Head, "/pub/", Conditions::default());
    assert_eq!((head.status, head.field("Content-Length")), (200, Some(answer.body.len().to_string().as_str())));
    assert_eq!(site.ask(Method::Options, "/pub/", Conditions::default()).status, 204);
    assert!(!site.get("/").text().contains("../"), "the root has no parent");
    let sorted = site.get("/pub/?sort=size&order=desc");
    let place = |name: &str| sorted.text().find(name).expect("listed");
    assert!(place("./sub/") < place("./b.txt") && place("./b.txt") < place("./a%20"));
    site.check_status("/none/", 404);
    site.check_status("/pub/b.txt/", 404);
    site.check_status("/pub", 301);
    site.check_status("/pub/.hidden/", 404);
    // An index wins, also over a listing that is asked for.
    site.put("pub/index.html", "index");
    site.later(VALID);
    site.check("/pub/", 200, "index");
}

#[test]
fn a_listing_is_json_for_those_who_prefer_it() {
    let mut site = listing(Listing::Auto);
    let answer =
        site.ask_for(Method::Get, "/pub/?order=desc", Conditions::default(), CodingSet::NONE, "application/json");
    assert_eq!(answer.field("Content-Type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.field("Vary"), Some("Accept"));
    let entries: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).expect("JSON");
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry["name"].as_str()).collect();
    assert_eq!(names, ["sub", "link", "b.txt", "a & b.txt"]);
    assert_eq!((&entries[0]["type"], &entries[2]["type"]), (&"directory".into(), &"file".into()));
    assert_eq!(entries[2]["size"], 5);
    assert!(site.get("/pub/").text().starts_with("<!doctype html>"));
    let mut site = listing(Listing::Off);
    site.check_status("/pub/", 403);
}

#[test]
fn a_long_listing_is_cut_and_says_so() {
    let mut site = listing(Listing::Html);
    fs::create_dir(site.path("many")).expect("folder");
    for n in 0..crate::files::listing::ENTRIES_MAX {
        File::create(site.path(&format!("many/{n}"))).expect("file");
    }
    let full = site.get("/many/");
    assert_eq!((full.text().matches("<tr><td>").count(), full.field("X-Listing-Cut")), (10_001, None));
    File::create(site.path("many/one-more")).expect("file");
    let cut = site.get("/many/");
    assert_eq!((cut.text().matches("<tr><td>").count(), cut.field("X-Listing-Cut")), (10_001, Some("1")));
    assert!(cut.text().contains("more entries; 10000 are shown"));
}

#[test]
fn a_listing_goes_to_another_thread_and_fails_like_a_file() {
    let mut site = listing(Listing::Html);
    let PlanBody::NeedsListing(errand) = site.plan("/pub/").body else { panic!("a listing") };
    fs::remove_dir_all(site.path("pub")).expect("remove");
    let listed = std::thread::spawn(move || errand.run()).join().expect("no panic");
    assert_eq!(Answer::of(Plan::listed(listed, Method::Get), Method::Get).status, 404);
}
