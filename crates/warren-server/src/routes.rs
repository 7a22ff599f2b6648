//! Every route, in one screen.
//!
//! To add one:
//!
//! 1. derive `utoipa::ToSchema` for its types in `warren-api`, as those beside them do;
//! 2. write its handler in `rest/` with `#[utoipa::path(..)]`: method, path, one tag, parameters
//!    (those of the query too), body and successes; failures are added by [`crate::openapi`], and
//!    a route without a key says `security(())`;
//! 3. add it to the table below, from which the OpenAPI document is made too: a handler that is
//!    not described does not compile;
//! 4. `cargo test -p warren-server openapi` says what is still missing, and
//!    `UPDATE=1 cargo test -p warren api_` writes `docs/openapi.json` and `docs/api.md` anew.

use axum::{Router, middleware, routing::MethodRouter};

use crate::{app::App, e2b, error, metrics, rest};

/// Makes the router, [`ROUTES`] and the operations of the OpenAPI document from one table.
macro_rules! routes {
    ($($path:literal => $($method:ident $file:ident::$handler:ident),+;)*) => {
        /// All routes. They need the extensions that [`crate::Face`] puts into each request.
        pub fn router(app: App) -> Router {
            Router::new()
                $(.route($path, MethodRouter::new()$(.$method(rest::$file::$handler))+))*
                .nest(e2b::ROOT, e2b::router())
                .fallback(error::no_such_route)
                .method_not_allowed_fallback(error::no_such_method)
                .layer(middleware::from_fn_with_state(app.clone(), metrics::observe))
                .with_state(app)
        }

        /// Method in small letters, path as a template, and name of the handler of each route.
        pub const ROUTES: &[(&str, &str, &str)] =
            &[$($((stringify!($method), $path, stringify!($handler))),+),*];

        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($(crate::rest::$file::$handler),+),*))]
        pub(crate) struct Operations;
    };
}

