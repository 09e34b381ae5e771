//! A child's first moments: our own binary, which asks the kernel to be told of our end, and then
//! becomes the user's program. So no child outlives a daemon that is killed. The kernel counts the
//! end of the thread that started it: one of the runtime's, which live as long as the daemon.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The hidden first argument: then come the daemon's process id, the program's path, its name, its
/// arguments.
pub const ARGUMENT: &str = "become-the-program";

/// The program could not be executed: as shells have it.
const NOT_EXECUTED: u8 = 126;

/// Becomes the program. Returns only if that fails.
pub fn become_the_program(arguments: &[OsString]) -> ExitCode {
    let [daemon, path, name, arguments @ ..] = arguments else {
        return failed(&"too few arguments");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return failed(&io::Error::from(error));
    }
    // It ended before the kernel was asked.
    let parent = getppid().map(|parent| parent.as_raw_nonzero().to_string());
    if parent.is_none_or(|parent| *daemon != *parent) {
        return failed(&"the daemon has ended");
    }
    let error = Command::new(path).arg0(name).args(arguments).exec();
    failed(&format!("{}: {error}", path.to_string_lossy()))
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(io::stderr(), "kcl-multilang: {error}");
    ExitCode::from(NOT_EXECUTED)
}
