//! What tests of several modules share: seeded random input for the properties in the `fuzz` modules, and waiting for futures.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Inputs per property; the environment may ask for more.
fn rounds() -> u64 {
    std::env::var("FUZZ_ROUNDS").map_or(3000, |text| text.parse().expect("FUZZ_ROUNDS is a number"))
}

/// Calls `property` with the seeds of `target`, with changes of them, and with `pieces` in any order: what means something
/// to the parser, put in where it does not belong. A failure tells the seed that repeats it.
///
/// The seeds are the files in `fuzz/corpus/TARGET` whose names begin with `_`; libFuzzer starts from the same ones.
pub(crate) fn fuzz(target: &str, property: fn(&[u8]), pieces: &[&str]) {
    fuzz_from(target, seeds(target), property, pieces);
}

/// The same with further seeds.
pub(crate) fn fuzz_with(target: &str, more: &[&str], property: fn(&[u8]), pieces: &[&str]) {
    let mut all = seeds(target);
    all.extend(more.iter().map(|text| text.as_bytes().to_vec()));
    fuzz_from(target, all, property, pieces);
}

fn fuzz_from(target: &str, seeds: Vec<Vec<u8>>, property: fn(&[u8]), pieces: &[&str]) {
    for seed in &seeds {
        property(seed);
    }
    for number in 0..rounds() {
        let mut random = StdRng::seed_from_u64(number);
        let input = match number % 8 {
            0 => (0..random.random_range(0..200)).map(|_| random.random()).collect(),
            1 => shuffled(&mut random, pieces),
            _ => {
                let seed = seeds.choose(&mut random).expect("there are seeds").clone();
                changed(&mut random, seed, pieces)
            }
        };
        if let Err(panic) = std::panic::catch_unwind(|| property(&input)) {
            eprintln!("{target}: seed {number}, input {}", input.escape_ascii());
            std::panic::resume_unwind(panic);
        }
    }
}

/// Those of the repository, not what a run of libFuzzer has put beside them.
pub(crate) fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('_')));
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", folder.display());
    paths.iter().map(|path| std::fs::read(path).expect("a seed")).collect()
}

/// Up to four changes: bytes changed, removed, doubled, pieces put in.
fn changed(random: &mut StdRng, mut bytes: Vec<u8>, pieces: &[&str]) -> Vec<u8> {
    for _ in 0..random.random_range(0..=4) {
        let start = random.random_range(0..=bytes.len());
        let end = random.random_range(start..=bytes.len().min(start + 20));
        match random.random_range(0..6) {
            0 if start < bytes.len() => bytes[start] = random.random(),
            1 if start < bytes.len() => bytes[start] ^= 1 << random.random_range(0..8),
            2 => drop(bytes.drain(start..end)),
            3 => bytes = [&bytes[..end], &bytes[start..]].concat(),
            4 => bytes.truncate(start),
            _ => drop(bytes.splice(start..start, pieces.choose(random).unwrap_or(&"").bytes())),
        }
    }
    bytes
}

/// Two bytes, which many properties take as choices, and pieces in any order.
fn shuffled(random: &mut StdRng, pieces: &[&str]) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..2).map(|_| random.random()).collect();
    for _ in 0..random.random_range(0..30) {
        bytes.extend(pieces.choose(random).unwrap_or(&"").bytes());
    }
    bytes
}

/// Runs a future that needs no socket; panics when it hangs.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let limited = async { tokio::time::timeout(std::time::Duration::from_secs(20), future).await.expect("it hangs") };
    runtime.block_on(limited)
}
