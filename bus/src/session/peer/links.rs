//! A session's links, and how they end.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{OnceCell, oneshot};

use super::{Described, Session};
use crate::{
    session::{link::Link, opening::LinkOffer, port::Port},
    shm::{
        cells::Cells,
        sync::{AtomicU64 as SharedU64, lock},
    },
};

#[derive(Debug, Default)]
pub(crate) struct Links {
    /// By our number: the link, its port and the peer's number for it.
    pub(crate) by_id: HashMap<u32, (Arc<Link>, Arc<Port>, u32)>,
    /// Links that this node opens or has opened, by (our port, the peer's port).
    pub(crate) asked: HashMap<(u32, u32), Arc<OnceCell<Arc<Link>>>>,
    /// Offers that wait for the peer's answer.
    pub(crate) offers: HashMap<u32, oneshot::Sender<Result<LinkOffer, String>>>,
    /// Questions about schemas that wait for the peer's answer.
    pub(crate) questions: HashMap<u32, oneshot::Sender<Described>>,
    pub(crate) ended: bool,
}

impl Session {
    /// The links on which this node asks something of a port of the peer.
    pub(crate) fn links_to(&self, port: u32) -> Vec<Arc<Link>> {
        let links = lock(&self.links);
        let of_port = links.asked.iter().filter(|((_, theirs), _)| *theirs == port);
        of_port.filter_map(|(_, cell)| cell.get().cloned()).collect()
    }

    /// The peer's loss counters on the link that it calls by this number.
    pub(crate) fn losses_of(&self, theirs: u32) -> Option<Cells<SharedU64>> {
        let links = lock(&self.links);
        let link = links
            .by_id
            .values()
            .find(|(link, _, number)| !link.asking && *number == theirs);
        link.map(|(link, ..)| link.peer_losses.clone())
    }

    /// A mailbox of the peer's `port` was unbound: who sends there, or waits for room there, is told.
    pub(crate) fn stop_routes(&self, port: u32, mailbox: u32) {
        for link in self.links_to(port) {
            link.stop_route(mailbox);
        }
    }

    /// What is sent from now on would be accepted, and read by nobody: the session is about to end.
    pub(super) fn shut_links(&self) {
        let mut links = lock(&self.links);
        links.ended = true;
        for (link, ..) in links.by_id.values() {
            link.shut();
        }
    }

    /// A descriptor may have waited for what just arrived.
    pub(super) fn poke_ports(&self) {
        for (_, port, _) in lock(&self.links).by_id.values() {
            port.poke();
        }
    }

    /// Ends the links that match, on this side; the peer has done so on its own.
    pub(crate) fn drop_link(&self, matches: impl Fn(&(Arc<Link>, Arc<Port>, u32)) -> bool) {
        let gone: Vec<_> = {
            let mut links = lock(&self.links);
            let gone: Vec<_> = links
                .by_id
                .extract_if(|_, entry| matches(entry))
                .map(|(_, entry)| entry)
                .collect();
            links.asked.retain(|_, cell| {
                cell.get()
                    .is_none_or(|link| gone.iter().all(|(lost, ..)| lost.id != link.id))
            });
            gone
        };
        for (link, port, _) in gone {
            self.lose(&link, &port);
        }
    }

    pub(super) fn lose(&self, link: &Arc<Link>, port: &Arc<Port>) {
        let mut asks = port.lose_link(link.id);
        let undelivered = link.lose();
        asks += port.lose_late_asks(link.id);
        self.counters.undelivered.add(u64::from(undelivered));
        let sent = link.counts().0;
        self.counters.sent_on_lost_links.add(sent);
        if !link.asking {
            self.counters.replies_on_lost_links.add(sent);
        }
        if asks > 0 || undelivered > 0 {
            tracing::info!(peer = %self.peer.name, asks, undelivered, "link lost with messages under way");
        }
    }
}
