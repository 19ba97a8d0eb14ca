//! Measures CRI daemons: the rows that the project holds itself to, for any socket.
//!
//! ```text
//! bench [--rounds N] [--pods N] [--json FILE] [--only WORD] NAME=SOCKET…
//! bench exec FILE COMMAND…   becomes COMMAND; the time of that is in FILE
//! bench look SOCKET FILE     waits until SOCKET answers; the time of that is in FILE
//! ```
//!
//! With more than one daemon each row is measured of one after the other, so that what the machine
//! does meanwhile meets them alike; ratios are to the first. Times are the client's, by the
//! monotonic clock; memory and processor time are those of the process behind the socket and its
//! children. Images must be at the registry that `--registry` names (see `images.sh`).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement that cannot go on has failed"
)]

#[path = "../support/client.rs"]
#[allow(dead_code, reason = "the stories need more of it")]
mod client;
mod options;
mod process;
mod rows;
mod start;
mod table;

use std::path::Path;
use std::process::ExitCode;

use client::Client;
use options::Options;
use process::Process;

/// A daemon that is measured.
struct Daemon {
    name: String,
    client: Client,
    process: Process,
    /// How long it took to answer after its start, in milliseconds, where that is known.
    start: Option<f64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|text| text != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["exec", file, program, ..] => Err(start::exec(file, program, &arguments[3..])),
        ["look", socket, file] => start::look(socket, file),
        _ => Options::parse(&arguments).map(|options| {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(measure(&options));
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("bench: {fault}\n{}", options::USAGE);
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) {
    let mut daemons = Vec::new();
    for (name, socket) in &options.daemons {
        daemons.push(connect(name, socket, options).await);
    }
    let mut table = table::Table::new(daemons.iter().map(|daemon| daemon.name.clone()).collect());
    rows::all(&mut daemons, options, &mut table).await;
    process::remove_cgroup(&options.cgroup);
    println!("{}", table.text());
    if let Some(path) = &options.json {
        let file = std::fs::File::create(path).expect("the JSON file");
        serde_json::to_writer_pretty(file, &table.json()).expect("to write the JSON file");
    }
}

async fn connect(name: &str, socket: &Path, options: &Options) -> Daemon {
    let client = Client::connect(socket, &options.cgroup, &options.logs).await;
    let mut client = client.unwrap_or_else(|error| panic!("{name}: {}: {error}", socket.display()));
    let version = client.version().await.unwrap_or_else(|status| panic!("{name}: {status}"));
    let process = Process::behind(socket);
    eprintln!("bench: {name} is {} {}", version.runtime_name, version.runtime_version);
    let start = start::between(&socket.with_extension("begun"), &socket.with_extension("answered"));
    Daemon { name: name.to_owned(), client, process, start }
}
