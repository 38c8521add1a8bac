//! Why two parties of a topic do not fit: what differs, field by field.

use std::sync::Arc;

use super::Conflict;
use crate::{
    error::TopicError,
    session::{mailbox::Kind, node::Node, schemas},
    shm::sync::lock,
};

impl Node {
    /// What differs, field by field.
    pub(super) async fn explain(self: &Arc<Self>, conflict: Conflict, kind: Kind) -> TopicError {
        let ours = ((kind.schema)(), (kind.reply)());
        let (node, difference) = match &conflict.session {
            Some(session) => {
                let theirs = session
                    .ask_schemas(&conflict.name, kind.name)
                    .await
                    .unwrap_or_default();
                (
                    session.peer.name.clone(),
                    schemas::explain(&ours.0, &ours.1, &theirs),
                )
            }
            None => {
                let theirs = self.describe_topic(&conflict.name).unwrap_or_default();
                (
                    self.config.node.clone(),
                    schemas::explain(&ours.0, &ours.1, &theirs),
                )
            }
        };
        TopicError::Schema {
            topic: conflict.name,
            node,
            message: kind.name.to_owned(),
            difference,
        }
    }

    /// The archived schemas of a topic or subscription of ours, by its name or pattern.
    pub(crate) fn describe_topic(&self, name: &str) -> Option<crate::session::peer::Described> {
        let catalog = lock(&self.catalog);
        let topic = catalog
            .topics
            .values()
            .find(|own| own.info.name == name)
            .map(|own| own.kind);
        let wanted = || {
            catalog
                .subscriptions
                .values()
                .find(|own| own.binding.name == name)
                .map(|own| own.kinds[0])
        };
        let kind = topic.or_else(wanted)?;
        drop(catalog);
        Some((
            schemas::answer(&(kind.schema)()),
            schemas::answer(&(kind.reply)()),
        ))
    }
}
