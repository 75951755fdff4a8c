//! The static part of the demo: embedded in the program, written to a folder at start so that the file server has real
//! files to serve.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const FILES: [(&str, &[u8]); 9] = [
    ("index.html", include_bytes!("site/index.html")),
    ("live.html", include_bytes!("site/live.html")),
    ("style.css", include_bytes!("site/style.css")),
    ("app.js", include_bytes!("site/app.js")),
    ("applications.js", include_bytes!("site/applications.js")),
    ("live.js", include_bytes!("site/live.js")),
    ("model.js", include_bytes!("site/model.js")),
    ("diagram.js", include_bytes!("site/diagram.js")),
    ("favicon.svg", include_bytes!("site/favicon.svg")),
];

/// A folder of our own with the demo's files in it; dropping the value removes the folder.
#[derive(Debug)]
pub struct SiteFolder {
    path: PathBuf,
}

impl SiteFolder {
    /// Makes a folder in the system's folder for temporary files and fills it. Errors: the folder or a file cannot be
    /// written.
    pub fn create() -> io::Result<SiteFolder> {
        SiteFolder::create_in(&std::env::temp_dir())
    }

    fn create_in(parent: &Path) -> io::Result<SiteFolder> {
        // The name cannot be guessed and mkdir(2) refuses a name that exists, so nobody prepares the folder for us.
        let path = parent.join(format!("one-server-demo-{:016x}", rand::random::<u64>()));
        DirBuilder::new().mode(0o755).create(&path)?;
        let folder = SiteFolder { path };
        let site = folder.site();
        DirBuilder::new().mode(0o755).create(&site)?;
        for (name, content) in FILES {
            let file = site.join(name);
            fs::write(&file, content)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
        }
        Ok(folder)
    }

    /// The folder; nothing in it is served, except what is below [`SiteFolder::site`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a certificate and its key to a folder that only we can enter; returns their paths, certificate first.
    /// Errors: they cannot be written, or are there already.
    pub fn keep_certificate(&self, chain_pem: &str, key_pem: &str) -> io::Result<(PathBuf, PathBuf)> {
        let folder = self.path.join("tls");
        DirBuilder::new().mode(0o700).create(&folder)?;
        let paths = (folder.join("demo.pem"), folder.join("demo.key"));
        for (path, text, mode) in [(&paths.0, chain_pem, 0o644), (&paths.1, key_pem, 0o600)] {
            OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())?;
        }
        Ok(paths)
    }

    /// Where the files to be served are.
    pub fn site(&self) -> PathBuf {
        self.path.join("site")
    }
}

impl Drop for SiteFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(folder = %self.path.display(), "the demo's files stay behind: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_lives_as_long_as_its_value() {
        let parent = tempfile::tempdir().unwrap();
        let folder = SiteFolder::create_in(parent.path()).unwrap();
        let path = folder.path().to_owned();
        assert!(fs::read_to_string(folder.site().join("index.html")).unwrap().starts_with("<!doctype html>"));
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn the_key_is_for_us_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = SiteFolder::create_in(parent.path()).unwrap();
        let (chain, key) = folder.keep_certificate("chain", "key").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(key.parent().unwrap()), mode(&key)), (0o700, 0o600));
        assert_eq!(
            (fs::read_to_string(chain).unwrap(), fs::read_to_string(key).unwrap()),
            ("chain".into(), "key".into())
        );
    }

    #[test]
    fn pages_ask_nobody_else_for_anything() {
        for (name, content) in FILES {
            let text = std::str::from_utf8(content).unwrap();
            let mut links = text.match_indices("http").filter(|(at, _)| text[*at..].starts_with("https://"));
            // SVG's namespace is http:// and is a name, not an address that is fetched.
            assert!(links.next().is_none(), "{name} names another host");
        }
    }
}
