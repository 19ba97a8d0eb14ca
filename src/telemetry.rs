//! The log: one line for each event, to the standard error stream or a file.
//!
//! A line reads `time="…" level=info msg="…" key=value`, as CRI-O's does, or is one JSON object with
//! the same keys. The fields of the spans an event lies in come after its own. What a foreign party
//! wrote is quoted and cut, so it can neither end a line nor fill a disk.
//!
//! Not here: what is logged. Messages of the libraries below us are shown from `warn` on; with
//! `trace`, all are.

use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use regex::Regex;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::Event;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::FormatEvent;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::model::current::Current;

/// No value in a log line is longer, in bytes.
const VALUE_LIMIT: usize = 8192;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time="…" level=info msg="…" key=value`.
    Text,
    /// `{"time":"…","level":"info","msg":"…","key":"value"}`.
    Json,
}

/// What the log is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From which level on events are shown.
    pub level: LevelFilter,
    /// How a line looks.
    pub format: Format,
    /// A pattern that a message must match to be shown.
    pub filter: Option<String>,
    /// The file that lines are added to; `None` is the standard error stream.
    pub file: Option<PathBuf>,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The file cannot be opened.
    #[error("cannot open the log file {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pattern is no regular expression.
    #[error("the log filter is no regular expression")]
    Filter(#[source] regex::Error),
    /// There is one already.
    #[error("the log is set up already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// A pattern that may be replaced while lines are written.
type Pattern = Arc<Current<Option<Regex>>>;

/// The log of this process, to be told otherwise while it runs.
#[derive(Debug, Clone)]
pub struct Control {
    shown: reload::Handle<Targets, Registry>,
    filter: Pattern,
}

impl Control {
    /// Shows events from `level` on whose message matches `filter`.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Filter`]; nothing has changed then.
    pub fn set(&self, level: LevelFilter, filter: Option<&str>) -> Result<(), TelemetryError> {
        let filter = pattern(filter)?;
        self.filter.replace(filter);
        // Fails where there is no log any more, and then nobody misses it.
        let _ = self.shown.reload(shown(level));
        Ok(())
    }
}

/// Sets the log up for this process.
///
/// # Errors
///
/// [`TelemetryError`].
pub fn init(settings: &Settings) -> Result<Control, TelemetryError> {
    let lines = Lines::new(settings)?;
    let filter = Arc::clone(&lines.filter);
    let (targets, handle) = reload::Layer::new(shown(settings.level));
    let registry = tracing_subscriber::registry();
    match &settings.file {
        None => registry.with(layer(lines, io::stderr).with_filter(targets)).try_init(),
        Some(path) => {
            let options = std::fs::OpenOptions::new().create(true).append(true).clone();
            let file = options
                .open(path)
                .map_err(|source| TelemetryError::Open { path: path.clone(), source })?;
            registry.with(layer(lines, file).with_filter(targets)).try_init()
        }
    }
    .map_err(TelemetryError::Twice)?;
    Ok(Control { shown: handle, filter })
}

/// A pattern as an expression; none, and an empty one, match all.
fn pattern(text: Option<&str>) -> Result<Option<Regex>, TelemetryError> {
    let text = text.filter(|text| !text.is_empty());
    text.map(Regex::new).transpose().map_err(TelemetryError::Filter)
}

/// Our own events from `level` on; those of libraries no finer than warnings, unless all is wanted.
fn shown(level: LevelFilter) -> Targets {
    let others = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    Targets::new()
        .with_default(others)
        .with_targets([("crioxide", level), ("crio", level)])
        // It writes what strangers sent, as long as it is; what is wrong with it is in our errors.
        .with_target("pgp", LevelFilter::OFF)
}

fn layer<S, W>(lines: Lines, writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .fmt_fields(Fields(lines.format))
        .event_format(lines)
        .with_writer(writer)
}

/// Writes the fields of a span once, in the form they stand in a line.
struct Fields(Format);

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(
        &self,
        mut out: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut parts = Parts::new(self.0);
        fields.record(&mut parts);
        out.write_str(&parts.fields)
    }
}

/// Writes a line.
struct Lines {
    format: Format,
    filter: Pattern,
}

impl Lines {
    fn new(settings: &Settings) -> Result<Self, TelemetryError> {
        let filter = pattern(settings.filter.as_deref())?;
        Ok(Self { format: settings.format, filter: Arc::new(Current::new(filter)) })
    }

    fn line(&self, level: tracing::Level, parts: &Parts, spans: &str) -> String {
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let level = match level {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warning",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        let (own, message) = (&parts.fields, &parts.message);
        match self.format {
            Format::Text => {
                format!("time=\"{now}\" level={level} msg={}{own}{spans}", quoted(message))
            }
            Format::Json => format!(
                "{{\"time\":\"{now}\",\"level\":\"{level}\",\"msg\":{}{own}{spans}}}",
                quoted(message)
            ),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut parts = Parts::new(self.format);
        event.record(&mut parts);
        let filter = self.filter.now();
        if filter.as_ref().as_ref().is_some_and(|filter| !filter.is_match(&parts.message)) {
            return Ok(());
        }
        let mut spans = String::new();
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                spans.push_str(fields.as_str());
            }
        }
        writeln!(out, "{}", self.line(*event.metadata().level(), &parts, &spans))
    }
}

