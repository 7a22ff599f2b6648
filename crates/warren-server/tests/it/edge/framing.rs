//! Requests that mean one thing to one server and another to the next.

use super::{World, backend::raw, is};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// What the guest gets to see of these bytes, with whatever it answers.
async fn seen(head: &str, lines: &str, after: &str) -> (String, String) {
    let world = World::new().await;
    let (address, seen) = raw("").await;
    world.app().runtime.set_port(3000, Some(address));
    let token = format!("x-warren-token: {}\r\n", world.token);
    let request = format!("{}{after}", world.head(head, &format!("{token}{lines}")));
    let mut stream = world.served.connect().await;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    stream.write_all(request.as_bytes()).await.unwrap();
    // Until it is refused, or the guest has seen the end of one request.
    let mut answer = Vec::new();
    let ended = async {
        let refused = stream.read_to_end(&mut answer);
        let arrived = async {
            while !String::from_utf8_lossy(&seen.lock().unwrap()).contains("\r\n\r\n") {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            read = refused => drop(read.ok()),
            () = arrived => {}
        }
    };
    tokio::time::timeout(crate::tcp::PATIENCE, ended).await.unwrap();
    drop(stream);
    world.served.stop().await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let came = text(&seen.lock().unwrap());
    (text(&answer), came)
}

/// How many requests are in what came.
fn requests(came: &str) -> usize {
    came.matches(" http/1.1\r\n").count()
}

#[tokio::test]
async fn a_length_beside_chunks_is_not_passed_on() {
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    for lines in [
        "content-length: 44\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
    ] {
        let (answer, came) = seen("POST /", lines, smuggled).await;
        assert!(requests(&came) <= 1 && !came.contains("smuggled"), "{came}");
        if requests(&came) == 1 {
            assert!(!came.contains("content-length"), "{came}");
        } else {
            assert!(answer.starts_with("http/1.1 400"), "{answer}");
        }
    }
}

#[tokio::test]
async fn what_two_servers_may_read_differently_is_refused() {
    for lines in [
        "content-length: 4\r\ncontent-length: 5\r\n",
        "content-length: +4\r\n",
        "content-length: 4, 5\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "x-a: b\r\n folded\r\n",
        "x-a : b\r\n",
        "x\0a: b\r\n",
        "host: 8000-sb-aaaaaaaaaaaaaaaa.localhost\r\n",
    ] {
        let (answer, came) = seen("POST /", lines, "GET /smuggled HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("http/1.1 400"), "{lines:?}: {answer}");
        assert_eq!(came, "", "{lines:?}");
    }
}

#[tokio::test]
async fn a_bare_line_feed_hides_nothing() {
    let (_, came) = seen("GET /", "x-a: b\nx-b: c\n", "").await;
    // Whatever was taken for a line is one for the guest as well.
    assert!(requests(&came) <= 1, "{came}");
    assert!(came.is_empty() || came.contains("x-b: c\r\n"), "{came}");
}

#[tokio::test]
async fn a_target_that_names_another_host_is_refused() {
    let world = World::new().await;
    for target in [
        "http://localhost/v1/sandboxes".to_owned(),
        "http://8000-sb-aaaaaaaaaaaaaaaa.localhost/".to_owned(),
        format!("http://{}@evil.example/", world.host()),
    ] {
        is(&world.let_in(&target, "").await, 400);
    }
    let own = format!("http://{}/there", world.host());
    assert_eq!(is(&world.let_in(&own, "").await, 200), "/there");
    let (address, _) = raw(OK).await;
    world.app().runtime.set_port(3000, Some(address));
    is(&world.raw(&world.head(&format!("CONNECT {}", world.host()), "")).await, 404);
    let token = format!("x-warren-token: {}\r\n", world.token);
    is(&world.raw(&world.head(&format!("CONNECT {}", world.host()), &token)).await, 400);
    world.served.stop().await;
}

#[tokio::test]
async fn a_request_behind_another_is_looked_at_by_itself() {
    let world = World::new().await;
    let token = format!("x-warren-token: {}\r\n", world.token);
    let host = world.host();
    let first = format!("GET /one HTTP/1.1\r\nhost: {host}\r\n{token}\r\n");
    let second = format!("GET /two HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answers = world.raw(&format!("{first}{second}")).await;
    assert!(is(&answers, 200).contains("HTTP/1.1 404"), "{answers}");
    assert_eq!(world.backend.seen().len(), 1, "the second one did not come in");
    world.served.stop().await;
}
