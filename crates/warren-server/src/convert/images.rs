//! Images.

use warren_api::images as api;
use warren_core::images::{ImageConfig, Listed, Removed, Step};

use super::timestamp;

pub(crate) fn image(listed: &Listed) -> api::Image {
    let image = &listed.image;
    api::Image {
        id: image.id.to_string(),
        references: image.references.iter().map(ToString::to_string).collect(),
        bytes: image.bytes(),
        layers: image
            .layers
            .iter()
            .map(|it| api::ImageLayer { diff_id: it.diff_id.to_string(), bytes: it.bytes })
            .collect(),
        platform: image.platform.clone(),
        created: image.created.clone(),
        pulled_at: timestamp(image.pulled_at),
        in_use: listed.in_use,
        config: config(&image.config),
    }
}

fn config(config: &ImageConfig) -> api::ImageConfig {
    let ImageConfig { env, user, workdir, entrypoint, cmd, labels, ports } = config.clone();
    api::ImageConfig { env, user, workdir, entrypoint, cmd, labels, ports }
}

pub(crate) fn removed(removed: Removed) -> api::ImagesRemoved {
    api::ImagesRemoved {
        references: removed.references.iter().map(ToString::to_string).collect(),
        images: removed.images.iter().map(ToString::to_string).collect(),
        bytes: removed.bytes,
    }
}

pub(crate) fn step(step: Step) -> api::ImageStep {
    match step {
        Step::Resolved { id, layers } => {
            let size =
                |(layer, bytes): (_, u64)| (warren_core::images::Digest::to_string(&layer), bytes);
            let layers = layers.into_iter().map(size);
            let layers = layers.map(|(layer, bytes)| api::LayerSize { layer, bytes }).collect();
            api::ImageStep::Resolved { id: id.to_string(), layers }
        }
        Step::Present(layer) => api::ImageStep::Present { layer: layer.to_string() },
        Step::Transferred { layer, bytes, of } => {
            api::ImageStep::Transferred { layer: layer.to_string(), bytes, of }
        }
        Step::Unpacking(layer) => api::ImageStep::Unpacking { layer: layer.to_string() },
        Step::Done(layer) => api::ImageStep::LayerDone { layer: layer.to_string() },
        Step::Note(text) => api::ImageStep::Note { text },
    }
}
