//! Who asks: put into each request by the listener, taken out by each handler.

use axum::{extract::FromRequestParts, http::request::Parts};
use warren_api::Code;
use warren_core::Caller;

use crate::error::ApiError;

/// A handler's parameter that only a known caller can give.
#[derive(Debug)]
pub(crate) struct Known(pub(crate) Caller);

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        match parts.extensions.get::<Caller>() {
            Some(caller) => Ok(Self(caller.clone())),
            None => Err(ApiError::new(
                Code::Unauthenticated,
                "this socket is for the user who runs the server, and for root",
            )),
        }
    }
}

/// The caller behind a unix socket, when the kernel says that it is the server's user or root.
pub(crate) fn peer(server_uid: u32, peer_uid: u32) -> Option<Caller> {
    (peer_uid == server_uid || peer_uid == 0).then(Caller::local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_user_and_root_are_known() {
        assert!(peer(1000, 1000).is_some());
        assert!(peer(1000, 0).is_some());
        assert!(peer(1000, 1001).is_none());
        assert!(peer(0, 1000).is_none());
    }
}
