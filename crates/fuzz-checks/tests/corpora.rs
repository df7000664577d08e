//! Every input that is kept in `fuzz/corpus` holds what its check demands.

use std::{fs, path::PathBuf};

use sluice_fuzz_checks::TARGETS;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

#[test]
fn kept_inputs_break_no_promise() {
    for target in TARGETS {
        let folder = corpus().join(target.name);
        let files: Vec<_> = fs::read_dir(&folder).expect("each target has a corpus").collect();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for file in files {
            let path = file.expect("a folder can be read").path();
            let bytes = fs::read(&path).expect("a file can be read");
            // Named before it is tried, so that the output says which one broke it.
            println!("{}", path.display());
            (target.check)(&bytes);
        }
    }
}

#[test]
fn each_corpus_has_a_target() {
    let mut folders: Vec<_> = fs::read_dir(corpus())
        .expect("there are corpora")
        .map(|folder| folder.expect("a folder can be read").file_name().into_string().expect("a plain name"))
        .collect();
    folders.sort();
    assert_eq!(folders, TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
}
