//! Ports of sandboxes that lead back to the caller.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use warren_api::client::{Client, Endpoint};
use warren_core::Caller;
use warren_server::Config;

use super::{World, backend::Backend};
use crate::tcp::PATIENCE;

pub(super) async fn client(world: &World, project: &str) -> Client {
    let key = world.app().project_key(project).await.parse().unwrap();
    let endpoint: Endpoint = format!("http://{}", world.served.address).parse().unwrap();
    Client::remote(endpoint, Some(&key), None).unwrap()
}

#[tokio::test]
async fn what_connects_inside_comes_out_at_the_caller() {
    let world = World::new().await;
    let client = client(&world, "default").await;
    let mut arriving = client.listen_port(&world.id, 5432).await.unwrap();
    let refused = client.listen_port(&world.id, 5432).await.unwrap_err();
    assert_eq!(refused.code(), warren_api::Code::FailedPrecondition);
    let sandboxes = world.app().app.sandboxes().clone();
    let mut inside = sandboxes.dial(&Caller::local(), &world.id, 5432).await.unwrap();
    let connection = arriving.next().await.unwrap().unwrap();
    let mut outside = client.take_connection(&world.id, 5432, connection).await.unwrap();
    let twice = client.take_connection(&world.id, 5432, connection).await.unwrap_err();
    assert_eq!(twice.code(), warren_api::Code::NotFound);
    inside.write_all(b"from inside").await.unwrap();
    inside.shutdown().await.unwrap();
    let mut all = Vec::new();
    outside.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"from inside");
    // The other half is still open.
    outside.write_all(b"from outside").await.unwrap();
    outside.shutdown().await.unwrap();
    let mut all = Vec::new();
    inside.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"from outside");
    // The sandbox ends, and so does the listener.
    sandboxes.stop(&Caller::local(), &world.id).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, arriving.next()).await.unwrap();
    assert_eq!(ended.unwrap(), None);
    world.served.stop().await;
}

#[tokio::test]
async fn nobody_else_takes_a_connection() {
    let world = World::new().await;
    world.app().as_owner("other").await;
    let (client, other) = (client(&world, "default").await, client(&world, "other").await);
    let mut arriving = client.listen_port(&world.id, 5432).await.unwrap();
    let _inside = world.app().app.sandboxes().dial(&Caller::local(), &world.id, 5432).await;
    let connection = arriving.next().await.unwrap().unwrap();
    for refused in [
        other.take_connection(&world.id, 5432, connection).await.unwrap_err(),
        other.listen_port(&world.id, 5433).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), warren_api::Code::NotFound);
    }
    client.take_connection(&world.id, 5432, connection).await.unwrap();
    world.served.stop().await;
}

#[tokio::test]
async fn a_connection_waits_for_those_who_have_too_many_streams() {
    let config = Config { streams_per_sandbox: 2, ..Config::default() };
    let world = World::with(config, Backend::http1().await).await;
    let client = client(&world, "default").await;
    let mut arriving = client.listen_port(&world.id, 5432).await.unwrap();
    let other = client.connect_port(&world.id, 3000).await.unwrap();
    let _inside = world.app().app.sandboxes().dial(&Caller::local(), &world.id, 5432).await;
    let connection = arriving.next().await.unwrap().unwrap();
    let refused = client.take_connection(&world.id, 5432, connection).await.unwrap_err();
    assert_eq!(refused.code(), warren_api::Code::ResourceExhausted);
    drop(other);
    let taken = async {
        loop {
            match client.take_connection(&world.id, 5432, connection).await {
                Err(error) if error.code() == warren_api::Code::ResourceExhausted => {}
                taken => return taken,
            }
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.unwrap().unwrap();
    world.served.stop().await;
}
