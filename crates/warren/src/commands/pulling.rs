//! Transfers of images, told while they go on.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use warren_api::{
    Code,
    client::{ClientError, Transfer, TransferStream},
    images::{ImageStep, PullImage, TransferDone},
};

use super::Context;
use crate::{config::Size, error::CliError, output, session::Signals};

/// How far the layers of a transfer have come.
#[derive(Debug, Default)]
struct Layers {
    /// Bytes that have come, and how many there are.
    bytes: HashMap<String, (u64, u64)>,
    unpacking: Option<String>,
}

impl Layers {
    fn take(&mut self, step: &ImageStep) {
        match step {
            ImageStep::Resolved { layers, .. } => {
                self.bytes = layers.iter().map(|it| (it.layer.clone(), (0, it.bytes))).collect();
            }
            ImageStep::Transferred { layer, bytes, of } => {
                self.bytes.insert(layer.clone(), (*bytes, *of));
            }
            ImageStep::Present { layer } | ImageStep::LayerDone { layer } => {
                if let Some((bytes, of)) = self.bytes.get_mut(layer) {
                    *bytes = *of;
                }
                self.unpacking.take_if(|it| it == layer);
            }
            ImageStep::Unpacking { layer } => self.unpacking = Some(layer.clone()),
            _ => {}
        }
    }

    /// One line.
    fn text(&self, what: &str) -> String {
        let (bytes, of) =
            self.bytes.values().fold((0, 0), |(bytes, of), (more, all)| (bytes + more, of + all));
        let done = self.bytes.values().filter(|(bytes, of)| bytes >= of).count();
        match (self.bytes.len(), &self.unpacking) {
            (0, _) => what.to_owned(),
            (layers, Some(_)) if done == layers => format!("{what}: unpacking"),
            (layers, _) => {
                format!(
                    "{what}: {} of {}, {done} of {layers} layers",
                    megabytes(bytes),
                    megabytes(of)
                )
            }
        }
    }
}

/// A size for people, in tenths of a mebibyte.
fn megabytes(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => Size(bytes >> 10 << 10).to_string(),
        bytes => format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20),
    }
}

/// Follows a transfer to its end and tells how far it is. Asked to end, the transfer ends too.
pub(super) async fn followed(
    cx: &Context<'_>,
    what: &str,
    transfer: impl Future<Output = Result<TransferStream, ClientError>>,
    signals: &mut Signals,
) -> Result<TransferDone, CliError> {
    let layers = Mutex::new(Layers::default());
    let locked = || layers.lock().unwrap_or_else(PoisonError::into_inner);
    let work = async {
        let mut stream = transfer.await?;
        loop {
            match stream.next().await? {
                Transfer::Done(done) => return Ok(done),
                Transfer::Step(ImageStep::Note { text }) => cx.output.talk(&text),
                Transfer::Step(step) => locked().take(&step),
            }
        }
    };
    tokio::select! {
        done = output::telling(cx.output, || locked().text(what), work) => done.map_err(told),
        end = signals.end() => Err(end),
    }
}

fn told(error: ClientError) -> CliError {
    CliError::from(error)
}

/// Has the server pull the image that a new sandbox is to be made from, where it is not there, and
/// tells how far that is. What is no image of a registry is left to the server.
pub(super) async fn present(
    cx: &Context<'_>,
    image: Option<&str>,
    signals: &mut Signals,
) -> Result<(), CliError> {
    let Some(image) = image.filter(|it| is_reference(it)) else { return Ok(()) };
    match cx.client.get_image(image).await {
        Err(ClientError::Refused(refused)) if refused.code == Code::NotFound => {}
        // Whatever else there is to say, the server says when it makes the sandbox.
        _ => return Ok(()),
    }
    let request = PullImage { reference: image.to_owned() };
    let what = format!("pulling {image}");
    followed(cx, &what, cx.client.pull_image(&request), signals).await?;
    Ok(())
}

fn is_reference(image: &str) -> bool {
    image != "host" && !image.starts_with("dir:") && !image.starts_with("tar:")
}

#[cfg(test)]
mod tests {
    use warren_api::images::LayerSize;

    use super::*;

    #[test]
    fn a_transfer_is_told_in_one_line() {
        let mut layers = Layers::default();
        assert_eq!(layers.text("pulling x"), "pulling x");
        let size = |layer: &str, bytes| LayerSize { layer: layer.to_owned(), bytes };
        let sizes = vec![size("a", 3 << 20), size("b", 1 << 20)];
        layers.take(&ImageStep::Resolved { id: String::new(), layers: sizes });
        layers.take(&ImageStep::Transferred { layer: "a".into(), bytes: 3 << 19, of: 3 << 20 });
        assert_eq!(layers.text("pulling x"), "pulling x: 1.5 MiB of 4.0 MiB, 0 of 2 layers");
        layers.take(&ImageStep::Present { layer: "b".into() });
        layers.take(&ImageStep::Transferred { layer: "a".into(), bytes: 3 << 20, of: 3 << 20 });
        layers.take(&ImageStep::Unpacking { layer: "a".into() });
        assert_eq!(layers.text("pulling x"), "pulling x: unpacking");
    }

    #[test]
    fn what_is_on_the_server_is_not_pulled() {
        assert!(is_reference("python:3.12") && is_reference("localhost:5000/x"));
        assert!(!is_reference("host") && !is_reference("dir:/x") && !is_reference("tar:/x.tar"));
    }
}
