//! Several ranges in one request; conditions of files that are not there.

use super::*;

/// Takes a multipart body apart: the fields and the content of each part.
fn parts_of(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let boundary = answer
        .field("Content-Type")
        .and_then(|value| value.strip_prefix("multipart/byteranges; boundary="))
        .unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(answer.field("Content-Range"), None);
    let text = format!("\r\n{}", String::from_utf8(answer.body.clone()).expect("the test's files are text"));
    let delimiter = format!("\r\n--{boundary}");
    let mut parts: Vec<&str> = text.split(&delimiter).collect();
    assert_eq!((parts.remove(0), parts.pop()), ("", Some("--\r\n")));
    parts
        .into_iter()
        .map(|part| {
            let part = part.strip_prefix("\r\n").expect("a line end behind the boundary");
            let (head, body) = part.split_once("\r\n\r\n").expect("a head");
            (head.to_owned(), body.as_bytes().to_vec())
        })
        .collect()
}

#[test]
fn several_ranges_come_in_parts_section_14_6() {
    let mut site = Site::new();
    site.put("n.txt", "0123456789");
    site.put("large.bin", &"0123456789".repeat(1000));
    for (target, len, media_type) in
        [("/n.txt", 10, "text/plain; charset=utf-8"), ("/large.bin", 10_000, "application/octet-stream")]
    {
        let answer = site.ranged(target, "bytes=7-8,0-0,-1");
        assert_eq!(answer.status, 206);
        let part = |first: u64, last: u64, body: &str| {
            let head = format!("Content-Type: {media_type}\r\nContent-Range: bytes {first}-{last}/{len}");
            (head, body.as_bytes().to_vec())
        };
        assert_eq!(
            parts_of(&answer),
            match len {
                10 => vec![part(7, 9, "789"), part(0, 0, "0")],
                _ => vec![part(7, 8, "78"), part(0, 0, "0"), part(9999, 9999, "9")],
            }
        );
        assert!(answer.field("ETag").is_some() && answer.field("Last-Modified").is_some());
        // One that is left over is not sent as multipart: section 15.3.7.2.
        let answer = site.ranged(target, "bytes=0-1,99999-");
        let range = format!("bytes 0-1/{len}");
        assert_eq!((answer.status, answer.field("Content-Range")), (206, Some(range.as_str())));
        assert_eq!(answer.text(), "01");
        assert_eq!(site.ranged(target, "bytes=99999-,-0").status, 416);
        let conditions = Conditions { range: Some(b"bytes=0-0,5-5"), ..Conditions::default() };
        let head = site.ask(Method::Head, target, conditions);
        assert_eq!((head.status, head.field("Content-Length")), (200, Some(len.to_string().as_str())));
    }
    let boundary = |answer: &Answer| answer.field("Content-Type").map(str::to_owned);
    let (one, two) = (site.ranged("/n.txt", "bytes=0-0,5-5"), site.ranged("/n.txt", "bytes=0-0,5-5"));
    assert_ne!(boundary(&one), boundary(&two), "nobody can foresee it");
}

#[test]
fn range_bombs_get_no_more_than_the_file() {
    let mut site = Site::new();
    site.put("n.txt", &"x".repeat(1000));
    for bomb in [format!("bytes=0-{}", ",0-".repeat(60)), format!("bytes=0-{}", ",5-".repeat(3000))] {
        let answer = site.ranged("/n.txt", &bomb);
        assert!(answer.status == 200 || answer.status == 206, "{}", answer.status);
        assert_eq!(answer.body.len(), 1000);
    }
    let scattered: Vec<String> = (0..64).map(|n| format!("{0}-{0}", n * 3)).collect();
    let answer = site.ranged("/n.txt", &format!("bytes={}", scattered.join(",")));
    assert_eq!((answer.status, parts_of(&answer).len()), (206, 64));
    assert!(answer.body.len() < 64 * 200);
}

#[test]
fn ranges_can_be_switched_off() {
    let mut site = Site::with(limits(), |files| files.ranges_max = 0);
    site.put("n.txt", "0123456789");
    let answer = site.ranged("/n.txt", "bytes=0-1");
    assert_eq!((answer.status, answer.text(), answer.field("Accept-Ranges")), (200, "0123456789", None));
    assert_eq!(site.ranged("/n.txt", "bytes=99-").status, 200);
    let mut site = Site::with(limits(), |files| files.ranges_max = 1);
    site.put("n.txt", "0123456789");
    assert_eq!(site.ranged("/n.txt", "bytes=0-1").status, 206);
    assert_eq!(site.ranged("/n.txt", "bytes=0-1,5-6").status, 200);
}

#[test]
fn a_missing_file_is_404_whatever_the_conditions_section_13_2_1() {
    let mut site = Site::new();
    site.put("folder/x", "x");
    for condition in [
        Conditions { if_match: b"*".as_slice().into(), ..Conditions::default() },
        Conditions { if_none_match: b"*".as_slice().into(), ..Conditions::default() },
        Conditions { if_unmodified_since: Some(b"Sun, 06 Nov 1994 08:49:37 GMT"), ..Conditions::default() },
        Conditions { range: Some(b"bytes=0-1,3-4"), ..Conditions::default() },
    ] {
        assert_eq!(site.ask(Method::Get, "/none", condition.clone()).status, 404);
        assert_eq!(site.ask(Method::Get, "/folder", condition).status, 301);
    }
}
