//! The deadline that a client gives its call (`grpc-timeout`). Clients keep it themselves, too; here it frees what
//! the call holds also when nothing of the client is heard any more.

use std::time::Duration;

use axum::{extract::Request, middleware::Next, response::Response};
use http::HeaderMap;
use tonic::Status;

/// Answers a call whose answer did not begin in time.
pub(super) async fn keep_deadline(request: Request, next: Next) -> Response {
    let Some(timeout) = timeout_of(request.headers()) else { return next.run(request).await };
    let answer = tokio::time::timeout(timeout, next.run(request)).await;
    answer.unwrap_or_else(|_| exceeded().into_http())
}

/// What a call ends with whose deadline passed.
pub(super) fn exceeded() -> Status {
    Status::deadline_exceeded("the call's deadline passed")
}

/// How long a call may take: `grpc-timeout`, a number of up to 8 digits and its unit. What is not understood is ignored.
pub(super) fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = is_number.then(|| digits.parse().ok())??;
    let seconds = |seconds: u64| Duration::from_secs(u64::from(number) * seconds);
    match unit {
        "H" => Some(seconds(3600)),
        "M" => Some(seconds(60)),
        "S" => Some(seconds(1)),
        "m" => Some(Duration::from_millis(number.into())),
        "u" => Some(Duration::from_micros(number.into())),
        "n" => Some(Duration::from_nanos(number.into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};

    use super::timeout_of;

    #[test]
    fn timeouts_are_read_by_their_unit_and_nonsense_is_ignored() {
        let read = |text: &'static str| {
            timeout_of(&HeaderMap::from_iter([(
                "grpc-timeout".parse().unwrap(),
                HeaderValue::from_static(text),
            )]))
        };
        assert_eq!(read("2H"), Some(Duration::from_hours(2)));
        assert_eq!(read("99999999M"), Some(Duration::from_mins(99_999_999)));
        assert_eq!(read("30S"), Some(Duration::from_secs(30)));
        assert_eq!(read("300m"), Some(Duration::from_millis(300)));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for nonsense in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1 S"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
