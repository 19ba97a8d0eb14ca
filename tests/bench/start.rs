//! How long a daemon takes from its start until its socket answers, by one clock in two processes:
//! one that becomes the daemon, and one that looks at the socket.

use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use nix::time::ClockId;

/// How often the socket is looked at.
const LOOK: Duration = Duration::from_micros(500);
/// How often at most: a minute.
const LOOKS: usize = 120_000;

/// Writes the time to a file and becomes the command.
pub(crate) fn exec(file: &str, program: &str, arguments: &[String]) -> String {
    note(Path::new(file));
    #[allow(clippy::disallowed_methods, reason = "the daemon is to be as if started by a shell")]
    let error = std::process::Command::new(program).args(arguments).exec();
    format!("cannot run {program}: {error}")
}

/// Looks until the socket answers, and writes the time to a file.
pub(crate) fn look(socket: &str, file: &str) -> Result<(), String> {
    for _ in 0..LOOKS {
        if UnixStream::connect(socket).is_ok() {
            note(Path::new(file));
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    Err(format!("{socket} does not answer"))
}

/// The milliseconds from the one file's time to the other's, if both are there.
pub(crate) fn between(begun: &Path, answered: &Path) -> Option<f64> {
    let read = |path| std::fs::read_to_string(path).ok()?.parse::<f64>().ok();
    Some((read(answered)? - read(begun)?) * 1000.0)
}

fn note(path: &Path) {
    let now = nix::time::clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock");
    let text = format!("{}.{:09}", now.tv_sec(), now.tv_nsec());
    let file = std::fs::File::create(path);
    std::io::Write::write_all(&mut file.expect("the file"), text.as_bytes()).expect("to write");
}
