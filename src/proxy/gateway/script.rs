//! Which part of a path is the script that runs, and which is for the script to read.
//!
//! Bytes are compared where they stand. A copy in lower case may have another length (some letters of Unicode do), and a
//! position found in it would name another file: that is how CVE-2026-27590 ran uploads as scripts. So `.PHP` is not `.php`.

/// A path that has a script in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split<'a> {
    /// The path of the script, SCRIPT_NAME.
    pub script: &'a [u8],
    /// What stands behind it, PATH_INFO: empty, or it begins with a slash.
    pub path_info: &'a [u8],
}

/// Splits `path`, which is decoded and free of dot segments, behind the first name in it that ends in one of `suffixes`.
/// `None`: there is none. A name that is nothing but a suffix is no script.
pub fn split<'a>(path: &'a [u8], suffixes: &[impl AsRef<str>]) -> Option<Split<'a>> {
    let ends = memchr::memchr_iter(b'/', path).filter(|end| *end > 0).chain([path.len()]);
    let is_script = |end: &usize| {
        suffixes.iter().any(|suffix| {
            let stem = path[..*end].strip_suffix(suffix.as_ref().as_bytes());
            stem.and_then(<[u8]>::last).is_some_and(|last| *last != b'/')
        })
    };
    let end = ends.into_iter().find(is_script)?;
    Some(Split { script: &path[..end], path_info: &path[end..] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_script_of_a_path_counts() {
        for (path, expect) in [
            ("/index.php", Some(("/index.php", ""))),
            ("/index.php/a/b", Some(("/index.php", "/a/b"))),
            ("/index.php/", Some(("/index.php", "/"))),
            ("/a.php/b.php", Some(("/a.php", "/b.php"))),
            ("/remote.php/dav/x.php.txt", Some(("/remote.php", "/dav/x.php.txt"))),
            ("/up/evil.jpg/x.php", Some(("/up/evil.jpg/x.php", ""))),
            ("/app.fcgi/x", Some(("/app.fcgi", "/x"))),
            ("/x.php.bak", None),
            ("/x.phpx/y", None),
            ("/x.PHP", None),
            ("/x.Php/y", None),
            ("/.php", None),
            ("/a/.php/b", None),
            ("/", None),
            ("", None),
            // U+023A is two bytes, and three in lower case.
            (
                "/\u{23a}\u{23a}\u{23a}\u{23a}shell.php.txt.php",
                Some(("/\u{23a}\u{23a}\u{23a}\u{23a}shell.php.txt.php", "")),
            ),
            ("/\u{23a}.php\u{23a}/x", None),
            ("/x.\u{ff50}hp", None),
            ("/x.p\u{202e}hp", None),
        ] {
            let got = split(path.as_bytes(), &[".php", ".fcgi"]);
            let expect = expect.map(|(script, rest)| Split { script: script.as_bytes(), path_info: rest.as_bytes() });
            assert_eq!(got, expect, "{path}");
        }
        assert_eq!(split(b"/x.php", &[] as &[&str]), None);
    }

    proptest! {
        #[test]
        fn the_parts_are_the_path(path in "[/a.ph\u{23a}P]{0,20}") {
            let Some(Split { script, path_info }) = split(path.as_bytes(), &[".php"]) else {
                prop_assert!(!path.split('/').any(|name| name.len() > 4 && name.ends_with(".php")));
                return Ok(());
            };
            prop_assert_eq!([script, path_info].concat(), path.as_bytes());
            prop_assert!(script.ends_with(b".php") && !script.ends_with(b"/.php"));
            prop_assert!(path_info.is_empty() || path_info.starts_with(b"/"));
        }
    }
}
