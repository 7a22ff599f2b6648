//! The edge beside nginx as a plain reverse proxy. Both are on one core, what they lead to and what
//! asks on another; without `taskset` or a second core all share what there is.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::Bench;
use crate::{
    api::{self, Source},
    origin,
    others::command,
    samples::{Figures, Unit},
    server::{Pool, Server, pause},
};

/// The port inside.
const PORT: u16 = 3000;

/// Connections that ask at once where requests per second are counted.
const ASKING: usize = 16;

/// For how long they do.
const LASTING: Duration = Duration::from_secs(2);

/// How much one stream has.
const STREAM: usize = 256 << 20;

/// What a message of a WebSocket has.
const MESSAGE: usize = 64;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way to a server: straight, or through a proxy.
struct Way {
    name: &'static str,
    address: SocketAddr,
    /// Header lines that name what is asked for.
    lines: String,
}

/// Measures all ways in turn.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let near = TcpListener::bind("127.0.0.1:0")?;
    let straight = near.local_addr()?;
    thread::spawn(move || origin::serve(near));
    let nginx = Nginx::start(bench.scratch, straight);
    if let Err(error) = &nginx {
        bench.others.absent.push(("the edge: nginx".to_owned(), format!("{error:#}")));
    }
    let server = Server::start(bench.warren, &bench.scratch.join("edge"), Pool::default())?;
    pin(server.pid(), 0);
    let edge = inside(&server)?;
    let mut ways = vec![
        Way { name: "straight", address: straight, lines: "host: localhost\r\n".into() },
        edge,
    ];
    if let Ok(nginx) = &nginx {
        let lines = "host: localhost\r\n".into();
        ways.push(Way { name: "nginx", address: nginx.address, lines });
    }
    declare(bench.figures);
    for _ in 0..bench.size.samples.div_ceil(40) {
        for way in &ways {
            way.measure(bench.size.samples, bench.figures)
                .with_context(|| format!("the way {}", way.name))?;
        }
    }
    Ok(())
}

fn declare(figures: &mut Figures) {
    let note = "one connection, 13 bytes; `straight` is without a proxy";
    figures.declare("small request: edge", Unit::Time, "`straight` + 0.2 ms", note);
    let note = "16 connections; the proxy on one core";
    figures.declare("small requests: edge", Unit::Rate, "0.5 x nginx", note);
    figures.declare("stream: edge", Unit::Throughput, "0.5 x nginx", "256 MB, one connection");
    let note = "64 bytes there and back";
    figures.declare("WebSocket echo: edge", Unit::Time, "`straight` + 0.2 ms", note);
}

impl Way {
    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(BufReader::with_capacity(256 << 10, stream))
    }

    fn measure(&self, rounds: usize, figures: &mut Figures) -> Result<()> {
        let name = self.name;
        let mut connection = self.connect()?;
        for _ in 0..rounds {
            let began = Instant::now();
            self.ask(&mut connection, "/")?;
            figures.time(&format!("small request: {name}"), began.elapsed());
        }
        let rate = self.rate()?;
        figures.add(&format!("small requests: {name}"), Unit::Rate, rate);
        let began = Instant::now();
        self.ask(&mut connection, &format!("/stream/{STREAM}"))?;
        let rate = STREAM as f64 / began.elapsed().as_secs_f64();
        figures.add(&format!("stream: {name}"), Unit::Throughput, rate as u64);
        self.echo(rounds, figures)
    }

    /// One request, and its answer to the end.
    fn ask(&self, connection: &mut BufReader<TcpStream>, path: &str) -> Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\n{}\r\n", self.lines);
        connection.get_mut().write_all(request.as_bytes())?;
        let (status, mut left) = head(connection)?;
        ensure!(status == 200, "status {status}");
        while left > 0 {
            let length = connection.fill_buf()?.len().min(left);
            ensure!(length > 0, "the answer ended early");
            connection.consume(length);
            left -= length;
        }
        Ok(())
    }

    /// How many requests a second many connections make.
    fn rate(&self) -> Result<u64> {
        let began = Instant::now();
        let counted = thread::scope(|scope| {
            let asking: Vec<_> = (0..ASKING)
                .map(|_| {
                    scope.spawn(|| {
                        let (mut connection, mut count) = (self.connect()?, 0_u64);
                        while began.elapsed() < LASTING {
                            self.ask(&mut connection, "/")?;
                            count += 1;
                        }
                        anyhow::Ok(count)
                    })
                })
                .collect();
            let counts = asking.into_iter().map(|it| match it.join() {
                Ok(count) => count,
                Err(_panic) => bail!("a connection was given up"),
            });
            counts.sum::<Result<u64>>()
        })?;
        Ok((counted as f64 / began.elapsed().as_secs_f64()) as u64)
    }

    fn echo(&self, rounds: usize, figures: &mut Figures) -> Result<()> {
        let mut connection = self.connect()?;
        let request = format!(
            "GET /echo HTTP/1.1\r\n{}connection: upgrade\r\nupgrade: websocket\r\n\r\n",
            self.lines
        );
        connection.get_mut().write_all(request.as_bytes())?;
        let (status, _) = head(&mut connection)?;
        ensure!(status == 101, "status {status}");
        let (message, mut back) = ([b'm'; MESSAGE], [0; MESSAGE]);
        for _ in 0..rounds {
            let began = Instant::now();
            connection.get_mut().write_all(&message)?;
            connection.read_exact(&mut back)?;
            figures.time(&format!("WebSocket echo: {}", self.name), began.elapsed());
        }
        Ok(())
    }
}

