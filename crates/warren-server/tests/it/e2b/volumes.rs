//! Volumes in E2B's API, and their files.

use serde_json::{Value, json};
use warren_server::Access;

use crate::{access::Remote, app::TestApp};

/// Makes a volume: its id, and somebody who has its token and no key.
async fn volume(app: &TestApp, name: &str) -> (String, Remote) {
    let made = app.post("/e2b/volumes", &json!({"name": name}).to_string()).await.expect(201);
    let token = made["token"].as_str().unwrap();
    let id = made["volumeID"].as_str().unwrap().to_owned();
    (id, app.over_tcp(Access::Keys).with_key(token))
}

fn times(stat: &mut Value) {
    for time in ["atime", "mtime", "ctime"] {
        let text = stat[time].as_str().unwrap();
        assert!(text.ends_with('Z') && text.contains('T'), "{stat}");
        stat.as_object_mut().unwrap().remove(time);
    }
}

#[tokio::test]
async fn volumes_are_made_listed_found_and_removed() {
    let app = TestApp::start().await;
    let made = app.post("/e2b/volumes", r#"{"name":"My_data"}"#).await.expect(201);
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("wvt_"), "{token}");
    let id = made["volumeID"].as_str().unwrap();
    let listed = app.get("/e2b/volumes").await.expect(200);
    assert_eq!(listed, json!([{"volumeID": id, "name": "My_data"}]));
    let found = app.get(&format!("/e2b/volumes/{id}")).await.expect(200);
    assert_eq!((&found["name"], &found["volumeID"]), (&json!("My_data"), &json!(id)));
    assert!(found["token"].is_string());
    let again = app.post("/e2b/volumes", r#"{"name":"My_data"}"#).await.expect(400);
    let message = "Volume with name 'My_data' already exists";
    assert_eq!(again, json!({"code": 400, "message": message}));
    app.post("/e2b/volumes", r#"{"name":"a b"}"#).await.expect(400);
    let other = app.as_owner("other").await;
    other.get(&format!("/e2b/volumes/{id}")).await.expect(404);
    other.ask("DELETE", &format!("/e2b/volumes/{id}"), "").await.expect(404);
    let gone = app.ask("DELETE", &format!("/e2b/volumes/{id}"), "").await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    assert_eq!(app.ask("DELETE", &format!("/e2b/volumes/{id}"), "").await.expect(404)["code"], 404);
}

#[tokio::test]
async fn files_are_written_read_listed_changed_and_removed() {
    let app = TestApp::start().await;
    let (id, holder) = volume(&app, "data").await;
    let at = |what: &str, query: &str| format!("/e2b/volumecontent/{id}/{what}?{query}");
    let mut made =
        holder.ask("PUT", &at("file", "path=/a.txt&mode=384"), "hello").await.expect(201);
    times(&mut made);
    let expected = json!({
        "name": "a.txt", "type": "file", "path": "/a.txt", "size": 5,
        "mode": 0o600, "uid": 1000, "gid": 1000,
    });
    assert_eq!(made, expected);
    let read = holder.get(&at("file", "path=/a.txt")).await;
    assert_eq!((read.status, read.body.as_ref()), (200, &b"hello"[..]));
    assert_eq!(read.headers["content-type"], "application/octet-stream");
    assert_eq!(read.headers["content-length"], "5");
    let again = holder.ask("PUT", &at("file", "path=/a.txt"), "x").await.expect(409);
    assert_eq!(again, json!({"code": "409", "message": "/a.txt: it is there already"}));
    holder.ask("PUT", &at("file", "path=/a.txt&force=true"), "again").await.expect(201);
    assert_eq!(holder.get(&at("file", "path=/a.txt")).await.body.as_ref(), b"again");
    let above = holder.ask("PUT", &at("file", "path=/no/b.txt&force=true"), "x").await.expect(404);
    assert_eq!(above["code"], "404");

    holder.ask("POST", &at("dir", "path=/d/e"), "").await.expect(404);
    let mut made =
        holder.ask("POST", &at("dir", "path=/d/e&force=true&uid=7"), "").await.expect(201);
    times(&mut made);
    assert_eq!(
        (&made["type"], &made["uid"], &made["mode"]),
        (&json!("directory"), &json!(7), &json!(0o755))
    );
    holder.ask("POST", &at("dir", "path=/d/e"), "").await.expect(409);
    holder.ask("POST", &at("dir", "path=/d/e&force=true"), "").await.expect(201);
    let names = |listed: Value| -> Vec<String> {
        let entries = listed.as_array().unwrap().iter();
        entries.map(|it| it["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(holder.get(&at("dir", "path=/")).await.expect(200)), ["/a.txt", "/d"]);
    let deep = holder.get(&at("dir", "path=/&depth=2")).await.expect(200);
    assert_eq!(names(deep), ["/a.txt", "/d", "/d/e"]);
    holder.get(&at("dir", "path=/none")).await.expect(404);

    let change = r#"{"uid":1001,"gid":1001,"mode":493}"#;
    let changed = holder.ask("PATCH", &at("path", "path=/a.txt"), change).await.expect(200);
    assert_eq!(
        (&changed["uid"], &changed["gid"], &changed["mode"]),
        (&json!(1001), &json!(1001), &json!(0o755))
    );
    let wrong = holder.ask("PATCH", &at("path", "path=/a.txt"), r#"{"uid":70000}"#).await;
    assert_eq!(wrong.expect(400), json!({"code": "400", "message": "uid: expected 0 to 65535"}));
    holder.ask("PATCH", &at("path", "path=/none"), change).await.expect(404);
    assert_eq!(holder.get(&at("path", "path=/d/e")).await.expect(200)["name"], "e");
    let gone = holder.ask("DELETE", &at("path", "path=/d"), "").await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    assert_eq!(holder.get(&at("path", "path=/d/e")).await.expect(404)["code"], "404");
    holder.ask("DELETE", &at("path", "path=/d"), "").await.expect(404);
    holder.get(&at("path", "")).await.expect(400);
}

#[tokio::test]
async fn a_token_opens_its_own_volume_and_nothing_else() {
    let app = TestApp::start().await;
    let (one, holder) = volume(&app, "one").await;
    let (two, _) = volume(&app, "two").await;
    let at = |id: &str| format!("/e2b/volumecontent/{id}/path?path=/");
    holder.get(&at(&one)).await.expect(200);
    let message = "expected the volume's own token: `Authorization: Bearer TOKEN`";
    let refusal = json!({"code": "401", "message": message});
    assert_eq!(holder.get(&at(&two)).await.expect(401), refusal);
    assert_eq!(app.over_tcp(Access::Keys).get(&at(&one)).await.expect(401), refusal);
    let key = app.project_key("default").await;
    let with_key = app.over_tcp(Access::Keys).with_key(&key);
    assert_eq!(with_key.get(&at(&one)).await.expect(401), refusal);
    // It is no key of the server.
    assert_eq!(holder.get("/e2b/volumes").await.status, 401);
    assert_eq!(holder.get("/v1/volumes").await.status, 401);
    app.ask("DELETE", &format!("/e2b/volumes/{one}"), "").await.expect(204);
    holder.get(&at(&one)).await.expect(404);
}
