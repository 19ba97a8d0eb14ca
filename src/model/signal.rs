//! Signals, as images (`STOPSIGNAL`), the CRI and runtimes call them.
//!
//! An image names a signal, with or without `SIG`, or numbers it; the CRI has a word for each
//! (`SIGRTMINPLUS3`); a runtime takes any number, and not every name. Here it has one name, as
//! `SIGTERM` or `SIGRTMIN+3`.

use std::str::FromStr;

use nix::sys::signal::Signal;

/// The signal that ends what names no other.
pub const DEFAULT: &str = "SIGTERM";

/// The first and the last real-time signal, as programs see them (`signal(7)`: the C library keeps
/// the kernel's first two for itself).
const REAL_TIME: (i32, i32) = (34, 64);

/// Other names of signals.
const ALIASES: [(&str, i32); 3] = [("SIGIOT", 6), ("SIGCLD", 17), ("SIGPOLL", 29)];

/// The name of the signal that a text means; [`DEFAULT`] for what is none.
#[must_use]
pub fn name(text: &str) -> String {
    let text = text.trim().to_ascii_uppercase();
    let spelt = text.replace("PLUS", "+").replace("MINUS", "-");
    let full = if spelt.starts_with("SIG") { spelt } else { format!("SIG{spelt}") };
    match text.parse() {
        Ok(number) => of_number(number).unwrap_or_else(|| DEFAULT.to_owned()),
        Err(_) if number(&full).is_some() => full,
        Err(_) => DEFAULT.to_owned(),
    }
}

/// The number of a signal by its name.
#[must_use]
pub fn number(name: &str) -> Option<i32> {
    let (least, most) = REAL_TIME;
    let distance = |text: &str, sign| match text.strip_prefix(sign) {
        Some(digits) => digits.parse::<i32>().ok(),
        None => text.is_empty().then_some(0),
    };
    let real_time = match (name.strip_prefix("SIGRTMIN"), name.strip_prefix("SIGRTMAX")) {
        (Some(rest), _) => distance(rest, '+').and_then(|more| least.checked_add(more)),
        (_, Some(rest)) => distance(rest, '-').and_then(|less| most.checked_sub(less)),
        _ => None,
    };
    let alias = ALIASES.iter().find(|(other, _)| *other == name).map(|(_, number)| *number);
    let usual = || Signal::from_str(name).ok().map(|signal| signal as i32);
    real_time.filter(|number| (least..=most).contains(number)).or(alias).or_else(usual)
}

fn of_number(number: i32) -> Option<String> {
    let (least, most) = REAL_TIME;
    match number {
        _ if number == least => Some("SIGRTMIN".to_owned()),
        _ if number == most => Some("SIGRTMAX".to_owned()),
        _ if (least..=least + 15).contains(&number) => Some(format!("SIGRTMIN+{}", number - least)),
        _ if (least..most).contains(&number) => Some(format!("SIGRTMAX-{}", most - number)),
        _ => Signal::try_from(number).ok().map(|signal| signal.as_str().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_one_name_and_one_number() {
        for (text, expected, its_number) in [
            ("", "SIGTERM", 15),
            ("SIGQUIT", "SIGQUIT", 3),
            ("quit", "SIGQUIT", 3),
            ("3", "SIGQUIT", 3),
            ("37", "SIGRTMIN+3", 37),
            ("RTMIN+3", "SIGRTMIN+3", 37),
            ("SIGRTMINPLUS3", "SIGRTMIN+3", 37),
            ("SIGRTMAXMINUS14", "SIGRTMAX-14", 50),
            ("64", "SIGRTMAX", 64),
            ("SIGIOT", "SIGIOT", 6),
            ("0", "SIGTERM", 15),
            ("65", "SIGTERM", 15),
            ("-9", "SIGTERM", 15),
            ("SIGRTMIN+31", "SIGTERM", 15),
            ("SIGRTMIN+99999999999", "SIGTERM", 15),
            ("TERM; reboot", "SIGTERM", 15),
        ] {
            assert_eq!(name(text), expected, "{text}");
            assert_eq!(number(&name(text)), Some(its_number), "{text}");
        }
        for number in (1..=31).chain(34..=64) {
            assert_eq!(super::number(&name(&number.to_string())), Some(number));
        }
    }
}
