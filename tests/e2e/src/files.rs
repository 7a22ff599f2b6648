//! Files in and out.

use serde_json::json;

use crate::harness::Home;

#[test]
fn a_file_comes_back_as_it_was_written() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let content: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 253) as u8).collect();
    let written = sandbox.api("PUT", "/files?path=/home/user/a/b.bin", &content).json();
    assert_eq!(written["size"], content.len(), "{written}");
    assert!(sandbox.api("GET", "/files?path=/home/user/a/b.bin", b"").body == content);
    assert_eq!(
        sandbox.exec(&["stat", "-c", "%U %s", "/home/user/a/b.bin"])["stdout"],
        "user 3000000\n"
    );
}

#[test]
fn listing_moving_and_removing() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    sandbox.api("POST", "/files/mkdir?path=/home/user/d", b"").json();
    sandbox.api("PUT", "/files?path=/home/user/d/one", b"1").json();
    sandbox
        .api("POST", "/files/move", br#"{"from":"/home/user/d/one","to":"/home/user/d/two"}"#)
        .json();
    let list = sandbox.api("GET", "/files/list?path=/home/user/d&depth=1", b"").json();
    let names: Vec<_> =
        list["entries"].as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, ["two"]);
    assert_eq!(sandbox.api("GET", "/files/stat?path=/home/user/d/two", b"").json()["size"], 1);
    sandbox.api("DELETE", "/files?path=/home/user/d/two", b"").json();
    let gone = sandbox.api("GET", "/files?path=/home/user/d/two", b"");
    assert_eq!((gone.status, gone.error_code().as_str()), (404, "not_found"));
}

#[test]
fn a_user_may_not_read_what_root_keeps_to_itself() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    sandbox.root("echo secret > /root/x; chmod 600 /root/x; chmod 700 /root");
    let refused = sandbox.api("GET", "/files?path=/root/x&user=user", b"");
    if sandbox.root("stat -c %u /home/user") != "1000\n" {
        crate::harness::skip!("one user only here: root and user are the same");
    }
    assert_eq!(refused.error_code(), "permission_denied");
    assert_eq!(sandbox.api("GET", "/files?path=/root/x&user=root", b"").text(), "secret\n");
}
