//! Images that the kubelet must not collect, by patterns of their names.

/// The patterns: exact names, `beginning*`, and `*keyword*`; letter case does not matter.
#[derive(Debug, Clone, Default)]
pub struct Pinned(Vec<String>);

impl Pinned {
    /// Pins what these patterns match.
    #[must_use]
    pub fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        Self(patterns.into_iter().map(|pattern| pattern.to_lowercase()).collect())
    }

    /// Whether any pattern matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.0.iter().any(|pattern| {
            let inner = pattern.trim_matches('*');
            if inner.is_empty() {
                return false;
            }
            match (pattern.starts_with('*'), pattern.ends_with('*')) {
                (true, true) => name.contains(inner),
                (false, true) => name.starts_with(inner),
                (true, false) | (false, false) => name == *pattern,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_documented() {
        let pinned = Pinned::new(["q.io/a:1".into(), "q.io/base*".into(), "*pause*".into()]);
        for (name, expected) in [
            ("q.io/a:1", true),
            ("q.io/a:12", false),
            ("q.io/Base:2", true),
            ("k8s/pause:3", true),
            ("other", false),
        ] {
            assert_eq!(pinned.matches(name), expected, "{name}");
        }
        assert!(!Pinned::new(["*".into()]).matches("anything"));
    }
}
