//! What the kernel counts of a cgroup, as its files say it.
//!
//! The formats are those of `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/`: a single
//! value, a list of values, lines of key and value, lines of a device and its values, and the two
//! lines of a pressure file. What a figure means is the reader's business.
//!
//! A file that is missing, too long or in another format is a figure that is not known, never an
//! error and never a zero: which files there are depends on the kernel, its configuration and its
//! command line, and a cgroup may go away between two of them.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use crate::sys::cgroup::CgroupPath;
use crate::sys::cgroup::Cgroups;
use crate::sys::cgroup::Hierarchy;
use crate::sys::cgroup::Version;
use crate::sys::cgroup::directories_below;

/// The longest file of figures that is read, in bytes.
const LIMIT: usize = 256 * 1024;
/// How much is read at once; nearly every file fits.
const CHUNK: usize = 8 * 1024;
/// How deep, and how many, cgroups below one are looked into for processes.
const MAX_DEPTH: usize = 16;
const MAX_GROUPS: usize = 4096;

/// One cgroup, to read from.
#[derive(Debug)]
pub struct Group<'a> {
    cgroups: &'a Cgroups,
    path: &'a CgroupPath,
}

/// Lines of key and value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(String);

/// One figure of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFigure {
    /// The device's major number.
    pub major: u64,
    /// The device's minor number.
    pub minor: u64,
    /// What is counted: `Read` on version 1, `rbytes` on version 2.
    pub name: String,
    /// The figure.
    pub value: u64,
}

/// How long tasks waited for a resource (`Documentation/accounting/psi.rst`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks waited.
    pub full: Stall,
}

/// One line of a pressure file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Per cent of the last 10 seconds.
    pub avg10: f64,
    /// Per cent of the last 60 seconds.
    pub avg60: f64,
    /// Per cent of the last 300 seconds.
    pub avg300: f64,
    /// In all, in microseconds.
    pub total: u64,
}

impl Cgroups {
    /// A cgroup, to read from.
    #[must_use]
    pub fn group<'a>(&'a self, path: &'a CgroupPath) -> Group<'a> {
        Group { cgroups: self, path }
    }
}

impl Group<'_> {
    /// A file with one number; `max` is the largest there is.
    #[must_use]
    pub fn number(&self, controller: &str, file: &str) -> Option<u64> {
        number(&read(&self.file(controller, file)?)?)
    }

    /// Whether its processes are frozen, or about to be.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        if self.cgroups.version() == Version::V2 {
            return self.number("freezer", "cgroup.freeze") == Some(1);
        }
        let state = self.file("freezer", "freezer.state").and_then(|path| read(&path));
        state.is_some_and(|state| state.trim() != "THAWED")
    }

    /// A file with numbers in a row.
    #[must_use]
    pub fn numbers(&self, controller: &str, file: &str) -> Option<Vec<u64>> {
        read(&self.file(controller, file)?)?.split_ascii_whitespace().map(number).collect()
    }

    /// A file with lines of key and value.
    #[must_use]
    pub fn table(&self, controller: &str, file: &str) -> Option<Table> {
        Some(Table(read(&self.file(controller, file)?)?))
    }

    /// A file with figures of devices: `8:0 Read 4096` on version 1, `8:0 rbytes=4096 …` on
    /// version 2. A line in another form (`Total 0`) is left out.
    #[must_use]
    pub fn devices(&self, controller: &str, file: &str) -> Option<Vec<DeviceFigure>> {
        Some(devices(&read(&self.file(controller, file)?)?))
    }

    /// The pressure on a resource: `cpu`, `memory` or `io`. In the hybrid layout it is the unified
    /// hierarchy that has it.
    #[must_use]
    pub fn pressure(&self, resource: &str) -> Option<Pressure> {
        let unified = self.cgroups.hierarchies.iter().find(|hierarchy| hierarchy.is_unified)?;
        pressure(&read(&self.directory_in(unified).join(format!("{resource}.pressure")))?)
    }

    /// The processes in it and below it.
    #[must_use]
    pub fn processes(&self, controller: &str) -> Vec<i32> {
        let (mut pids, mut left) = (Vec::new(), MAX_GROUPS);
        if let Some(directory) = self.directory(controller) {
            processes(&directory, MAX_DEPTH, &mut left, &mut pids);
        }
        pids
    }

    fn file(&self, controller: &str, file: &str) -> Option<PathBuf> {
        let mut path = self.directory(controller)?;
        path.push(file);
        Some(path)
    }

    fn directory(&self, controller: &str) -> Option<PathBuf> {
        let version = self.cgroups.version();
        let mut hierarchies = self.cgroups.hierarchies.iter();
        let found = match version {
            Version::V1 => hierarchies.find(|hierarchy| hierarchy.has(controller)),
            Version::V2 => hierarchies.next(),
        };
        found.map(|hierarchy| self.directory_in(hierarchy))
    }

    fn directory_in(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.root.join(self.path.relative())
    }
}

impl Table {
    /// The value of a key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<u64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        number(line)
    }
}

fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        // `parse` would take a sign.
        text if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

fn devices(text: &str) -> Vec<DeviceFigure> {
    let mut figures = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (Some(major), Some(minor)) = (number(major), number(minor)) else { continue };
        let mut push = |name: &str, value: &str| {
            if let Some(value) = number(value) {
                figures.push(DeviceFigure { major, minor, name: name.to_owned(), value });
            }
        };
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some((name, value)) => push(name, value),
                None => push(word, words.next().unwrap_or_default()),
            }
        }
    }
    figures
}

