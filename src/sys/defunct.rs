//! Counts the processes of the node that have ended and that nobody has waited for. Blocks.

use std::fs;

/// How many there are now; 0 where the kernel does not tell.
#[must_use]
pub fn count() -> u32 {
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let defunct = processes
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_number))
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| is_defunct(stat));
    u32::try_from(defunct.count()).unwrap_or(u32::MAX)
}

fn is_number(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Its name stands in parentheses and may hold any character: the state is behind the last one.
fn is_defunct(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_pass_for_a_state() {
        assert!(is_defunct("7 (sh) Z 1 7"));
        assert!(!is_defunct("7 (a) Z 1) S 1 7"));
        assert!(!is_defunct("7 (sh) R 1 7") && !is_defunct(""));
    }
}
