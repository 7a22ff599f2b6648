//! What sandboxes may reach.

use http::Method;

use super::{Call, Client, ClientError, sandboxes::path};
use crate::network::{
    ExplainNetwork, LearnedNetwork, Network, NetworkExplanation, SandboxNetwork, SetNetwork,
};

impl Client {
    /// What a sandbox may reach, and what went over its network.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn get_network(&self, sandbox: &str) -> Result<SandboxNetwork, ClientError> {
        self.json(Call::get(format!("{}/network", path(sandbox)))).await
    }

    /// Changes what a sandbox may reach, while it runs.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn set_network(
        &self,
        sandbox: &str,
        network: Network,
    ) -> Result<SandboxNetwork, ClientError> {
        let call = Call::new(Method::PUT, format!("{}/network", path(sandbox)));
        self.json(call.with_json(&SetNetwork { network })?).await
    }

    /// Why a sandbox reaches something, or does not.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn explain_network(
        &self,
        sandbox: &str,
        question: &ExplainNetwork,
    ) -> Result<NetworkExplanation, ClientError> {
        let call = Call::post(format!("{}/network/explain", path(sandbox)));
        self.json(call.with_json(question)?).await
    }

    /// What a sandbox reached while its rules were for learning or a dry run.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn learned_network(&self, sandbox: &str) -> Result<LearnedNetwork, ClientError> {
        self.json(Call::get(format!("{}/network/learned", path(sandbox)))).await
    }
}
