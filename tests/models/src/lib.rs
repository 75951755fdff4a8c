//! The files that hold models (`loom_…`), at the places in the tree of modules that they know each other by.

mod mysql;
mod proxy;
mod runtime;
mod util;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    fn files_of(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { files_of(&path, found) } else { found.push(path) }
        }
    }

    /// A model that is compiled nowhere would be one that nobody runs.
    #[test]
    fn all_models_are_here() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = |path: &Path| std::fs::read_to_string(path).expect("a text");
        let (mut here, mut all) = (Vec::new(), Vec::new());
        files_of(&own.join("src"), &mut here);
        files_of(&own.join("../../src"), &mut all);
        let here: String = here.iter().map(|path| text(path)).collect();
        let models = all.iter().filter(|path| text(path).contains("#[cfg(all(test, model_check))]"));
        let names: Vec<&str> =
            models.filter_map(|path| path.to_str()?.split_once("../../")).map(|(_, name)| name).collect();
        assert!(names.len() > 3, "{names:?}");
        let missing: Vec<&&str> = names.iter().filter(|name| !here.contains(*name)).collect();
        assert!(missing.is_empty(), "{missing:?} are to be named in {}", own.join("src").display());
    }
}
