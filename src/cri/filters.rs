//! The filters of the list RPCs: ids (or their beginnings), states, labels.

use std::collections::BTreeMap;
use std::collections::HashMap;

/// Whether every wanted label is there with its value.
pub(super) fn labels_match(
    wanted: &HashMap<String, String>,
    labels: &BTreeMap<String, String>,
) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether an id is, or begins with, the wanted text; an empty text wants every id.
pub(super) fn id_matches(wanted: &str, id: &str) -> bool {
    id.starts_with(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wanted_label_must_match() {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let labels = BTreeMap::from([label("a", "1"), label("b", "2")]);
        assert!(labels_match(&HashMap::new(), &labels));
        assert!(labels_match(&HashMap::from([label("a", "1")]), &labels));
        assert!(!labels_match(&HashMap::from([label("a", "1"), label("b", "3")]), &labels));
        assert!(!labels_match(&HashMap::from([label("c", "1")]), &labels));
    }
}
