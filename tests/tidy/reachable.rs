//! Every Rust file belongs to a crate: one that no `mod` names is dead, and no compiler says so.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::repository::{assert_none, packages, root, text_files};

/// Workspaces of their own inside a package's folder: they answer for themselves.
const OTHER_WORKSPACES: &[&str] = &["bench/peers/"];

#[test]
fn every_rust_file_is_reached_from_a_crate_root() {
    let packages = packages();
    let mut reached = BTreeSet::new();
    for root in packages.iter().flat_map(|package| &package.roots) {
        follow(root, root.parent().expect("a file lies in a folder"), &mut reached);
    }
    let problems: Vec<String> = text_files()
        .iter()
        .filter(|file| file.is_rust())
        // Folders that are no package's (fuzz targets) answer for themselves too.
        .filter(|file| !OTHER_WORKSPACES.iter().any(|folder| file.path.starts_with(folder)))
        .filter(|file| packages.iter().any(|package| root().join(&file.path).starts_with(&package.folder)))
        .filter(|file| !reached.contains(&root().join(&file.path)))
        .map(|file| file.path.clone())
        .collect();
    assert_none("files that belong to no crate", &problems);
}

/// Marks a file and all that its `mod` lines name; `below` is the folder in which those lie.
fn follow(file: &Path, below: &Path, reached: &mut BTreeSet<PathBuf>) {
    if !reached.insert(file.to_owned()) {
        return;
    }
    let Ok(text) = fs::read_to_string(file) else { return };
    let mut named_path = None;
    for line in text.lines().map(str::trim) {
        if let Some(included) = between(line, "include!(\"", "\"") {
            follow(&file.with_file_name(included), below, reached);
        }
        if let Some(path) = between(line, "#[path = \"", "\"") {
            named_path = Some(path.to_owned());
            continue;
        }
        let Some(name) = module_name(line) else { continue };
        if let Some(path) = named_path.take() {
            let child = file.with_file_name(path);
            let folder = child.parent().unwrap_or(below).to_owned();
            follow(&child, &folder, reached);
        } else {
            let (flat, nested) = (below.join(format!("{name}.rs")), below.join(name).join("mod.rs"));
            let child = if flat.exists() { flat } else { nested };
            follow(&child, &below.join(name), reached);
        }
    }
}

/// `x` in `mod x;` and `pub(crate) mod x;`.
fn module_name(line: &str) -> Option<&str> {
    let (before, name) = line.strip_suffix(';')?.rsplit_once("mod ")?;
    let is_visibility = before.is_empty() || (before.starts_with("pub") && before.ends_with(' '));
    (is_visibility && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
}

fn between<'line>(line: &'line str, before: &str, after: &str) -> Option<&'line str> {
    line.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

#[test]
fn modules_are_told_from_words() {
    assert_eq!(module_name("mod lock;"), Some("lock"));
    assert_eq!(module_name("pub(crate) mod lock;"), Some("lock"));
    assert_eq!(module_name("mod lock {"), None);
    assert_eq!(module_name("let x = \"mod lock;\";"), None);
}
