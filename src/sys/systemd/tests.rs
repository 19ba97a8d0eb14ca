use std::sync::Arc;
use std::sync::Mutex;

use zbus::OwnedVariant;
use zbus::object_server::SignalEmitter;

use super::*;

type Properties = Vec<(String, OwnedVariant)>;

/// A systemd that writes down what it is asked, and ends its jobs as it is told.
struct Manager {
    result: &'static str,
    asked: Arc<Mutex<Vec<(String, String, Properties)>>>,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn subscribe(&self) {}

    async fn start_transient_unit(
        &self,
        name: String,
        mode: String,
        properties: Properties,
        _auxiliary: Vec<(String, Properties)>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        if self.result == "refused" {
            return Err(zbus::fdo::Error::Failed("unit exists".to_owned()));
        }
        self.asked.lock().unwrap().push((name.clone(), mode, properties));
        let path = |text: &str| OwnedObjectPath::try_from(text.to_owned()).unwrap();
        // Another job ends first; and ours ends before its path is known to the asker.
        Self::job_removed(&emitter, 6, path("/job/6"), "other", "failed").await?;
        Self::job_removed(&emitter, 7, path("/job/7"), &name, self.result).await?;
        Ok(path("/job/7"))
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

async fn ask(
    result: &'static str,
) -> (Result<(), SystemdError>, Vec<(String, String, Properties)>) {
    let asked = Arc::default();
    let manager = Manager { result, asked: Arc::clone(&asked) };
    let (ours, its) = std::os::unix::net::UnixStream::pair().unwrap();
    let guid = zbus::Guid::generate();
    let server = zbus::connection::Builder::unix_stream(its)
        .server(guid)
        .p2p()
        .serve_at("/org/freedesktop/systemd1", manager)
        .build();
    let client = zbus::connection::Builder::unix_stream(ours).p2p().build();
    let (_server, client) = tokio::try_join!(server, client).unwrap();
    let systemd = Systemd::on(&client).await.unwrap();
    let scope = Scope {
        slice: "kubepods-pod1.slice".to_owned(),
        name: "crio-conmon-7.scope".to_owned(),
        pid: 4242,
        stop_signal: 13,
    };
    let answer = systemd.start_scope(&scope);
    let answer = tokio::time::timeout(std::time::Duration::from_secs(10), answer).await.unwrap();
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    (answer, asked)
}

#[tokio::test]
async fn a_scope_is_asked_for_as_systemd_wants_it() {
    let (answer, asked) = ask("done").await;
    answer.unwrap();
    let [(name, mode, properties)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((name.as_str(), mode.as_str()), ("crio-conmon-7.scope", "replace"));
    let found = |wanted: &str| {
        let property = properties.iter().find(|(name, _)| name == wanted);
        property.map(|(_, value)| format!("{} {value:?}", value.value_signature())).unwrap()
    };
    assert!(found("Slice").starts_with("s ") && found("Slice").contains("kubepods-pod1.slice"));
    assert!(found("PIDs").starts_with("au ") && found("PIDs").contains("4242"));
    assert!(found("KillSignal").starts_with("i ") && found("KillSignal").contains("13"));
    assert!(found("After").starts_with("as ") && found("After").contains("crio.service"));
}

#[tokio::test]
async fn a_job_that_fails_is_an_error_that_names_scope_and_slice() {
    let (answer, _) = ask("timeout").await;
    let error = answer.unwrap_err();
    assert!(matches!(error, SystemdError::Job { .. }) && !error.is_cut(), "{error}");
    let text = error.to_string();
    assert!(text.contains("crio-conmon-7.scope in kubepods-pod1.slice"), "{text}");
    let (answer, _) = ask("refused").await;
    let error = answer.unwrap_err();
    assert!(crate::failure::chain(&error).contains("unit exists"), "{error}");
}
