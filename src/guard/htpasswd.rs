//! Users files as Apache's htpasswd writes them: one `user:hash` a line.
//!
//! Text in, an immutable snapshot out. Hashes: bcrypt, SHA-crypt, apr1 and `{SHA}`; plain text and DES are refused,
//! because whoever reads the file has the passwords. Reading is quick, verifying is slow by intention.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use super::basic_auth::Credentials;
use super::crypt::Hash;
pub use super::crypt::HashError;

/// A users file larger than this is something else, bytes.
pub const FILE_BYTES_MAX: u64 = 8 << 20;

/// The users of one file, as it was when it was read.
#[derive(Clone)]
pub struct Users {
    /// By name, the index into `hashes`.
    names: HashMap<Box<[u8]>, usize, ahash::RandomState>,
    hashes: Vec<Hash>,
    generation: Generation,
}

/// Tells one snapshot from every other with different content: SHA-256 of the text.
///
/// So that a verdict holds for another snapshot of an unchanged file, and for no other file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Generation(pub(super) [u8; SHA256_OUTPUT_LEN]);

impl fmt::Debug for Users {
    /// Without names and hashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("count", &self.hashes.len()).finish_non_exhaustive()
    }
}

impl Users {
    /// Reads a whole file. Lines that are wrong are left out and told, so that one slip does not shut everyone out.
    ///
    /// Empty lines and lines that begin with `#` do not count; what follows a second colon is a comment.
    pub fn parse(text: &str) -> (Users, Vec<Problem>) {
        let generation = Generation(sha256(&[text.as_bytes()]));
        let mut users = Users { names: HashMap::default(), hashes: Vec::new(), generation };
        let mut lines: Vec<usize> = Vec::new();
        let mut problems = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut problem = |user: &str, what| problems.push(Problem { line: at + 1, user: user.into(), what });
            let Some((name, rest)) = line.split_once(':') else {
                problem("", What::NoColon);
                continue;
            };
            let hash = rest.split(':').next().unwrap_or_default();
            match (bad_name(name), Hash::parse(hash)) {
                (Some(what), _) => problem("", what),
                (None, Err(error)) => problem(name, What::Hash(error)),
                (None, Ok(hash)) => match users.names.get(name.as_bytes()) {
                    Some(first) => problem(name, What::Twice { first_line: lines[*first] }),
                    None => {
                        users.names.insert(name.as_bytes().into(), users.hashes.len());
                        users.hashes.push(hash);
                        lines.push(at + 1);
                    }
                },
            }
        }
        (users, problems)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.hashes.len()
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether there is such a user with such a password. Slow: call it on a thread that may block, see
    /// [`super::Hasher`].
    ///
    /// Names that are not in the file take the time of one that is, and the same one takes the same time whenever it is
    /// tried: its password is compared with that of a user chosen by a hash of the name, which nobody without the file
    /// can compute. The answer is no even if that fits.
    pub fn verify(&self, credentials: &Credentials) -> bool {
        let known = self.names.get(credentials.user()).copied();
        let Some(hash) = self.hashes.get(known.unwrap_or_else(|| self.stand_in(credentials.user()))) else {
            return false;
        };
        hash.verify(credentials.password()) & known.is_some()
    }

    fn stand_in(&self, name: &[u8]) -> usize {
        let sum = sha256(&[&self.generation.0, name]);
        let number = sum.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        (number % (self.hashes.len() as u64).max(1)) as usize
    }
}

fn sha256(parts: &[&[u8]]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut out = [0; SHA256_OUTPUT_LEN];
    out.copy_from_slice(digest(&SHA256, &parts.concat()).as_ref());
    out
}

/// RFC 7617 section 2 keeps control characters out of names; a colon cannot get into one.
fn bad_name(name: &str) -> Option<What> {
    if name.is_empty() {
        return Some(What::NoName);
    }
    let wrong = name.len() > super::basic_auth::USER_BYTES_MAX || name.chars().any(char::is_control);
    wrong.then_some(What::BadName)
}

/// Something wrong with one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// The line's user; empty when the line has none that could be shown.
    pub user: String,
    /// What it is.
    pub what: What,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is not `user:hash`.
    NoColon,
    /// Nothing stands in front of the colon.
    NoName,
    /// The name holds control characters, or is longer than anyone could send.
    BadName,
    /// The user stands further up already; the first line counts.
    Twice {
        /// Where, from 1.
        first_line: usize,
    },
    /// The password is not stored in a form that is accepted.
    Hash(HashError),
}

