//! What is to be measured, as the command line says it.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "usage: bench [--rounds N] [--pods N] [--json FILE] [--only WORD] \
     [--registry HOST] [--registry-log FILE] [--logs DIR] [--cgroup NAME] NAME=SOCKET...";

/// What is to be measured, and how often.
#[derive(Debug)]
pub(crate) struct Options {
    /// Names of daemons and their sockets.
    pub(crate) daemons: Vec<(String, PathBuf)>,
    /// How often what is quick is done.
    pub(crate) rounds: usize,
    /// How many pods are there at once.
    pub(crate) pods: usize,
    /// Where the figures go as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Only rows with this word.
    pub(crate) only: String,
    /// Where the images are.
    pub(crate) registry: String,
    /// Where the registry says what it was asked for.
    pub(crate) registry_log: Option<PathBuf>,
    /// Where pods log to.
    pub(crate) logs: PathBuf,
    /// Below which cgroup pods are.
    pub(crate) cgroup: String,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            daemons: Vec::new(),
            rounds: 20,
            pods: 50,
            json: None,
            only: String::new(),
            registry: "127.0.0.1:5000".to_owned(),
            registry_log: None,
            logs: PathBuf::from("/var/log/pods/crioxide-bench"),
            cgroup: "crioxide-bench".to_owned(),
        };
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            if let Some((name, socket)) = word.split_once('=').filter(|_| !word.starts_with('-')) {
                options.daemons.push((name.to_owned(), PathBuf::from(socket)));
                continue;
            }
            let value = rest.next().ok_or_else(|| format!("{word} wants a value"))?;
            let number = || value.parse().ok().filter(|n| *n > 0).ok_or(format!("{word} {value}"));
            match word.as_str() {
                "--rounds" => options.rounds = number()?,
                "--pods" => options.pods = number()?,
                "--json" => options.json = Some(PathBuf::from(value)),
                "--only" => options.only.clone_from(value),
                "--registry" => options.registry.clone_from(value),
                "--registry-log" => options.registry_log = Some(PathBuf::from(value)),
                "--logs" => options.logs = PathBuf::from(value),
                "--cgroup" => options.cgroup.clone_from(value),
                _ => return Err(format!("{word} is not known")),
            }
        }
        if options.daemons.is_empty() {
            return Err("no daemon is named".to_owned());
        }
        Ok(options)
    }

    /// The reference of an image at the registry.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/bench/{name}", self.registry)
    }
}
