//! How a child is started.

use std::{ffi::OsString, io, path::PathBuf};

/// A program that ends in [`crate::attempt_for_parent`], and its arguments. No secret is among them: anybody on the host
/// can read them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SuspectCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl SuspectCommand {
    /// This very program with `arguments`. On Linux it is the same one even if its file was replaced by another version
    /// meanwhile, which might not understand us.
    pub fn this_program(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> io::Result<Self> {
        let program = if cfg!(target_os = "linux") {
            PathBuf::from("/proc/self/exe")
        } else {
            std::env::current_exe()?
        };
        Ok(Self { program, arguments: arguments.into_iter().map(Into::into).collect() })
    }
}
