//! `WWW-Authenticate`: how a registry says which credentials it wants (RFC 9110, 11.6.1).

/// One way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// The scheme in lower case: `basic`, `bearer`, ...
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter, by its lower-case name; the first of several.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// The challenges of one header, in its order. What cannot be read ends the list.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = split_token(rest);
        if word.is_empty() {
            return challenges;
        }
        let word = word.to_ascii_lowercase();
        // `name = value` belongs to the scheme before it; any other word is the next scheme.
        match (after.trim_start().strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let Some((value, after)) = split_value(value.trim_start()) else {
                    return challenges;
                };
                challenge.parameters.push((word, value));
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge { scheme: word, parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

fn split_token(text: &str) -> (&str, &str) {
    let of_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !of_token(c)).unwrap_or(text.len()))
}

/// A quoted string or a bare word, and what follows it; `None` for a quote that never ends.
fn split_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Wider than a token: bare URLs are seen in the wild.
        let (word, rest) = text.split_at(text.find([',', ' ', '\t']).unwrap_or(text.len()));
        return Some((word.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expected: &[(&str, &[(&str, &str)])]) {
        let found = parse(header);
        let found: Vec<_> = found
            .iter()
            .map(|challenge| {
                let pairs =
                    challenge.parameters.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                (challenge.scheme.as_str(), pairs.collect::<Vec<_>>())
            })
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(scheme, pairs)| (*scheme, pairs.to_vec())).collect();
        assert_eq!(found, expected, "{header:?}");
    }

    #[test]
    fn headers_are_read_as_servers_write_them() {
        check(
            r#"Bearer realm="https://a.example/token",service="r",scope="repository:a/b:pull,push""#,
            &[(
                "bearer",
                &[
                    ("realm", "https://a.example/token"),
                    ("service", "r"),
                    ("scope", "repository:a/b:pull,push"),
                ],
            )],
        );
        check("Basic realm=Registry", &[("basic", &[("realm", "Registry")])]);
        check("BASIC", &[("basic", &[])]);
        check(
            r#"Negotiate, Bearer Realm = "x" , service=y, Basic realm="z\"q\\""#,
            &[
                ("negotiate", &[]),
                ("bearer", &[("realm", "x"), ("service", "y")]),
                ("basic", &[("realm", "z\"q\\")]),
            ],
        );
        check("Bearer realm=https://a/b?c", &[("bearer", &[("realm", "https://a/b?c")])]);
    }

    #[test]
    fn what_is_no_challenge_ends_the_list() {
        check("", &[]);
        check("=", &[]);
        check("realm=\"x\"", &[]);
        check("Bearer realm=\"never ends", &[("bearer", &[])]);
        check("Bearer realm=\"x\\", &[("bearer", &[])]);
        check("Basic @@@, Bearer", &[("basic", &[])]);
    }
}
