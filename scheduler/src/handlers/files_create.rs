//! `POST /v1/files`: take a file, in chunks as it comes.

use std::time::Duration;

use axum::{Json, body::Body};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use multer::{Field, Multipart};
use sluice_domain::FileId;
use sluice_store::NewFile;
use tokio::time::timeout;

use super::file_object::FileObject;
use crate::{
    files::{FileWriter, USUAL_LIFE},
    server::{ApiError, App, ErrorBody, MaySubmit, READ_PATIENCE, asked},
};

/// The largest file: 200 MB.
const MAX_FILE_BYTES: u64 = 200 * 1024 * 1024;
/// The longest of the other fields.
const MAX_FIELD_BYTES: usize = 1024;
/// The longest name of a file.
const MAX_NAME_BYTES: usize = 512;
/// How long a file may be kept, in seconds: an hour to thirty days.
const LIFE_S: std::ops::RangeInclusive<u64> = 3_600..=2_592_000;

/// Upload a file
///
/// Multipart, with the fields `file` and `purpose`, and perhaps `expires_after[anchor]` and `expires_after[seconds]`. A file of a batch
/// has a request on each line. Files are kept for thirty days where they say nothing else.
#[utoipa::path(
    post,
    path = "/v1/files",
    tag = "openai",
    request_body(content = String, content_type = "multipart/form-data", description = "`file` and `purpose`"),
    security(("api_key" = ["submit"])),
    responses(
        (status = 200, description = "The file", body = FileObject),
        (status = 400, description = "No multipart body, or a field is missing or can't be used", body = ErrorBody),
        (status = 408, description = "The next bytes did not come in time", body = ErrorBody),
        (status = 413, description = "Too large", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn create(
    MaySubmit(app): MaySubmit,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<FileObject>, ApiError> {
    app.must_reach_files()?;
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind)
        .map_err(|_| wrong("Content-Type", "the body must be multipart/form-data with a boundary"))?;
    let mut fields = Multipart::new(body.into_data_stream(), boundary);
    let mut upload = Upload { app: &app, file: None, purpose: None, life_s: None };
    while let Some(field) = upload.in_time(fields.next_field()).await?.map_err(|_| broken())? {
        upload.take(field).await?;
    }
    upload.finish().await.map(Json)
}

/// What has come of an upload.
struct Upload<'a> {
    app: &'a App,
    /// The file, with its name.
    file: Option<(FileWriter, NewFile)>,
    purpose: Option<String>,
    life_s: Option<u64>,
}

impl Upload<'_> {
    async fn take(&mut self, mut field: Field<'_>) -> Result<(), ApiError> {
        match field.name().unwrap_or_default() {
            "file" if self.file.is_none() => self.take_file(field).await,
            "purpose" => {
                let purpose = self.text(&mut field).await?;
                let is_word = !purpose.is_empty()
                    && purpose
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
                if !is_word {
                    return Err(wrong("purpose", "purpose must be a word such as batch"));
                }
                self.purpose = Some(purpose);
                Ok(())
            }
            "expires_after[seconds]" => {
                let seconds = self.text(&mut field).await?.parse().ok().filter(|s| LIFE_S.contains(s));
                let message = "expires_after[seconds] must be a whole number from 3600 to 2592000";
                self.life_s = Some(seconds.ok_or_else(|| wrong("expires_after[seconds]", message))?);
                Ok(())
            }
            "expires_after[anchor]" => match self.text(&mut field).await?.as_str() {
                "created_at" => Ok(()),
                _ => Err(wrong("expires_after[anchor]", "expires_after[anchor] must be created_at")),
            },
            other => {
                let message = format!("unknown field {other:?}; known are file, purpose, expires_after");
                Err(ApiError::new(StatusCode::BAD_REQUEST, "unknown_field", message).param(other))
            }
        }
    }

    async fn take_file(&mut self, mut field: Field<'_>) -> Result<(), ApiError> {
        let filename = field.file_name().unwrap_or("file").replace(char::is_control, "_");
        if filename.len() > MAX_NAME_BYTES {
            return Err(wrong("file", "the file's name is too long"));
        }
        let new = NewFile {
            id: FileId::generate(),
            tenant: self.app.tenant.clone(),
            // Not known before the last field has come.
            purpose: String::new(),
            filename,
            expires_in: None,
        };
        let mut writer = asked(READ_PATIENCE, FileWriter::begin(&self.app.store, &new)).await?;
        while let Some(chunk) = self.chunk(&mut field).await? {
            if writer.bytes() + chunk.len() as u64 > MAX_FILE_BYTES {
                return Err(too_large());
            }
            writer.write(&chunk).await?;
        }
        self.file = Some((writer, new));
        Ok(())
    }

    /// A short field.
    async fn text(&self, field: &mut Field<'_>) -> Result<String, ApiError> {
        let mut text = Vec::new();
        while let Some(chunk) = self.chunk(field).await? {
            text.extend_from_slice(&chunk);
            if text.len() > MAX_FIELD_BYTES {
                return Err(too_large());
            }
        }
        String::from_utf8(text).map_err(|_| wrong("purpose", "a field is not UTF-8"))
    }

    async fn chunk(&self, field: &mut Field<'_>) -> Result<Option<Bytes>, ApiError> {
        self.in_time(field.chunk()).await?.map_err(|_| broken())
    }

    async fn in_time<T>(&self, read: impl Future<Output = T>) -> Result<T, ApiError> {
        timeout(self.app.limits.body_timeout, read).await.map_err(|_| {
            let message = "the next bytes of the request did not come in time";
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
        })
    }

    async fn finish(self) -> Result<FileObject, ApiError> {
        let Some((writer, new)) = self.file else { return Err(wrong("file", "the field file is missing")) };
        let Some(purpose) = self.purpose else {
            return Err(wrong("purpose", "the field purpose is missing"));
        };
        let expires_in = Some(self.life_s.map_or(USUAL_LIFE, Duration::from_secs));
        let written = writer.finish().await?;
        let new = NewFile { purpose, expires_in, ..new };
        let completing = self.app.store.file_complete(&new, written.bytes, written.chunks);
        Ok(asked(READ_PATIENCE, completing).await?.into())
    }
}

fn wrong(param: &'static str, message: &'static str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_value", message).param(param)
}

fn broken() -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "incomplete_body",
        "the request's body is no multipart body, or broke off",
    )
}

fn too_large() -> ApiError {
    let message = format!("a file may have {MAX_FILE_BYTES} bytes, and its other fields {MAX_FIELD_BYTES}");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}
