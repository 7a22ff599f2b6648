//! What is proxied: a server that does nothing but answer, on the host and, as a copy of this very
//! program, inside a sandbox.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use anyhow::{Context as _, Result};

/// What a small answer has.
const SMALL: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nhello, world\n";

/// What a stream is written in.
const PIECE: usize = 256 << 10;

/// Serves 127.0.0.1 and this port, or any where it is 0, until the process ends.
pub(crate) fn serve(listener: TcpListener) -> Result<()> {
    accept(&listener, converse)
}

/// Has a thread of its own converse with each client, until the process ends.
pub(crate) fn accept(listener: &TcpListener, converse: fn(TcpStream) -> Result<()>) -> Result<()> {
    for stream in listener.incoming() {
        let stream = stream.context("accept a connection")?;
        // A client that leaves is as good as one that is done.
        thread::spawn(move || converse(stream).is_ok());
    }
    Ok(())
}

/// Answers requests without bodies: `/stream/BYTES`, an upgrade to an echo, anything else.
fn converse(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut read = BufReader::new(stream);
    loop {
        let (mut bytes, mut upgrade, mut first) = (None, false, true);
        loop {
            let mut line = String::new();
            if read.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if first {
                let path = line.split(' ').nth(1).unwrap_or_default();
                bytes = path.strip_prefix("/stream/").and_then(|bytes| bytes.parse().ok());
                first = false;
            } else if line.trim().is_empty() {
                break;
            }
            upgrade |= line.to_ascii_lowercase().starts_with("upgrade:");
        }
        if upgrade {
            out.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                  upgrade: websocket\r\n\r\n",
            )?;
            return echo(read, out);
        }
        match bytes {
            Some(bytes) => pour(&mut out, bytes)?,
            None => out.write_all(SMALL)?,
        }
    }
}

fn pour(out: &mut TcpStream, mut left: usize) -> Result<()> {
    write!(out, "HTTP/1.1 200 OK\r\ncontent-length: {left}\r\n\r\n")?;
    let piece = vec![b'x'; PIECE];
    while left > 0 {
        let length = left.min(PIECE);
        out.write_all(piece.get(..length).unwrap_or_default())?;
        left -= length;
    }
    Ok(())
}

fn echo(mut read: BufReader<TcpStream>, mut out: TcpStream) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match read.read(&mut buffer)? {
            0 => return Ok(()),
            length => out.write_all(buffer.get(..length).unwrap_or_default())?,
        }
    }
}
