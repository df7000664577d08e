//! OUT: opened, locked against a second run, and read where it holds results already.
//!
//! A file that this run wrote is gone on with: what it holds is kept, a last line that a crash cut off is cut away.
//! Any other file is refused before anything is sent. Something that is no file (a pipe, `/dev/stdout`) is only
//! written to: there is nothing to go on with.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, de::IgnoredAny};
use sluice_domain::{JobId, NanoUsd};

use crate::{exit::CliError, output_line::LINE_START};

/// What to do with a file that holds something already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Existing {
    /// Go on if it is of this run, else refuse.
    Continue,
    /// Start it anew.
    Overwrite,
}

/// A result that the file holds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KeptLine {
    /// Whose result it is.
    pub job_id: JobId,
    /// Whether it is a success.
    pub is_success: bool,
    /// What it cost.
    pub cost: NanoUsd,
    /// Where the line begins, in bytes.
    start: u64,
    /// Its length with the line break, in bytes.
    length: u64,
}

/// OUT, opened and locked.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: Flock<File>,
    kept: Vec<KeptLine>,
}

#[derive(Deserialize)]
struct WrittenLine {
    response: Option<WrittenResponse>,
    error: Option<IgnoredAny>,
    sluice: WrittenExtras,
}

#[derive(Deserialize)]
struct WrittenResponse {
    status_code: u16,
}

#[derive(Deserialize)]
struct WrittenExtras {
    job_id: JobId,
    cost_usd: f64,
}

impl OutputFile {
    /// Opens and locks it, and reads what it holds.
    pub fn open(path: &Path, existing: Existing, input: Option<&Path>) -> Result<Self, CliError> {
        let failed = |error: &io::Error| {
            CliError::usage(format!("failed to write {}: {error}; choose another with -o", path.display()))
        };
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(path);
        // Pipes can't be opened for both. Where neither works, the first reason is the telling one.
        let file = opened
            .or_else(|error| OpenOptions::new().write(true).open(path).map_err(|_| error))
            .map_err(|e| failed(&e))?;
        refuse_input(&file, path, input)?;
        let is_file = file.metadata().map_err(|e| failed(&e))?.is_file();
        let lock = if is_file { FlockArg::LockExclusiveNonblock } else { FlockArg::LockSharedNonblock };
        let mut file = Flock::lock(file, lock).map_err(|_| {
            let path = path.display();
            CliError::usage(format!("another run writes {path}; wait for it, or choose another with -o"))
        })?;
        let mut kept = Vec::new();
        if is_file && existing == Existing::Overwrite {
            file.set_len(0).map_err(|e| failed(&e))?;
        } else if is_file {
            let (lines, length) =
                read_kept(&mut file).map_err(|e| failed(&e))?.ok_or_else(|| foreign(path))?;
            file.set_len(length).map_err(|e| failed(&e))?;
            kept = lines;
        }
        if is_file {
            file.seek(SeekFrom::End(0)).map_err(|e| failed(&e))?;
        }
        Ok(Self { path: path.to_owned(), file, kept })
    }

    /// The results that it holds.
    pub fn kept(&self) -> &[KeptLine] {
        &self.kept
    }

    /// What is said where a result in it is none of this run's.
    pub fn foreign(&self) -> CliError {
        foreign(&self.path)
    }

    /// Takes the results of these jobs out, since they are no longer their last word. The file is replaced in one
    /// step: a crash leaves the old or the new one.
    pub fn drop_lines(&mut self, is_outdated: impl Fn(JobId) -> bool) -> Result<(), CliError> {
        let (outdated, kept): (Vec<_>, Vec<_>) = self.kept.iter().partition(|line| is_outdated(line.job_id));
        if outdated.is_empty() {
            return Ok(());
        }
        let path = self.path.clone();
        let failed = |error: io::Error| {
            CliError::unreachable(format!(
                "failed to rewrite {}: {error}; make room and run again",
                path.display()
            ))
        };
        let (file, kept) = self.rewritten(&kept).map_err(failed)?;
        (self.file, self.kept) = (file, kept);
        Ok(())
    }

    fn rewritten(&mut self, kept: &[KeptLine]) -> io::Result<(Flock<File>, Vec<KeptLine>)> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let fresh = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        let mut old = BufReader::new(self.file.try_clone()?);
        let mut new = io::BufWriter::new(fresh.reopen()?);
        let mut moved = Vec::with_capacity(kept.len());
        let mut at = 0;
        for line in kept {
            old.seek(SeekFrom::Start(line.start))?;
            io::copy(&mut (&mut old).take(line.length), &mut new)?;
            moved.push(KeptLine { start: at, ..*line });
            at += line.length;
        }
        new.flush()?;
        let file = new.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.set_permissions(self.file.metadata()?.permissions())?;
        file.sync_all()?;
        let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        fresh.persist(&self.path).map_err(|error| error.error)?;
        Ok((locked, moved))
    }

    /// A handle for the writer. The lock holds as long as `self`.
    pub fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

