//! How a client is told the end: as the API's Status in JSON, or in the older protocols as text.

use std::fmt;

use serde::Serialize;

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Well.
    Success,
    /// The command ended with another code than zero.
    ExitCode(i32),
    /// It could not be done, or was cut off.
    Failure(String),
}

impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => out.write_str("done"),
            Self::ExitCode(code) => write!(out, "exit code {code}"),
            Self::Failure(why) => out.write_str(why),
        }
    }
}

/// How the client wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As JSON, always.
    Json,
    /// As text, and nothing when all is well.
    Text,
}

/// `Status` of the API, as far as it is used here.
#[derive(Serialize)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Serialize)]
struct Details {
    causes: [Cause; 1],
}

#[derive(Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
}

impl End {
    /// The words for a client.
    pub(super) fn told(&self, form: Form) -> Vec<u8> {
        let status = self.status();
        match form {
            Form::Json => serde_json::to_vec(&status).unwrap_or_default(),
            Form::Text => status.message.unwrap_or_default().into_bytes(),
        }
    }

    fn status(&self) -> Status {
        let failed = |message: String, reason| Status {
            status: "Failure",
            message: Some(message),
            reason: Some(reason),
            details: None,
            code: None,
        };
        match self {
            Self::Success => {
                Status { status: "Success", message: None, reason: None, details: None, code: None }
            }
            Self::ExitCode(code) => {
                let message =
                    format!("command terminated with non-zero exit code: exit status {code}");
                let cause = Cause { reason: "ExitCode", message: code.to_string() };
                let details = Some(Details { causes: [cause] });
                Status { details, ..failed(message, "NonZeroExitCode") }
            }
            Self::Failure(why) => {
                let message = format!("Internal error occurred: {why}");
                Status { code: Some(500), ..failed(message, "InternalError") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_and_kubectl_read_these_words() {
        for (end, json, text) in [
            (End::Success, r#"{"status":"Success"}"#, ""),
            (
                End::ExitCode(3),
                r#"{"status":"Failure","message":"command terminated with non-zero exit code: exit status 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#,
                "command terminated with non-zero exit code: exit status 3",
            ),
            (
                End::Failure("no such container".to_owned()),
                r#"{"status":"Failure","message":"Internal error occurred: no such container","reason":"InternalError","code":500}"#,
                "Internal error occurred: no such container",
            ),
        ] {
            assert_eq!(String::from_utf8(end.told(Form::Json)).unwrap(), json);
            assert_eq!(String::from_utf8(end.told(Form::Text)).unwrap(), text);
        }
    }
}
