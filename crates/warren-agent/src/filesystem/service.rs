//! The methods of `filesystem.Filesystem`.

use warren_proto::Status;
use warren_proto::filesystem::{
    CreateWatcherRequest, CreateWatcherResponse, GetWatcherEventsRequest, GetWatcherEventsResponse,
    ListDirRequest, ListDirResponse, MakeDirRequest, MakeDirResponse, MoveRequest, MoveResponse,
    RemoveRequest, RemoveResponse, RemoveWatcherRequest, RemoveWatcherResponse, StatRequest,
    StatResponse, WatchDirRequest,
};

use super::context::on_thread;
use super::entry::{self, Names};
use super::watch::Options;
use super::watchers::{self, WatchStream};
use super::{list, make, remove};
use crate::http::rpc::Call;

/// What is at a path.
pub(crate) async fn stat(call: Call, request: StatRequest) -> Result<StatResponse, Status> {
    on_thread(&call.agent, call.user, move |context| {
        let entry = entry::look(&context.path(&request.path)?, &Names::read())?;
        Ok(StatResponse { entry: entry.into() })
    })
    .await
}

/// Makes a directory and its missing parents.
pub(crate) async fn make_directory(
    call: Call,
    request: MakeDirRequest,
) -> Result<MakeDirResponse, Status> {
    on_thread(&call.agent, call.user, move |context| {
        let path = context.path(&request.path)?;
        make::make_directory(&path)?;
        Ok(MakeDirResponse { entry: entry::look(&path, &Names::read())?.into() })
    })
    .await
}

/// Renames.
pub(crate) async fn rename(call: Call, request: MoveRequest) -> Result<MoveResponse, Status> {
    on_thread(&call.agent, call.user, move |context| {
        let target = context.path(&request.destination)?;
        make::rename(&context.path(&request.source)?, &target)?;
        Ok(MoveResponse { entry: entry::look(&target, &Names::read())?.into() })
    })
    .await
}

/// Lists a directory, to a depth.
pub(crate) async fn list_directory(
    call: Call,
    request: ListDirRequest,
) -> Result<ListDirResponse, Status> {
    on_thread(&call.agent, call.user, move |context| {
        let entries = list::list(&context.path(&request.path)?, request.depth, &Names::read())?;
        Ok(ListDirResponse { entries })
    })
    .await
}

/// Removes a path and all below it.
pub(crate) async fn remove(call: Call, request: RemoveRequest) -> Result<RemoveResponse, Status> {
    on_thread(&call.agent, call.user, move |context| {
        remove::remove(&context.path(&request.path)?)?;
        Ok(RemoveResponse {})
    })
    .await
}

/// Streams what happens in a directory.
pub(crate) async fn watch_directory(
    call: Call,
    request: WatchDirRequest,
) -> Result<WatchStream, Status> {
    let options = Options {
        recursive: request.recursive,
        include_entry: request.include_entry,
        allow_network_mounts: request.allow_network_mounts,
        report_overflow: request.report_overflow,
    };
    let open = watchers::open(&call.agent, call.user, request.path, options).await?;
    Ok(watchers::stream(&call.agent, open, call.silence, call.timeout))
}

/// Makes a watcher to poll.
pub(crate) async fn create_watcher(
    call: Call,
    request: CreateWatcherRequest,
) -> Result<CreateWatcherResponse, Status> {
    let options = Options {
        recursive: request.recursive,
        include_entry: request.include_entry,
        allow_network_mounts: request.allow_network_mounts,
        report_overflow: false,
    };
    let open = watchers::open(&call.agent, call.user, request.path, options).await?;
    Ok(CreateWatcherResponse { watcher_id: watchers::keep(&call.agent, open)? })
}

/// Takes what a watcher has seen.
pub(crate) async fn get_watcher_events(
    call: Call,
    request: GetWatcherEventsRequest,
) -> Result<GetWatcherEventsResponse, Status> {
    let events = watchers::drain(&call.agent, &request.watcher_id).await?;
    Ok(GetWatcherEventsResponse { events })
}

/// Ends a watcher.
pub(crate) async fn remove_watcher(
    call: Call,
    request: RemoveWatcherRequest,
) -> Result<RemoveWatcherResponse, Status> {
    watchers::remove(&call.agent, &request.watcher_id)?;
    Ok(RemoveWatcherResponse {})
}
