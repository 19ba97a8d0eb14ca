//! What went through the interfaces of pods.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::PathBuf;

use crate::model::stats::Interface;
use crate::model::stats::Traffic;
use crate::sys::namespace;
use crate::sys::namespace::NamespaceError;

/// The counters of the network namespace that the reading thread is in.
const FILE: &str = "/proc/thread-self/net/dev";
/// The longest such file that is read, in bytes: some thousand interfaces.
const LIMIT: u64 = 1024 * 1024;

/// The interfaces of each of these network namespaces, `None` standing for the node's. One that
/// cannot be entered, as that of a pod which is being stopped, has no answer. Blocks.
///
/// # Errors
///
/// [`NamespaceError::Thread`] when there is no thread for it.
pub fn counters(
    networks: Vec<Option<PathBuf>>,
) -> Result<Vec<Option<Vec<Interface>>>, NamespaceError> {
    let read = || read().map(|text| parse(&text)).ok();
    let found = namespace::run_in_each(networks, read)?;
    Ok(found.into_iter().map(Option::flatten).collect())
}

fn read() -> io::Result<String> {
    let mut text = String::new();
    File::open(FILE)?.take(LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

/// Two lines of heading, then `name: ` and eight figures for each direction.
fn parse(text: &str) -> Vec<Interface> {
    text.lines().skip(2).filter_map(interface).collect()
}

fn interface(line: &str) -> Option<Interface> {
    // A name may have a colon in it, a figure has none.
    let (name, figures) = line.rsplit_once(':')?;
    let figures: Vec<u64> =
        figures.split_ascii_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let traffic = |from: usize| {
        Some(Traffic {
            bytes: *figures.get(from)?,
            packets: *figures.get(from + 1)?,
            errors: *figures.get(from + 2)?,
            dropped: *figures.get(from + 3)?,
        })
    };
    Some(Interface { name: name.trim().to_owned(), received: traffic(0)?, sent: traffic(8)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "Inter-|   Receive  |  Transmit\n face |bytes packets |bytes packets\n";

    #[test]
    fn each_line_is_an_interface() {
        let text = format!(
            "{HEADING}    lo: 13030305    1879    0    0    0     0          0         0 13030305    \
             1879    0    0    0     0       0          0\n\
             eth0:9 8 7 6 5 4 3 2 18446744073709551615 16 15 14 13 12 11 10"
        );
        let found = parse(&text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), found[0].received.bytes), ("lo", 13_030_305));
        let (received, sent) = (found[1].received, found[1].sent);
        assert_eq!(received, Traffic { bytes: 9, packets: 8, errors: 7, dropped: 6 });
        assert_eq!(sent, Traffic { bytes: u64::MAX, packets: 16, errors: 15, dropped: 14 });
    }

    #[test]
    fn a_line_in_another_form_is_no_interface() {
        for line in [
            "",
            "eth0",
            "eth0: ",
            "eth0: 1 2 3 4 5 6 7 8 9 10 11",
            "eth0: 1 2 3 4 5 6 7 8 9 -10 11 12 13 14 15 16",
            "eth0: 1 2 3 4 5 6 7 8 x 10 11 12 13 14 15 16",
            "eth0: 1 2 3 4 5 6 7 8 99999999999999999999 10 11 12 13 14 15 16",
        ] {
            assert_eq!(parse(&format!("{HEADING}{line}\n")), [], "{line:?}");
        }
        assert_eq!(parse(""), []);
    }

    #[test]
    fn the_node_has_a_loopback_interface() {
        let found = counters(vec![None, Some("/nowhere".into())]).unwrap();
        assert!(found[0].as_ref().unwrap().iter().any(|interface| interface.name == "lo"));
        assert_eq!(found[1], None);
    }
}