/// The message and the fields of one event or span.
struct Parts {
    format: Format,
    message: String,
    fields: String,
}

impl Parts {
    fn new(format: Format) -> Self {
        Self { format, message: String::new(), fields: String::new() }
    }

    fn add(&mut self, field: &Field, value: &str, bare: bool) {
        let value = cut(value);
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        // `log.target` and the like come from bridged records and say nothing new.
        if field.name().starts_with("log.") {
            return;
        }
        let written = if bare { value.to_owned() } else { quoted(value) };
        let _ = match self.format {
            Format::Text => write!(self.fields, " {}={written}", field.name()),
            Format::Json => write!(self.fields, ",{}:{written}", quoted(field.name())),
        };
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        let bare = self.format == Format::Text && is_plain(value);
        self.add(field, value, bare);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &value.to_string(), true);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &value.to_string(), true);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, &value.to_string(), true);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Whether a value needs no quotes in a text line.
fn is_plain(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/@^+:".contains(&byte);
    !value.is_empty() && value.len() <= VALUE_LIMIT && value.bytes().all(plain)
}

fn cut(value: &str) -> &str {
    let mut end = value.len().min(VALUE_LIMIT);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value.get(..end).unwrap_or_default()
}

/// A JSON string, which a text line takes as well.
fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            other if other.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(other));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use super::*;

    /// A place that keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, filter: Option<&str>, what: impl FnOnce()) -> String {
        let level = LevelFilter::INFO;
        let filter = filter.map(str::to_owned);
        let settings = Settings { level, format, filter, file: None };
        let kept = Kept::default();
        let place = kept.clone();
        let layer = layer(Lines::new(&settings).unwrap(), move || place.clone());
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(shown(level)));
        tracing::subscriber::with_default(subscriber, what);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn without_time(line: &str) -> &str {
        line.split_once("level").unwrap().1
    }

    #[test]
    fn a_line_has_message_fields_and_those_of_its_spans() {
        let line = written(Format::Text, None, || {
            let span = tracing::info_span!("rpc", id = "7f3a", name = "/Pull Image");
            span.in_scope(|| tracing::info!(image = "a/b:1", size = 5, "pulled \"it\""));
        });
        assert_eq!(
            without_time(&line),
            "=info msg=\"pulled \\\"it\\\"\" image=a/b:1 size=5 id=7f3a name=\"/Pull Image\"\n"
        );
    }

    #[test]
    fn a_json_line_is_one_object() {
        let line = written(Format::Json, None, || {
            let span = tracing::info_span!("rpc", id = "7f3a");
            span.in_scope(|| tracing::warn!(size = 5, why = ?Some("x"), "odd\r\n\u{1b}[31m"));
        });
        let value: serde_json::Value = serde_json::from_str(line.trim_end()).unwrap();
        assert_eq!(value["msg"], "odd\r\n\u{1b}[31m");
        assert_eq!((&value["level"], &value["size"]), (&"warning".into(), &5.into()));
        assert_eq!((&value["id"], &value["why"]), (&"7f3a".into(), &"Some(\"x\")".into()));
    }

    #[test]
    fn foreign_text_cannot_forge_a_line_or_fill_the_disk() {
        let foreign = format!("x\ntime=\"now\" level=error{}", "é".repeat(VALUE_LIMIT));
        let line = written(Format::Text, None, || tracing::info!(answer = foreign.as_str(), "got"));
        assert_eq!(line.lines().count(), 1);
        assert!(line.len() < VALUE_LIMIT + 200, "{}", line.len());
    }

    #[test]
    fn level_and_filter_can_change_while_lines_are_written() {
        let settings =
            Settings { level: LevelFilter::WARN, format: Format::Text, filter: None, file: None };
        let (kept, lines) = (Kept::default(), Lines::new(&settings).unwrap());
        let (place, filter) = (kept.clone(), Arc::clone(&lines.filter));
        let (targets, handle) = reload::Layer::new(shown(settings.level));
        let control = Control { shown: handle, filter };
        let layer = layer(lines, move || place.clone()).with_filter(targets);
        let subscriber = tracing_subscriber::registry().with(layer);
        let say = || {
            tracing::debug!("pull a");
            tracing::debug!("push b");
        };
        tracing::subscriber::with_default(subscriber, || {
            say();
            control.set(LevelFilter::DEBUG, Some("^pull")).unwrap();
            say();
            assert!(control.set(LevelFilter::ERROR, Some("(")).is_err());
            say();
            control.set(LevelFilter::INFO, None).unwrap();
            say();
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("pull a").count(), 2, "{text}");
        assert!(!text.contains("push"), "{text}");
    }

    #[test]
    fn levels_and_the_filter_hold_lines_back() {
        let lines = written(Format::Text, Some("^pull"), || {
            tracing::debug!("pull later");
            tracing::info!("push");
            tracing::info!("pull now");
            tracing::info!(target: "h2::codec", "pull a frame");
            tracing::warn!(target: "h2::codec", "pull a fault");
        });
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert!(lines.contains("pull now") && lines.contains("pull a fault"));
        let settings = Settings {
            level: LevelFilter::INFO,
            format: Format::Text,
            filter: Some("(".into()),
            file: None,
        };
        assert!(Lines::new(&settings).is_err());
    }
}
