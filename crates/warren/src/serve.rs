//! The server put together: configuration, runtime, store, core, listener, and their end.

mod certificates;

mod edge;

pub(crate) mod key_file;

mod log;

mod notify;

mod post;

pub(crate) mod reload;

mod tcp;

mod wiring;

use std::{sync::Arc, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;
use warren_core::{
    Sandboxes, clock::SystemClock, runtime::Runtime as _, secrets::SealKey, store::Store,
};
use warren_runtime::{
    namespace::NamespaceRuntime,
    net::{
        broker::{self, BrokerHandle},
        gate::{self, GateHandle},
        resolver::{self, ResolverConfig, ResolverHandle},
    },
    rootless,
    storage::backing::{self, Storage},
};
use warren_server::{App, edge::EdgeKey};

pub(crate) use notify::Manager;
use post::Door;
pub(crate) use post::Post;
use tcp::Listeners;

use crate::{
    config::{Config, Environment},
    dirs::Dirs,
    error::CliError,
    version::version,
};

/// How long everything behind the listener may take to end; commands wait a little longer.
const ENDING: Duration = Duration::from_secs(8);

/// Serves until asked to end, or until nobody needs it.
///
/// No thread may run before: an ordinary user's server enters its outer namespaces first.
pub(crate) fn serve(
    config: &Config,
    environment: &Environment,
    dirs: &Dirs,
    post: Post,
    manager: &Manager,
) -> Result<(), CliError> {
    let file = post.background.then(|| dirs.log());
    log::start(config.log, file, config.log_size.0);
    raise_open_files();
    post.sign().map_err(CliError::local("write the lock file"))?;
    let opened =
        Listeners::open(config, dirs, environment).and_then(|tcp| Ok((tcp, storage(dirs)?)));
    let (tcp, storage) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // Who waits at the socket is turned away, and nothing is left of it.
            let closed = post.split().1.close(dirs);
            closed.map_err(CliError::local("remove the socket"))?;
            return Err(error);
        }
    };
    rootless::enter(&dirs.run, wiring::uplink(config)).map_err(|error| {
        CliError::local("enter the server's own namespaces")(error)
            .hint("`warren doctor` says what forbids it here")
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CliError::local("start the event loop"))?;
    let (lock, door) = post.split();
    let served = run(config, environment, dirs, (door, tcp, storage), manager);
    let result = runtime.block_on(served);
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(lock); // the next server may start
    result
}

/// Takes all the descriptors this process may have: every sandbox and every connection takes some,
/// and what shells are given was chosen for programs that number them. What runs in sandboxes has
/// its own limit.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Where the files of sandboxes are. Without its pool a server would take its sandboxes for lost.
fn storage(dirs: &Dirs) -> Result<Storage, CliError> {
    backing::settle(&dirs.data).and_then(|()| backing::open(&dirs.data)).map_err(|error| {
        let hints = crate::commands::setup::storage::hints(&error);
        CliError::local("open the storage")(error).hints(hints)
    })
}

async fn run(
    config: &Config,
    environment: &Environment,
    dirs: &Dirs,
    (door, tcp, storage): (Door, Listeners, Storage),
    manager: &Manager,
) -> Result<(), CliError> {
    let listener = door.listener().map_err(CliError::local("take the listener"))?;
    let roots = wiring::roots(config)?;
    let wired = wiring::runtime(config, dirs, storage, environment);
    let (writers, database) = (TaskTracker::new(), dirs.data.join("warren.db"));
    // Somebody waits for both: the machine is prepared while the database opens.
    let (runtime, store) = tokio::join!(
        tokio::task::spawn_blocking(move || NamespaceRuntime::open(wired)),
        Store::open(&database, &writers),
    );
    let runtime = runtime
        .map_err(CliError::local("prepare this machine for sandboxes"))?
        .map_err(CliError::local("prepare this machine for sandboxes"))?;
    let store = store.map_err(CliError::local("open the database"))?;
    let resolver = start_resolver(&runtime, config).await;
    let capabilities = runtime.capabilities();
    for warning in &capabilities.warnings {
        tracing::warn!("{warning}");
    }
    let mut core = wiring::core(config, &capabilities);
    core.seal_key = Some(SealKey::new(kept_key(dirs, key_file::SECRETS)?));
    let sandboxes = Sandboxes::open(Arc::clone(&runtime) as _, store, Arc::new(SystemClock), core)
        .await
        .map_err(CliError::local("take over the sandboxes that live"))?;
    sandboxes.look_up_with(Arc::new(certificates::Names::new(config)));
    // Sandboxes that live have been given what theirs are given: nothing comes before that.
    let broker = start_broker(&runtime, &sandboxes, &roots).await;
    sandboxes.set_git_broker(broker.as_ref().map(|it| it.base().to_owned())).await;
    let gate = start_gate(&runtime, roots).await;
    let face = wiring::face(config, EdgeKey::new(kept_key(dirs, key_file::EDGE)?));
    let (tcp, door_for_browsers) = tcp.with_door();
    let app = App::with_door(sandboxes, version(), face, door_for_browsers);
    tracing::info!(version = version(), background = door.background, "serving");
    let uid = rustix::process::geteuid().as_raw();
    // Who listens on TCP is there for those who come.
    let idle_exit = if tcp.is_empty() { config.idle_exit.0 } else { Duration::ZERO };
    let end = end(app.clone(), door, dirs.clone(), idle_exit);
    let end = async {
        end.await;
        manager.stopping();
    };
    manager.ready();
    let served = tokio::join!(
        warren_server::serve(listener, uid, app.clone(), end),
        tcp.serve(app.clone()),
    );
    let served = served.0.and(served.1);
    let ended = async {
        app.shut_down().await;
        drop(app);
        if let Some(resolver) = resolver {
            resolver.stop().await;
        }
        if let Some(gate) = gate {
            gate.stop().await;
        }
        if let Some(broker) = broker {
            broker.stop().await;
        }
        writers.close();
        writers.wait().await;
        // Its work blocks, and must not keep this process for ever.
        tokio::task::spawn_blocking(move || runtime.close()).await.is_ok()
    };
    tokio::select! {
        ended = tokio::time::timeout(ENDING, ended) => match ended {
            Ok(true) => tracing::info!("ended"),
            Ok(false) | Err(_) => tracing::error!("something did not end; the next server clears it up"),
        },
        () = asked_by_signal() => tracing::warn!("asked to end at once by a signal"),
    }
    served.map_err(CliError::local("serve the API"))
}

