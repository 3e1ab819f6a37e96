//! What an error of the store, of the hub or of the program means for who asked: the one map from errors to statuses.

use axum::http::StatusCode;

use super::problem::{Code, Refused};
use crate::store::StoreError;

/// Seconds after which a busy or lost store is worth another try.
const RETRY: u64 = 1;

/// An error of a request whose body may be at fault.
pub(super) fn of_body(error: StoreError) -> Refused {
    map(error, StatusCode::UNPROCESSABLE_ENTITY)
}

/// An error of a request without a body: its path or its parameters may be at fault.
pub(super) fn of_query(error: StoreError) -> Refused {
    map(error, StatusCode::BAD_REQUEST)
}

fn map(error: StoreError, invalid: StatusCode) -> Refused {
    let detail = error.to_string();
    match error {
        StoreError::NotFound { .. } => Refused::not_found(detail),
        StoreError::Conflict { .. } => Refused::new(StatusCode::CONFLICT, Code::Conflict, detail),
        StoreError::Stale { current, .. } => {
            Refused::new(StatusCode::PRECONDITION_FAILED, Code::Stale, detail).current(current)
        }
        StoreError::Invalid { field, reason } => Refused::new(invalid, Code::Invalid, reason).field(field),
        // Who wrote a document knows its text and shows it with carets; see `documents`.
        StoreError::Document(diagnostics) => Refused::document(&diagnostics, "", "document"),
        StoreError::Busy => {
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, Code::Busy, detail).retry_after(RETRY)
        }
        StoreError::Closed | StoreError::Unavailable(_) => {
            tracing::error!(error = error.chain(), "the store failed");
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, detail).retry_after(RETRY)
        }
        StoreError::Refused(_)
        | StoreError::Unreadable(_)
        | StoreError::Unread
        | StoreError::Url(_)
        | StoreError::File { .. }
        | StoreError::Migrate(_)
        | StoreError::Undone => {
            tracing::error!(error = error.chain(), "the store can't be used");
            internal(&detail)
        }
    }
}

/// 500: the program's own fault, never the request's.
pub(super) fn internal(detail: &str) -> Refused {
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, detail)
}
