//! W3C `traceparent`: how a trace goes on in another process.
//!
//! A submit stores its span's `traceparent` with the job; the worker's attempt continues that trace, so that a job is
//! one trace from the submit to each call, whatever processes it went through.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The `traceparent` of the span that is entered now; `None` outside of a trace.
pub fn current_traceparent() -> Option<String> {
    traceparent_of(&Span::current())
}

/// The trace id of the span that is entered now, as 32 hexadecimal digits.
pub fn current_trace_id() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    span.span_context().is_valid().then(|| span.span_context().trace_id().to_string())
}

/// The `traceparent` of `span`; `None` where it belongs to no trace.
pub fn traceparent_of(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let otel_span = context.span();
    let ids = otel_span.span_context();
    ids.is_valid()
        .then(|| format!("00-{}-{}-{:02x}", ids.trace_id(), ids.span_id(), ids.trace_flags().to_u8() & 1))
}

/// Whether `text` is a `traceparent` that can be continued.
pub fn is_traceparent(text: &str) -> bool {
    parse(text).is_some()
}

/// Makes `span` a child of the remote span that `traceparent` names, in the same trace. It must be called before
/// `span` is entered. Says whether it did: a text that is no `traceparent` changes nothing.
pub fn continue_trace(span: &Span, traceparent: &str) -> bool {
    parse(traceparent)
        .is_some_and(|remote| span.set_parent(Context::new().with_remote_span_context(remote)).is_ok())
}

/// Links `span` to the remote span that `traceparent` names, without joining its trace: for one span that serves
/// many traces. Says whether it did.
pub fn link_to(span: &Span, traceparent: &str) -> bool {
    parse(traceparent).is_some_and(|remote| {
        span.add_link(remote);
        true
    })
}

/// Parses by <https://www.w3.org/TR/trace-context/#traceparent-header>: of later versions the known part is taken.
fn parse(text: &str) -> Option<SpanContext> {
    let is_lower_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lengths_fit = version.len() == 2 && trace.len() == 32 && span.len() == 16 && flags.len() == 2;
    if !lengths_fit || ![version, trace, span, flags].into_iter().all(is_lower_hex) || version == "ff" {
        return None;
    }
    if version == "00" && parts.next().is_some() {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()? & 1),
        true,
        TraceState::NONE,
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::is_traceparent;

    #[test]
    fn only_what_the_standard_allows_is_a_traceparent() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_traceparent(good));
        assert!(is_traceparent("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-later"));
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319é-b7ad6b7169203331-01",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
