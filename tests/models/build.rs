//! Has the files of the program take loom's atomics: see `src/runtime/sync.rs`.

fn main() {
    println!("cargo::rustc-cfg=model_check");
}
