//! Files: sent, listed, read, deleted.

use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::fixture::{Fixture, answer};

const BOUNDARY: &str = "a-boundary";

/// A request that sends fields, of which one with a file name is a file.
pub fn upload(fixture: &Fixture, fields: &[(&str, Option<&str>, &[u8])]) -> RequestBuilder {
    let mut body = Vec::new();
    for (name, filename, value) in fields {
        let filename = filename.map(|name| format!("; filename=\"{name}\"")).unwrap_or_default();
        let head =
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    fixture
        .post("/v1/files", body)
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
}

/// Sends a file and returns its id.
pub async fn send(fixture: &Fixture, bytes: &[u8]) -> String {
    let request = upload(fixture, &[("purpose", None, b"batch"), ("file", Some("requests.jsonl"), bytes)]);
    let (status, file) = answer(request).await;
    assert_eq!(status, StatusCode::OK, "{file}");
    file["id"].as_str().unwrap().to_owned()
}

pub async fn content(fixture: &Fixture, id: &str) -> Vec<u8> {
    let response = fixture.get(&format!("/v1/files/{id}/content")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.bytes().await.unwrap().to_vec()
}

async fn count(fixture: &Fixture, question: &'static str) -> i64 {
    sqlx::query_scalar(question).fetch_one(fixture.database.pool()).await.unwrap()
}

#[tokio::test]
async fn a_file_comes_back_as_it_was_sent() {
    let fixture = Fixture::new().await;
    // More than two chunks, and none of them text.
    let bytes: Vec<u8> = (0..2_500_000_u32).map(|number| (number * 7 % 251) as u8).collect();
    let request = upload(
        &fixture,
        &[
            ("file", Some("a \u{e9}.bin"), &bytes),
            ("purpose", None, b"user_data"),
            ("expires_after[anchor]", None, b"created_at"),
            ("expires_after[seconds]", None, b"3600"),
        ],
    );
    let (status, file) = answer(request).await;
    assert_eq!(status, StatusCode::OK, "{file}");
    let created = file["created_at"].as_i64().unwrap();
    let expected = json!({"id": file["id"], "object": "file", "bytes": bytes.len(), "created_at": created,
        "expires_at": created + 3_600, "filename": "a \u{e9}.bin", "purpose": "user_data", "status": "processed",
        "status_details": null});
    assert_eq!(file, expected);
    let id = file["id"].as_str().unwrap();
    assert_eq!(fixture.get_json(&format!("/v1/files/{id}")).await, (StatusCode::OK, expected));
    assert_eq!(content(&fixture, id).await, bytes);
    let deleting = fixture.client.delete(format!("{}/v1/files/{id}", fixture.base));
    assert_eq!(answer(deleting).await.1, json!({"id": id, "object": "file", "deleted": true}));
    let (status, error) = fixture.get_json(&format!("/v1/files/{id}")).await;
    assert_eq!((status, &error["error"]["code"]), (StatusCode::NOT_FOUND, &json!("file_not_found")));
    assert_eq!(count(&fixture, "SELECT count(*) FROM sluice.file_chunks").await, 0);
}

#[tokio::test]
async fn files_are_listed_page_by_page() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(send(&fixture, format!("{number}").as_bytes()).await);
    }
    let ids_of = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect()
    };
    let (_, page) = fixture.get_json("/v1/files?limit=2").await;
    assert_eq!(ids_of(&page), [ids[2].clone(), ids[1].clone()]);
    assert_eq!(
        (&page["has_more"], &page["first_id"], &page["last_id"]),
        (&json!(true), &json!(ids[2]), &json!(ids[1]))
    );
    let (_, rest) = fixture.get_json(&format!("/v1/files?limit=2&after={}", ids[1])).await;
    assert_eq!((ids_of(&rest), &rest["has_more"]), (vec![ids[0].clone()], &json!(false)));
    let (_, oldest) = fixture.get_json("/v1/files?order=asc&limit=1").await;
    assert_eq!(ids_of(&oldest), [ids[0].clone()]);
    assert!(ids_of(&fixture.get_json("/v1/files?purpose=other").await.1).is_empty());
    assert_eq!(fixture.get_json("/v1/files?limit=0").await.0, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn what_is_no_file_is_refused_and_leaves_nothing() {
    let fixture = Fixture::new().await;
    let file = ("file", Some("f"), &b"{}"[..]);
    for (request, param) in [
        (fixture.post("/v1/files", "{}"), json!("Content-Type")),
        (upload(&fixture, &[file]), json!("purpose")),
        (upload(&fixture, &[("purpose", None, b"batch")]), json!("file")),
        (upload(&fixture, &[("purpose", None, b"a b"), file]), json!("purpose")),
        (upload(&fixture, &[("expires_after[seconds]", None, b"1"), file]), json!("expires_after[seconds]")),
        (upload(&fixture, &[("unknown", None, b"1"), file]), json!("unknown")),
    ] {
        let (status, error) = answer(request).await;
        assert_eq!((status, &error["error"]["param"]), (StatusCode::BAD_REQUEST, &param), "{error}");
    }
    let broken = fixture
        .post(
            "/v1/files",
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nhalf"
            ),
        )
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
    assert_eq!(answer(broken).await.0, StatusCode::BAD_REQUEST);
    for id in ["x", "file-0", "file-00000000000000000000000000000000"] {
        assert_eq!(fixture.get_json(&format!("/v1/files/{id}/content")).await.0, StatusCode::NOT_FOUND);
    }
    sluice_testkit::wait_until(
        "what was begun to be deleted",
        std::time::Duration::from_secs(10),
        async || count(&fixture, "SELECT count(*) FROM sluice.files").await == 0,
    )
    .await;
}
