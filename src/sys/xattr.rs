//! Extended attributes of open files. By handle only: a path could lead elsewhere.

use std::io;
use std::os::fd::AsFd;

use rustix::fs as kernel;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Sets an extended attribute of an open file or directory.
///
/// # Errors
///
/// What the kernel says; [`io::ErrorKind::Unsupported`] where the filesystem has none.
pub fn set(file: impl AsFd, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(kernel::fsetxattr(file, name, value, XattrFlags::empty())?)
}

/// Reads an extended attribute of at most `limit` bytes; `None` if there is none of this name.
///
/// # Errors
///
/// `ERANGE` beyond the limit, and what the kernel says.
pub fn value(file: impl AsFd, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0_u8; limit];
    match kernel::fgetxattr(file, name, buffer.as_mut_slice()) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