fn pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| {
        text.lines().find_map(|line| stall(line.strip_prefix(kind)?.strip_prefix(' ')?))
    };
    // Old kernels have no `full` line for processors; nothing is ever fully stalled there.
    Some(Pressure { some: line("some")?, full: line("full").unwrap_or_default() })
}

fn stall(line: &str) -> Option<Stall> {
    let field = |name: &str| {
        let mut words = line.split_ascii_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let average = |name: &str| {
        let value: f64 = field(name)?.parse().ok()?;
        (0.0..=100.0).contains(&value).then_some(value)
    };
    Some(Stall {
        avg10: average("avg10")?,
        avg60: average("avg60")?,
        avg300: average("avg300")?,
        total: number(field("total")?)?,
    })
}

fn processes(directory: &Path, depth: usize, left: &mut usize, pids: &mut Vec<i32>) {
    if *left == 0 || depth == 0 {
        return;
    }
    *left -= 1;
    let Some(text) = read(&directory.join("cgroup.procs")) else { return };
    // 0 stands for a process of another PID namespace.
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for below in directories_below(directory).unwrap_or_default() {
        processes(&below, depth - 1, left, pids);
    }
}

/// A whole file of the kernel's.
fn read(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut bytes = vec![0; CHUNK];
    let mut length = 0;
    loop {
        let room = bytes.get_mut(length..)?;
        match file.read(room).ok()? {
            0 => break,
            read => length += read,
        }
        if length == bytes.len() {
            if length >= LIMIT {
                return None;
            }
            bytes.resize(length * 2, 0);
        }
    }
    bytes.truncate(length);
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::files;
    use crate::sys::files::Durability;

    #[test]
    fn a_number_is_digits_or_max_and_nothing_else() {
        for (text, expected) in [
            ("4096\n", Some(4096)),
            ("4096", Some(4096)),
            ("max\n", Some(u64::MAX)),
            ("18446744073709551615\n", Some(u64::MAX)),
            ("18446744073709551616\n", None),
            ("-1\n", None),
            ("+1\n", None),
            ("1 2\n", None),
            ("0x10\n", None),
            ("", None),
            ("\n", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_key_is_a_whole_word_at_the_beginning_of_a_line() {
        let table = Table("file 1\nfile_mapped 2\nanon garbage\nzero\nlast 3".to_owned());
        for (key, expected) in [
            ("file", Some(1)),
            ("file_mapped", Some(2)),
            ("mapped", None),
            ("anon", None),
            ("zero", None),
            ("last", Some(3)),
            ("", None),
        ] {
            assert_eq!(table.value(key), expected, "{key}");
        }
    }

    #[test]
    fn figures_of_devices_are_read_in_both_forms() {
        let figure = |major, minor, name: &str, value| DeviceFigure {
            major,
            minor,
            name: name.to_owned(),
            value,
        };
        for (text, expected) in [
            (
                "8:0 Read 4096\n8:0 Write 512\n8:0 Total 4608\nTotal 4608\n",
                vec![
                    figure(8, 0, "Read", 4096),
                    figure(8, 0, "Write", 512),
                    figure(8, 0, "Total", 4608),
                ],
            ),
            (
                "8:16 rbytes=1459200 wbytes=314773504 rios=192\n254:0",
                vec![
                    figure(8, 16, "rbytes", 1_459_200),
                    figure(8, 16, "wbytes", 314_773_504),
                    figure(8, 16, "rios", 192),
                ],
            ),
            ("8 rbytes=1\nx:y rbytes=1\n8:0 rbytes=-1 wbytes=2", vec![figure(8, 0, "wbytes", 2)]),
            ("8:0 Read", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(devices(text), expected, "{text:?}");
        }
    }

    #[test]
    fn pressure_needs_its_first_line_whole() {
        let some = "some avg10=1.50 avg60=0.36 avg300=0.08 total=168\n";
        let full = "full avg10=0.00 avg60=0.10 avg300=0.02 total=7";
        let read = pressure(&format!("{some}{full}")).unwrap();
        assert_eq!(read.some, Stall { avg10: 1.5, avg60: 0.36, avg300: 0.08, total: 168 });
        assert_eq!(read.full, Stall { avg10: 0.0, avg60: 0.1, avg300: 0.02, total: 7 });
        assert_eq!(pressure(some).unwrap().full, Stall::default());
        for garbled in [
            "",
            full,
            "some avg10=1.50 avg60=0.36 total=168",
            "some avg10=NaN avg60=0.36 avg300=0.08 total=168",
            "some avg10=inf avg60=0.36 avg300=0.08 total=168",
            "some avg10=-1 avg60=0.36 avg300=0.08 total=168",
            "some avg10=1 avg60=1 avg300=1 total=99999999999999999999",
        ] {
            assert_eq!(pressure(garbled), None, "{garbled:?}");
        }
    }

    #[test]
    fn a_file_that_does_not_end_is_not_read_to_its_end() {
        assert_eq!(read(Path::new("/dev/zero")), None);
        assert_eq!(read(Path::new("/nowhere")), None);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("long");
        files::replace(&path, "1 ".repeat(CHUNK).as_bytes(), 0o600, Durability::Process).unwrap();
        assert_eq!(read(&path).unwrap().len(), 2 * CHUNK);
        files::replace(&path, &[0xff, 0xfe], 0o600, Durability::Process).unwrap();
        assert_eq!(read(&path), None);
    }
}
