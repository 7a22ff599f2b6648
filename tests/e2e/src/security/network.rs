//! What the network must not reach.

use std::net::{TcpListener, UdpSocket};

use serde_json::json;

use super::{profiles, python};
use crate::harness::Home;

#[test]
fn raw_sockets_are_refused() {
    crate::harness::needs!("python3");
    let home = Home::new();
    let program = "import socket, json\nmade = []\n\
        for family, kind, number in ((socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_INET6, socket.SOCK_RAW, 58),\n\
        \x20                           (socket.AF_PACKET, socket.SOCK_RAW, 0x300), (socket.AF_PACKET, socket.SOCK_DGRAM, 0x300)):\n\
        \x20   try:\n\
        \x20       socket.socket(family, kind, number); made.append([int(family), int(kind)])\n\
        \x20   except OSError: pass\n\
        print(json.dumps(made))";
    for (sandbox, user) in profiles(&home) {
        assert_eq!(python(&sandbox, user, program), json!([]), "as {user}");
    }
}

#[test]
fn the_host_is_not_reachable() {
    crate::harness::needs!("python3");
    // On every address of the host, so that a hole would be seen whichever way it leads.
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let home = Home::new();
    for (sandbox, user) in profiles(&home) {
        let targets = addresses_of_the_host(&sandbox);
        let program = format!(
            "import socket, json\nreached = []\n\
             for host in {targets:?}:\n\
             \x20   try:\n\
             \x20       socket.create_connection((host, {port}), 1).close(); reached.append(host)\n\
             \x20   except OSError: pass\n\
             print(json.dumps(reached))"
        );
        assert_eq!(python(&sandbox, user, &program), json!([]), "as {user}, of {targets:?}");
    }
}

#[test]
fn with_no_network_there_is_only_the_loopback() {
    crate::harness::needs!("python3");
    let home = Home::new();
    let sandbox = home.create(&json!({"network": "none"}));
    let routes =
        sandbox.root("cat /proc/net/route | tail -n +2; ls /proc/sys/net/ipv4/conf 2>/dev/null");
    assert!(!routes.contains("eth0"), "{routes}");
    let program = "import socket, json\n\
        s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n\
        c = socket.create_connection(s.getsockname(), 1)\n\
        print(json.dumps('own loopback works'))";
    assert_eq!(python(&sandbox, "user", program), json!("own loopback works"));
}

#[test]
fn a_sandbox_does_not_reach_another() {
    crate::harness::needs!("python3");
    let home = Home::new();
    let (one, other) = (home.create(&json!({})), home.create(&json!({})));
    let address = "import socket, json\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        try:\n\
        \x20   s.connect(('192.0.2.1', 9)); print(json.dumps(s.getsockname()[0]))\n\
        except OSError: print(json.dumps(None))";
    let Some(address) = python(&one, "user", address).as_str().map(str::to_owned) else {
        crate::harness::skip!("there is no network here");
    };
    one.exec_as(&json!({
        "command": ["python3", "-c", "import socket; s = socket.create_server(('', 8000)); open('/tmp/up', 'w'); s.accept()"],
        "detach": true,
    }));
    crate::harness::wait_until("it listens", || {
        one.exec(&["test", "-e", "/tmp/up"])["exit_code"] == 0
    });
    let reach = format!(
        "import socket, json\n\
         try:\n\
         \x20   socket.create_connection(({address:?}, 8000), 1); print(json.dumps('reached'))\n\
         except OSError as e: print(json.dumps('refused'))"
    );
    assert_eq!(python(&other, "root", &reach), json!("refused"));
}

/// Loopback, the sandbox's gateway, and the address that the host uses towards the outside.
fn addresses_of_the_host(sandbox: &crate::harness::Sandbox<'_>) -> Vec<String> {
    let mut addresses = vec!["127.0.0.1".to_owned(), "0.0.0.0".to_owned()];
    let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?; // sends nothing: it only chooses a way
        socket.local_addr()
    });
    addresses.extend(own.ok().map(|address| address.ip().to_string()));
    let routes = sandbox.root("cat /proc/net/route");
    for line in routes.lines().skip(1) {
        let gateway =
            line.split_whitespace().nth(2).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let gateway = gateway.filter(|gateway| *gateway != 0);
        addresses.extend(gateway.map(|bits| std::net::Ipv4Addr::from(bits.to_be()).to_string()));
    }
    addresses
}
