//! Projects and keys.

use warren_api::access as api;
use warren_core::{
    access::{self, KeyScope},
    caller::Owner,
};

use super::timestamp;
use crate::error::ApiError;

/// What a new key is for; without a word about it, the caller's own project.
pub(crate) fn key_scope(request: &api::CreateKey, owner: &Owner) -> Result<KeyScope, ApiError> {
    match (request.kind, &request.project) {
        (api::KeyKind::Metrics, None) => Ok(KeyScope::Metrics),
        (api::KeyKind::Metrics, Some(_)) => {
            Err(ApiError::invalid("project", "a key for metrics works in none"))
        }
        (api::KeyKind::Project, project) => {
            let name = project.as_deref().unwrap_or(owner.as_str());
            let name = name.parse().map_err(|error| ApiError::invalid("project", error))?;
            Ok(KeyScope::Project(name))
        }
    }
}

pub(crate) fn key(key: access::ApiKey) -> api::Key {
    let (kind, project) = match key.scope {
        KeyScope::Project(name) => (api::KeyKind::Project, Some(name.to_string())),
        KeyScope::Metrics => (api::KeyKind::Metrics, None),
    };
    api::Key {
        id: key.id.to_string(),
        name: key.name,
        kind,
        project,
        prefix: key.prefix,
        created_at: timestamp(key.created_at),
        expires_at: key.expires_at.map(timestamp),
        last_used_at: key.last_used_at.map(timestamp),
    }
}

pub(crate) fn quota(quota: api::ProjectQuota) -> access::ProjectQuota {
    access::ProjectQuota { sandboxes: quota.sandboxes, memory_bytes: quota.memory_bytes }
}

pub(crate) fn project(project: access::Project) -> api::Project {
    api::Project {
        name: project.name.to_string(),
        created_at: timestamp(project.created_at),
        quota: api::ProjectQuota {
            sandboxes: project.quota.sandboxes,
            memory_bytes: project.quota.memory_bytes,
        },
        sandboxes: project.sandboxes,
        memory_bytes: project.memory_bytes,
        keys: project.keys,
    }
}