impl fmt::Display for Problem {
    /// One line, without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { line, user, what } = self;
        let error = match what {
            What::NoColon => return write!(f, "line {line} has no colon: write USER:HASH, as `htpasswd -B` does"),
            What::NoName => return write!(f, "line {line} has no user in front of the colon"),
            What::BadName => return write!(f, "line {line} has a user name that nobody can send"),
            What::Twice { first_line } => {
                return write!(
                    f,
                    "line {line}: user `{user}` stands in line {first_line} already, which counts: take one away"
                );
            }
            What::Hash(error) => error,
        };
        let (has, again) = (format_args!("line {line}: user `{user}`"), "write it anew with `htpasswd -B`");
        match error {
            HashError::Empty => write!(f, "{has} has no password: {again}"),
            HashError::PlainText => write!(f, "{has} has a password in plain text, which is refused: {again}"),
            HashError::Des => write!(f, "{has} has a DES password (crypt), which is too weak and refused: {again}"),
            HashError::Unsupported(kind) => {
                write!(f, "{has} has a password in the form of {kind}, which is not known here: {again}")
            }
            HashError::Malformed(kind) => write!(f, "{has} has a damaged {kind} password: {again}"),
            HashError::TooCostly(most) => {
                write!(f, "{has} has a password that takes too long to verify: {again}, the most is {most}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials::new(user.as_bytes(), password.as_bytes()).unwrap()
    }

    fn verify(users: &Users, user: &str, password: &str) -> bool {
        users.verify(&credentials(user, password))
    }

    const FILE: &str = "# users of the test\r\n\
        \r\n\
        sha:{SHA}00hq6RNueFa8QiEjhep5cJRHWAI=\r\n\
        apr:$apr1$abcdefgh$Unf1zc.jsgCbBQDCL104q.:a comment: here\n\
        \x20 \n\
        jörg müller:{SHA}00hq6RNueFa8QiEjhep5cJRHWAI=";

    #[test]
    fn a_file_gives_its_users() {
        let (users, problems) = Users::parse(FILE);
        assert_eq!((users.count(), problems), (3, vec![]));
        for user in ["sha", "apr", "jörg müller"] {
            assert!(verify(&users, user, "Hello world!"), "{user}");
            assert!(!verify(&users, user, "Hello world"), "{user}");
        }
        // The right password of the user who stands in for them.
        for nobody in ["", "SHA", "sha ", "nobody", "# users of the test"] {
            assert!(!verify(&users, nobody, "Hello world!"), "{nobody}");
        }
        let (bom, problems) = Users::parse(&format!("\u{feff}{FILE}"));
        assert_eq!((bom.count(), problems.len()), (3, 0));
        let (none, problems) = Users::parse("");
        assert!(!verify(&none, "a", "") && problems.is_empty());
    }

    #[test]
    fn wrong_lines_are_told_and_left_out() {
        let text = "good:{SHA}00hq6RNueFa8QiEjhep5cJRHWAI=\n\
            no colon\n\
            :{SHA}00hq6RNueFa8QiEjhep5cJRHWAI=\n\
            plain:secret\n\
            des:rqXexS6ZhobKA\n\
            good:{SHA}00hq6RNueFa8QiEjhep5cJRHWAI=\n\
            empty:\n\
            bad\tname:{SHA}00hq6RNueFa8QiEjhep5cJRHWAI=\n\
            old:$1$abcdefgh$G//4keteveJp0qb8z2DxG/\n\
            slow:$2y$18$Y5FFKxhD92haPe1UDcrxueprCHWk3AAvg0kLm51cDWlFprVvWjaSC\n\
            cut:$2y$05$Y5FFKx\n";
        let (users, problems) = Users::parse(text);
        assert_eq!(users.count(), 1);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "line 2 has no colon: write USER:HASH, as `htpasswd -B` does",
                "line 3 has no user in front of the colon",
                "line 4: user `plain` has a password in plain text, which is refused: write it anew with `htpasswd -B`",
                "line 5: user `des` has a DES password (crypt), which is too weak and refused: write it anew with `htpasswd -B`",
                "line 6: user `good` stands in line 1 already, which counts: take one away",
                "line 7: user `empty` has no password: write it anew with `htpasswd -B`",
                "line 8 has a user name that nobody can send",
                "line 9: user `old` has a password in the form of MD5-crypt ($1$), which is not known here: write it anew with `htpasswd -B`",
                "line 10: user `slow` has a password that takes too long to verify: write it anew with `htpasswd -B`, the most is bcrypt with a cost of up to 17",
                "line 11: user `cut` has a damaged bcrypt password: write it anew with `htpasswd -B`",
            ]
        );
    }

