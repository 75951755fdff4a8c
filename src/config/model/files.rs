//! The `files` action.

use std::path::PathBuf;

use crate::http::coding::Coding;

/// A folder to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Absolute or relative to the working directory; nothing outside is ever opened.
    pub root: PathBuf,
    /// Leading part of the path that is cut off before the file is looked for; empty: nothing.
    pub strip_prefix: String,
    /// Names tried for a path that ends in `/`.
    pub index: Vec<String>,
    /// What is tried in order instead of the path itself; empty: the path.
    pub candidates: Vec<Candidate>,
    /// Path, beneath the root, served with 200 when there is no such file (single-page applications).
    pub fallback: Option<String>,
    /// The named route, index into [`Site::routes`](super::Site::routes), that gets the request when there is no such file.
    pub last_resort: Option<usize>,
    /// What a directory without index file is answered with.
    pub listing: Listing,
    /// Codings whose ready-made files beside the originals are served; empty: none.
    pub precompressed: Vec<Coding>,
    /// Most ranges honoured in one request; 0: none at all.
    pub ranges_max: usize,
    /// Names that begin with a dot are served too, not only `.well-known`.
    pub dotfiles: bool,
    /// Which symbolic links are followed.
    pub symlinks: Symlinks,
    /// Media types.
    pub media: MediaTypes,
}

/// One entry of `try`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// A path beneath the root.
    Path {
        /// What stands before `$path`, or everything.
        before: String,
        /// The path of the request stands between the two.
        takes_path: bool,
        /// What stands behind `$path`.
        after: String,
    },
    /// The end: this status, 400 to 599.
    Status(u16),
}

/// What a directory without index file is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// 403.
    Off,
    /// A page.
    Html,
    /// A JSON array, as nginx writes it.
    Json,
    /// What the client prefers.
    Auto,
}

/// Which symbolic links beneath a root are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symlinks {
    /// Those that stay beneath the root.
    Beneath,
    /// Those of them whose owner owns what they lead to.
    Owner,
    /// None.
    Never,
}

/// Media types by extension, and their charset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaTypes {
    /// Extension in lower case, without its dot, and type: wins over the built-in table. Sorted by extension.
    pub types: Vec<(String, String)>,
    /// Type of files without a known extension.
    pub default_type: String,
    /// Value of the charset parameter; empty: no parameter.
    pub charset: String,
    /// Types that get the parameter: whole types, `type/*` or `*+suffix`.
    pub charset_types: Vec<String>,
}