routes! {
    // The native API, version 1: sandboxes.
    "/v1/sandboxes" => get sandboxes::list_sandboxes, post sandboxes::create_sandbox;
    "/v1/sandboxes/{id}" => get sandboxes::get_sandbox, delete sandboxes::delete_sandbox;
    "/v1/sandboxes/{id}/pause" => post sandboxes::pause_sandbox;
    "/v1/sandboxes/{id}/resume" => post sandboxes::resume_sandbox;
    "/v1/sandboxes/{id}/stop" => post lifecycle::stop_sandbox;
    "/v1/sandboxes/{id}/start" => post lifecycle::start_sandbox;
    "/v1/sandboxes/{id}/extend" => post lifecycle::extend_sandbox;
    "/v1/sandboxes/{id}/metrics" => get usage::measure_sandbox;
    // What they may reach.
    "/v1/sandboxes/{id}/network" => get network::get_network, put network::set_network;
    "/v1/sandboxes/{id}/network/explain" => post network::explain_network;
    "/v1/sandboxes/{id}/network/learned" => get network::learned_network;
    "/v1/sandboxes/{id}/credentials" =>
        get credentials::get_credentials, put credentials::set_credentials;
    // Their repositories.
    "/v1/git/sessions" => get git::list_git_sessions;
    "/v1/git/rescues" => get git::list_git_rescues;
    "/v1/git/rescues/{id}" => get git::read_git_rescue, delete git::delete_git_rescue;
    "/v1/sandboxes/{id}/git" => get git::get_git_status;
    "/v1/sandboxes/{id}/git/diff" => get git::read_git_diff;
    "/v1/sandboxes/{id}/git/commit" => post git::commit_git;
    "/v1/sandboxes/{id}/git/push" => post git::push_git;
    "/v1/sandboxes/{id}/git/pull" => post git::pull_git;
    "/v1/sandboxes/{id}/git/log" => get git::read_git_log;
    "/v1/sandboxes/{id}/git/branches" => get git::list_git_branches;
    // What they were.
    "/v1/sandboxes/{id}/snapshots" => post snapshots::create_snapshot;
    "/v1/sandboxes/{id}/fork" => post snapshots::fork_sandbox;
    "/v1/sandboxes/{id}/rollback" => post snapshots::rollback_sandbox;
    "/v1/sandboxes/{id}/keep" => post snapshots::keep_sandbox;
    "/v1/snapshots" =>
        get snapshots::list_snapshots, put snapshots::import_snapshot,
        post snapshots::pull_snapshot;
    "/v1/snapshots/{id}/archive" => get snapshots::export_snapshot;
    "/v1/snapshots/{id}/push" => post snapshots::push_snapshot;
    "/v1/snapshots/{id}" =>
        get snapshots::get_snapshot, patch snapshots::change_snapshot,
        delete snapshots::delete_snapshot;
    // Ports.
    "/v1/sandboxes/{id}/ports" => get usage::list_ports;
    "/v1/sandboxes/{id}/ports/{port}" => get usage::connect_port, put ports::publish_port;
    "/v1/sandboxes/{id}/listeners/{port}" => get reverse::listen_port;
    "/v1/sandboxes/{id}/listeners/{port}/{connection}" => get reverse::take_connection;
    "/v1/sandboxes/{id}/exposure" => put ports::expose_sandbox;
    "/v1/sandboxes/{id}/links" => post ports::create_link, delete ports::revoke_links;
    // Commands.
    "/v1/sandboxes/{id}/exec" => get exec::list_execs, post exec::start_exec;
    "/v1/sandboxes/{id}/exec/ws" => get exec_socket::converse_exec;
    "/v1/sandboxes/{id}/exec/{exec_id}/output" => get exec::read_exec_output;
    "/v1/sandboxes/{id}/exec/{exec_id}/signal" => post exec::signal_exec;
    "/v1/sandboxes/{id}/logs" => get logs::read_logs;
    // Files.
    "/v1/sandboxes/{id}/files" =>
        get files::read_file, put files::write_file, delete files::remove_file;
    "/v1/sandboxes/{id}/files/stat" => get files::stat_file;
    "/v1/sandboxes/{id}/files/list" => get files::list_files;
    "/v1/sandboxes/{id}/files/mkdir" => post files::make_directory;
    "/v1/sandboxes/{id}/files/move" => post files::move_file;
    "/v1/sandboxes/{id}/files/chmod" => post trees::chmod_file;
    "/v1/sandboxes/{id}/files/glob" => get trees::glob_files;
    "/v1/sandboxes/{id}/files/archive" => get trees::read_archive, put trees::write_archive;
    "/v1/sandboxes/{id}/files/watch" => get watch::watch_files;
    // How files differ.
    "/v1/diff" => get diff::compare_files;
    // Images.
    "/v1/images" => get images::list_images;
    "/v1/images/pull" => post images::pull_image;
    "/v1/images/push" => post images::push_image;
    "/v1/images/import" => post images::import_image;
    "/v1/images/archive" => put images::import_archive;
    "/v1/images/tag" => post images::tag_image;
    "/v1/images/prune" => post images::prune_images;
    "/v1/images/{name}" => get images::get_image, delete images::remove_image;
    "/v1/images/{name}/archive" => get images::export_image;
    // Templates and their builds.
    "/v1/templates" => get templates::list_templates;
    "/v1/templates/{template}" =>
        get templates::get_template, patch templates::update_template,
        delete templates::delete_template;
    "/v1/templates/{template}/tags" => post templates::tag_template;
    "/v1/templates/{template}/tags/{tag}" => delete templates::untag_template;
    "/v1/templates/{template}/builds" => get templates::list_builds;
    "/v1/builds" => post builds::build_template;
    "/v1/builds/{build}" => get builds::get_build;
    "/v1/builds/{build}/cancel" => post builds::cancel_build;
    "/v1/builds/{build}/logs" => get builds::read_build_logs;
    "/v1/build-files" => put builds::upload_build_files;
    "/v1/build-cache" => delete builds::forget_build_cache;
    // Volumes.
    "/v1/volumes" => get volumes::list_volumes, post volumes::create_volume;
    "/v1/volumes/{name}" => get volumes::get_volume, delete volumes::delete_volume;
    "/v1/volumes/{name}/resize" => post volumes::resize_volume;
    "/v1/volumes/{name}/snapshot" => post volumes::snapshot_volume;
    "/v1/volumes/{name}/clone" => post volumes::clone_volume;
    "/v1/volumes/{name}/files" => get volumes::read_volume_file,
        put volumes::write_volume_file, delete volumes::remove_volume_file;
    "/v1/volumes/{name}/files/stat" => get volumes::stat_volume_file;
    "/v1/volumes/{name}/files/list" => get volumes::list_volume_files;
    "/v1/volumes/{name}/files/mkdir" => post volumes::make_volume_directory;
    // Names of one's own.
    "/v1/domains" => get domains::list_domains;
    "/v1/domains/{name}" => get domains::get_domain, put domains::set_domain,
        delete domains::delete_domain;
    "/v1/domains/{name}/verify" => post domains::verify_domain;
    // Secrets.
    "/v1/secrets" => get secrets::list_secrets;
    "/v1/secrets/{name}" => get secrets::get_secret, put secrets::set_secret,
        delete secrets::delete_secret;
    // What happens.
    "/v1/events" => get events::follow_events;
    // Who may, and how much; for the host alone.
    "/v1/keys" => get access::list_keys, post access::create_key;
    "/v1/keys/{id}" => delete access::revoke_key;
    "/v1/projects" => get access::list_projects, post access::create_project;
    "/v1/projects/{name}" => get access::get_project, delete access::delete_project;
    "/v1/projects/{name}/quota" => put access::set_project_quota;
    "/v1/backup" => get access::get_backup;
    // The server itself.
    "/v1/health" => get server::get_health;
    "/v1/ready" => get server::get_ready;
    "/v1/metrics" => get server::get_metrics;
    "/v1/version" => get server::get_version;
    "/v1/shutdown" => post server::stop_server;
    "/v1/openapi.json" => get server::get_openapi;
}
