//! Volumes and their files.

use std::ops::RangeInclusive;

use http::Method;
use tokio::io::AsyncRead;

use super::{Call, Client, ClientError, FileStream, Query, encoded};
use crate::{
    files::{FileInfo, FileList, FileWritten},
    volume::{CopyVolume, CreateVolume, ResizeVolume, Volume, VolumeList},
};

impl Client {
    /// Makes an empty volume. It is never repeated by itself.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn create_volume(&self, request: &CreateVolume) -> Result<Volume, ClientError> {
        self.json(Call::post("/v1/volumes").with_json(request)?).await
    }

    /// Every volume of the caller's.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_volumes(&self) -> Result<VolumeList, ClientError> {
        self.json(Call::get("/v1/volumes")).await
    }

    /// One volume.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn get_volume(&self, volume: &str) -> Result<Volume, ClientError> {
        self.json(Call::get(path(volume))).await
    }

    /// Removes a volume with its files.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn delete_volume(&self, volume: &str) -> Result<(), ClientError> {
        self.empty(Call::new(Method::DELETE, path(volume))).await
    }

    /// Changes how much a volume may hold.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn resize_volume(
        &self,
        volume: &str,
        request: &ResizeVolume,
    ) -> Result<Volume, ClientError> {
        let target = format!("{}/resize", path(volume));
        self.json(Call::post(target).with_json(request)?).await
    }

    /// Makes a read-only volume of what another holds now.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn snapshot_volume(
        &self,
        volume: &str,
        request: &CopyVolume,
    ) -> Result<Volume, ClientError> {
        let target = format!("{}/snapshot", path(volume));
        self.json(Call::post(target).with_json(request)?).await
    }

    /// Makes a volume of what another holds now.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn clone_volume(
        &self,
        volume: &str,
        request: &CopyVolume,
    ) -> Result<Volume, ClientError> {
        let target = format!("{}/clone", path(volume));
        self.json(Call::post(target).with_json(request)?).await
    }

    /// Reads a file of a volume, or the bytes of it in `range`.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn read_volume_file(
        &self,
        volume: &str,
        file: &str,
        range: Option<RangeInclusive<u64>>,
    ) -> Result<FileStream, ClientError> {
        let mut call = Call::get(target(volume, "files", file, Query::default()));
        call.accept = "*/*";
        call.within(range)?;
        Ok(FileStream(self.send(&call).await?))
    }

    /// Writes a file of a volume from a stream of bytes, whole or not at all; `mode` is octal text.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]. It is never repeated by itself: the stream is used up.
    pub async fn write_volume_file(
        &self,
        volume: &str,
        file: &str,
        mode: Option<&str>,
        contents: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<FileWritten, ClientError> {
        let target = target(volume, "files", file, Query::default().with("mode", mode));
        self.upload(target, "application/octet-stream", contents).await
    }

    /// Removes a file of a volume, or a directory with all that is in it.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn remove_volume_file(&self, volume: &str, file: &str) -> Result<(), ClientError> {
        let target = target(volume, "files", file, Query::default());
        self.empty(Call::new(Method::DELETE, target)).await
    }

    /// What is known about a file of a volume.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn stat_volume_file(
        &self,
        volume: &str,
        file: &str,
    ) -> Result<FileInfo, ClientError> {
        self.json(Call::get(target(volume, "files/stat", file, Query::default()))).await
    }

    /// The contents of a directory of a volume, `depth` levels of it.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_volume_files(
        &self,
        volume: &str,
        directory: &str,
        depth: u32,
    ) -> Result<FileList, ClientError> {
        let query = Query::default().with("depth", Some(depth.to_string()));
        self.json(Call::get(target(volume, "files/list", directory, query))).await
    }

    /// Makes a directory in a volume and those above it.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn make_volume_directory(
        &self,
        volume: &str,
        directory: &str,
    ) -> Result<FileInfo, ClientError> {
        self.json(Call::post(target(volume, "files/mkdir", directory, Query::default()))).await
    }
}

fn path(volume: &str) -> String {
    format!("/v1/volumes/{}", encoded(volume))
}

fn target(volume: &str, route: &str, file: &str, query: Query) -> String {
    format!("{}/{route}{}", path(volume), query.with("path", Some(file)).0)
}
