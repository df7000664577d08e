//! Error answers on order: statuses, `Retry-After` in all its shapes, pages of proxies.

use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderName, HeaderValue, header};

use crate::{
    api_error::ApiError,
    call::error_reply,
    fault::{Fault, FaultKind},
    script::Reply,
};

pub(super) const HTML_PAGE: &str = "<html><head><title>Bad Gateway</title></head><body><center><h1>Bad Gateway</h1>\
                                    </center><hr><center>nginx</center></body></html>";
const DEFAULT_AFTER_MS: u64 = 2_000;

/// The reply of a fault that is an error answer; `None` for the others.
pub(crate) fn refusal(fault: &Fault, now: DateTime<Utc>) -> Option<Reply> {
    let (status, retry) = status_and_retry(fault, now)?;
    let status = fault.params.status.filter(|status| (300..600).contains(status)).unwrap_or(status);
    let mut reply = match fault.kind {
        FaultKind::Http502 | FaultKind::Http504 => Reply::immediate(status, "text/html", HTML_PAGE),
        _ => error_reply(&error_for(fault.kind, status)),
    };
    let ordered = fault.params.retry_after.clone().map(|value| (header::RETRY_AFTER, value));
    // A value that can't stand in a header is left out, as no server could send it.
    if let Some((name, value)) = ordered.or(retry)
        && let Ok(value) = HeaderValue::from_str(&value)
    {
        reply.headers.push((name, value));
    }
    if fault.kind == FaultKind::Redirect {
        reply.headers.push((header::LOCATION, HeaderValue::from_static("/sim/redirected")));
    }
    Some(reply)
}

fn status_and_retry(fault: &Fault, now: DateTime<Utc>) -> Option<(u16, Option<(HeaderName, String)>)> {
    let after_ms = fault.params.after_ms.unwrap_or(DEFAULT_AFTER_MS);
    let whole_seconds = after_ms.div_ceil(1_000);
    let retry = |value: String| (429, Some((header::RETRY_AFTER, value)));
    Some(match fault.kind {
        FaultKind::Http401 => (401, None),
        FaultKind::Http402 => (402, None),
        FaultKind::Http403 => (403, None),
        FaultKind::Http404 => (404, None),
        FaultKind::Http408 => (408, None),
        FaultKind::Http409 => (409, None),
        FaultKind::Http422 => (422, None),
        FaultKind::Http429 | FaultKind::InsufficientQuota => (429, None),
        FaultKind::Http499 => (499, None),
        FaultKind::Http500 => (500, None),
        FaultKind::Http502 => (502, None),
        FaultKind::Http503 => (503, None),
        FaultKind::Http504 => (504, None),
        FaultKind::Http529 => (529, None),
        FaultKind::Redirect => (307, None),
        FaultKind::RetryAfterSeconds => retry(whole_seconds.to_string()),
        FaultKind::RetryAfterDate => retry(http_date(now, whole_seconds)),
        FaultKind::RetryAfterMs => {
            (429, Some((HeaderName::from_static("retry-after-ms"), after_ms.to_string())))
        }
        FaultKind::RetryAfterNegative => retry("-5".to_owned()),
        FaultKind::RetryAfterHuge => retry("99999999999999999999".to_owned()),
        FaultKind::RetryAfterNonsense => retry("soon, perhaps; NaN".to_owned()),
        _ => return None,
    })
}

/// An HTTP date that lies `after_s` seconds after `now`; the part of a second counts as a whole one, so that nobody
/// who obeys comes too early.
fn http_date(now: DateTime<Utc>, after_s: u64) -> String {
    let begun_second = i64::from(now.timestamp_subsec_nanos() != 0);
    let seconds = i64::try_from(after_s).unwrap_or(i64::MAX).saturating_add(begun_second);
    let at = TimeDelta::try_seconds(seconds).and_then(|delta| now.checked_add_signed(delta)).unwrap_or(now);
    httpdate::fmt_http_date(at.into())
}

fn error_for(kind: FaultKind, status: u16) -> ApiError {
    if kind == FaultKind::InsufficientQuota {
        let message = "You exceeded your current quota, please check your plan and billing details.";
        return ApiError::new(status, "insufficient_quota", Some("insufficient_quota"), message);
    }
    match status {
        401 => ApiError::wrong_key(),
        402 => ApiError::insufficient_balance(),
        403 => ApiError::new(403, "permission_error", Some("forbidden"), "You may not do this."),
        429 => ApiError::new(429, "requests", Some("rate_limit_exceeded"), "Rate limit reached."),
        408 | 499 | 504 => ApiError::new(status, "timeout", None, "The request took too long."),
        503 | 529 => {
            ApiError::new(status, "overloaded_error", Some("overloaded"), "Overloaded, try again later.")
        }
        500.. => ApiError::new(status, "server_error", None, "The server had an error."),
        _ => ApiError::new(status, "invalid_request_error", None, "The request was refused."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_never_earlier_than_told() {
        let now: DateTime<Utc> = "2026-10-21T07:28:00.5Z".parse().unwrap();
        assert_eq!(http_date(now, 2), "Wed, 21 Oct 2026 07:28:03 GMT");
        let whole: DateTime<Utc> = "2026-10-21T07:28:00Z".parse().unwrap();
        assert_eq!(http_date(whole, 2), "Wed, 21 Oct 2026 07:28:02 GMT");
    }
}
