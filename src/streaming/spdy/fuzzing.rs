//! A door for the fuzz target: frames as `read` takes them apart, without a connection.

use crate::streaming::spdy::frame;
use crate::streaming::spdy::frame::Control;
use crate::streaming::spdy::frame::HEAD;
use crate::streaming::spdy::frame::Head;
use crate::streaming::spdy::headers::Unpacker;

/// Reads frames until one is wrong or cut off.
pub(in crate::streaming) fn frames(mut bytes: &[u8]) {
    let mut unpacker = Unpacker::new();
    while let Some((first, rest)) = bytes.split_at_checked(HEAD) {
        let Ok(head) = frame::head(first) else { return };
        let (Head::Data { length, .. } | Head::Control { length, .. }) = head;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((payload, rest)) = rest.split_at_checked(length) else { return };
        if let Head::Control { kind, flags, .. } = head {
            let Ok(control) = frame::control(kind, flags, payload) else { return };
            if let Control::SynStream { headers, .. } | Control::Headers { headers, .. } = control
                && unpacker.headers(headers).is_err()
            {
                return;
            }
        }
        bytes = rest;
    }
}
