//! Taking over the spools of dead owners: what in them is to be settled, and what is to be looked at by a person.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    folder::{self, Folder},
    frame::{self, Found},
    payload,
    segment::{Place, Segment},
};

/// Where damaged records are set aside, below the spools of a database.
pub(super) const SET_ASIDE: &str = "corrupt";

/// What was found in dead owners' spools.
#[derive(Debug, Default)]
pub(crate) struct Adopted {
    /// Records that are to be settled.
    pub(crate) places: Vec<Place>,
    /// Damaged stretches, which were set aside.
    pub(crate) corrupt: usize,
    /// Spools that others have taken over and are settling.
    pub(crate) with_others: usize,
    /// Spools whose owners live, as far as can be told.
    pub(crate) with_owners: usize,
    /// Whether something stays: a newer program's records, or damage that could not be set aside.
    pub(super) has_remains: bool,
}

/// Reads all of a folder that was taken over. Files without anything to settle or to keep are removed.
pub(super) fn adopt(base: &Path, folder: Folder) -> io::Result<Adopted> {
    let folder = Arc::new(folder);
    let mut adopted = Adopted::default();
    for path in folder.segments()? {
        if let Err(error) = adopt_segment(base, &folder, path.clone(), &mut adopted) {
            tracing::error!(%error, path = %path.display(), "a file of a spool can't be read; it stays where it is");
            adopted.has_remains = true;
        }
    }
    Ok(adopted)
}

fn adopt_segment(base: &Path, folder: &Arc<Folder>, path: PathBuf, adopted: &mut Adopted) -> io::Result<()> {
    let file = fs::read(&path)?;
    let segment = Arc::new(Segment::open(folder, path)?);
    let mut remains = false;
    for found in frame::scan(&file, folder.owner()) {
        match found {
            Found::Written => {}
            Found::Unwritten { at, payload } if payload::decode(&file[payload.clone()]).is_some() => {
                let length = payload.end - at;
                adopted.places.push(segment.place(at as u64, length as u32));
            }
            Found::Unwritten { .. } | Found::Newer => {
                tracing::error!(
                    path = %segment.path().display(),
                    "an outcome in a spool was written by a newer program; start that one again, and it is settled"
                );
                remains = true;
            }
            Found::Corrupt(range) => {
                adopted.corrupt += 1;
                remains |= !set_aside(base, &segment, folder, &file, range);
            }
            Found::Torn(range) => tracing::warn!(
                path = %segment.path().display(),
                bytes = range.len(),
                "the end of a spool was still being written when its worker died; it can't be used"
            ),
        }
    }
    if remains {
        segment.keep_file();
    } else if segment.is_done() {
        segment.remove();
    }
    adopted.has_remains |= remains;
    Ok(())
}

/// Copies a damaged stretch to where a person finds it. Says whether that worked.
fn set_aside(base: &Path, segment: &Segment, folder: &Folder, file: &[u8], range: Range<usize>) -> bool {
    let name = segment.path().file_stem().unwrap_or_default().to_string_lossy();
    let path = base.join(SET_ASIDE).join(format!("{}-{name}-{}", folder.owner(), range.start));
    let bytes = range.len();
    match write_new(&path, &file[range]) {
        Ok(()) => {
            tracing::error!(path = %path.display(), bytes, "a damaged outcome in a spool was set aside");
            true
        }
        Err(error) => {
            tracing::error!(%error, path = %path.display(), bytes, "a damaged outcome in a spool can't be set aside");
            false
        }
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let above = path.parent().unwrap_or(Path::new("."));
    folder::make(above)?;
    if fs::metadata(path).is_ok_and(|there| there.len() == bytes.len() as u64) {
        // Set aside before, by somebody who died soon after.
        return Ok(());
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| folder::sync(above));
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}
