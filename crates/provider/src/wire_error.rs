//! What an error of the HTTP library means, by the types in its chain of causes, never by their texts.

use std::{error::Error, io};

use sluice_domain::ErrorClass;

use crate::NotSentReason;

/// Why no connection took the request.
pub(crate) fn not_sent_reason(error: &reqwest::Error) -> NotSentReason {
    let is_refused = |io: &io::Error| io.kind() == io::ErrorKind::ConnectionRefused;
    if error.is_timeout() {
        NotSentReason::ConnectTimeout
    } else if find::<rustls::Error>(error, |_| true) {
        NotSentReason::Tls
    } else if find::<io::Error>(error, is_refused) {
        NotSentReason::Refused
    } else {
        NotSentReason::ConnectFailed
    }
}

/// Why the answer to a request that was sent can't be known.
pub(crate) fn lost_class(error: &reqwest::Error) -> ErrorClass {
    if find::<hyper::Error>(error, |_| true) {
        // A head that is no HTTP, or larger than any real one.
        let is_parse = find::<hyper::Error>(error, hyper::Error::is_parse);
        return if is_parse { ErrorClass::MalformedAnswer } else { ErrorClass::ConnectionLost };
    }
    // Without an error of the transport, it is the decompression that failed.
    if find::<io::Error>(error, |_| true) { ErrorClass::MalformedAnswer } else { ErrorClass::ConnectionLost }
}

/// The innermost cause in words, for a person. Causes come from the system and the TLS library and hold no secret.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(next) = inner(cause) {
        cause = next;
    }
    // An outermost error would tell the URL.
    if error.source().is_none() { "no connection".to_owned() } else { cause.to_string() }
}

fn find<E: Error + 'static>(error: &reqwest::Error, is_it: impl Fn(&E) -> bool) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<E>().is_some_and(&is_it) {
            return true;
        }
        cause = inner(error);
    }
    false
}

/// The next cause. An I/O error skips the error that it wraps and names that one's cause.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
