//! A program that is talked to while it runs, as somebody at a terminal does.

use std::io::Read;
use std::io::Write;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program, what it is told and what it says; killed when dropped.
#[derive(Debug)]
pub(crate) struct Typed {
    child: Child,
    stdin: Option<ChildStdin>,
    heard: Arc<Mutex<Vec<u8>>>,
    listeners: Vec<JoinHandle<()>>,
}

impl Typed {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stdin = child.stdin.take();
        let listeners = vec![
            listen(child.stdout.take().expect("stdout"), &heard),
            listen(child.stderr.take().expect("stderr"), &heard),
        ];
        Self { child, stdin, heard, listeners }
    }

    /// Tells it something; one that has ended need not hear it.
    pub(crate) fn say(&mut self, words: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(words.as_bytes());
        }
    }

    /// Everything it said so far, on either stream.
    pub(crate) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().expect("the words")).into_owned()
    }

    /// Waits until it has said this.
    #[track_caller]
    pub(crate) fn until(&self, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.heard().contains(words) {
            assert!(Instant::now() < end, "{words:?} is not in {:?}", self.heard());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Tells it that nothing more is said.
    pub(crate) fn hush(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end, and gives everything it said.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        self.hush();
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the program") {
                for listener in self.listeners.drain(..) {
                    let _ = listener.join();
                }
                return (status, self.heard());
            }
            assert!(Instant::now() < end, "it does not end; it said {:?}", self.heard());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(mut from: impl Read + Send + 'static, heard: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let heard = Arc::clone(heard);
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            heard.lock().expect("the words").extend_from_slice(&piece[..length]);
        }
    })
}