fn kept_key(dirs: &Dirs, file: &'static str) -> Result<[u8; 32], CliError> {
    key_file::key(&dirs.data, file).map_err(|error| {
        CliError::local("open a key of this server")(error)
            .hint(format!("it is in {}", dirs.data.display()))
    })
}

/// The name server of sandboxes. Without it they have a network without names, which is said and
/// is no reason to have no sandboxes.
async fn start_resolver(runtime: &NamespaceRuntime, config: &Config) -> Option<ResolverHandle> {
    let net = runtime.network()?;
    let config = ResolverConfig {
        gateway: net.gateway(),
        subnet: net.subnet(),
        upstreams: wiring::upstreams(config),
        policies: Arc::clone(net.policies()),
    };
    match resolver::start(config).await {
        Ok(handle) => Some(handle),
        Err(error) => {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(error = cause, "sandboxes can not look up names: {error}");
            None
        }
    }
}

/// The gate of sandboxes whose rules name domains or whose requests are given credentials. Without
/// it they reach nothing on ports 80 and 443, which is said.
async fn start_gate(runtime: &NamespaceRuntime, roots: Vec<u8>) -> Option<GateHandle> {
    let net = runtime.network()?;
    match gate::start(Arc::clone(net.policies()), roots).await {
        Ok(handle) => Some(handle),
        Err(error) => {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(
                error = cause,
                "no web for sandboxes whose rules name domains, or with credentials: {error}"
            );
            None
        }
    }
}

/// The broker of git for sandboxes. Without it none has a session, which is said.
async fn start_broker(
    runtime: &Arc<NamespaceRuntime>,
    sandboxes: &Sandboxes,
    roots: &[u8],
) -> Option<BrokerHandle> {
    let policies = Arc::clone(runtime.network()?.policies());
    let (runtime, rights) = (Arc::downgrade(runtime), Arc::new(sandboxes.clone()));
    let in_slot = Arc::new(move |slot| runtime.upgrade()?.sandbox_in(slot));
    match broker::start(policies, rights, in_slot, roots).await {
        Ok(handle) => Some(handle),
        Err(error) => {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(error = cause, "no sessions of git: {error}");
            None
        }
    }
}

/// Waits for the reason to end, and lets no further client in.
async fn end(app: App, door: Door, dirs: Dirs, idle_exit: Duration) {
    let idle = async {
        if door.background && !idle_exit.is_zero() {
            nobody_needs_us(&app, &door, &dirs, idle_exit).await;
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        // First, because the listener's loop asks this future first.
        biased;
        () = app.stopping().cancelled() => tracing::info!("asked to end"),
        () = asked_by_signal() => tracing::info!("asked to end by a signal"),
        () = idle => return tracing::info!("nobody needs this server"),
    }
    if let Err(error) = door.close(&dirs) {
        tracing::warn!(%error, "the socket was not removed");
    }
}

async fn asked_by_signal() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    match signals {
        [Ok(mut interrupt), Ok(mut terminate)] => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        _ => std::future::pending().await, // they end this process without ceremony
    }
}

/// Returns when there is no sandbox, no request, and nobody on the way, for `idle_exit`.
async fn nobody_needs_us(app: &App, door: &Door, dirs: &Dirs, idle_exit: Duration) {
    loop {
        let activity = app.activity();
        let needed = activity.living > 0 || activity.in_flight > 0;
        if !needed && activity.idle_for >= idle_exit {
            match door.close_if_nobody_waits(dirs) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "this server can not end by itself"),
            }
        }
        let left = idle_exit.saturating_sub(activity.idle_for);
        // While there are sandboxes nothing says when the last is gone, so look now and then.
        let pause = if needed { idle_exit / 4 } else { left };
        tokio::time::sleep(pause.clamp(Duration::from_millis(50), Duration::from_secs(30))).await;
    }
}
