//! `crio status`: asks a running daemon, over its socket.

use std::fmt::Write as _;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use serde_json::Value;

use super::CliError;
use super::output::printable;

const SOCKET: &str = "socket";
const ID: &str = "id";
/// More than any answer has.
const LIMIT: u64 = 16 * 1024 * 1024;
/// How long the daemon may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug)]
enum Question {
    /// The configuration that it runs with.
    Config,
    /// What it is.
    Info,
    /// A container, by its id or the beginning of it.
    Container(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum StatusError {
    /// Nobody answers.
    #[error("no daemon answers on {socket}; is crio running? --socket names another place")]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon answers that it cannot.
    #[error("the daemon on {socket} answers: {text}")]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// What it says.
        text: String,
    },
    /// The answer is no answer.
    #[error("what listens on {0} does not answer like crio")]
    Strange(PathBuf),
}

pub(super) fn command() -> Command {
    let id = Arg::new(ID).long(ID).short('i').required(true).value_name("ID").help("Which one.");
    let containers = Command::new("containers")
        .visible_aliases(["container", "cs", "s"])
        .about("Print what is known of a container.")
        .arg(id);
    let inner = |name: &'static str, alias: &'static str, about: &'static str| {
        Command::new(name).visible_alias(alias).about(about)
    };
    Command::new("status")
        .about("Ask a running daemon.")
        .subcommand_required(true)
        .arg(
            Arg::new(SOCKET)
                .long(SOCKET)
                .short('s')
                .value_name("PATH")
                .default_value("/var/run/crio/crio.sock")
                .help("Its socket."),
        )
        .subcommand(inner("config", "c", "Print the configuration that it runs with."))
        .subcommand(inner("info", "i", "Print what it is."))
        .subcommand(containers)
}

/// Asks, and prints the answer.
pub(super) fn run(matches: &ArgMatches) -> Result<(), CliError> {
    let Some((socket, question)) = question(matches) else { return Ok(()) };
    let socket = socket.as_path();
    let text = match &question {
        Question::Config => ask(socket, "/config")?,
        Question::Info => info(&parsed(socket, "/info")?),
        Question::Container(id) => container(&parsed(socket, &format!("/containers/{id}"))?),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Which daemon is asked what.
fn question(matches: &ArgMatches) -> Option<(PathBuf, Question)> {
    let socket = matches.get_one::<String>(SOCKET)?.into();
    let question = match matches.subcommand()? {
        ("config", _) => Question::Config,
        ("info", _) => Question::Info,
        (_, inner) => Question::Container(inner.get_one::<String>(ID)?.clone()),
    };
    Some((socket, question))
}

fn parsed(socket: &Path, path: &str) -> Result<Value, StatusError> {
    let text = ask(socket, path)?;
    serde_json::from_str(&text).map_err(|_| StatusError::Strange(socket.to_owned()))
}

/// The body of one answer.
fn ask(socket: &Path, path: &str) -> Result<String, StatusError> {
    let exchanged = exchange(socket, path);
    let answer =
        exchanged.map_err(|source| StatusError::Silent { socket: socket.to_owned(), source })?;
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| StatusError::Strange(socket.to_owned()))?;
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some(_) => Err(StatusError::Refused {
            socket: socket.to_owned(),
            text: printable(&body.chars().take(1000).collect::<String>(), ""),
        }),
        None => Err(StatusError::Strange(socket.to_owned())),
    }
}

fn exchange(socket: &Path, path: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: crio\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LIMIT).read_to_string(&mut answer)?;
    Ok(answer)
}

fn info(info: &Value) -> String {
    let text = |name: &str| info.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut out = format!(
        "cgroup driver: {}\nstorage driver: {}\nstorage graph root: {}\nstorage image: {}\n",
        text("cgroup_driver"),
        text("storage_driver"),
        text("storage_root"),
        text("storage_image"),
    );
    for (shown, name) in [("GID", "gids"), ("UID", "uids")] {
        let _ = writeln!(out, "default {shown} mappings (format <container>:<host>:<size>):");
        let maps = info.pointer(&format!("/default_id_mappings/{name}")).and_then(Value::as_array);
        for map in maps.into_iter().flatten() {
            let number = |name: &str| map.get(name).and_then(Value::as_u64).unwrap_or_default();
            let (container, host) = (number("container_id"), number("host_id"));
            let _ = writeln!(out, "  {container}:{host}:{}", number("size"));
        }
    }
    judged(&mut out, info);
    reloaded(&mut out, info.get("reload").filter(|reload| reload.is_object()));
    out
}

/// By which policy images are judged, which one is only tried, and what is odd about this node. An older
/// daemon says nothing of it.
fn judged(out: &mut String, info: &Value) {
    line_of(out, "policy", info.get("policy"));
    for (shown, name) in [("policy tried in a dry run", "policy_dry_run"), ("warning", "warnings")]
    {
        for value in info.get(name).and_then(Value::as_array).into_iter().flatten() {
            line_of(out, shown, Some(value));
        }
    }
}

fn line_of(out: &mut String, name: &str, value: Option<&Value>) {
    if value.is_some() {
        line(out, name, value);
    }
}

/// What came of the last time that the configuration was read again.
fn reloaded(out: &mut String, reload: Option<&Value>) {
    let Some(reload) = reload else { return };
    let text = |name: &str| reload.get(name).and_then(Value::as_str);
    let _ = writeln!(out, "last reload: {}", printable(text("at").unwrap_or_default(), ""));
    if let Some(why) = text("refused") {
        let _ = writeln!(out, "last reload refused: {}", printable(why, ""));
    }
    let keys = reload.get("needsRestart").and_then(Value::as_array).into_iter().flatten();
    let keys: Vec<&str> = keys.filter_map(Value::as_str).collect();
    if !keys.is_empty() {
        let _ = writeln!(out, "needs a restart: {}", printable(&keys.join(", "), ""));
    }
}

fn container(container: &Value) -> String {
    let mut out = String::new();
    for (shown, name) in [
        ("name", "name"),
        ("pid", "pid"),
        ("image", "image"),
        ("image ref", "image_ref"),
        ("created", "created_time"),
    ] {
        line(&mut out, shown, container.get(name));
    }
    for (shown, name) in [
        ("labels", "labels"),
        ("annotations", "annotations"),
        ("CRI-O annotations", "crio_annotations"),
    ] {
        let _ = writeln!(out, "{shown}:");
        for (key, value) in container.get(name).and_then(Value::as_object).into_iter().flatten() {
            line(&mut out, &format!("  {key}"), Some(value));
        }
    }
    for (shown, name) in [("log path", "log_path"), ("graph root", "root"), ("sandbox", "sandbox")]
    {
        line(&mut out, shown, container.get(name));
    }
    let ips = container.get("ip_addresses").and_then(Value::as_array).into_iter().flatten();
    let ips: Vec<&str> = ips.filter_map(Value::as_str).collect();
    let _ = writeln!(out, "ips: {}", ips.join(", "));
    out
}

fn line(out: &mut String, name: &str, value: Option<&Value>) {
    let value = match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    // Labels and annotations are a user's words: none moves a terminal's cursor.
    let _ = writeln!(out, "{}: {}", printable(name, ""), printable(&value, ""));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_with_escapes_do_not_reach_the_terminal() {
        let shown = container(&json!({"name": "web", "labels": {"a\u{1b}[2J": "b\nname: root"}}));
        assert!(shown.starts_with("name: web\n") && !shown.contains('\u{1b}'), "{shown:?}");
        assert!(shown.contains("  a\\u001b[2J: b\\u000aname: root\n"), "{shown:?}");
    }
}
