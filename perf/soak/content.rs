//! The files that are served, in memory too, to compare with.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore, SeedableRng};

/// Sizes of the files, and how often each is taken: around every limit of the server (its read buffer, its file cache, its
/// pieces, a TLS record), and what a site has.
const SIZES: [(usize, u32); 18] = [
    (0, 20),
    (1, 40),
    (511, 40),
    (512, 80),
    (4_095, 40),
    (4_097, 40),
    (16_384, 40),
    (16_385, 40),
    (65_535, 30),
    (65_536, 30),
    (65_537, 30),
    (100_000, 40),
    (262_145, 20),
    (1_000_000, 15),
    (5_000_000, 8),
    (10_000_000, 3),
    (25_000_001, 1),
    (50_000_000, 1),
];
/// Sizes of the texts; compression begins at 1 KiB, and what lies in the cache ends at 1 MiB.
const TEXT_SIZES: [usize; 6] = [100, 1_024, 30_000, 200_000, 1_048_577, 3_000_000];
/// The page with a compressed copy beside it.
pub(crate) const PAGE: &str = "page.html";
/// Name of the file whose beginning the upstream answers with.
const STREAM_BYTES: usize = 5_000_000;
const WORDS: [&str; 16] = [
    "stage", "world", "players", "entrance", "exit", "part", "age", "infant", "lover", "soldier", "justice", "voice",
    "the", "and", "of", "with",
];

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) body: Bytes,
    weight: u32,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// Not compressible.
    pub(crate) files: Vec<File>,
    /// Compressible, by the type of their names too.
    pub(crate) texts: Vec<File>,
    pub(crate) page: File,
    /// `page` in the coding br, as it lies on disk.
    pub(crate) page_br: Bytes,
    /// What the upstream answers with, and what is uploaded.
    pub(crate) stream: Bytes,
    pub(crate) text_stream: Bytes,
}

impl Content {
    /// Writes all files into `folder`, which is created. Errors: in words.
    pub(crate) fn write(folder: &Path, seed: u64) -> Result<Content, String> {
        let mut rng = StdRng::seed_from_u64(seed);
        std::fs::create_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let write = |name: String, body: Bytes, weight: u32| {
            let path = folder.join(&name);
            std::fs::write(&path, &body).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok::<_, String>(File { name, body, weight })
        };
        let mut files = Vec::new();
        for (bytes, weight) in SIZES {
            files.push(write(format!("{bytes}.bin"), noise(&mut rng, bytes), weight)?);
        }
        let mut texts = Vec::new();
        for (index, bytes) in TEXT_SIZES.into_iter().enumerate() {
            let extension = ["txt", "html", "json"][index % 3];
            texts.push(write(format!("{bytes}.{extension}"), text(&mut rng, bytes), 1)?);
        }
        let page = write(PAGE.into(), text(&mut rng, 30_000), 1)?;
        let page_br = brotli(&page.body)?;
        write(format!("{PAGE}.br"), page_br.clone(), 0)?;
        let (stream, text_stream) = (noise(&mut rng, STREAM_BYTES), text(&mut rng, STREAM_BYTES));
        Ok(Content { files, texts, page, page_br, stream, text_stream })
    }

    /// A file, the small ones more often.
    pub(crate) fn any(&self, rng: &mut impl Rng) -> &File {
        self.between(rng, 0, usize::MAX)
    }

    /// A file of `least` to `most` bytes; the first one where there is none.
    pub(crate) fn between(&self, rng: &mut impl Rng, least: usize, most: usize) -> &File {
        let fitting: Vec<_> = self.files.iter().filter(|file| (least..=most).contains(&file.body.len())).collect();
        fitting.choose_weighted(rng, |file| file.weight).map_or(&self.files[0], |file| file)
    }
}

fn noise(rng: &mut StdRng, bytes: usize) -> Bytes {
    let mut body = vec![0; bytes];
    rng.fill_bytes(&mut body);
    body.into()
}

fn text(rng: &mut StdRng, bytes: usize) -> Bytes {
    let mut body = Vec::with_capacity(bytes + 16);
    while body.len() < bytes {
        body.extend_from_slice(WORDS[rng.random_range(0..WORDS.len())].as_bytes());
        body.push(if rng.random_bool(0.1) { b'\n' } else { b' ' });
    }
    body.truncate(bytes);
    body.into()
}

fn brotli(body: &[u8]) -> Result<Bytes, String> {
    let mut writer = brotli::CompressorWriter::new(Vec::new(), 4096, 9, 22);
    writer.write_all(body).map_err(|e| format!("brotli: {e}"))?;
    Ok(writer.into_inner().into())
}
