//! Ports: one per thread that has actors, and one for everybody else.

use std::sync::Arc;

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::oneshot,
};

use super::{Node, PortKey};
use crate::{
    error::ResourceError,
    session::{
        port::{Port, Watcher},
        port_task,
    },
    shm::sync::lock,
};

impl Node {
    /// The port of `key`, made at its first use on the runtime of the caller.
    pub(crate) fn port_of(self: &Arc<Self>, key: PortKey) -> Result<Arc<Port>, ResourceError> {
        let thread = match key {
            PortKey::Shared => None,
            PortKey::Thread(thread, _) => Some(thread),
        };
        let mut ports = lock(&self.ports);
        if let Some(port) = ports.by_key.get(&thread).filter(|port| !port.is_closed()) {
            return Ok(port.clone());
        }
        let (runtime, watcher) = match key {
            PortKey::Shared if self.runtime.runtime_flavor() != RuntimeFlavor::CurrentThread => {
                (self.runtime.clone(), Watcher::Helpers)
            }
            PortKey::Shared => (self.runtime.clone(), Watcher::Task),
            PortKey::Thread(..) => (Handle::current(), Watcher::Task),
        };
        let id = ports.next;
        let port = Port::new(id, self.config.spin, watcher)?;
        let task = {
            let _inside = runtime.enter();
            port_task::run(Arc::downgrade(self), port.clone())?
        };
        ports.next += 1;
        ports.by_id.insert(id, port.clone());
        ports.by_key.insert(thread, port.clone());
        // `close` has looked already, or will see it.
        if self.is_closed() {
            port.close();
        }
        // A task that is refused is dropped, and takes its port from the table.
        drop(ports);
        match key {
            PortKey::Shared => self.spawn(task),
            PortKey::Thread(_, spawn) => {
                let (ended, end) = oneshot::channel::<()>();
                spawn(Box::pin(async move {
                    let _ended = ended;
                    task.await;
                }));
                // Leaving waits for it like for the others.
                self.spawn(async move { drop(end.await) });
            }
        }
        Ok(port)
    }

    pub(crate) fn port(&self, id: u32) -> Option<Arc<Port>> {
        lock(&self.ports).by_id.get(&id).cloned()
    }

    pub(crate) fn ports(&self) -> Vec<Arc<Port>> {
        lock(&self.ports).by_id.values().cloned().collect()
    }

    /// A port's thread has ended.
    pub(crate) fn port_gone(&self, port: &Arc<Port>) {
        {
            let mut ports = lock(&self.ports);
            ports.by_id.remove(&port.id);
            ports.by_key.retain(|_, other| !Arc::ptr_eq(other, port));
        }
        port.close();
        let own = self.own_session_now();
        for session in self.sessions.iter().map(|entry| entry.clone()).chain(own) {
            let gone: Vec<u32> = {
                let links = lock(&session.links);
                links
                    .by_id
                    .values()
                    .filter(|(_, at, _)| Arc::ptr_eq(at, port))
                    .map(|(link, ..)| link.id)
                    .collect()
            };
            for id in gone {
                session.unlink(id);
                session.drop_link(|(link, ..)| link.id == id);
            }
        }
    }
}
