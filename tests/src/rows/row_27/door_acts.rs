//! The store's functions for calls that are waited for, streams, files, batches and webhooks, as [`super::acts`] lists the others.

use std::time::Duration;

use anyhow::Result;
use chrono::DateTime;
use serde_json::json;
use sluice_domain::{
    BatchCounts, BatchId, BatchStatus, FileId, JobId, Priority, QueueName, TenantName, WebhookId, WebhookUrl,
};
use sluice_store::{
    BatchEnd, BatchLine, BatchPage, FilePage, NewBatch, NewFile, Store, StreamEvent, StreamPosition,
    WebhookAsk, WebhookEnd, WebhookPage,
};
use uuid::Uuid;

use super::acts::Act;

const WEEK: Duration = Duration::from_hours(7 * 24);

/// All of them. Those that belong together run one after the other.
pub fn door() -> Vec<Act> {
    vec![
        Act {
            names: &["left_calls_note", "left_call_take", "left_calls_forget"],
            run: |store, _| Box::pin(left_calls(store)),
        },
        Act {
            names: &["streams_wait", "stream_events_write", "stream_events_read", "streams_forget"],
            run: |store, _| Box::pin(streams(store)),
        },
        Act {
            names: &[
                "file_begin",
                "file_chunk_write",
                "file_complete",
                "file",
                "files",
                "file_chunk",
                "file_delete",
                "files_forget",
            ],
            run: |store, props| Box::pin(files(store, &props.tenant)),
        },
        Act {
            names: &[
                "batch_submit",
                "batch",
                "batches_by_id",
                "batch_ids",
                "batch_cancel_if_open",
                "batch_claim",
                "batch_renew_claim",
                "batch_release",
            ],
            run: |store, props| Box::pin(batches(store, &props.tenant)),
        },
        Act {
            names: &[
                "batch_lines_name",
                "jobs_stored_among",
                "batch_lines_count",
                "batch_lines",
                "batch_lines_forget",
                "batch_lines_open",
            ],
            run: |store, props| Box::pin(lines(store, &props.tenant)),
        },
        Act {
            names: &[
                "batch_begin_if_validating",
                "batch_fail_if_validating",
                "batch_finalize_if_in_progress",
                "batch_finish_if_claimed",
            ],
            run: |store, props| Box::pin(steps(store, &props.tenant)),
        },
        Act {
            names: &[
                "webhook_deliveries_lease",
                "webhook_delivery_end_if_leased",
                "webhook_redeliver",
                "webhook_target_disable",
                "webhook_target_resume",
                "webhooks",
                "webhooks_forget",
            ],
            run: |store, props| Box::pin(webhooks(store, &props.tenant)),
        },
    ]
}

async fn left_calls(store: &Store) -> Result<()> {
    store.left_calls_note(&[(JobId::generate(), [7; 32])]).await?;
    store.left_call_take(&[7; 32], WEEK).await?;
    store.left_calls_forget(WEEK, 10).await?;
    Ok(())
}

async fn streams(store: &Store) -> Result<()> {
    let job = JobId::generate();
    store.streams_wait(&[job], WEEK).await?;
    let event = StreamEvent { job, lease_no: 1, event_no: 0, data: Some(b"{}".to_vec()) };
    store.stream_events_write(&[job], &[event]).await?;
    store.stream_events_read(&[StreamPosition { job, lease_no: 1, event_no: 0, limit: 10 }]).await?;
    store.streams_forget(WEEK, 10).await?;
    Ok(())
}

async fn files(store: &Store, tenant: &TenantName) -> Result<()> {
    let file = NewFile {
        id: FileId::generate(),
        tenant: tenant.clone(),
        purpose: "batch".to_owned(),
        filename: "in.jsonl".to_owned(),
        expires_in: None,
    };
    store.file_begin(&file).await?;
    store.file_chunk_write(file.id, 0, b"{}").await?;
    store.file_complete(&file, 2, 1).await?;
    store.file(tenant, file.id).await?;
    store.files(tenant, &FilePage { limit: 10, ..FilePage::default() }).await?;
    store.file_chunk(file.id, 0).await?;
    store.file_delete(tenant, file.id).await?;
    store.files_forget(10).await?;
    Ok(())
}

async fn submitted(store: &Store, tenant: &TenantName) -> Result<BatchId> {
    let batch = NewBatch {
        id: BatchId::generate(),
        tenant: tenant.clone(),
        endpoint: "/v1/chat/completions".to_owned(),
        input_file: FileId::generate(),
        completion_window: "24h".to_owned(),
        window: WEEK,
        metadata: None,
        queue: QueueName::default(),
        priority: Priority::default(),
        output_expires_s: None,
    };
    store.batch_submit(&batch).await?;
    Ok(batch.id)
}

async fn batches(store: &Store, tenant: &TenantName) -> Result<()> {
    let (id, claim) = (submitted(store, tenant).await?, Uuid::new_v4());
    store.batch(tenant, id).await?;
    store.batches_by_id(&[id]).await?;
    store.batch_ids(tenant, BatchPage { after: None, limit: 10 }).await?;
    store.batch_claim(claim, WEEK).await?;
    store.batch_renew_claim(id, claim, WEEK).await?;
    store.batch_release(id, claim, Duration::ZERO).await?;
    store.batch_cancel_if_open(tenant, id).await?;
    Ok(())
}

async fn lines(store: &Store, tenant: &TenantName) -> Result<()> {
    let (id, job) = (submitted(store, tenant).await?, JobId::generate());
    store.batch_lines_name(id, &[BatchLine { line_no: 1, custom_id: "a".to_owned(), job }]).await?;
    store.jobs_stored_among(&[job]).await?;
    store.batch_lines_count(id, Uuid::new_v4(), 0, 10).await?;
    store.batch_lines(id, 0, 10).await?;
    store.batch_lines_open(id, 0, 10).await?;
    store.batch_lines_forget(id, &[1]).await?;
    Ok(())
}

async fn steps(store: &Store, tenant: &TenantName) -> Result<()> {
    let (id, claim) = (submitted(store, tenant).await?, Uuid::new_v4());
    store.batch_begin_if_validating(id, claim, 1, None).await?;
    store.batch_fail_if_validating(id, claim, &json!([])).await?;
    store.batch_finalize_if_in_progress(id, claim).await?;
    let end = BatchEnd {
        status: BatchStatus::Completed,
        counts: BatchCounts::default(),
        usage: json!({}),
        output: None,
        errors: None,
    };
    store.batch_finish_if_claimed(id, claim, &end).await?;
    Ok(())
}

async fn webhooks(store: &Store, tenant: &TenantName) -> Result<()> {
    let (lease, delivery) = (Uuid::new_v4(), WebhookId::from_uuid(Uuid::now_v7()));
    let url = WebhookUrl::new("https://example.com/ends")?;
    let ask = WebhookAsk { most: 10, most_of_target: 10, busy: &[], lease_for: WEEK };
    store.webhook_deliveries_lease(lease, ask).await?;
    store.webhook_delivery_end_if_leased(delivery, lease, &WebhookEnd::Delivered, Some(204), None).await?;
    store.webhook_redeliver(tenant, None, delivery).await?;
    store.webhook_target_disable(tenant, &url).await?;
    store.webhook_target_resume(tenant, &url, DateTime::UNIX_EPOCH).await?;
    store.webhooks(tenant, &WebhookPage { limit: 10, ..WebhookPage::default() }).await?;
    store.webhooks_forget(WEEK).await?;
    Ok(())
}
