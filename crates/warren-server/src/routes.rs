//! Every route, in one screen.

use axum::{
    Router,
    routing::{get, post},
};

use crate::{
    app::App,
    error,
    rest::{events, exec, exec_socket, files, sandboxes, server},
};

/// All routes. They need the extensions that [`crate::Face`] puts into each request.
pub fn router(app: App) -> Router {
    Router::new()
        // The native API, version 1: sandboxes.
        .route("/v1/sandboxes", get(sandboxes::list_sandboxes).post(sandboxes::create_sandbox))
        .route("/v1/sandboxes/{id}", get(sandboxes::get_sandbox).delete(sandboxes::delete_sandbox))
        .route("/v1/sandboxes/{id}/pause", post(sandboxes::pause_sandbox))
        .route("/v1/sandboxes/{id}/resume", post(sandboxes::resume_sandbox))
        // Commands.
        .route("/v1/sandboxes/{id}/exec", get(exec::list_execs).post(exec::start_exec))
        .route("/v1/sandboxes/{id}/exec/ws", get(exec_socket::converse_exec))
        .route("/v1/sandboxes/{id}/exec/{exec_id}/output", get(exec::read_exec_output))
        .route("/v1/sandboxes/{id}/exec/{exec_id}/signal", post(exec::signal_exec))
        // Files.
        .route(
            "/v1/sandboxes/{id}/files",
            get(files::read_file).put(files::write_file).delete(files::remove_file),
        )
        .route("/v1/sandboxes/{id}/files/stat", get(files::stat_file))
        .route("/v1/sandboxes/{id}/files/list", get(files::list_files))
        .route("/v1/sandboxes/{id}/files/mkdir", post(files::make_directory))
        .route("/v1/sandboxes/{id}/files/move", post(files::move_file))
        // What happens, and the server itself.
        .route("/v1/events", get(events::follow_events))
        .route("/v1/health", get(server::get_health))
        .route("/v1/version", get(server::get_version))
        .route("/v1/shutdown", post(server::stop_server))
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
        .with_state(app)
}
