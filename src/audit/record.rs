//! What stands in a record, and how.

use std::io;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use serde::Serialize;
use serde::Serializer;
use serde_json::Value;
use serde_json::ser::Formatter;
use time::OffsetDateTime;
use time::macros::format_description;

/// No text in a record is longer, in bytes.
const TEXT_LIMIT: usize = 4096;
/// No list in a record is longer.
const LIST_LIMIT: usize = 100;

/// What a verdict does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It decides.
    Enforce,
    /// It is written down, and decides nothing.
    DryRun,
}

impl Mode {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::DryRun => "dry-run",
        }
    }
}

/// What the policy said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The image may be used.
    Allowed,
    /// It may not.
    Refused,
    /// It could not be found out, which is a refusal too.
    Undecided,
}

impl Outcome {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Undecided => "undecided",
        }
    }
}

/// The pod that an image is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pod {
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its name.
    #[serde(rename = "pod")]
    pub name: String,
    /// Its uid.
    #[serde(rename = "pod_uid")]
    pub uid: String,
}

/// One question to the policy, and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// When it was answered.
    #[serde(serialize_with = "moment")]
    pub time: SystemTime,
    /// What was asked for: `pull`, `create`, `volume`, `seccomp`.
    pub event: &'static str,
    /// Whether the answer decides.
    pub mode: Mode,
    /// The answer.
    pub verdict: Outcome,
    /// The answer in one word, as the metric has it.
    pub cause: &'static str,
    /// For whom; nobody for a pull by hand.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// The container's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The image as the user wrote it.
    pub image: String,
    /// The full reference that was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The digest of the manifest that was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The ID of the image in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// The policy file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PathBuf>,
    /// The digest of that file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_digest: Option<String>,
    /// The scope that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Who was proven to have signed.
    pub signers: Vec<String>,
    /// What they signed: the manifest, or an index that lists it.
    pub signed: Vec<String>,
    /// Where that is in transparency logs.
    pub log_indexes: Vec<i64>,
    /// What satisfied the policy, or did not.
    pub reason: String,
    /// How long it took to answer, in milliseconds.
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub duration: Duration,
}

impl Record {
    /// The record as one line of ASCII.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut line, Ascii);
        // It has nothing that JSON has not, and a vector takes every byte.
        let _ = self.bounded().serialize(&mut serializer);
        line.push(b'\n');
        line
    }

    /// Its fields as texts.
    pub(super) fn fields(&self) -> Vec<(String, String)> {
        let Ok(Value::Object(fields)) = serde_json::to_value(self.bounded()) else {
            return Vec::new();
        };
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        fields.into_iter().map(|(name, value)| (name, text(value))).collect()
    }

    /// The record in a sentence.
    pub(super) fn sentence(&self) -> String {
        let dry = if self.mode == Mode::DryRun { " (dry run)" } else { "" };
        let event = self.event;
        format!("{event} of {} {}{dry}: {}", self.image, self.verdict.word(), cut(&self.reason))
    }

    /// Whether it is as it should be.
    pub(super) fn is_good(&self) -> bool {
        self.verdict == Outcome::Allowed
    }

    /// The same with no text and no list beyond its bound.
    fn bounded(&self) -> Self {
        let text = |text: &Option<String>| text.as_deref().map(cut);
        Self {
            pod: self.pod.as_ref().map(|pod| Pod {
                namespace: cut(&pod.namespace),
                name: cut(&pod.name),
                uid: cut(&pod.uid),
            }),
            container: text(&self.container),
            image: cut(&self.image),
            signers: self.signers.iter().take(LIST_LIMIT).map(|signer| cut(signer)).collect(),
            signed: self.signed.iter().take(LIST_LIMIT).cloned().collect(),
            log_indexes: self.log_indexes.iter().take(LIST_LIMIT).copied().collect(),
            scope: text(&self.scope),
            reason: cut(&self.reason),
            ..self.clone()
        }
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// RFC 3339 with all nine digits, so that lines sort as text.
fn moment<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z");
    let text = OffsetDateTime::from(*time).format(&format).unwrap_or_default();
    serializer.serialize_str(&text)
}

fn milliseconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let microseconds = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
    serializer.serialize_f64(f64::from(microseconds) / 1000.0)
}

/// Writes whatever is not printable ASCII as `\u`: no terminal and no parser of lines sees it.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for letter in fragment.chars() {
            if letter == ' ' || letter.is_ascii_graphic() {
                write!(out, "{letter}")?;
                continue;
            }
            for unit in letter.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}
