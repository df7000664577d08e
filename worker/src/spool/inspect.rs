//! A look at spools from outside, which changes nothing: for check-ups.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    adopt::SET_ASIDE,
    folder::{has_owner, owners, segments},
    frame::{self, Found},
};

/// What lies in the spools of one worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpoolState {
    /// The folder.
    pub path: PathBuf,
    /// Which database the outcomes belong to.
    pub database: Uuid,
    /// Whether a worker that lives owns it, and settles what is in it.
    pub has_owner: bool,
    /// Outcomes that are not settled.
    pub outcomes: usize,
    /// What its files take.
    pub bytes: u64,
    /// Damaged stretches, and records of newer programs.
    pub unreadable: usize,
}

/// All spools below `folder`, as in [`crate::SpoolOptions::folder`], and damaged records that were set aside.
pub fn inspect_spools(folder: &Path) -> io::Result<(Vec<SpoolState>, Vec<PathBuf>)> {
    let (mut states, mut set_aside) = (Vec::new(), Vec::new());
    for (database, base) in owners(folder)? {
        for (owner, path) in owners(&base)? {
            states.push(state_of(database, owner, path)?);
        }
        if let Ok(listed) = fs::read_dir(base.join(SET_ASIDE)) {
            set_aside.extend(listed.flatten().map(|entry| entry.path()));
        }
    }
    set_aside.sort_unstable();
    Ok((states, set_aside))
}

fn state_of(database: Uuid, owner: Uuid, path: PathBuf) -> io::Result<SpoolState> {
    let has_owner = has_owner(&path);
    let mut state = SpoolState { path, database, has_owner, outcomes: 0, bytes: 0, unreadable: 0 };
    for segment in segments(&state.path)? {
        let file = match fs::read(&segment) {
            Ok(file) => file,
            // Its owner was done with it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        state.bytes += file.len() as u64;
        for found in frame::scan(&file, owner) {
            match found {
                Found::Unwritten { .. } => state.outcomes += 1,
                Found::Corrupt(_) | Found::Newer => state.unreadable += 1,
                Found::Written | Found::Torn(_) => {}
            }
        }
    }
    Ok(state)
}
