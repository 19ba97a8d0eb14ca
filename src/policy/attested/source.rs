//! Names of git repositories as provenance writes them, brought into one form.
//!
//! `git+https://host/path.git@refs/heads/main`, `https://host/path#refs/heads/main` and
//! `https://host/path` are the same repository. Everything that could be read in two ways is no
//! repository.

/// A repository, and the ref in it that was built, if one is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// `scheme://host/path`, without `git+` and `.git`.
    pub(super) repository: String,
    /// The ref, as it is written.
    pub(super) git_ref: Option<String>,
}

impl Source {
    /// Reads a resource's URI.
    pub(super) fn parse(uri: &str) -> Option<Self> {
        let uri = uri.strip_prefix("git+").unwrap_or(uri);
        let (scheme, rest) = uri.split_once("://")?;
        if !["https", "http", "ssh", "git"].contains(&scheme) {
            return None;
        }
        let (host, path) = rest.split_once('/')?;
        // Behind the host: an @ before it would be a user's name, which is part of no repository.
        let (path, git_ref) = match path.split_once(['@', '#']) {
            Some((path, git_ref)) => (path, Some(git_ref.to_owned())),
            None => (path, None),
        };
        let path = path.strip_suffix(".git").unwrap_or(path);
        let plain_host =
            host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte));
        if host.is_empty() || !plain_host || !path.split('/').all(is_segment) {
            return None;
        }
        let host = host.to_ascii_lowercase();
        Some(Self { repository: format!("{scheme}://{host}/{path}"), git_ref })
    }

    /// A repository and a ref that stand in two fields.
    pub(super) fn of(repository: &str, git_ref: Option<&str>) -> Option<Self> {
        let source = Self::parse(repository).filter(|source| source.git_ref.is_none())?;
        Some(Self { git_ref: git_ref.map(str::to_owned), ..source })
    }
}

/// No dots that lead elsewhere, no escapes, no query.
fn is_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-~+".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uri: &str, repository: &str, git_ref: Option<&str>) {
        let source = Source::parse(uri).unwrap();
        assert_eq!(
            (&*source.repository, source.git_ref.as_deref()),
            (repository, git_ref),
            "{uri}"
        );
    }

    #[test]
    fn the_ways_to_write_a_repository_are_one() {
        let api = "https://github.com/shop/api";
        check("https://github.com/shop/api", api, None);
        check("git+https://github.com/shop/api", api, None);
        check("git+https://GitHub.com/shop/api.git", api, None);
        check("git+https://github.com/shop/api@refs/heads/main", api, Some("refs/heads/main"));
        check("https://github.com/shop/api.git#refs/tags/v1", api, Some("refs/tags/v1"));
        check("git+https://github.com/shop/api@a@b", api, Some("a@b"));
        check("https://git.example:8443/a/b/c_d", "https://git.example:8443/a/b/c_d", None);
    }

    #[test]
    fn another_repository_stays_another() {
        for uri in [
            "https://github.com/shop/api-evil",
            "https://github.com/shop/API",
            "https://github.com/shop/api.git.evil",
            "https://github.com/shop/api/more",
            "http://github.com/shop/api",
            "https://github.com.evil.example/shop/api",
            "https://github.com:444/shop/api",
        ] {
            assert_ne!(Source::parse(uri).unwrap().repository, "https://github.com/shop/api");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_no_repository() {
        for uri in [
            "",
            "shop/api",
            "https://github.com",
            "https://github.com/",
            "https:///shop/api",
            "https://me@github.com/shop/api",
            "https://github.com@evil.example/shop/api",
            "https://github.com/shop/../evil/api",
            "https://github.com/shop//api",
            "https://github.com/shop/api/",
            "https://github.com/shop/api?ref=main",
            "https://github.com/shop%2fapi",
            "https://github.com/shop\\api",
            "https://github.com/shop/api ",
            "pkg:github/shop/api",
            "file:///shop/api",
            "git@github.com:shop/api",
        ] {
            assert_eq!(Source::parse(uri), None, "{uri}");
        }
        assert_eq!(Source::of("https://github.com/shop/api@refs/heads/a", Some("b")), None);
    }
}
