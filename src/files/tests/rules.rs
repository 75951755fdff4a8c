//! Dot files, symbolic links, types.

use super::*;

#[test]
fn dot_files_can_be_served() {
    let mut site = Site::with(limits(), |files| (files.dotfiles, files.listing) = (true, Listing::Json));
    site.put(".config", "config");
    site.check("/.config", 200, "config");
    assert!(site.get("/").text().contains(".config"));
    site.check_status("/.", 200);
}

#[test]
fn symbolic_links_follow_the_rule() {
    let site = |links: Symlinks| {
        let site = Site::with(limits(), |files| files.symlinks = links);
        site.put("real/a.txt", "a");
        symlink("real", site.path("folder")).expect("link");
        symlink("real/a.txt", site.path("file")).expect("link");
        symlink("/etc/passwd", site.path("out")).expect("link");
        site
    };
    for (links, status) in [(Symlinks::Beneath, 200), (Symlinks::Owner, 200), (Symlinks::Never, 404)] {
        let mut site = site(links);
        for target in ["/file", "/folder/a.txt"] {
            site.check_status(target, status);
            site.later(VALID);
            site.check_status(target, status);
        }
        site.check("/real/a.txt", 200, "a");
        site.check_status("/out", 404);
        // A file that is exchanged for a link.
        fs::remove_file(site.path("real/a.txt")).expect("remove");
        fs::write(site.path("other"), "other").expect("write");
        symlink("../other", site.path("real/a.txt")).expect("link");
        site.later(VALID);
        site.check_status("/real/a.txt", status);
    }
    let mut site = site(Symlinks::Owner);
    let stranger = Some(rustix::fs::Uid::from_raw(12_345));
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    if rustix::fs::chownat(rustix::fs::CWD, site.path("file"), stranger, None, flags).is_err() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    site.check_status("/file", 403);
    site.check("/folder/a.txt", 200, "a");
}

#[test]
fn a_new_config_with_other_types_is_obeyed_at_once() {
    let mut site = Site::new();
    site.put("a.bin", "a");
    assert_eq!(site.get("/a.bin").field("Content-Type"), Some("application/octet-stream"));
    let mut files = (*site.files).clone();
    files.media.types = vec![("bin".into(), "text/x-bin".into())];
    site.files = Arc::new(files);
    site.later(VALID);
    assert_eq!(site.get("/a.bin").field("Content-Type"), Some("text/x-bin; charset=utf-8"));
}
