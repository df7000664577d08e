//! Who asks, before any handler runs; and what handlers take to act for a caller.
//!
//! [`admit`] stands before every route, so that a new one is closed without its doing. A handler takes the server's state
//! by one of the types here, each of which asks for a scope: `MayRead(app): MayRead`. The shared state alone
//! ([`super::Shared`]) knows no tenant, so that nothing of one can be shown without asking.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    Extensions, HeaderValue, StatusCode, header::WWW_AUTHENTICATE, request::Parts, uri::PathAndQuery,
};
use sha2::{Digest, Sha256};
use sluice_domain::Scope;

use super::{ApiError, App, Shared, extract::read_whole};
use crate::access::{Access, Caller, not_the_operator};

/// Paths that hold nobody's data: health, this API's description, and a page that asks for everything else by itself.
const OPEN_PATHS: [&str; 4] = ["/", "/healthz", "/readyz", "/openapi.json"];

/// What is looked at when the database is away.
const METRICS_PATH: &str = "/metrics";

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Lets a request in as somebody's, or answers why not.
pub(super) async fn admit(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    if OPEN_PATHS.contains(&request.uri().path()) {
        return match shared.access.admit_to_open_page(request.headers()).await {
            Ok(()) => next.run(request).await,
            Err(refusal) => refusal.into_response(),
        };
    }
    match caller_of(&shared, &mut request).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => {
            let is_unknown = refusal.status() == StatusCode::UNAUTHORIZED;
            let mut response = refusal.into_response();
            if is_unknown {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

async fn caller_of(shared: &Shared, request: &mut Request) -> Result<Arc<Caller>, ApiError> {
    let Some(claim) = Access::signed_claim(request.headers())? else {
        let (headers, peer) = (request.headers(), peer_of(request.extensions()));
        return if request.uri().path() == METRICS_PATH {
            shared.access.admit_to_metrics(headers, peer).await
        } else {
            shared.access.admit(headers, peer).await
        };
    };
    // The signature covers the body, which is therefore read before anybody acts on it.
    let body = std::mem::take(request.body_mut());
    let body = read_whole(request.headers(), body, shared.limits.body_timeout).await?;
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let digest = Sha256::digest(&body);
    let caller = shared.access.admit_signed(claim, request.method().as_str(), target, &digest).await?;
    *request.body_mut() = body.into();
    Ok(caller)
}

/// The other end of the connection; nowhere in the world where it is not known.
pub(crate) fn peer_of(extensions: &Extensions) -> IpAddr {
    let unknown = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
    extensions.get::<Peer>().map_or(unknown, |peer| peer.0.ip())
}

/// The state as the request's caller may use it. A request that nobody let in is not served.
pub(crate) fn app_for(shared: &Shared, extensions: &Extensions, scope: Scope) -> Result<App, ApiError> {
    let caller = extensions.get::<Arc<Caller>>().ok_or_else(ApiError::internal)?;
    shared.app_of(caller, scope)
}

macro_rules! may {
    ($($(#[$doc:meta])* $name:ident, $scope:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name(pub(crate) App);

        impl FromRequestParts<Shared> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
                app_for(shared, &parts.extensions, Scope::$scope).map(Self)
            }
        }
    )*};
}

may! {
    /// The state, for a caller who may submit.
    MaySubmit, Submit;
    /// The state, for a caller who may read.
    MayRead, Read;
    /// The state, for a caller who may cancel.
    MayCancel, Cancel;
    /// The state, for a caller who may replay and release.
    MayReplay, Replay;
    /// The state, for a caller who may pause and resume what is its tenant's.
    MayAdminister, Admin;
}

/// The state, for whoever may act on what all tenants share.
pub(crate) struct MayOperate(pub(crate) App);

impl FromRequestParts<Shared> for MayOperate {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        let app = app_for(shared, &parts.extensions, Scope::Admin)?;
        if app.tenant == app.home_tenant { Ok(Self(app)) } else { Err(not_the_operator()) }
    }
}
