//! The one call of an attempt and what handles its bytes, wherever it runs: here, or in a suspect's process.

use sluice_provider::{CallReport, CallRequest, Client};
use tokio_util::sync::CancellationToken;

/// Makes the call.
pub(crate) async fn make(client: &Client, request: CallRequest, cancel: &CancellationToken) -> CallReport {
    #[cfg(feature = "failpoints")]
    let body = request.body.clone();
    let report = client.call(request, cancel).await;
    #[cfg(feature = "failpoints")]
    crate::faults::strike(&body);
    report
}
