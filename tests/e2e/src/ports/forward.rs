//! Ports here and there.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, Stdio},
};

use serde_json::json;

use super::Served;
use crate::harness::{Home, kill, needs};

/// A `warren forward` that runs.
struct Forward {
    child: Child,
    /// What it said: from where to where.
    said: Vec<String>,
}

impl Forward {
    fn start(home: &Home, arguments: &[&str], lines: usize) -> Self {
        let arguments = [&["forward"], arguments].concat();
        let mut child = home.command(&arguments).stdout(Stdio::piped()).spawn().expect("a command");
        let mut out = BufReader::new(child.stdout.take().expect("its output"));
        let line = |_| {
            let mut line = String::new();
            assert_ne!(out.read_line(&mut line).expect("a line"), 0, "it ended");
            line.trim().to_owned()
        };
        let said = (0..lines).map(line).collect();
        Self { child, said }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        kill(self.child.id());
        drop(self.child.wait());
    }
}

#[test]
fn a_port_here_leads_to_one_of_a_sandbox() {
    needs!("python3");
    let home = Home::new();
    let served = Served::start(&home, &json!({}), "");
    let forward = Forward::start(&home, &[&served.sandbox.id, "0:3000"], 1);
    let (here, there) = forward.said[0].split_once(" -> ").expect("two ends");
    assert_eq!(there, format!("{}:3000", served.sandbox.id));
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(here).expect("it listens");
        write!(stream, "GET {path} HTTP/1.0\r\nhost: here\r\n\r\n").expect("write a request");
        // Half of it ends first.
        stream.shutdown(Shutdown::Write).expect("end a half");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let many: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|n| scope.spawn(move || ask(&format!("/{n}")))).collect();
        asked.into_iter().map(|it| it.join().expect("an answer")).collect()
    });
    for (number, answer) in many.iter().enumerate() {
        assert!(answer.ends_with(&format!("GET /{number} host=here")), "{answer}");
    }
}

#[test]
fn a_port_of_a_sandbox_leads_here_when_that_is_asked_for() {
    needs!("python3");
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let here = listener.local_addr().expect("its address").port();
    let client = "import socket\n\
                  s = socket.create_connection(('127.0.0.1', 5432))\n\
                  s.sendall(b'from inside')\n\
                  s.shutdown(socket.SHUT_WR)\n\
                  print(s.makefile().read())";
    let inside = || sandbox.exec(&["/usr/bin/python3", "-c", client]);
    assert_ne!(inside()["exit_code"], 0, "nothing leads here by itself");
    {
        let reverse = format!("5432:{here}");
        let forward = Forward::start(&home, &[&sandbox.id, "-R", &reverse], 1);
        assert!(forward.said[0].ends_with(&format!("-> 127.0.0.1:{here}")), "{:?}", forward.said);
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut said = String::new();
            stream.read_to_string(&mut said).expect("what it says");
            stream.write_all(format!("{said}, and back").as_bytes()).expect("an answer");
        });
        let outcome = inside();
        answering.join().expect("it came out");
        assert_eq!(outcome["stdout"], "from inside, and back\n", "{outcome}");
    }
    crate::harness::wait_until("it leads nowhere again", || inside()["exit_code"] != 0);
}

#[test]
fn ports_that_are_opened_are_told_of() {
    needs!("python3");
    let home = Home::new();
    let served = Served::start(&home, &json!({}), "");
    let kinds = home.events(&served.sandbox.id, "port.opened");
    assert!(kinds.contains(&"sandbox.running".to_owned()), "{kinds:?}");
    served.sandbox.exec(&["pkill", "-f", "guest.py"]);
    home.events(&served.sandbox.id, "port.closed");
}