/// Status and length of an answer.
fn head(connection: &mut BufReader<TcpStream>) -> Result<(u16, usize)> {
    let (mut status, mut length) = (0, 0);
    for number in 0.. {
        let mut line = String::new();
        ensure!(connection.read_line(&mut line)? > 0, "the connection ended");
        if number == 0 {
            status = line.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().context("content-length")?;
        }
    }
    Ok((status, length))
}

/// A sandbox in which a copy of this program serves, and the way to it.
fn inside(server: &Server) -> Result<Way> {
    let mut client = server.client()?;
    let (id, _) = api::create(&mut client, Source::OnDemand)?;
    let own = fs::read(std::env::current_exe()?).context("read this program")?;
    client
        .send("PUT", &format!("/v1/sandboxes/{id}/files?path=/tmp/origin&mode=0755"), &own)?
        .good()?;
    let port = PORT.to_string();
    let exec = ["exec", "--detach", &id, "--", "/tmp/origin", "--origin", &port];
    let started = server.command().args(exec).output()?;
    ensure!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr).trim());
    let began = Instant::now();
    loop {
        let ports = client.send("GET", &format!("/v1/sandboxes/{id}/ports"), b"")?.json()?;
        if ports.to_string().contains(&port) {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "nothing listens in the sandbox");
        pause();
    }
    let wanted = json!({ "port": PORT }).to_string();
    let link = client.send("POST", &format!("/v1/sandboxes/{id}/links"), wanted.as_bytes())?;
    let link = link.json()?;
    let text = |name: &str| link.get(name).and_then(Value::as_str).unwrap_or_default();
    let host = text("url").trim_start_matches("http://").trim_end_matches('/');
    let at = host.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let at = at.context("a link without a port")?;
    let lines = format!("host: {host}\r\nx-warren-token: {}\r\n", text("token"));
    Ok(Way { name: "edge", address: SocketAddr::from(([127, 0, 0, 1], at)), lines })
}

/// Keeps a process and its threads on one core, where there is more than one.
fn pin(pid: u32, core: usize) {
    if thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        let mut taskset = command("taskset");
        taskset.args(["-a", "-p", "-c", &core.to_string(), &pid.to_string()]);
        drop(taskset.stdout(Stdio::null()).status());
    }
}

/// nginx with one worker. Dropping it ends it.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    fn start(scratch: &Path, origin: SocketAddr) -> Result<Self> {
        let directory = scratch.join("nginx");
        fs::create_dir_all(&directory)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let place = directory.display();
        let configuration = format!(
            "daemon off; master_process off; worker_processes 1; pid {place}/pid;\n\
             error_log {place}/error.log; events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_body_temp_path {place}; proxy_temp_path {place};\n\
             fastcgi_temp_path {place}; uwsgi_temp_path {place}; scgi_temp_path {place};\n\
             upstream origin {{ server {origin}; keepalive 64; }}\n\
             map $http_upgrade $connection_up {{ default upgrade; '' ''; }}\n\
             server {{ listen {address}; keepalive_requests 100000000; location / {{\n\
             proxy_pass http://origin; proxy_http_version 1.1; proxy_buffering on;\n\
             proxy_max_temp_file_size 0; proxy_set_header Host $host;\n\
             proxy_set_header X-Forwarded-For $remote_addr;\n\
             proxy_set_header Upgrade $http_upgrade;\n\
             proxy_set_header Connection $connection_up; }} }} }}\n"
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, configuration)?;
        let mut nginx = command("nginx");
        nginx.arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = nginx.spawn().context("nginx is not installed (Debian: nginx-light)")?;
        pin(child.id(), 0);
        let nginx = Self { child, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(began.elapsed() < PATIENCE, "nginx does not listen");
            pause();
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