fn refuse_input(file: &File, path: &Path, input: Option<&Path>) -> Result<(), CliError> {
    let same = input.and_then(|input| std::fs::metadata(input).ok()).zip(file.metadata().ok());
    match same {
        Some((input, output)) if (input.dev(), input.ino()) == (output.dev(), output.ino()) => {
            let path = path.display();
            Err(CliError::usage(format!("{path} is the input; choose another file for the results with -o")))
        }
        _ => Ok(()),
    }
}

fn foreign(path: &Path) -> CliError {
    CliError::usage(format!(
        "{} holds something else than results of this run (other input, options or upstreams, or its database is \
         gone); choose another file with -o, or start it anew with --force",
        path.display()
    ))
}

/// The lines and the length up to which they are whole; `None` where something else stands in the file.
fn read_kept(file: &mut File) -> io::Result<Option<(Vec<KeptLine>, u64)>> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let (mut kept, mut start, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)? as u64;
        if length == 0 {
            return Ok(Some((kept, start)));
        }
        if line.last() != Some(&b'\n') {
            // A crash cut it off; what does not begin as ours do is somebody else's text.
            let expected = &LINE_START.as_bytes()[..LINE_START.len().min(line.len())];
            return Ok(line.starts_with(expected).then_some((kept, start)));
        }
        let Ok(written) = serde_json::from_slice::<WrittenLine>(&line) else { return Ok(None) };
        let has_success_status =
            written.response.is_some_and(|response| (200..300).contains(&response.status_code));
        kept.push(KeptLine {
            job_id: written.sluice.job_id,
            is_success: has_success_status && written.error.is_none(),
            cost: NanoUsd::from_usd(written.sluice.cost_usd).unwrap_or_default(),
            start,
            length,
        });
        start += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(job: u8, status: u16) -> String {
        format!(
            "{LINE_START}x\",\"custom_id\":\"1\",\"response\":{{\"status_code\":{status},\"request_id\":\"\",\
             \"body\":{{}}}},\"error\":null,\"sluice\":{{\"job_id\":\"01890000-0000-7000-8000-0000000000{job:02x}\",\
             \"attempts\":1,\"cached\":false,\"cost_usd\":0.5,\"usage\":null,\"duration_ms\":1}}}}\n"
        )
    }

    fn open(text: &str, existing: Existing) -> (tempfile::TempDir, PathBuf, Result<OutputFile, CliError>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        std::fs::write(&path, text).unwrap();
        let opened = OutputFile::open(&path, existing, None);
        (folder, path, opened)
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_the_others_are_kept() {
        let whole = line(1, 200) + &line(2, 500);
        let (_folder, path, opened) = open(&format!("{whole}{}", &line(3, 200)[..40]), Existing::Continue);
        let output = opened.unwrap();
        let kept: Vec<_> = output.kept().iter().map(|line| (line.is_success, line.cost)).collect();
        assert_eq!(kept, [(true, NanoUsd(500_000_000)), (false, NanoUsd(500_000_000))]);
        output.handle().unwrap().write_all(b"next").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), format!("{whole}next"));
    }

    #[test]
    fn something_else_is_refused_and_left_alone() {
        for text in ["precious", "precious\n", "{}\n", "{\"id\":1}\n"] {
            let (_folder, path, opened) = open(text, Existing::Continue);
            assert!(opened.unwrap_err().to_string().contains("--force"), "{text}");
            assert_eq!(std::fs::read_to_string(path).unwrap(), text);
        }
    }

    #[test]
    fn force_starts_it_anew() {
        let (_folder, path, opened) = open("precious\n", Existing::Overwrite);
        assert_eq!(opened.unwrap().kept(), []);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "");
    }

    #[test]
    fn two_runs_can_not_write_it_at_once() {
        let (_folder, path, opened) = open("", Existing::Continue);
        let first = opened.unwrap();
        let second = OutputFile::open(&path, Existing::Overwrite, None);
        assert!(second.unwrap_err().to_string().starts_with("another run writes"));
        drop(first);
        assert!(OutputFile::open(&path, Existing::Continue, None).is_ok());
    }

    #[test]
    fn the_input_is_never_the_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.jsonl");
        std::fs::write(&path, "x").unwrap();
        assert!(OutputFile::open(&path, Existing::Overwrite, Some(&path)).is_err());
        assert_eq!(std::fs::read_to_string(path).unwrap(), "x");
    }

    #[test]
    fn outdated_lines_are_taken_out_and_the_lock_goes_on() {
        let (_folder, path, opened) =
            open(&(line(1, 200) + &line(2, 500) + &line(3, 200)), Existing::Continue);
        let mut output = opened.unwrap();
        let second = output.kept()[1].job_id;
        output.drop_lines(|job| job == second).unwrap();
        output.handle().unwrap().write_all(line(4, 200).as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line(1, 200) + &line(3, 200) + &line(4, 200));
        assert!(OutputFile::open(&path, Existing::Continue, None).is_err());
    }
}
