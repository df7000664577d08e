//! Where requests are read from, as often as needed.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{
    check::Checked,
    fill_in::FillIn,
    line,
    lines::{LineRead, LineReader},
    request::Request,
};
use crate::exit::CliError;

/// A file of requests that can be read again.
#[derive(Debug)]
pub struct Source {
    /// What it is called in messages.
    pub name: String,
    file: File,
    path: Option<PathBuf>,
}

impl Source {
    /// Opens a file; `-` is standard input, which is copied to a nameless file first.
    pub fn open(path: &Path) -> Result<Self, CliError> {
        if path.as_os_str() == "-" {
            let failed = |error| CliError::unreachable(format!("failed to keep standard input: {error}"));
            let mut file = tempfile::tempfile().map_err(failed)?;
            io::copy(&mut io::stdin().lock(), &mut file).map_err(failed)?;
            return Ok(Self { name: "standard input".to_owned(), file, path: None });
        }
        let name = path.display().to_string();
        let failed = |what: &str| CliError::usage(format!("failed to read {name}: {what}"));
        let mut file = File::open(path).map_err(|error| failed(&error.to_string()))?;
        let about = file.metadata().map_err(|error| failed(&error.to_string()))?;
        if about.is_dir() {
            return Err(failed("it is a folder; name a file of requests, one a line"));
        }
        if !about.is_file() {
            let mut copy = tempfile::tempfile().map_err(|error| failed(&error.to_string()))?;
            io::copy(&mut file, &mut copy).map_err(|error| failed(&error.to_string()))?;
            return Ok(Self { name, file: copy, path: None });
        }
        Ok(Self { name, file, path: Some(path.to_owned()) })
    }

    /// The file's path, where it has one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Its lines from the start. Only one reader at a time: they share a place in the file.
    pub(super) fn lines(&self) -> io::Result<LineReader<File>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(LineReader::new(file))
    }
}

/// Reads the requests of a source that was checked.
pub struct RequestReader<'a> {
    lines: LineReader<File>,
    line: Vec<u8>,
    line_no: u64,
    checked: &'a Checked,
    fill_in: &'a FillIn,
    name: &'a str,
}

impl<'a> RequestReader<'a> {
    /// Starts at the first line.
    pub fn open(source: &'a Source, checked: &'a Checked, fill_in: &'a FillIn) -> Result<Self, CliError> {
        let lines = source.lines().map_err(|error| unreadable(&source.name, &error))?;
        Ok(Self { lines, line: Vec::new(), line_no: 0, checked, fill_in, name: &source.name })
    }

    /// The next request; lines that were found bad are left out. `None` at the end.
    pub fn next_request(&mut self) -> Result<Option<Request>, CliError> {
        loop {
            let read = self.lines.read(&mut self.line).map_err(|error| unreadable(self.name, &error))?;
            if read == LineRead::End {
                return Ok(None);
            }
            self.line_no += 1;
            if self.checked.bad_lines.contains(&self.line_no) {
                continue;
            }
            if matches!(read, LineRead::TooLong(_)) {
                return Err(self.changed());
            }
            match line::parse(&self.line, self.line_no, self.fill_in) {
                Ok(None) => {}
                Ok(Some(request)) => return Ok(Some(request)),
                Err(_) => return Err(self.changed()),
            }
        }
    }

    /// Checks, at the end, that what was read is what was checked.
    pub fn finish(self) -> Result<(), CliError> {
        let changed = self.changed();
        if self.lines.sha256() == self.checked.input_sha256 { Ok(()) } else { Err(changed) }
    }

    fn changed(&self) -> CliError {
        let name = self.name;
        CliError::usage(format!(
            "{name} changed while it was read; leave it alone and run again with --force"
        ))
    }
}

pub(super) fn unreadable(name: &str, error: &io::Error) -> CliError {
    CliError::usage(format!("failed to read {name}: {error}"))
}
