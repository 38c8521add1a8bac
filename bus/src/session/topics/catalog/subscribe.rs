//! Beginning and ending a subscription.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{may_announce, selects};
use crate::{
    error::TopicError,
    session::{
        frame::{Binding, Frame, SubscriptionInfo},
        mailbox::{Kind, Mailbox},
        node::Node,
        port::Port,
        topics::{pattern, subscription::Subscription},
    },
    shm::sync::lock,
};

impl Node {
    /// Subscribes, and waits until everybody who is known to publish what is wanted sends it here.
    pub(crate) async fn subscribe(
        self: &Arc<Self>,
        port: &Arc<Port>,
        kind: Kind,
        wanted: SubscriptionInfo,
        within: Duration,
    ) -> Result<Arc<Mailbox>, TopicError> {
        pattern::check_pattern(&wanted.pattern)?;
        let wanted = SubscriptionInfo {
            kind: kind.info(),
            ..wanted
        };
        may_announce(&Frame::Subscribe(wanted.clone()), &wanted.pattern)?;
        let limit = self.config.mailboxes;
        let number = port.reserve_mailbox(limit).ok_or(TopicError::TooMany { limit })?;
        let wanted = SubscriptionInfo {
            port: port.id,
            mailbox: number,
            ..wanted
        };
        let binding = Binding {
            name: wanted.pattern.clone(),
            port: port.id,
            mailbox: number,
            window: wanted.depth,
            kinds: vec![wanted.kind.clone()],
        };
        let subscription = Subscription::new(wanted.clone());
        let mailbox = Mailbox::new(
            binding,
            vec![kind],
            port.clone(),
            Some(subscription),
            Arc::downgrade(self),
        );
        let mut changed = self.changed.subscribe();
        let begun = {
            let _order = lock(&self.registry);
            let mut catalog = lock(&self.catalog);
            self.may_begin(catalog.conflict_of_subscription(&wanted))
                .map(|()| {
                    port.add_mailbox(mailbox.clone());
                    catalog.subscriptions.insert((port.id, number), mailbox.clone());
                    let own: Vec<_> = catalog
                        .topics
                        .values()
                        .filter(|own| selects(&wanted, &own.info))
                        .cloned()
                        .collect();
                    let theirs = catalog
                        .peer_topics
                        .iter()
                        .filter(|(_, (_, info))| selects(&wanted, info));
                    let mut expected: Vec<_> = theirs.map(|(key, _)| *key).collect();
                    expected.extend(own.iter().map(|own| (self.id(), own.info.id)));
                    for session in &self.sessions {
                        session.announce_topics(&Frame::Subscribe(wanted.clone()));
                    }
                    (own, expected)
                })
        };
        let (own, expected) = match begun {
            Ok(begun) => begun,
            Err(conflict) => {
                port.remove_mailbox(number);
                return Err(match conflict {
                    Some(conflict) => self.explain(conflict, kind).await,
                    None => TopicError::Closed,
                });
            }
        };
        // From here on a dropped future must not leave the subscription behind.
        let guard = Unsubscribe(&mailbox);
        let heard_by = Instant::now() + self.config.announce_deadline.min(within);
        for topic in own {
            let session = self.own_session()?;
            self.attach(&topic, &session, &wanted).await;
        }
        let all = async {
            loop {
                changed.borrow_and_update();
                let waiting = expected.iter().any(|(node, topic)| {
                    let attached = mailbox
                        .subscription
                        .as_ref()
                        .is_none_or(|s| s.is_attached(*node, *topic));
                    let catalog = lock(&self.catalog);
                    let there = match *node == self.id() {
                        true => catalog.topics.contains_key(topic),
                        false => catalog.peer_topics.contains_key(&(*node, *topic)),
                    };
                    !attached && there
                });
                if !waiting || self.is_closed() || changed.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            return Err(TopicError::NotAttached {
                pattern: wanted.pattern,
                waited: within,
            });
        }
        // Nor does a publisher miss it that has just begun, and of which nothing was heard here yet.
        self.until_heard(wanted.announcement(), &wanted.pattern, heard_by)
            .await;
        let denied = lock(&self.catalog).denied.remove(&wanted.pattern);
        // Somebody who publishes it denies it, and nobody lets us have it.
        if let Some(by) = denied.filter(|_| mailbox.subscription.as_ref().is_some_and(Subscription::is_idle))
        {
            let by = self.sessions.get(&by).map(|session| session.peer.name.clone());
            return Err(TopicError::Denied {
                topic: wanted.pattern,
                node: by.unwrap_or_default(),
                uid: nix::unistd::geteuid().as_raw(),
            });
        }
        std::mem::forget(guard);
        Ok(mailbox)
    }

    /// A subscription's mailbox was closed.
    pub(crate) fn unsubscribe(&self, binding: &Binding) {
        {
            let _order = lock(&self.registry);
            let mut catalog = lock(&self.catalog);
            catalog.subscriptions.remove(&(binding.port, binding.mailbox));
            if !catalog.own_subscriptions().any(|own| own.pattern == binding.name) {
                catalog.denied.remove(&binding.name);
            }
            drop(catalog);
            for session in &self.sessions {
                session.send(
                    &Frame::Unsubscribe {
                        port: binding.port,
                        mailbox: binding.mailbox,
                    },
                    &[],
                );
            }
        }
        if let Some(port) = self.port(binding.port) {
            port.remove_mailbox(binding.mailbox);
            // What had to wait for this subscription's attachment may go on.
            port.poke();
        }
        if let Some(own) = self.own_session_now() {
            self.forgot_subscription(&own, binding.port, binding.mailbox);
        }
    }
}

/// Ends a subscription that was not completed.
struct Unsubscribe<'a>(&'a Arc<Mailbox>);

impl Drop for Unsubscribe<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
