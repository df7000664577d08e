//! The ledger: complete, joinable, and readable after any death.

use std::{io::Write as _, time::Duration};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use sluice_simulator::{
    CallRecord, Ended, FaultKind, SimulatorConfig, SimulatorHandle, prompt_sha256, read_ledger,
};

use crate::raw_client::{Ask, End, chat_body, simulator, started};

async fn with_ledger(path: &std::path::Path) -> SimulatorHandle {
    started(SimulatorConfig { ledger: Some(path.to_owned()), ..SimulatorConfig::default() }).await
}

#[tokio::test]
async fn every_call_is_in_the_file_with_what_a_join_needs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let simulator = with_ledger(&path).await;
    let mut body = chat_body("deepseek-flash", "Hi [[sim:none tokens=5]]");
    body["user"] = json!("job-1");
    let good = Ask::chat(&body).with_header("x-request-id", "call-1");
    let answer = good.send(&simulator).await;
    let keyed = json!({"model": "gpt-sim", "messages": 5, "metadata": {"key": "job-2"}});
    Ask::chat(&keyed).send(&simulator).await;
    let cut = Ask::chat(&chat_body("gpt-sim", "x")).with_header("x-sim-fault", "reset_before_answer");
    assert_eq!(cut.send(&simulator).await.end, End::Reset);
    let in_memory = simulator.calls();
    simulator.shutdown().await;
    let calls = read_ledger(&path).unwrap();
    assert_eq!(calls, in_memory);
    let [first, second, third] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(first.arrival.request_id, answer.header("x-request-id").unwrap());
    assert_eq!(first.arrival.call_id.as_deref(), Some("call-1"));
    assert_eq!(first.arrival.custom_key.as_deref(), Some("job-1"));
    assert_eq!(first.arrival.prompt_sha256, prompt_sha256(&good.body));
    assert_eq!(first.arrival.marker.as_deref(), Some("none tokens=5"));
    let digest =
        Sha256::digest(&good.body).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    assert_eq!((first.arrival.body_sha256.clone(), first.arrival.bytes), (digest, good.body.len() as u64));
    assert_eq!((first.ended(), first.status()), (Ended::Answered, Some(200)));
    assert_eq!(second.arrival.custom_key.as_deref(), Some("job-2"));
    assert_eq!((second.ended(), second.status()), (Ended::Error, Some(400)));
    let end = third.end.as_ref().unwrap();
    assert_eq!((end.ended, end.status, end.fault), (Ended::Cut, None, Some(FaultKind::ResetBeforeAnswer)));
    assert!(end.usage.output_tokens > 0, "a call that was received is billed");
    assert!(!std::fs::read_to_string(&path).unwrap().contains("sk-test"), "no key is written down");
}

#[tokio::test]
async fn numbers_go_on_after_a_restart_and_a_torn_line_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let ask = Ask::chat(&chat_body("gpt-sim", "Hi"));
    let simulator = with_ledger(&path).await;
    ask.send(&simulator).await;
    simulator.shutdown().await;
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(br#"{"line":"arrived","call":2,"requ"#).unwrap();
    assert_eq!(read_ledger(&path).unwrap().len(), 1);
    let simulator = with_ledger(&path).await;
    ask.send(&simulator).await;
    simulator.shutdown().await;
    let calls = read_ledger(&path).unwrap();
    assert_eq!(calls.iter().map(|call| call.arrival.call).collect::<Vec<_>>(), [1, 2]);
    file.write_all(b"nonsense\n{}\n").unwrap();
    assert!(read_ledger(&path).is_err(), "only the last line may be torn");
}

#[tokio::test]
async fn many_calls_at_once_are_all_on_disk_before_they_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let simulator = with_ledger(&path).await;
    let addr = simulator.addr();
    let asks = (0..64).map(|at| {
        let (path, ask) = (path.clone(), Ask::chat(&chat_body("gpt-sim", &format!("question {at}"))));
        tokio::spawn(async move {
            assert_eq!(ask.send_to(addr).await.status, 200);
            let hash = prompt_sha256(&ask.body);
            assert!(read_ledger(path).unwrap().iter().any(|call| call.arrival.prompt_sha256 == hash));
        })
    });
    for ask in asks.collect::<Vec<_>>() {
        ask.await.unwrap();
    }
    drop(simulator);
}

/// Waits until the newest call has ended.
async fn last_call_when_over(simulator: &SimulatorHandle) -> CallRecord {
    for _ in 0..500 {
        if let Some(call) = simulator.calls().pop().filter(|call| call.end.is_some()) {
            return call;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the call never ended: {:?}", simulator.calls());
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_call_and_frees_its_slot() {
    let simulator = simulator().await;
    for fault in ["hang", "stall", "stall_keepalive", "drip", "hang_keepalive"] {
        for stream in [false, true] {
            let mut body = chat_body("gpt-sim", fault);
            body["stream"] = json!(stream);
            let ask = Ask::chat(&body).with_header("x-sim-fault", fault).with_patience_ms(100);
            assert_eq!(ask.send(&simulator).await.end, End::TimedOut, "{fault}");
            let call = last_call_when_over(&simulator).await;
            assert_eq!(call.ended(), Ended::Cut, "{fault}, stream {stream}");
            assert_eq!(simulator.stats().running, 0, "{fault}");
        }
    }
}

#[tokio::test]
async fn stats_and_ledger_can_be_asked_over_http() {
    let simulator = simulator().await;
    for prompt in ["one", "two"] {
        Ask::chat(&chat_body("gpt-sim", prompt)).send(&simulator).await;
    }
    let stats = Ask::get("/sim/stats").send(&simulator).await.json();
    assert_eq!(
        (&stats["calls"], &stats["answered"], &stats["statuses"]["200"]),
        (&json!(2), &json!(2), &json!(2))
    );
    let lines = Ask::get("/sim/ledger?after=1").send(&simulator).await.text();
    let record: CallRecord = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(record, simulator.calls()[1]);
}
