//! Templates and their builds.

use http::Method;
use tokio::io::AsyncRead;

use super::{Call, Client, ClientError, Query, encoded, lines::Lines};
use crate::{
    NDJSON,
    template::{
        Build, BuildFiles, BuildLine, BuildList, BuildLogPage, BuildTemplate, CacheForgotten,
        TagTemplate, Template, TemplateList, UpdateTemplate,
    },
};

impl Client {
    /// Uploads files that builds copy from: a tar archive, plain or compressed with gzip.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]. It is never repeated by itself: the stream is used up.
    pub async fn upload_build_files(
        &self,
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<BuildFiles, ClientError> {
        self.upload("/v1/build-files".to_owned(), "application/x-tar", archive).await
    }

    /// Starts a build.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn build_template(&self, request: &BuildTemplate) -> Result<Build, ClientError> {
        self.json(Call::new(Method::POST, "/v1/builds".to_owned()).with_json(request)?).await
    }

    /// One build.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn get_build(&self, id: &str) -> Result<Build, ClientError> {
        self.json(Call::get(build(id))).await
    }

    /// Ends a build.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn cancel_build(&self, id: &str) -> Result<Build, ClientError> {
        self.json(Call::new(Method::POST, format!("{}/cancel", build(id)))).await
    }

    /// One page of a build's log.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn build_logs(
        &self,
        id: &str,
        after: Option<u64>,
    ) -> Result<BuildLogPage, ClientError> {
        let query = Query::default().with("after", after.map(|after| after.to_string()));
        self.json(Call::get(format!("{}/logs{}", build(id), query.0))).await
    }

    /// A build's log from some place on, until the build ends.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn follow_build(
        &self,
        id: &str,
        after: Option<u64>,
    ) -> Result<BuildStream, ClientError> {
        let query = Query::default()
            .with("after", after.map(|after| after.to_string()))
            .with("follow", Some("true"));
        let call = Call::get(format!("{}/logs{}", build(id), query.0)).accepting(NDJSON);
        Ok(BuildStream(Lines::new(self.send(&call).await?)))
    }

    /// The project's templates.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_templates(&self) -> Result<TemplateList, ClientError> {
        self.json(Call::get("/v1/templates")).await
    }

    /// One template, by name or id.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn get_template(&self, name: &str) -> Result<Template, ClientError> {
        self.json(Call::get(template(name))).await
    }

    /// Changes settings of a template.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn update_template(
        &self,
        name: &str,
        change: &UpdateTemplate,
    ) -> Result<Template, ClientError> {
        self.json(Call::new(Method::PATCH, template(name)).with_json(change)?).await
    }

    /// Removes a template with its versions and builds.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn delete_template(&self, name: &str) -> Result<(), ClientError> {
        self.empty(Call::new(Method::DELETE, template(name))).await
    }

    /// Gives the version that `name[:tag]` names more tags.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn tag_template(
        &self,
        name: &str,
        tags: Vec<String>,
    ) -> Result<Template, ClientError> {
        let call = Call::new(Method::POST, format!("{}/tags", template(name)));
        self.json(call.with_json(&TagTemplate { tags })?).await
    }

    /// Takes a tag away.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn untag_template(&self, name: &str, tag: &str) -> Result<Template, ClientError> {
        let target = format!("{}/tags/{}", template(name), encoded(tag));
        self.json(Call::new(Method::DELETE, target)).await
    }

    /// The builds of a template that are remembered, the newest first.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_builds(&self, name: &str) -> Result<BuildList, ClientError> {
        self.json(Call::get(format!("{}/builds", template(name)))).await
    }

    /// Forgets the results of all steps of the project's builds.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn forget_build_cache(&self) -> Result<CacheForgotten, ClientError> {
        self.json(Call::new(Method::DELETE, "/v1/build-cache".to_owned())).await
    }
}

fn template(name: &str) -> String {
    format!("/v1/templates/{}", encoded(name))
}

fn build(id: &str) -> String {
    format!("/v1/builds/{}", encoded(id))
}

/// A build that is being followed.
#[derive(Debug)]
pub struct BuildStream(Lines);

impl BuildStream {
    /// The next line that is no keepalive.
    ///
    /// # Errors
    ///
    /// What broke; also when the server ended the stream before the build's end.
    pub async fn next(&mut self) -> Result<BuildLine, ClientError> {
        loop {
            let line = self.0.next().await?.ok_or_else(ClientError::ended_early)?;
            let line = serde_json::from_slice(line);
            match line.map_err(|source| ClientError::Decode { source })? {
                BuildLine::Keepalive => {}
                line => return Ok(line),
            }
        }
    }
}
