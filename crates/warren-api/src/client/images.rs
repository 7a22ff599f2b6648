//! Images.

use http::Method;
use tokio::io::AsyncRead;

use super::{Call, Client, ClientError, FileStream, Query, encoded, lines::Lines};
use crate::{
    NDJSON,
    images::{
        Image, ImageList, ImageStep, ImagesImported, ImagesRemoved, ImportImage, PruneImages,
        PullImage, PushImage, TagImage, TransferDone,
    },
};

impl Client {
    /// Every image that the server has.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_images(&self) -> Result<ImageList, ClientError> {
        self.json(Call::get("/v1/images")).await
    }

    /// One image, by a name or an id.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn get_image(&self, name: &str) -> Result<Image, ClientError> {
        self.json(Call::get(image(name))).await
    }

    /// Has the server fetch an image from its registry.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn pull_image(&self, request: &PullImage) -> Result<TransferStream, ClientError> {
        self.transfer(Call::post("/v1/images/pull").with_json(request)?).await
    }

    /// Has the server send an image to a registry.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]; `permission_denied` for callers from afar, as all of those
    /// below.
    pub async fn push_image(&self, request: &PushImage) -> Result<TransferStream, ClientError> {
        self.transfer(Call::post("/v1/images/push").with_json(request)?).await
    }

    /// Has the server take an image from elsewhere on its machine.
    ///
    /// # Errors
    ///
    /// As [`Client::push_image`].
    pub async fn import_image(&self, request: &ImportImage) -> Result<TransferStream, ClientError> {
        self.transfer(Call::post("/v1/images/import").with_json(request)?).await
    }

    pub(super) async fn transfer(&self, call: Call) -> Result<TransferStream, ClientError> {
        Ok(TransferStream(Lines::new(self.send(&call.accepting(NDJSON)).await?)))
    }

    /// Sends an archive with images; those without a name get `name`.
    ///
    /// # Errors
    ///
    /// As [`Client::push_image`].
    pub async fn import_archive(
        &self,
        name: Option<&str>,
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<ImagesImported, ClientError> {
        let query = Query::default().with("name", name);
        let target = format!("/v1/images/archive{}", query.0);
        self.upload(target, "application/x-tar", archive).await
    }

    /// An image as an archive, as it arrives; `format` is `oci` or `docker`.
    ///
    /// # Errors
    ///
    /// As [`Client::push_image`].
    pub async fn export_image(
        &self,
        name: &str,
        format: Option<&str>,
    ) -> Result<FileStream, ClientError> {
        let query = Query::default().with("format", format);
        let mut call = Call::get(format!("{}/archive{}", image(name), query.0));
        call.accept = "*/*";
        Ok(FileStream(self.send(&call).await?))
    }

    /// Gives an image one more name.
    ///
    /// # Errors
    ///
    /// As [`Client::push_image`].
    pub async fn tag_image(&self, request: &TagImage) -> Result<Image, ClientError> {
        self.json(Call::post("/v1/images/tag").with_json(request)?).await
    }

    /// Takes a name away, or removes an image by its id.
    ///
    /// # Errors
    ///
    /// As [`Client::push_image`].
    pub async fn remove_image(&self, name: &str) -> Result<ImagesRemoved, ClientError> {
        let mut call = Call::new(Method::DELETE, image(name));
        // Done twice, a second name of the same image might go.
        call.repeatable = false;
        self.json(call).await
    }

    /// Removes images that nobody uses.
    ///
    /// # Errors
    ///
    /// As [`Client::push_image`].
    pub async fn prune_images(&self, request: &PruneImages) -> Result<ImagesRemoved, ClientError> {
        self.json(Call::post("/v1/images/prune").with_json(request)?).await
    }
}

fn image(name: &str) -> String {
    format!("/v1/images/{}", encoded(name))
}

/// A transfer that goes on.
#[derive(Debug)]
pub struct TransferStream(Lines);

/// What a transfer says next.
#[derive(Debug)]
pub enum Transfer {
    /// How far it has come.
    Step(ImageStep),
    /// It is done.
    Done(TransferDone),
}

impl TransferStream {
    /// What the transfer says next. Dropping the stream before its end ends the transfer.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] when the transfer failed, else what broke.
    pub async fn next(&mut self) -> Result<Transfer, ClientError> {
        loop {
            let line = self.0.next().await?.ok_or_else(ClientError::ended_early)?;
            let line = serde_json::from_slice(line);
            match line.map_err(|source| ClientError::Decode { source })? {
                ImageStep::Keepalive => {}
                ImageStep::Done(done) => return Ok(Transfer::Done(done)),
                ImageStep::Error(error) => return Err(ClientError::Refused(error)),
                step => return Ok(Transfer::Step(step)),
            }
        }
    }
}
