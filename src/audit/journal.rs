//! Entries for systemd-journald, in its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one
//! datagram of fields, each a name, a length and the bytes.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::path::PathBuf;

use crate::audit::record::Record;

/// The syslog levels of what is as it should be, and of what is not.
const INFO: &str = "6";
const WARNING: &str = "4";

/// The journal behind a socket.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
}

impl Journal {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Hands a record over; does not wait for a journal that is behind.
    pub(super) fn send(&self, record: &Record) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to(&entry(record), &self.path).map(drop)
    }
}

/// The datagram: every field of the record as `CRIO_<FIELD>`.
fn entry(record: &Record) -> Vec<u8> {
    let mut entry = Vec::new();
    let level = if record.is_good() { INFO } else { WARNING };
    field(&mut entry, "MESSAGE", &record.sentence());
    field(&mut entry, "PRIORITY", level);
    field(&mut entry, "SYSLOG_IDENTIFIER", "crio");
    for (name, value) in record.fields() {
        field(&mut entry, &format!("CRIO_{}", name.to_ascii_uppercase()), &value);
    }
    entry
}

/// The form with a length takes any bytes, also a line's end.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.as_bytes());
    entry.push(b'\n');
    entry.extend(u64::try_from(value.len()).unwrap_or(0).to_le_bytes());
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}