    #[test]
    fn a_snapshot_is_known_by_its_content() {
        let generation = |text: &str| Users::parse(text).0.generation();
        assert!(generation(FILE) == generation(FILE));
        assert!(generation(FILE) != generation(&FILE.replace("sha", "shb")));
    }

    /// Every user of the file is a stand-in for some names, so that a file of mixed hashes gives no user away.
    #[test]
    fn unknown_names_take_the_time_of_known_ones() {
        let (users, _) = Users::parse(FILE);
        let mut counts = [0; 3];
        for number in 0..300 {
            let name = format!("nobody{number}");
            let first = users.stand_in(name.as_bytes());
            assert_eq!(users.stand_in(name.as_bytes()), first);
            counts[first] += 1;
        }
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
        assert_eq!(Users::parse("").0.stand_in(b"x"), 0);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let (users, problems) = Users::parse("a:{SHA}00hq6RNueFa8QiEjhep5cJRHWAI=\nb:secret");
        let shown = format!("{users:?} {problems:?} {}", problems[0]);
        assert!(!shown.contains("00hq") && !shown.contains("secret"), "{shown}");
    }

    /// What a program prints; `None`, told, when the machine does not have it.
    fn run(program: &str, arguments: &[&str]) -> Option<String> {
        match Command::new(program).args(arguments).output() {
            Ok(output) if output.status.success() => Some(String::from_utf8(output.stdout).unwrap()),
            Ok(output) => panic!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                eprintln!("skipped: {program}: {error}");
                None
            }
        }
    }

    const PASSWORDS: [&str; 5] =
        ["x", "Hello world!", "pä$$:wörd", "0123456789abcdef", "a password of 33 characters, odd."];

    #[test]
    fn files_that_htpasswd_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let path = path.to_str().unwrap();
        for (at, kind) in ["-B", "-m", "-s"].iter().enumerate() {
            for (number, password) in PASSWORDS.iter().enumerate() {
                let user = format!("user{at}{number}");
                let create = if (at, number) == (0, 0) { "-cb" } else { "-b" };
                let cost: &[&str] = if *kind == "-B" { &["-C", "4"] } else { &[] };
                let arguments = [&[create, kind], cost, &[path, &user, password]].concat();
                if run("htpasswd", &arguments).is_none() {
                    return;
                }
            }
        }
        let (users, problems) = Users::parse(&std::fs::read_to_string(path).unwrap());
        assert_eq!((users.count(), problems), (3 * PASSWORDS.len(), vec![]));
        for at in 0..3 {
            for (number, password) in PASSWORDS.iter().enumerate() {
                assert!(verify(&users, &format!("user{at}{number}"), password), "{at} {password}");
                assert!(!verify(&users, &format!("user{at}{number}"), &format!("{password}.")), "{at} {password}");
            }
        }
    }

    /// `-d` and `-p` of htpasswd.
    #[test]
    fn weak_forms_that_htpasswd_writes_are_refused() {
        for (flag, what) in [("-d", HashError::Des), ("-p", HashError::PlainText)] {
            let Some(line) = run("htpasswd", &["-nb", flag, "bob", "secret"]) else { return };
            let (users, problems) = Users::parse(&line);
            assert_eq!(users.count(), 0);
            assert_eq!(problems, [Problem { line: 1, user: "bob".into(), what: What::Hash(what) }]);
        }
    }

    #[test]
    fn what_openssl_passwd_writes() {
        for kind in ["-5", "-6", "-apr1"] {
            for password in PASSWORDS {
                let Some(hash) = run("openssl", &["passwd", kind, password]) else { return };
                let (users, problems) = Users::parse(&format!("bob:{hash}"));
                assert_eq!((users.count(), problems), (1, vec![]), "{hash}");
                assert!(verify(&users, "bob", password), "{kind} {password}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).{0,200}|([a-z]{1,3}:(\\$(2y|5|6|apr1)\\$|\\{SHA\\})[0-9a-zA-Z./$=]{0,90}\n){0,4}") {
            let (users, problems) = Users::parse(&text);
            let counted = text.lines().filter(|line| !line.trim().is_empty()).count();
            prop_assert!(users.count() + problems.len() <= counted);
            problems.iter().for_each(|problem| assert!(!problem.to_string().contains('\n')));
        }
    }
}
