//! A file as clients see it, and how a file's id is read.

use serde::Serialize;
use sluice_domain::{FileId, StoredFile};
use utoipa::ToSchema;

use crate::server::{ApiError, App, NameInPath, READ_PATIENCE, asked};

/// A file.
#[derive(Serialize, ToSchema)]
#[schema(as = File)]
pub(crate) struct FileObject {
    /// Its id.
    #[schema(value_type = String, example = "file-0199a1b2c3d47e5f8a9b0c1d2e3f4a5b")]
    id: FileId,
    /// Always `file`.
    object: &'static str,
    /// Its size.
    bytes: u64,
    /// When it was sent, in seconds since 1970.
    created_at: i64,
    /// When it is deleted.
    expires_at: Option<i64>,
    /// Its name.
    #[schema(example = "requests.jsonl")]
    filename: String,
    /// What it is for.
    #[schema(example = "batch")]
    purpose: String,
    /// Always `processed`.
    status: &'static str,
    /// Always `null`.
    status_details: Option<&'static str>,
}

impl From<StoredFile> for FileObject {
    fn from(file: StoredFile) -> Self {
        Self {
            id: file.id,
            object: "file",
            bytes: file.bytes,
            created_at: file.created_at.timestamp(),
            expires_at: file.expires_at.map(|at| at.timestamp()),
            filename: file.filename,
            purpose: file.purpose,
            status: "processed",
            status_details: None,
        }
    }
}

impl FileObject {
    pub(super) fn id(&self) -> String {
        self.id.to_string()
    }
}

/// The file that a path names, if it is our tenant's.
pub(super) async fn file(app: &App, name: &NameInPath) -> Result<StoredFile, ApiError> {
    let id: FileId = name.text().parse().map_err(|_| not_found(name.text()))?;
    let file = asked(READ_PATIENCE, app.store.file(&app.tenant, id)).await?;
    file.ok_or_else(|| not_found(name.text()))
}

pub(super) fn not_found(id: &str) -> ApiError {
    ApiError::new(http::StatusCode::NOT_FOUND, "file_not_found", format!("there is no file {id:?}"))
}
