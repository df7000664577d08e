//! How many files and sockets this process may have open.
//!
//! Systems start programs with a low soft limit (1,024 as a rule), for the sake of programs that use `select`, and
//! leave it to the others to raise it. A call under way is a socket, so a worker with the default of 500 calls and a
//! simulator behind it would soon stand at it. Not here: the hard limit, which only an administrator raises.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More than this is never used: a host has no more ports to one upstream's address.
const WANTED: u64 = 65_536;

/// Raises the soft limit as far as it may and makes sense. Where that is refused, the process goes on with what it
/// has: most commands need little.
pub fn raise() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = WANTED.min(hard);
    if soft < wanted
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
    {
        tracing::debug!(%error, soft, "the limit of open files could not be raised");
    }
}
