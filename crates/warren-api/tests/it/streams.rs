//! Answers that come in pieces.

use warren_api::{
    event::EventKind,
    exec::{ExecEvent, ExecRequest},
};

use crate::script::{Scene, Script};

fn stream(media_type: &str, body: &str) -> Script {
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\nconnection: close\r\n\r\n");
    Script::new([Scene::Answers(vec![head + body])])
}

#[tokio::test]
async fn the_lines_of_a_command_become_events() {
    let script = stream(
        warren_api::NDJSON,
        "{\"type\":\"start\",\"exec_id\":\"e\",\"pid\":3}\n{\"type\":\"keepalive\"}\n\
         {\"type\":\"stdout\",\"data\":\"aGk=\",\"offset\":0}\n{\"type\":\"end\",\"exit_code\":4}\n",
    );
    let request = ExecRequest { command: vec!["true".into()], ..ExecRequest::default() };
    let mut events = script.client().exec_stream("a", &request).await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = events.next().await.unwrap() {
        seen.push(event);
    }
    assert_eq!(seen.len(), 4);
    assert!(matches!(&seen[2], ExecEvent::Stdout(chunk) if chunk.data.0 == b"hi"));
    assert!(matches!(&seen[3], ExecEvent::End(end) if end.exit_code == 4));
}

#[tokio::test]
async fn server_sent_events_are_read_past_comments() {
    let script = stream(
        "text/event-stream",
        ":\nid: 6\n\nid: 7\ndata: {\"seq\":7,\"time\":\"2026-11-21T10:00:00.000Z\",\n\
         data: \"type\":\"sandbox.running\",\"sandbox_id\":\"sb-a\",\"detail\":{}}\n\n",
    );
    let mut events = script.client().events(Some(6), None).await.unwrap();
    assert_eq!(events.position(), Some(6));
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.seq, event.kind), (7, EventKind::Running));
    assert_eq!(events.next().await.unwrap(), None);
    assert_eq!(events.position(), Some(7));
    assert!(script.seen()[0].starts_with("GET /v1/events?after=6 HTTP/1.1"));
}
