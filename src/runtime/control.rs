//! Tells a monitor something, through the control file that it reads (conmon's `ctl`).

use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

use crate::model::streams::TerminalSize;
use crate::runtime::error::RuntimeError;

/// The largest terminal that conmon takes; with a larger one it leaves the size as it is.
const LARGEST: u16 = 1000;

/// What a monitor can be told. Each is a line of three numbers, the first of which is the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The terminal of the container has this size now.
    Resize(TerminalSize),
    /// Open the log anew.
    ReopenLog,
}

impl Order {
    fn line(self) -> String {
        match self {
            Self::Resize(size) => {
                format!("1 {} {}\n", size.height.min(LARGEST), size.width.min(LARGEST))
            }
            Self::ReopenLog => "2 0 0\n".to_owned(),
        }
    }
}

/// Tells the monitor that has this bundle.
///
/// # Errors
///
/// [`RuntimeError::MonitorGone`], [`RuntimeError::File`].
pub(super) fn tell(bundle: &Path, order: Order) -> Result<(), RuntimeError> {
    let path = bundle.join("ctl");
    write(&path, order.line().as_bytes()).map_err(|source| match source.raw_os_error() {
        Some(libc::ENXIO) => RuntimeError::MonitorGone { bundle: bundle.to_owned() },
        _ => RuntimeError::File { path, source },
    })
}

/// Writes to a FIFO that someone reads; `ENXIO` if nobody does.
fn write(fifo: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(fifo)?;
    if !file.metadata()?.file_type().is_fifo() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.write_all(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_the_lines_that_conmon_reads() {
        let size = |width, height| Order::Resize(TerminalSize { width, height });
        for (order, line) in [
            (size(80, 24), "1 24 80\n"),
            (size(u16::MAX, 1001), "1 1000 1000\n"),
            (Order::ReopenLog, "2 0 0\n"),
        ] {
            assert_eq!(order.line(), line);
        }
    }
}
