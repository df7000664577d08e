//! Settlements survive the spool, and what it holds of them stays readable.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn word<T: Copy + std::fmt::Debug + 'static>(words: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(words)
}

fn decision() -> impl Strategy<Value = Decision> {
    prop_oneof![
        Just(Decision::Succeed),
        any::<bool>().prop_map(|is_retryable| Decision::Fail { is_retryable }),
        (any::<u64>(), any::<bool>(), any::<bool>()).prop_map(|(delay, spends_try, is_refusal)| {
            Decision::Requeue { delay: Duration::from_nanos(delay), spends_try, is_refusal }
        }),
        word(HoldReason::ALL).prop_map(Decision::Hold),
    ]
}

fn answer() -> impl Strategy<Value = Option<StoredAnswer>> {
    let body = prop::collection::vec(any::<u8>(), 0..200);
    prop::option::of((any::<u16>(), body, any::<bool>(), any::<bool>()).prop_map(
        |(status_code, body, is_truncated, is_assembled)| StoredAnswer {
            status_code,
            body,
            is_truncated,
            is_assembled,
        },
    ))
}

fn usage() -> impl Strategy<Value = Option<Usage>> {
    prop::option::of(any::<[u64; 4]>().prop_map(|[input, cached, output, reasoning]| Usage {
        input_tokens: input,
        cached_input_tokens: cached,
        output_tokens: output,
        reasoning_tokens: reasoning,
    }))
}

fn call() -> impl Strategy<Value = Option<UpstreamUse>> {
    let optional = || prop::option::of(any::<String>());
    prop::option::of((id(), any::<String>(), any::<String>(), optional(), optional()).prop_map(
        |(call_id, upstream, model, answered_model, request_id)| UpstreamUse {
            call_id: CallId::from_uuid(call_id),
            upstream,
            model,
            answered_model,
            request_id,
        },
    ))
}

fn settlement() -> impl Strategy<Value = Settlement> {
    let ids = (id(), id(), id(), any::<u32>(), any::<u32>());
    let error = prop::option::of((word(ErrorClass::ALL), any::<String>()));
    let times = any::<[Option<u64>; 2]>();
    (ids, word(Outcome::ALL), decision(), error, answer(), usage(), any::<i64>(), call(), times).prop_map(
        |(ids, outcome, decision, error, answer, usage, cost, call, times)| Settlement {
            job_id: JobId::from_uuid(ids.0),
            lease_id: LeaseId::from_uuid(ids.1),
            incarnation_id: IncarnationId::from_uuid(ids.2),
            generation: ids.3,
            lease_no: ids.4,
            outcome,
            decision,
            error,
            answer,
            usage,
            cost: NanoUsd(cost),
            call,
            call_duration: times[0].map(Duration::from_nanos),
            time_to_first_byte: times[1].map(Duration::from_nanos),
        },
    )
}

proptest! {
    #[test]
    fn settlements_survive_a_round_trip(settlement in settlement()) {
        prop_assert_eq!(decode(&encode(&settlement).unwrap()), Some(settlement));
    }

    #[test]
    fn garbage_is_no_settlement(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(decode(&bytes), None);
    }
}

/// What the first release wrote, word for word: every later one must read it.
#[test]
fn what_the_first_release_wrote_is_read() {
    let fields = r#"{"job_id":"01938a2e-7b1c-7def-8abc-0123456789ab","lease_id":"6f1c2d3e-4b5a-4c7d-8e9f-a0b1c2d3e4f5","incarnation_id":"01938a2e-0000-7000-8000-000000000001","generation":1,"lease_no":2,"outcome":"failed","decision":{"kind":"requeue","delay_ns":1500000000,"spends_try":true,"is_refusal":false},"error":["server_error","it said 500"],"answer":{"status_code":500,"is_truncated":false,"is_assembled":true},"usage":{"input_tokens":7,"cached_input_tokens":1,"output_tokens":9,"reasoning_tokens":2},"cost_nano_usd":1234,"call":{"call_id":"6f1c2d3e-0000-4c7d-8e9f-a0b1c2d3e4f5","upstream":"sim","model":"m","answered_model":null,"request_id":"r"},"call_duration_ns":5000000,"time_to_first_byte_ns":null}"#;
    let length = u32::try_from(fields.len()).unwrap().to_le_bytes();
    let bytes = [&length[..], fields.as_bytes(), b"\0\xffbody"].concat();
    let read = decode(&bytes).unwrap();
    assert_eq!(read.answer.as_ref().unwrap().body, b"\0\xffbody");
    assert_eq!(
        read.decision,
        Decision::Requeue { delay: Duration::from_millis(1500), spends_try: true, is_refusal: false }
    );
    assert_eq!(encode(&read).unwrap(), bytes);
}
