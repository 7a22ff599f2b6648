//! Ports in guests that the server listens on.

use std::io;

use async_trait::async_trait;
use tokio::net::TcpListener;
use warren_core::runtime::{Duplex, Listen};

/// A listener whose socket is in the network of a guest, which lives for as long as this does.
#[derive(Debug)]
pub(super) struct Inside(pub(super) TcpListener);

#[async_trait]
impl Listen for Inside {
    async fn accept(&mut self) -> io::Result<Box<dyn Duplex>> {
        let (stream, _from_inside) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
