//! The one call of an attempt and what handles its bytes, wherever it runs: here, or in a suspect's process.

use sluice_provider::{CallReport, CallRequest, Client, StreamTap};
use tokio_util::sync::CancellationToken;

/// Makes the call; `tap` hears a streamed answer as it comes.
pub(crate) async fn make(
    client: &Client,
    request: CallRequest,
    cancel: &CancellationToken,
    tap: Option<StreamTap>,
) -> CallReport {
    #[cfg(feature = "failpoints")]
    let body = request.body.clone();
    let report = client.call_tapped(request, cancel, tap).await;
    #[cfg(feature = "failpoints")]
    crate::faults::strike(&body);
    report
}
